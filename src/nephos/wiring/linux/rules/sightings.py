"""What packets told of ports: addresses behind them that are not their own (S0-10), and DHCP servers and router
advertisements that were blocked (S3-54). The ruleset gathers it in sets; here it is read now and then and told on."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from nephos.errors import HostFault
from nephos.kernel import clock
from nephos.wiring.base import Desired, Fact, Port
from nephos.wiring.linux.rules import firewall
from nephos.wiring.linux.system import names, nft

SECONDS = 15
"""How often the sets are read."""
MOST = 32
"""Pairs that are told of one port, and servers of one port or network."""


class Sightings:
    """Remembers what was told, so that only news is."""

    def __init__(self, table: str) -> None:
        self._table = table
        self._due = 0.0
        self._told: dict[tuple[str, str], bytes] = {}

    def look(self, desired: Desired) -> Iterator[Fact]:
        """The news, at most every SECONDS."""
        now = clock.monotonic()
        if now < self._due:
            return
        self._due = now + SECONDS
        taps = {names.tap(port.id): port for port in desired.ports.values()}
        found: dict[tuple[str, str], list[list[Any]]] = {}
        for name in firewall.LEARNED:
            for device, mac, address, _ in self._elements("bridge", name):
                port = taps.get(device)
                if port is not None and not _own(port, mac, address):
                    found.setdefault(("learned", port.id), []).append([mac, address])
        for name, what in firewall.ROGUE.items():
            for device, mac, address, frames in self._elements("bridge", name):
                if device in taps:
                    found.setdefault(("rogue", taps[device].id), []).append([what, mac, address, frames])
        networks = {names.bridge(network_id): network_id for network_id in desired.networks}
        for bridge, address, frames in self._elements("inet", firewall.OUTSIDE):
            if bridge in networks:
                found.setdefault(("rogue", networks[bridge]), []).append(["DHCP", "", address, frames])
        yield from self._news(found)

    def _news(self, found: Mapping[tuple[str, str], list[list[Any]]]) -> Iterator[Fact]:
        for key in [key for key in self._told if key not in found]:
            del self._told[key]
            if key[0] == "learned":
                yield Fact(kind="learned", port_id=key[1], detail="[]")
        for key, lines in found.items():
            detail = msgspec.json.encode(sorted(lines)[:MOST])
            if self._told.get(key) != detail:
                self._told[key] = detail
                yield Fact(kind=key[0], port_id=key[1], detail=detail.decode())

    def _elements(self, family: str, name: str) -> Iterator[tuple[Any, ...]]:
        """The fields of each element, with how many packets there were."""
        try:
            found = json.loads(nft.run(None, "-j", "list", "set", family, self._table, name))
        except HostFault:
            return
        for item in found["nftables"]:
            for element in item.get("set", {}).get("elem", ()):
                inner = element.get("elem", {})
                value = inner.get("val", {})
                if isinstance(value, dict) and "concat" in value:
                    yield (*value["concat"], inner.get("counter", {}).get("packets", 0))


def _own(port: Port, mac: str, address: str) -> bool:
    return mac == port.mac and address in ({each.address for each in port.addresses} | {names.link_local(mac)})
