"""The way of a packet from a port, as the ledger has it: over which hosts, devices and routers it should go.

For `nephos trace` (S0-30, S2-59): the doctor watches these stops and says after which one a packet was not seen.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import bindparam, select

from nephos import errors
from nephos.hosts.store import host
from nephos.kernel.db.engine import Tx
from nephos.network import addressing
from nephos.network.floatingips.store import floatingip
from nephos.network.localips import actions as localips
from nephos.network.networks.store import network
from nephos.network.ports import actions as ports
from nephos.network.ports.store import DHCP, GATEWAY, ROUTER, port
from nephos.network.routers import edges
from nephos.network.routers.store import router
from nephos.network.subnets.store import address, subnet
from nephos.wiring.probe import At, Point

METADATA = {4: "169.254.169.254", 6: "fe80::a9fe:a9fe"}
WORDS = ("dhcp", "metadata", "gateway", "internet")
"""What a target may be besides an address or a port; with a 6 behind it (`gateway6`) it is asked for over IPv6."""
_ON_LINK = ipaddress.IPv6Network("fe80::/64")
TUNNELS = ("vxlan", "gre", "geneve")
_taken = (
    select(address.c.address, *(subnet.c[name] for name in ("id", "cidr", "gateway", "version", "network_id", "dhcp")))
    .add_columns(subnet.c.ra_mode, subnet.c.address_mode)
    .join(subnet, subnet.c.id == address.c.subnet_id)
    .where(address.c.port_id == bindparam("port"))
    .order_by(address.c.place, address.c.address)
)
_at = (
    select(port)
    .join(address, address.c.port_id == port.c.id)
    .where(port.c.network_id == bindparam("network"), address.c.address == bindparam("address"))
)
_floating = (
    select(floatingip.c.router_id, floatingip.c.fixed_address, floatingip.c.fixed_port_id, port.c.network_id.label("inside"))
    .join(port, port.c.id == floatingip.c.fixed_port_id)
    .where(floatingip.c.network_id == bindparam("network"), floatingip.c.address == bindparam("address"))
)
_own_floating = select(floatingip.c.address).where(
    floatingip.c.router_id == bindparam("router"),
    floatingip.c.fixed_port_id == bindparam("port"),
    floatingip.c.fixed_address == bindparam("address"),
)
_network = select(network).where(network.c.id == bindparam("id"))
_router = select(router).where(router.c.id == bindparam("id"))
_routers = select(port.c.mac).where(port.c.network_id == bindparam("network"), port.c.device_owner == ROUTER)
_dhcp_mac = select(port.c.mac).where(port.c.network_id == bindparam("network"), port.c.device_owner == DHCP)
_ends = select(host.c.id, host.c.tunnel_address).where(host.c.id.in_(bindparam("hosts", expanding=True)))
_legs = (
    select(port)
    .where(port.c.device_id == bindparam("router"), port.c.device_owner.in_([ROUTER, GATEWAY]))
    .order_by(port.c.created_at, port.c.id)
)


class Stop(NamedTuple):
    """A point on a host's part of the way. `gateway` marks a router's leg in an external network."""

    host_id: str
    point: Point
    gateway: bool = False


class Way(NamedTuple):
    """`kind` is dhcp, autoconfiguration (IPv6's), metadata or address. From a port to something. The question passes `stops`
    in order, the answer backwards.

    `nexthop` is whom the guest asks for by ARP or a neighbour solicitation; `nexthop_mac` is who should answer, where the
    ledger knows: of DHCP too. `asks` is what a guest asks for to configure itself: router, stateful, stateless, of which
    the first passes all stops but the DHCP server, the others only that. `routers` are the MACs of the network's routers.
    `edge` is who answers for the next hop when that is a distributed router or a local IP, whichever way packets go.
    `others` are other endings, from the router's leg outside on: a router that shares its connections among several gateways
    takes any of them, or that in `stops`.
    """

    port_id: str
    mac: str
    address: str
    mtu: int
    kind: str
    target: str
    nexthop: str
    nexthop_mac: str | None
    stops: tuple[Stop, ...]
    who: str
    asks: tuple[str, ...] = ()
    routers: tuple[str, ...] = ()
    edge: Stop | None = None
    others: tuple[tuple[Stop, ...], ...] = ()


def way(tx: Tx, port_id: str, target: str) -> Way:
    """From the port to `target`: one of WORDS, another port's id, or an address. What does not say which IP version is
    asked for over IPv4 where that can be.

    Raises PortNotFound; BadRequest for a target that is none of these; Conflict when there is no such way, with why.
    """
    row = ports.get(tx, port_id)
    if not row.host_id:
        raise errors.Conflict(f"Port {port_id} is on no host: no server uses it, or its server was not placed yet.")
    net = _net(tx, row.network_id)
    taken = tx.all(_taken, {"port": port_id})
    version = _version(tx, taken, target)
    if target.removesuffix("6") in WORDS:
        target = target.removesuffix("6")
    own = [each for each in taken if each.version == version]
    tap = Stop(row.host_id, Point(at=At.TAP, id=row.id))
    here = Stop(row.host_id, Point(at=At.DHCP, id=row.network_id))
    if target == "dhcp" and version == 6:
        return _autoconfiguration(tx, row, net, own, tap, here)
    if target == "dhcp":
        mac = tx.scalar(_dhcp_mac, {"network": row.network_id})
        return Way(row.id, row.mac, "0.0.0.0", net.mtu, "dhcp", "", "", mac, (tap, here), "DHCP")
    if target == "metadata":
        if not own and version == 4:
            raise errors.Conflict(f"Port {port_id} has no IPv4 address to send from.")
        # Over IPv6 it is on the link, where a guest always has an address.
        source, to = own[0].address if version == 4 else _on_link(row), METADATA[version]
        return Way(row.id, row.mac, source, net.mtu, "metadata", to, to, None, (tap, here), "the metadata server")
    if not own:
        raise errors.Conflict(f"Port {port_id} has no IPv{version} address to send from.")
    home = own[0]
    to, who = _target(tx, row, home, target)
    (stops, *others), nexthop, mac, who = _route(tx, row, net, own, to, who)
    edge = here if localips.led_to(tx, row, to) is not None else _edge(tx, row, nexthop)
    return Way(
        row.id, row.mac, home.address, net.mtu, "address", to, nexthop, mac, (tap, *stops), who, edge=edge, others=tuple(others)
    )


def _version(tx: Tx, taken: Sequence[Any], target: str) -> int:
    """The IP version that is meant; where both can be, 4."""
    own: set[int] = {each.version for each in taken} or {4}
    if target in WORDS:
        return min(own)
    if target.removesuffix("6") in WORDS:
        return 6
    try:
        return ipaddress.ip_address(target).version
    except ValueError:
        other = ports.get(tx, target)
        both: set[int] = own & {each.version for each in tx.all(_taken, {"port": other.id})}
        return min(both or own)


def _on_link(row: Any) -> str:
    """The address that a port's guest gives itself on the link."""
    return addressing.eui64(_ON_LINK, row.mac)


def _autoconfiguration(tx: Tx, row: Any, net: Any, own: Sequence[Any], tap: Stop, here: Stop) -> Way:
    """How a guest comes to its IPv6 address and what goes with it: by a router's advertisement, DHCPv6, or both."""
    if not own:
        raise errors.Conflict(f"Port {row.id} has no IPv6 address to ask for.")
    home = own[0]
    asks, stops, who = [], [tap], []
    if home.ra_mode:
        leg = tx.first(_at, {"network": row.network_id, "address": home.gateway})
        if leg is None or leg.device_owner != ROUTER:
            raise errors.Conflict(f"No router has the gateway address of subnet {home.id}, so nobody advertises it to guests.")
        stops += _to_router(tx, row, net, leg)
        asks.append("router")
        who.append("the router")
    elif home.address_mode and net.physical:
        stops += _out(row.host_id, net)
        asks.append("router")
        who.append("the router")
    answered = {"dhcpv6-stateful": "stateful", "dhcpv6-stateless": "stateless"}.get(home.address_mode or "")
    if (home.ra_mode, home.address_mode) == (None, None):
        answered = "stateful"
    if home.dhcp and answered:
        stops.append(here)
        asks.append(answered)
        who.append("DHCPv6")
    if not asks:
        raise errors.Conflict(f"Nobody tells guests of subnet {home.id} their addresses: it has neither DHCPv6 nor a router that advertises it.")
    mac = tx.scalar(_dhcp_mac, {"network": row.network_id})
    routers = tuple(each.mac for each in tx.all(_routers, {"network": row.network_id}))
    name, kind = " and ".join(who), "autoconfiguration"
    return Way(row.id, row.mac, _on_link(row), net.mtu, kind, "", "", mac, tuple(stops), name, tuple(asks), routers)


def _to_router(tx: Tx, row: Any, net: Any, leg: Any) -> list[Stop]:
    """From the port's host to a router's leg in its network."""
    host_id = tx.scalar(select(router.c.host_id).where(router.c.id == leg.device_id))
    if host_id is None:
        raise errors.Conflict(f"Router {leg.device_id} is on no host: none that is up reaches its networks.")
    return [*_between(tx, row.host_id, host_id, net), Stop(host_id, _leg(leg))]


def _net(tx: Tx, network_id: str) -> Any:
    return tx.first(_network, {"id": network_id})


def _target(tx: Tx, row: Any, home: Any, target: str) -> tuple[str, str]:
    """The address that is meant, and whose it is in words."""
    if target in ("gateway", "internet"):
        if home.gateway is None:
            raise errors.Conflict(f"Subnet {home.id} of the port has no gateway.")
        if target == "gateway":
            return home.gateway, "the gateway"
        leg = tx.first(_at, {"network": row.network_id, "address": home.gateway})
        if leg is None or leg.device_owner != ROUTER:
            raise errors.Conflict(f"No router has the gateway address {home.gateway} of the port's subnet.")
        for gateway in _leaving(tx, row, home, leg.device_id)[:1]:
            for each in tx.all(_taken, {"port": gateway.id}):
                if each.version == home.version and each.gateway:
                    return each.gateway, "the external network's gateway"
        raise errors.Conflict(
            f"Router {leg.device_id} has no external gateway over IPv{home.version}, so there is no way to the internet."
        )
    try:
        found = ipaddress.ip_address(target)
    except ValueError:
        other = ports.get(tx, target)
        taken = [each.address for each in tx.all(_taken, {"port": other.id}) if each.version == home.version]
        if not taken:
            raise errors.Conflict(f"Port {target} has no IPv{home.version} address.") from None
        return taken[0], f"port {other.id}"
    if found.version == 6 and (found.scope_id or found.is_multicast or found.ipv4_mapped):
        raise errors.BadRequest(f"{target}: what is traced is the way to an address of one machine, without a zone.")
    return str(found), str(found)


def _route(
    tx: Tx, row: Any, net: Any, own: Sequence[Any], to: str, who: str
) -> tuple[list[tuple[Stop, ...]], str, str | None, str]:
    """The stops after the guest's device, with other endings behind them; the next hop with its MAC; and who answers."""
    target = ipaddress.ip_address(to)
    near = next((each for each in own if target in ipaddress.ip_network(each.cidr)), None)
    if near is not None:
        led = localips.led_to(tx, row, to)
        if led is not None:
            return [(Stop(row.host_id, Point(at=At.TAP, id=led)),)], to, None, f"port {led}, to which local IP {to} leads here,"
        other = tx.first(_at, {"network": row.network_id, "address": to})
        if other is None:
            return [_out(row.host_id, net)], to, None, who
        return [(*_between(tx, row.host_id, other.host_id, net), *_end(tx, other))], to, other.mac, who
    home = own[0]
    if home.gateway is None:
        raise errors.Conflict(f"Subnet {home.id} of the port has no gateway, so {to} is out of its reach.")
    leg = tx.first(_at, {"network": row.network_id, "address": home.gateway})
    if leg is None or leg.device_owner != ROUTER:
        # Somebody else's router: it is followed as far as this cloud goes.
        return [_out(row.host_id, net)], home.gateway, None, who
    stops = _to_router(tx, row, net, leg)
    host_id = stops[-1].host_id
    edge = edges.serving(tx, row.id)
    towards = _towards(tx, leg.device_id, to)
    for inner in tx.all(_legs, {"router": leg.device_id}):
        if inner.device_owner == ROUTER and _near(tx, inner, towards):
            return [(*stops, *_inside(tx, inner, host_id, towards))], home.gateway, leg.mac, who
    gateways = _leaving(tx, row, home, leg.device_id, towards)
    if not gateways:
        raise errors.Conflict(f"Router {leg.device_id} has no external gateway and no network with {to}.")
    if edge is not None and (edge.router_id, edge.fixed_address) == (leg.device_id, home.address):
        # The floating IP of a distributed router: its edge is on the port's own host.
        host_id = row.host_id
        stops = [Stop(host_id, _leg(leg))]
    first, *rest = (tuple(_outside(tx, outer, host_id, towards)) for outer in gateways)
    return [(*stops, *first), *rest], home.gateway, leg.mac, who


def _near(tx: Tx, leg: Any, to: str) -> bool:
    """Whether an address is in one of a leg's ranges."""
    target = ipaddress.ip_address(to)
    return any(target in ipaddress.ip_network(each.cidr) for each in tx.all(_taken, {"port": leg.id}))


def _towards(tx: Tx, router_id: str, to: str) -> str:
    """The address itself, or the next hop of the router's extra route to it."""
    target, own = ipaddress.ip_address(to), tx.first(_router, {"id": router_id})
    if any(_near(tx, leg, to) for leg in tx.all(_legs, {"router": router_id})):
        return to
    routes = [(ipaddress.ip_network(each), by) for each, by in (own and own.routes) or ()]
    fitting = sorted((net.prefixlen, by) for net, by in routes if target in net)
    return fitting[-1][1] if fitting else to


def _leaving(tx: Tx, row: Any, home: Any, router_id: str, to: str | None = None) -> list[Any]:
    """The gateways (ports) of a router by which it sends what comes from the port's address, to `to` or (None) to anywhere
    far, in the order of `wiring.linux.routers.gateways`: that on whose network it is, that which has the port's floating
    IP, or the main one. Several where connections are shared among them."""
    own = tx.first(_router, {"id": router_id})
    gateways = [leg for leg in tx.all(_legs, {"router": router_id}) if leg.device_owner == GATEWAY]
    gateways.sort(key=lambda leg: own is None or leg.id != own.gateway_port_id)
    known = {"router": router_id, "port": row.id, "address": home.address}
    for nearer in (to, tx.scalar(_own_floating, known)):
        found = [leg for leg in gateways if nearer is not None and _near(tx, leg, nearer)]
        if found:
            return found[:1]
    if own is None or not own.ecmp:
        return gateways[:1]
    hops = {leg.id: {each.version for each in tx.all(_taken, {"port": leg.id}) if each.gateway} for leg in gateways}
    return [leg for leg in gateways if home.version in hops[leg.id]] or gateways[:1]


def _edge(tx: Tx, row: Any, nexthop: str) -> Stop | None:
    """The leg, on the port's own host, of the distributed router that serves a floating IP of the port there."""
    edge = edges.serving(tx, row.id)
    if edge is None:
        return None
    leg = tx.first(_at, {"network": row.network_id, "address": nexthop})
    return Stop(row.host_id, _leg(leg)) if leg is not None and leg.device_id == edge.router_id else None


def _outside(tx: Tx, outer: Any, host_id: str, to: str) -> list[Stop]:
    """From a router's gateway on `host_id`: to a floating IP or a router of this cloud, or out of it."""
    net = _net(tx, outer.network_id)
    gateway = Stop(host_id, _leg(outer), gateway=True)
    floating = tx.first(_floating, {"network": outer.network_id, "address": to})
    if floating is None:
        other = tx.first(_at, {"network": outer.network_id, "address": to})
        if other is None or other.device_owner not in (ROUTER, GATEWAY) or not other.host_id:
            return [gateway, *_out(host_id, net)]
        return [gateway, *_between(tx, host_id, other.host_id, net), *_end(tx, other)]
    legs = tx.all(_legs, {"router": floating.router_id})
    there = next((each for each in legs if each.device_owner == GATEWAY and each.network_id == outer.network_id), outer)
    inner = next((each for each in legs if each.device_owner == ROUTER and each.network_id == floating.inside), None)
    if inner is None or there.host_id is None:
        return [gateway, *_out(host_id, net)]
    edge = edges.serving(tx, floating.fixed_port_id)
    home = edge.host_id if edge is not None and edge.address == to else there.host_id
    # A router turns round what is for a floating IP of its own, without a look outside.
    turned = (there.id, home) == (outer.id, host_id)
    stops = [] if turned else [gateway, *_between(tx, host_id, home, net), Stop(home, _leg(there), gateway=True)]
    return [*stops, *_inside(tx, inner, home, floating.fixed_address)]


def _inside(tx: Tx, leg: Any, host_id: str, to: str) -> list[Stop]:
    """From a router on `host_id` into one of its inner networks."""
    net = _net(tx, leg.network_id)
    other = tx.first(_at, {"network": leg.network_id, "address": to})
    stops = [Stop(host_id, _leg(leg))]
    if other is None or other.id == leg.id:
        return stops
    return [*stops, *_between(tx, host_id, other.host_id, net), *_end(tx, other)]


def _leg(leg: Any) -> Point:
    return Point(at=At.LEG, id=leg.id, router_id=leg.device_id)


def _end(tx: Tx, other: Any) -> list[Stop]:
    """Where a port is."""
    if other.device_owner == DHCP or not other.host_id:
        return []
    if other.device_owner in (ROUTER, GATEWAY):
        return [Stop(other.host_id, _leg(other))]
    return [Stop(other.host_id, Point(at=At.TAP, id=other.id))]


def _between(tx: Tx, one: str, other: str | None, net: Any) -> list[Stop]:
    """From host to host over a network."""
    if other is None or one == other:
        return []
    ends = {row.id: row.tunnel_address or "" for row in tx.all(_ends, {"hosts": [one, other]})}
    out, into = (Point(at=At.UPLINK, id=net.id, peer=ends.get(far, "")) for far in (other, one))
    under = Point(at=At.UNDERLAY) if net.kind in TUNNELS else Point(at=At.PHYSICAL, id=net.physical or "")
    return [Stop(one, out), Stop(one, under), Stop(other, under), Stop(other, into)]


def _out(host_id: str, net: Any) -> tuple[Stop, ...]:
    """Out of the cloud by a physical network."""
    if not net.physical:
        return ()
    return Stop(host_id, Point(at=At.UPLINK, id=net.id)), Stop(host_id, Point(at=At.PHYSICAL, id=net.physical))
