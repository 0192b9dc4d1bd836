"""Bandwidth limits of ports, by the kernel's queueing disciplines (tc): what a guest gets waits at its tap, what it sends
at an intermediate device that its frames are led through before the bridge sees them.

Packet rates and DSCP marks are the ruleset's (`firewall`). Queues are read once a pass, and only when there are limits.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from nephos.errors import HostFault
from nephos.wiring.base import Key, Kind, Limits, Port
from nephos.wiring.linux.system import names
from nephos.wiring.linux.system.host import Host

LATENCY_MS = 50
"""How long a frame waits at most: what does not fit is dropped, so that senders slow down."""
_LEAST_BURST, _TICKS = 4_000, 250
"""A burst is at least two full frames and what comes in one tick of the slowest usual kernel clock (bytes, Hz)."""
_NEAR = 0.02
"""The kernel keeps bursts in ticks, so it answers about what was asked."""


class Queue(NamedTuple):
    """A token bucket: bytes a second and bytes at once."""

    rate: int
    burst: int

    @staticmethod
    def of(kbits: int, burst_kbits: int) -> Queue:
        """From kbit/s and kbit; a burst of 0 is four fifths of a second, as Neutron has it."""
        rate = max(kbits, 1) * 125
        burst = burst_kbits * 125 if burst_kbits else rate * 4 // 5
        return Queue(rate, max(burst, _LEAST_BURST, rate // _TICKS))

    def near(self, other: Queue | None) -> bool:
        return other is not None and other.rate == self.rate and abs(other.burst - self.burst) <= self.burst * _NEAR


class Qos:
    """Limits on one host."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._limited = True
        self.changes = 0

    def ensure(self, ports: Iterable[Port], failed: Callable[[Key, str], None]) -> None:
        """Make the queues of these ports so, each port on its own; `failed` is told which could not be, and why."""
        ports = list(ports)
        limited = [port for port in ports if port.limits and (port.limits.to_kbits or port.limits.sent_kbits)]
        if not limited and not self._limited:
            return
        queues, entered = _present()
        for port in ports:
            limits = port.limits or Limits()
            try:
                self._to(port, limits, queues)
                self._sent(port, limits, queues, entered)
            except (HostFault, OSError) as problem:
                failed(Key(Kind.PORT, port.id), f"its bandwidth cannot be limited: {problem}")
        self._limited = bool(limited)

    def _to(self, port: Port, limits: Limits, queues: dict[str, Queue]) -> None:
        device = names.tap(port.id)
        if limits.to_kbits is not None:
            self._bucket(device, Queue.of(limits.to_kbits, limits.to_burst), queues)
        elif device in queues:
            self._tc("qdisc", "del", "dev", device, "root")

    def _sent(self, port: Port, limits: Limits, queues: dict[str, Queue], entered: set[str]) -> None:
        device, slow = names.tap(port.id), names.slowed(port.id)
        if limits.sent_kbits is None:
            if device in entered:
                self._tc("qdisc", "del", "dev", device, "ingress")
            self._host.stack.remove(slow)
            return
        _, new = self._host.stack.ensure_ifb(slow, self._host.mark("limit", port.id))
        self._bucket(slow, Queue.of(limits.sent_kbits, limits.sent_burst), {} if new else queues)
        if new and device in entered:
            self._tc("qdisc", "del", "dev", device, "ingress")
        if new or device not in entered:
            self._tc("qdisc", "add", "dev", device, "ingress")
            everything = ("u32", "match", "u32", "0", "0", "action", "mirred", "egress", "redirect", "dev", slow)
            self._tc("filter", "add", "dev", device, "parent", "ffff:", "protocol", "all", "prio", "1", *everything)

    def _bucket(self, device: str, queue: Queue, queues: dict[str, Queue]) -> None:
        if not queue.near(queues.get(device)):
            shape = ("rate", f"{queue.rate * 8}bit", "burst", str(queue.burst), "latency", f"{LATENCY_MS}ms")
            self._tc("qdisc", "replace", "dev", device, "root", "tbf", *shape)

    def _tc(self, *words: str) -> None:
        self.changes += 1
        _run(*words)


def _present() -> tuple[dict[str, Queue], set[str]]:
    """The token buckets by device, and the devices whose incoming frames are led elsewhere."""
    found: list[dict[str, Any]] = json.loads(_run("-j", "qdisc", "show") or "[]")
    queues = {
        one["dev"]: Queue(int(one["options"]["rate"]), int(one["options"]["burst"]))
        for one in found
        if one["kind"] == "tbf" and one.get("root")
    }
    return queues, {one["dev"] for one in found if one["kind"] == "ingress"}


def _run(*words: str) -> str:
    done = subprocess.run(["tc", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise HostFault(f"tc {' '.join(words)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout
