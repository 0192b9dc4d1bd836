"""What metering labels counted, told now and then. The kernel gives each count and begins anew in one go (nft reset), so
nothing is told twice and an agent's restart loses nothing; what was not told yet when a router leaves is lost."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

import msgspec

from nephos.errors import HostFault
from nephos.kernel import clock
from nephos.wiring.base import Fact, Router
from nephos.wiring.linux.routers import nat
from nephos.wiring.linux.system import names, nft


class Meters:
    """Reads the counters of a host's routers, at most every `seconds`."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._last = clock.monotonic()

    def look(self, routers: Iterable[Router]) -> Iterator[Fact]:
        """A fact for every label and router that something was counted for."""
        now = clock.monotonic()
        if now < self._last + self._seconds:
            return
        passed, self._last = now - self._last, now
        for router in routers:
            labels = {nat.meter_name(meter.id): meter.id for meter in router.meters}
            if not labels or not router.gateways:
                continue
            for name, packets, octets in _taken(router.id):
                if packets and name in labels:
                    detail = msgspec.json.encode((router.id, packets, octets, round(passed))).decode()
                    yield Fact(kind="meter", port_id=labels[name], detail=detail)


def _taken(router_id: str) -> Iterator[tuple[str, int, int]]:
    """(counter, packets, bytes) since the last look; nothing where the router is not made."""
    try:
        words = ("-j", "reset", "counters", "table", "inet", nat.METERS)
        listed = json.loads(nft.run(names.router_namespace(router_id), *words))
    except (HostFault, OSError):
        return
    for each in listed["nftables"]:
        if "counter" in each:
            found = each["counter"]
            yield found["name"], found["packets"], found["bytes"]
