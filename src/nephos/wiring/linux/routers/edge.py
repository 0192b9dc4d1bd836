"""Edges of distributed routers: a router's namespace on a guest's own host, for its floating IP and nothing else.

Inside, the edge has the router's address and MAC. On the bridge it is known by a MAC of its own, its door, that never leaves
the host: what a port with a floating IP sends to the router, and does not send to the router's own networks, is handed in
by the door, with the router's MAC put back behind it; and what the edge sends bears the door's MAC. So the bridge, the other
guests and the tunnels see one router, where it is, and a guest's neighbour table holds whichever way its packets take.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from nephos.wiring.base import Desired, Port, Router, RouterInterface
from nephos.wiring.linux.routers.gateways import Way, outside
from nephos.wiring.linux.system import names, nft
from nephos.wiring.linux.system.host import Room
from nephos.wiring.linux.system.nft import DROP, RETURN, Table, concat, field, jump, mangle, masked, match, meta

_IN, _OUT = meta("iifname"), meta("oifname")
_SOURCE, _TARGET = field("ether", "saddr"), field("ether", "daddr")
_GROUP = "01:00:00:00:00:00"
_AFTER_GUARDS = -299
_DOORS, _DOOR_MASK = "02:4e:52:00:00:00", "ff:ff:ff:00:00:00"


class Served(NamedTuple):
    """A port of this host, an address of it that has a floating IP here, and the leg that leads there."""

    port: Port
    fixed: str
    leg: RouterInterface
    router: Router


def door(leg: RouterInterface) -> str:
    """The MAC that an edge's leg has on its bridge; it never leaves the host."""
    return _DOORS[:9] + hashlib.sha256(leg.port_id.encode()).digest()[:3].hex(":")


def served(desired: Desired) -> Iterator[Served]:
    """What the edges on this host serve, as far as its ports are wired."""
    for router in desired.routers.values():
        if router.edge is None or not router.admin_up:
            continue
        legs = {leg.network_id: leg for leg in router.interfaces}
        for fixed, port_id in router.edge.ports:
            port = desired.ports.get(port_id)
            if port is not None and port.network_id in legs:
                yield Served(port, fixed, legs[port.network_id], router)


def _central(router: Router) -> list[nft.Value]:
    """What an edge leaves to the router itself, as elements that do not overlap."""
    networks = [ipaddress.IPv4Network(cidr) for cidr in (router.edge.central if router.edge else ())]
    return [nft.prefix(str(each)) for each in ipaddress.collapse_addresses(networks)]


def lead(table: Table, desired: Desired) -> None:
    """Add to the bridge family's table: after the guards, so that what is led has been judged."""
    edges = [router for router in desired.routers.values() if router.edge is not None and router.admin_up]
    legs = [leg for router in edges for leg in router.interfaces]
    if not legs:
        return
    by_leg: dict[tuple[str, str], list[Served]] = {}
    for one in served(desired):
        by_leg.setdefault((one.port.id, one.leg.port_id), []).append(one)
    table.map("edge_doors", "ifname", "ether_addr", ((names.tap(leg.port_id), door(leg)) for leg in legs))
    table.map("edge_macs", "ifname", "ether_addr", ((names.tap(leg.port_id), leg.mac) for leg in legs))
    table.set("edges", "ifname", (names.tap(leg.port_id) for leg in legs))
    into = (concat(names.tap(leg.port_id), door(leg)) for leg in legs)
    table.set("edge_entries", ["ifname", "ether_addr"], into)
    led, asked = [], []
    for found in by_leg.values():
        port, leg, central = found[0].port, found[0].leg, _central(found[0].router)
        name = f"{port.index}_{names.tap(leg.port_id)}"
        chain = table.chain(f"edge_{name}")
        if central:
            table.rule(chain, match(field("ip", "daddr"), {"set": central}), RETURN)
        table.rule(
            chain, match(field("ip", "saddr"), {"set": sorted(one.fixed for one in found)}), mangle(_TARGET, door(leg))
        )
        led.append((concat(names.tap(port.id), leg.mac), jump(chain)))
        chain = table.chain(f"edge_arp_{name}")
        table.rule(chain, match(field("arp", "operation"), "request"), mangle(_TARGET, door(leg)))
        asked += [(concat(names.tap(port.id), one.address), jump(chain)) for one in leg.addresses]
    table.map("edge_led", ["ifname", "ether_addr"], "verdict", led)
    table.map("edge_asked", ["ifname", "ipv4_addr"], "verdict", asked)
    table.hook("edge_before", "prerouting", _AFTER_GUARDS)
    # Nobody but who was handed in may notice an edge: it says nothing to all, it hears nothing that is for all, and nobody
    # goes to a door by himself.
    from_edge = match(_IN, "@edges")
    table.rule("edge_before", match(masked(_TARGET, _DOOR_MASK), _DOORS), DROP)
    table.rule("edge_before", from_edge, match(masked(_TARGET, _GROUP), _GROUP), DROP)
    table.rule("edge_before", from_edge, mangle(_SOURCE, {"map": {"key": _IN, "data": "@edge_doors"}}))
    table.rule("edge_before", {"vmap": {"key": concat(_IN, _TARGET), "data": "@edge_led"}})
    table.rule("edge_before", {"vmap": {"key": concat(_IN, field("arp", "daddr ip")), "data": "@edge_asked"}})
    table.hook("edge_after", "forward", _AFTER_GUARDS)
    to_edge = match(_OUT, "@edges")
    table.rule("edge_after", to_edge, match(concat(_OUT, _TARGET), "@edge_entries", "!="), DROP)
    table.rule("edge_after", to_edge, mangle(_TARGET, {"map": {"key": _OUT, "data": "@edge_macs"}}))


def ways(router: Router) -> list[Way]:
    """The routes of an edge beside the default one: it has no address in the external network's ranges."""
    if router.edge is None:
        return []
    return [Way(cidr, ((None, outside(gateway)),)) for gateway in router.gateways[:1] for cidr in router.edge.outside]


def acquaint(room: Room, router: Router, ports: Iterable[Port]) -> int:
    """Tell an edge its ports' MACs, for it asks nobody; what has been an edge forgets them. Answers how many changed."""
    macs = {port.id: (port.network_id, port.mac) for port in ports}
    legs = {leg.network_id: names.leg_device(leg.port_id, gateway=False) for leg in router.interfaces}
    wanted = {}
    for fixed, port_id in router.edge.ports if router.edge else ():
        network_id, mac = macs.get(port_id, ("", ""))
        if network_id in legs:
            wanted[room.stack.links[legs[network_id]].index, fixed] = mac
    have = room.stack.netlink.told_neighbours()
    for index, address in have.keys() - wanted.keys():
        room.stack.netlink.forget_neighbour(index, address)
    fresh = {key: mac for key, mac in wanted.items() if have.get(key) != mac}
    for (index, address), mac in fresh.items():
        room.stack.netlink.tell_neighbour(index, address, mac)
    return len(have.keys() - wanted.keys()) + len(fresh)
