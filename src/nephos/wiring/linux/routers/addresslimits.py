"""Bandwidth limits of single addresses of a router: floating IPs, and what is translated to a gateway's own address.

What leaves is sorted by its source at the gateway's device and waits there in a token bucket of that address; what comes
for such an address is first led through an intermediate device, where it waits likewise. All else passes unsorted.
The queueing disciplines of a device are made in one go, and their handle tells of what: a pass over a device that is as
wanted only reads the handles. IPv4, as Neutron's floating IPs and gateway limits are.
"""

from __future__ import annotations

import ipaddress
import json
import subprocess
import zlib
from collections.abc import Iterable, Mapping
from typing import Any

from nephos.errors import HostFault
from nephos.wiring.base import Limits, Router
from nephos.wiring.linux.rates.qos import LATENCY_MS, Queue
from nephos.wiring.linux.routers import gateways
from nephos.wiring.linux.system import names, netns
from nephos.wiring.linux.system.host import Host, Room

_UNLIMITED = "100gbit"
"""Of a class whose token bucket does the limiting."""
_MOST = 0xFFFE
Queues = dict[str, Queue]
"""By address."""


class AddressLimits:
    """The limits of the routers of one host."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._without: set[str] = set()

    def ensure(self, room: Room, router: Router, homes: Mapping[str, str]) -> int:
        """Make the limits of a router so, and answer how many devices were changed; `homes` is floating address →
        gateway port. HostFault when the kernel lacks what it takes."""
        limited = any(each.limits for each in router.gateways) or any(each.limits for each in router.floating)
        if not limited and router.id in self._without:
            return 0
        present = _present(room)
        changes = 0
        for gateway in router.gateways:
            own = [each.address for each in gateway.addresses if ":" not in each.address]
            found: dict[str, Limits | None] = dict.fromkeys(own, gateway.limits)
            found |= {one.address: one.limits for one in router.floating if homes.get(one.address) == gateway.port_id}
            device, slow = gateways.outside(gateway), names.slowed(gateway.port_id)
            changes += self._sent(room, device, present, _queues(found, sent=True))
            changes += self._to(room, device, slow, gateway.port_id, present, _queues(found, sent=False))
        wanted = {names.slowed(gateway.port_id) for gateway in router.gateways}
        for name in [name for name, link in room.stack.links.items() if link.kind == "ifb" and name not in wanted]:
            room.stack.remove(name)
        (self._without.discard if limited else self._without.add)(router.id)
        return changes

    def _sent(self, room: Room, device: str, present: Mapping[str, str], queues: Queues) -> int:
        if present.get(device) == _handle(queues):
            return 0
        if not queues:
            _tc(room, [f"qdisc del dev {device} root"])
        else:
            _build(room, device, queues, "src")
        return 1

    def _to(self, room: Room, device: str, slow: str, port_id: str, present: Mapping[str, str], queues: Queues) -> int:
        entered = f"{device} ingress" in present
        if slow in room.stack.links and entered and present.get(slow) == _handle(queues):
            return 0
        changed = entered or slow in room.stack.links
        if entered:
            _tc(room, [f"qdisc del dev {device} ingress"])
        if not queues:
            room.stack.remove(slow)
            return int(changed)
        room.stack.ensure_ifb(slow, self._host.mark("limit", port_id))
        _build(room, slow, queues, "dst")
        # last, so that what is redirected is limited from its first packet on
        lines = [f"qdisc add dev {device} ingress"]
        for address in sorted(queues):
            chosen = f"filter add dev {device} parent ffff: protocol ip prio 1 u32 match ip dst {address}/32"
            lines.append(f"{chosen} action mirred egress redirect dev {slow}")
        _tc(room, lines)
        return 1

    def forget(self, router_id: str) -> None:
        """Its namespace is gone."""
        self._without.discard(router_id)


def _queues(limits: Mapping[str, Limits | None], *, sent: bool) -> Queues:
    found = {}
    for address, each in limits.items():
        kbits, burst = (each.sent_kbits, each.sent_burst) if each and sent else (None, 0)
        if each and not sent:
            kbits, burst = each.to_kbits, each.to_burst
        if kbits and ipaddress.ip_address(address).version == 4:
            found[address] = Queue.of(kbits, burst)
    return found


def _handle(queues: Queues) -> str | None:
    """What the queueing discipline of these queues is called; None for none."""
    if not queues:
        return None
    return f"{1 + zlib.crc32(repr(sorted(queues.items())).encode()) % _MOST:x}:"


def _build(room: Room, device: str, queues: Queues, side: str) -> None:
    """A class for each address, in the order of the addresses; raises HostFault, and then there is no half of it."""
    handle = str(_handle(queues))
    lines = [f"qdisc replace dev {device} root handle {handle} htb"]
    for number, (address, queue) in enumerate(sorted(queues.items()), 1):
        at = f"{handle}{number:x}"
        shape = f"rate {queue.rate * 8}bit burst {queue.burst} latency {LATENCY_MS}ms"
        chosen = f"u32 match ip {side} {address}/32 flowid {at}"
        lines += [
            f"class add dev {device} parent {handle} classid {at} htb rate {_UNLIMITED} quantum 60000",
            f"qdisc add dev {device} parent {at} tbf {shape}",
            f"filter add dev {device} parent {handle} protocol ip prio 1 {chosen}",
        ]
    try:
        _tc(room, lines)
    except HostFault:
        _run(room, "qdisc", "del", "dev", device, "root")
        raise


def _present(room: Room) -> dict[str, str]:
    """Device → handle of its sorting discipline, and "device ingress" where what comes in is looked at."""
    found = {}
    for one in _listed(room):
        if one["kind"] == "ingress":
            found[f"{one['dev']} ingress"] = one["handle"]
        elif one["kind"] == "htb" and one.get("root"):
            found[one["dev"]] = one["handle"]
    return found


def _listed(room: Room) -> list[dict[str, Any]]:
    done = _run(room, "-j", "qdisc", "show")
    if done.returncode:
        raise HostFault(f"bandwidths cannot be looked at: tc: {done.stderr.strip()}")
    return json.loads(done.stdout or "[]")  # type: ignore[no-any-return]


def _tc(room: Room, lines: Iterable[str]) -> None:
    done = _run(room, "-batch", "-", text="".join(f"{line}\n" for line in lines))
    if done.returncode:
        raise HostFault(f"bandwidths cannot be limited here: tc: {done.stderr.strip() or done.stdout.strip()}")


def _run(room: Room, *words: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
    return netns.inside(
        room.stack.namespace,
        lambda: subprocess.run(["tc", *words], input=text, capture_output=True, text=True, check=False),
    )
