"""A wiring driver without devices, for simulated hosts: it keeps what it was told and refuses what a host would refuse.

It needs no root and makes nothing outside the process. `guest_boots` and `guest_asks` stand for what a guest does on
its own, so that a simulated guest's address and metadata are facts like a real one's.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from nephos.errors import HostFault
from nephos.wiring.base import (
    Desired,
    Fact,
    Key,
    Kind,
    Leftover,
    MetadataLookup,
    MetadataPost,
    Network,
    Port,
    Router,
    WiringSettings,
)
from nephos.wiring.probe import Watch, Watched

_PHYSICAL, _TUNNELS = ("flat", "vlan"), ("vxlan", "gre", "geneve")


class FakeWiring:
    """Wires nothing (`wiring.base.Wiring`). Without `settings` every physical network and tunnel counts as there."""

    def __init__(self, settings: WiringSettings | None = None) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._networks: dict[str, Network] = {}
        self._ports: dict[str, Port] = {}
        self._routers: dict[str, Router] = {}
        self._lookup: MetadataLookup | None = None
        self._post: MetadataPost | None = None
        self._report: Callable[[Fact], None] | None = None
        self._taken: dict[str, str] = {}
        self._reported: set[tuple[str, str, str]] = set()

    def check(self) -> None:
        """See `wiring.base.Wiring.check`: nothing can be wrong."""

    def apply(self, desired: Desired, changed: frozenset[Key] | None = None) -> dict[Key, str]:
        """See `wiring.base.Wiring.apply`."""
        errors: dict[Key, str] = {}
        networks, ports, routers = {}, {}, {}
        for network in desired.networks.values():
            try:
                self._check_network(network)
                networks[network.id] = network
            except HostFault as problem:
                errors[Key(Kind.NETWORK, network.id)] = problem.message
        for port in desired.ports.values():
            try:
                _check_port(port, networks)
                ports[port.id] = port
            except HostFault as problem:
                errors[Key(Kind.PORT, port.id)] = problem.message
        for router in desired.routers.values():
            try:
                _check_router(router, networks)
                routers[router.id] = router
            except HostFault as problem:
                errors[Key(Kind.ROUTER, router.id)] = problem.message
        with self._lock:
            self._networks, self._ports, self._routers = networks, ports, routers
            self._taken = {port: address for port, address in self._taken.items() if port in ports}
            self._reported = {key for key in self._reported if key[1] in ports}
        return errors

    def tap_name(self, port_id: str) -> str:
        return f"tap{port_id[:11]}"

    def serve_metadata(self, lookup: MetadataLookup, post: MetadataPost) -> None:
        self._lookup, self._post = lookup, post

    def watch(self, report: Callable[[Fact], None]) -> None:
        """See `wiring.base.Wiring.watch`. Addresses taken before are reported too, once."""
        with self._lock:
            self._report = report
            taken = list(self._taken.items())
        for port_id, address in taken:
            self._tell(Fact(kind="address_taken", port_id=port_id, detail=address), address)

    def leftovers(self, desired: Desired) -> list[Leftover]:
        """What was applied last and is not in `desired`."""
        found = []
        with self._lock:
            for port_id in self._ports.keys() - desired.ports.keys():
                found.append(Leftover(kind="tap", name=self.tap_name(port_id), why=f"no port {port_id}"))
            for network_id in self._networks.keys() - desired.networks.keys():
                found.append(Leftover(kind="bridge", name=f"brq{network_id[:11]}", why=f"no network {network_id}"))
            for router_id in self._routers.keys() - desired.routers.keys():
                name = f"qrouter-{router_id}"
                found.append(Leftover(kind="namespace", name=name, why="nothing wanted owns it"))
        return sorted(found, key=lambda one: (one.kind, one.name))

    def expect(self, port_ids: Sequence[str]) -> None:
        """A fake guest opens no device."""

    def unexpect(self, port_ids: Sequence[str]) -> None:
        """See `expect`."""

    def probe(self, request: Watch) -> Watched:
        raise HostFault("this is a fake host: it has no packets to follow")

    def close(self) -> None:
        self._report = None

    def purge(self) -> None:
        self.apply(Desired())

    # ---- what a guest does ------------------------------------------------------------------------------------

    def guest_boots(self, port_id: str) -> str | None:
        """The guest behind a port asks for its address: the one it takes, None where DHCP gives it none."""
        with self._lock:
            port = self._ports.get(port_id)
            network = self._networks.get(port.network_id) if port else None
            if port is None or network is None or not port.admin_up:
                return None
            served = {subnet.id for subnet in network.subnets if subnet.dhcp and subnet.dhcp_address}
            address = next((one.address for one in port.addresses if one.subnet_id in served), None)
            if address is None:
                return None
            self._taken[port_id] = address
        self._tell(Fact(kind="address_taken", port_id=port_id, detail=address), address)
        return address

    def guest_asks(self, port_id: str, path: str) -> bytes | None:
        """The guest behind a port fetches a metadata path: the body, None when there is none."""
        with self._lock:
            known = port_id in self._ports
        body = self._lookup(port_id, path) if known and self._lookup is not None else None
        if body is not None:
            self._tell(Fact(kind="metadata_served", port_id=port_id, detail=path), "")
        return body

    def guest_posts(self, port_id: str, path: str, body: bytes) -> int:
        """The guest behind a port posts to the metadata service: the HTTP status."""
        with self._lock:
            known = port_id in self._ports
        return self._post(port_id, path, body) if known and self._post is not None else 404

    def _tell(self, fact: Fact, distinct: str) -> None:
        key = (fact.kind, fact.port_id, distinct)
        with self._lock:
            report = None if key in self._reported else self._report
            if report is None:
                return
            self._reported.add(key)
        report(fact)

    def _check_network(self, network: Network) -> None:
        if network.kind not in ("local", *_PHYSICAL, *_TUNNELS):
            raise HostFault(f"network type {network.kind!r} is not known to this host")
        if network.kind not in ("local", "flat") and network.segment is None:
            raise HostFault(f"a {network.kind} network needs its segment, the number that it goes by")
        if self._settings is None:
            return
        if network.kind in _PHYSICAL and network.physical not in self._settings.physical:
            raise HostFault(f"physical network {network.physical!r} is not mapped on this host")
        if network.kind in _TUNNELS and network.peers and self._settings.tunnel_address is None:
            raise HostFault("other hosts carry this network, but this host has no tunnel_address set")


def _check_port(port: Port, networks: dict[str, Network]) -> None:
    if port.network_id not in networks:
        raise HostFault(f"network {port.network_id} of the port is not wired on this host")
    if not 1 <= port.index <= 65535:
        raise HostFault(f"the port's index {port.index} is not between 1 and 65535")


def _check_router(router: Router, networks: dict[str, Network]) -> None:
    legs = [(leg.port_id, leg.network_id) for leg in router.legs]
    for port_id, network_id in legs:
        if router.admin_up and network_id not in networks:
            raise HostFault(f"network {network_id} of the router's port {port_id} is not wired here")
