"""Checks what the server sends before any of it becomes a name, a file or a rule on the host (design §2, trust).

A hostile or broken item is refused as itself; it harms no other.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping

from nephos.wiring.base import Address, Desired, Item, Key, Kind, Limits, Network, Port, Route, Router
from nephos.wiring.linux.system.names import checked

_BITS = {"vlan": 12, "gre": 32}
_MAC = re.compile(r"([0-9a-f]{2}:){5}[0-9a-f]{2}\Z")


class Vetting:
    """Remembers what it has found good, so that only new items are looked at."""

    def __init__(self) -> None:
        self._good: dict[Key, Item] = {}

    def __call__(self, desired: Desired, errors: dict[Key, str]) -> Desired:
        """The desired state, in order of ids, without the items that are refused; those are told in `errors`."""
        good: dict[Key, Item] = {}

        def kept(kind: Kind, items: Mapping[str, Item]) -> list[str]:
            found = []
            for name, item in items.items():
                key = Key(kind, name)
                try:
                    if self._good.get(key) is not item:
                        _check(name, item)
                except (ValueError, TypeError) as problem:
                    errors[key] = str(problem)
                else:
                    good[key] = item
                    found.append(name)
            return sorted(found)

        networks = kept(Kind.NETWORK, desired.networks)
        ports = kept(Kind.PORT, desired.ports)
        groups = kept(Kind.GROUP, desired.groups)
        routers = kept(Kind.ROUTER, desired.routers)
        self._good = good
        return Desired(
            networks={name: desired.networks[name] for name in networks},
            ports={name: desired.ports[name] for name in ports},
            groups={name: desired.groups[name] for name in groups},
            routers={name: desired.routers[name] for name in routers},
        )


def _check(name: str, item: Item) -> None:
    if item.id != checked(name):
        raise ValueError(f"{name!r} holds {item.id!r}")
    if isinstance(item, Network):
        _network(item)
    elif isinstance(item, Port):
        _port(item)
    elif isinstance(item, Router):
        _router(item)
    else:
        for member in item.members:
            ipaddress.ip_network(member, strict=False)


def _network(network: Network) -> None:
    if network.segment is not None and not 0 < network.segment < 1 << _BITS.get(network.kind, 24):
        raise ValueError(f"segment {network.segment} is out of range")
    if not 68 <= network.mtu <= 65535:
        raise ValueError(f"MTU {network.mtu} is out of range")
    if network.dhcp_port_id is not None:
        checked(network.dhcp_port_id)
    if network.dhcp_mac is not None:
        _mac(network.dhcp_mac)
    for subnet in network.subnets:
        checked(subnet.id)
        cidr = ipaddress.ip_network(subnet.cidr)
        if cidr.version != subnet.version:
            raise ValueError(f"subnet {subnet.cidr} is not of version {subnet.version}")
        for address in (subnet.gateway, subnet.dhcp_address, *subnet.dns):
            if address is not None:
                ipaddress.ip_address(address)
        _routes(subnet.routes)
    for endpoint in network.endpoints:
        checked(endpoint.port_id)
        _mac(endpoint.mac)
        _addresses(endpoint.addresses)
        if endpoint.tunnel is not None:
            ipaddress.ip_address(endpoint.tunnel)
    for peer in network.peers:
        ipaddress.ip_address(peer)
    if not set(network.detours) <= set(network.peers):
        raise ValueError("a detour leads to no peer")


def _port(port: Port) -> None:
    checked(port.network_id)
    _mac(port.mac)
    _addresses(port.addresses)
    if port.trunk is not None:
        checked(port.trunk)
        if port.tag is None or not 1 <= port.tag <= 4094:
            raise ValueError(f"VLAN {port.tag} is out of range")
    if port.limits is not None:
        _limits(port.limits)
    for one in port.local:
        ipaddress.IPv4Address(one.address)
        ipaddress.IPv4Address(one.fixed)
    for cidr, mac in port.pairs:
        ipaddress.ip_network(cidr, strict=False)
        if mac is not None:
            _mac(mac)


def _limits(limits: Limits) -> None:
    for name in limits.__struct_fields__:
        value = getattr(limits, name)
        if value is not None and not (0 <= value < 1 << 31 and (name != "dscp" or value < 64)):
            raise ValueError(f"{name} {value} is out of range")


def _router(router: Router) -> None:
    for leg in router.legs:
        checked(leg.port_id)
        checked(leg.network_id)
        _mac(leg.mac)
        _addresses(leg.addresses)
    for gateway in router.gateways:
        for nexthop in gateway.nexthops:
            ipaddress.ip_address(nexthop)
    for limits in (*(one.limits for one in router.gateways), *(one.limits for one in router.floating)):
        if limits is not None:
            _limits(limits)
    for floating in router.floating:
        ipaddress.ip_address(floating.address)
        ipaddress.ip_address(floating.fixed)
    for one in router.forwardings:
        ipaddress.ip_address(one.address)
        ipaddress.ip_address(one.fixed)
    for address in router.proxied or ():
        ipaddress.IPv6Address(address)
    for meter in router.meters:
        checked(meter.id)
        for _, _, source, target in meter.rules:
            for cidr in (source, target):
                ipaddress.ip_network(cidr or "::/0")
    if router.edge is not None:
        for cidr in (*router.edge.outside, *router.edge.central):
            ipaddress.IPv4Network(cidr)
        for fixed, port_id in router.edge.ports:
            ipaddress.IPv4Address(fixed)
            checked(port_id)
    if router.ha is not None:
        _addresses([router.ha.virtual])
        if not 1 <= router.ha.number <= 255:
            raise ValueError(f"VRRP number {router.ha.number} is out of range")
    _routes(router.routes)


def _routes(routes: Iterable[Route]) -> None:
    for route in routes:
        ipaddress.ip_network(route.destination)
        ipaddress.ip_address(route.nexthop)


def _addresses(addresses: Iterable[Address]) -> None:
    for address in addresses:
        ipaddress.ip_interface(f"{address.address}/{address.prefix}")


def _mac(mac: str) -> None:
    if not _MAC.match(mac):
        raise ValueError(f"{mac!r} is no MAC address")
