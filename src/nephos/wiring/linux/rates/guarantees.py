"""Minimum bandwidth of what guests send to a physical network: at its uplink, by the kernel's hierarchical token bucket.

Only where the host says how much the uplink carries (`WiringSettings.bandwidths`) and a port here has a minimum: then
what leaves is held to that much, each such port has its minimum of it, and what nobody uses is everybody's. Frames are
told apart by their source MAC. A queueing discipline that somebody else gave the uplink is let be, and said.
"""

from __future__ import annotations

import json
import subprocess
import zlib
from collections.abc import Callable, Iterable
from typing import Any

from nephos.errors import HostFault
from nephos.wiring.base import Desired, Key, Kind, Port
from nephos.wiring.linux.system.host import Host

_OURS, _DIGEST = 0x4000, 0xFFF
"""Handles of our own disciplines, 4000: to 4fff:, tell of what they are made."""
_REST = 0xFFFE
_QUANTUM = 20_000
"""Bytes that a class sends of what others leave, before it is the next one's turn."""
_LEAST = 8
"""kbit/s that is left to all others together at the least."""


class Guarantees:
    """The uplinks of one host."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._made: dict[str, tuple[str, ...]] = {}
        self.changes = 0

    def ensure(self, desired: Desired, ports: Iterable[Port], failed: Callable[[Key, str], None]) -> None:
        """Make the uplinks' queues so; `failed` is told which ports have no guarantee, and why."""
        totals = self._totals()
        if not totals:
            return
        known = _roots()
        wanted: dict[str, list[Port]] = {name: [] for name in totals}
        for port in ports:
            network = desired.networks.get(port.network_id)
            if network is not None and network.physical in wanted and port.limits and port.limits.least_sent_kbits:
                wanted[network.physical].append(port)
        for name, (device, total) in totals.items():
            own = sorted(wanted[name], key=lambda port: port.mac)
            try:
                self._uplink(device, total, own, known.get(device, ("", "")))
            except HostFault as fault:
                for port in own:
                    failed(Key(Kind.PORT, port.id), f"its minimum bandwidth is not guaranteed: {fault.message}")

    def _totals(self) -> dict[str, tuple[str, int]]:
        """Physical network → (uplink, kbit/s)."""
        settings = self._host.settings
        return {
            name: (physical.interface, settings.bandwidths[name])
            for name, physical in settings.physical.items()
            if physical.interface and settings.bandwidths.get(name)
        }

    def _uplink(self, device: str, total: int, ports: list[Port], root: tuple[str, str]) -> None:
        kind, handle = root
        ours = kind == "htb" and _OURS <= int(handle.rstrip(":") or "0", 16) <= _OURS | _DIGEST
        lines = _lines(device, total, ports)
        if not lines:
            if ours:
                self._tc([f"qdisc del dev {device} root"])
                self._made.pop(device, None)
            return
        if handle not in ("", "0:") and not ours:
            raise HostFault(f"uplink {device} has a queueing discipline of somebody else's ({kind} {handle})")
        if handle == _handle(total, ports) and self._made.get(device, lines) == lines:
            return
        if ours:
            self._tc([f"qdisc del dev {device} root"])
        self._tc(lines)
        self._made[device] = lines

    def _tc(self, lines: Iterable[str]) -> None:
        self.changes += 1
        text = "".join(f"{line}\n" for line in lines)
        done = subprocess.run(["tc", "-batch", "-"], input=text, capture_output=True, text=True, check=False)
        if done.returncode:
            raise HostFault(f"tc: {done.stderr.strip() or done.stdout.strip()}")

    def purge(self) -> None:
        """The uplinks are as they were."""
        for device, total in self._totals().values():
            self._uplink(device, total, [], _roots().get(device, ("", "")))


def _handle(total: int, ports: list[Port]) -> str:
    made_of = repr((total, [(port.mac, port.limits and port.limits.least_sent_kbits) for port in ports]))
    return f"{_OURS | zlib.crc32(made_of.encode()) & _DIGEST:x}:"


def _lines(device: str, total: int, ports: list[Port]) -> tuple[str, ...]:
    """One class above all that holds back, below it one for each port and one for the rest."""
    if not ports:
        return ()
    handle = _handle(total, ports)
    add = f"class add dev {device} parent"
    least = {port.mac: port.limits.least_sent_kbits or 0 for port in ports if port.limits}
    rest = max(total - sum(least.values()), _LEAST)
    lines = [
        f"qdisc add dev {device} root handle {handle} htb default {_REST:x}",
        f"{add} {handle} classid {handle}1 htb rate {total}kbit ceil {total}kbit",
        f"{add} {handle}1 classid {handle}{_REST:x} htb rate {rest}kbit ceil {total}kbit quantum {_QUANTUM}",
    ]
    for number, (mac, kbits) in enumerate(least.items(), 2):
        at = f"{handle}{number:x}"
        lines += [
            f"{add} {handle}1 classid {at} htb rate {kbits}kbit ceil {total}kbit quantum {_QUANTUM}",
            f"filter add dev {device} parent {handle} protocol all prio 1 u32 match ether src {mac} flowid {at}",
        ]
    return tuple(lines)


def _roots() -> dict[str, tuple[str, str]]:
    """Device → (kind, handle) of its queueing discipline."""
    done = subprocess.run(["tc", "-j", "qdisc", "show"], capture_output=True, text=True, check=False)
    found: list[dict[str, Any]] = json.loads(done.stdout or "[]") if done.returncode == 0 else []
    return {one["dev"]: (one["kind"], one["handle"]) for one in found if one.get("root")}
