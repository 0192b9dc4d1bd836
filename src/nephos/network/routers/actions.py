"""What routers can do."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import bindparam, delete, select

from nephos.kernel import clock
from nephos.kernel.cloud import Cloud
from nephos.kernel.db.engine import Tx
from nephos.network import addressing, problems, resource, touch
from nephos.network.floatingips.store import floatingip
from nephos.network.networks import actions as networks
from nephos.network.ports import actions as ports
from nephos.network.ports.store import GATEWAY, ROUTER, port
from nephos.network.quotas import actions as quotas
from nephos.network.routers.placing import place
from nephos.network.routers.store import router
from nephos.network.subnets import actions as subnets
from nephos.network.subnets import addresses
from nephos.network.subnets.addresses import Wanted
from nephos.network.subnets.store import address, subnet

MOST_ROUTES = 30
_by_id = select(router).where(router.c.id == bindparam("id"))
_attached = (
    select(
        port.c.id, port.c.network_id, address.c.address, subnet.c.id.label("subnet_id"), subnet.c.cidr, subnet.c.version
    )
    .join(address, address.c.port_id == port.c.id)
    .join(subnet, subnet.c.id == address.c.subnet_id)
    .where(port.c.device_id == bindparam("router"), port.c.device_owner.in_(bindparam("owners", expanding=True)))
    .order_by(port.c.created_at, port.c.id, address.c.place)
)


class Gateway(msgspec.Struct, frozen=True, kw_only=True):
    """A gateway to be set; `snat` None keeps what is, `fixed` None any address of the network."""

    network_id: str
    snat: bool | None = None
    fixed: Sequence[Wanted] | None = None


class Interface(msgspec.Struct, frozen=True, kw_only=True):
    """What adding or removing an interface answers."""

    port_id: str
    network_id: str
    subnet_ids: tuple[str, ...]


def get(tx: Tx, router_id: str) -> Any:
    """A router's row. Raises RouterNotFound."""
    row = tx.first(_by_id, {"id": router_id})
    if row is None:
        raise problems.missing("Router", router_id)
    return row


def create(
    tx: Tx,
    cloud: Cloud,
    *,
    project_id: str,
    name: str = "",
    description: str = "",
    admin_state_up: bool = True,
    gateway: Gateway | None = None,
    zone_hints: Sequence[str] = (),
) -> str:
    """Raises OverQuota, and what setting the gateway raises."""
    quotas.take(tx, cloud, project_id, "router")
    known = touch.zones(tx, cloud) if zone_hints else set()
    for hint in zone_hints:
        if hint not in known:
            raise problems.missing("AvailabilityZone", hint)
    router_id = clock.uuid4()
    tx.insert(
        router,
        {
            "id": router_id,
            "project_id": project_id,
            "name": name,
            "description": description,
            "admin_state_up": admin_state_up,
            "snat": True,
            "routes": [],
            "zone_hints": list(zone_hints),
            "tags": [],
            "revision": 1,
            "created_at": tx.now,
            "updated_at": tx.now,
        },
    )
    if gateway is not None:
        set_gateway(tx, cloud, get(tx, router_id), gateway)
    return router_id


def update(tx: Tx, cloud: Cloud, row: Any, values: dict[str, Any]) -> None:
    """Set name, description, admin_state_up and routes. Raises BadRequest for routes that lead nowhere."""
    if "routes" in values:
        values["routes"] = checked_routes(tx, row.id, values["routes"] or [])
    resource.revise(tx, router, row.id, values)
    if {"routes", "admin_state_up"} & values.keys():
        touch.router(tx, cloud, row.host_id, row.id)


def remove(tx: Tx, cloud: Cloud, row: Any) -> None:
    """Raises RouterInUse (409) naming the interfaces that it still has."""
    left = ports.of_device(tx, row.id, ROUTER)
    if left:
        raise problems.refused(
            f"Router {row.id} still has ports: {', '.join(each.id for each in left)}.", "RouterInUse"
        )
    clear_gateway(tx, cloud, row)
    tx.execute(delete(router).where(router.c.id == row.id))


# --- the gateway -----------------------------------------------------------------------------------------------------


def set_gateway(tx: Tx, cloud: Cloud, row: Any, wanted: Gateway) -> None:
    """Raises BadRequest for a network that is not external, Conflict while floating IPs use the present one."""
    external = networks.get(tx, wanted.network_id)
    if not external.external:
        raise problems.bad(f"Bad router request: Network {external.id} is not an external network.", "BadRequest")
    outer = {each.gateway for each in addresses.subnets_of(tx, external.id)} - {None}
    for one in wanted.fixed or ():
        if one.address in outer:
            raise problems.bad(
                f"Bad router request: External IP {one.address} is the same as the gateway IP.", "BadRequest"
            )
    present = ports.get(tx, row.gateway_port_id) if row.gateway_port_id else None
    values: dict[str, Any] = {} if wanted.snat is None else {"snat": wanted.snat}
    if wanted.snat is None and row.gateway_network_id != external.id:
        values["snat"] = True
    if present is not None and row.gateway_network_id != external.id:
        clear_gateway(tx, cloud, row)
        present = None
    if present is None:
        _check_gateway_ranges(tx, row, external.id)
        new = ports.New(
            project_id="",
            network_id=external.id,
            device_id=row.id,
            device_owner=GATEWAY,
            groups=(),
            port_security=False,
            fixed=wanted.fixed,
            counted=False,
        )
        values |= {"gateway_network_id": external.id, "gateway_port_id": ports.create(tx, cloud, new)}
    elif wanted.fixed is not None:
        ports.change(tx, cloud, present, {}, fixed=wanted.fixed)
    resource.revise(tx, router, row.id, values)
    place(tx, cloud, get(tx, row.id))


def clear_gateway(tx: Tx, cloud: Cloud, row: Any) -> None:
    """Raises RouterExternalGatewayInUseByFloatingIp naming it."""
    if row.gateway_port_id is None:
        return
    user = tx.first(select(floatingip.c.id, floatingip.c.address).where(floatingip.c.router_id == row.id))
    if user is not None:
        raise problems.refused(
            f"Gateway cannot be updated for router {row.id}, since a gateway to external network "
            f"{row.gateway_network_id} "
            f"is required by one or more floating IPs: {user.address} ({user.id}).",
            "RouterExternalGatewayInUseByFloatingIp",
        )
    leg = ports.get(tx, row.gateway_port_id)
    ports.remove(tx, cloud, leg)
    resource.revise(tx, router, row.id, {"gateway_network_id": None, "gateway_port_id": None, "snat": True})
    touch.router(tx, cloud, row.host_id, row.id)
    place(tx, cloud, get(tx, row.id))


def _check_gateway_ranges(tx: Tx, row: Any, network_id: str) -> None:
    mine = tx.all(_attached, {"router": row.id, "owners": [ROUTER]})
    for outer in addresses.subnets_of(tx, network_id):
        for each in mine:
            _check_apart(outer.id, outer.cidr, each.subnet_id, each.cidr)


def _check_apart(new_id: str, new: str, old_id: str, old: str) -> None:
    one, other = ipaddress.ip_network(new), ipaddress.ip_network(old)
    if one.version == other.version and one.overlaps(other):
        raise problems.bad(
            f"Bad router request: Cidr {new} of subnet {new_id} overlaps with cidr {old} of subnet {old_id}.",
            "BadRequest",
        )


# --- interfaces ------------------------------------------------------------------------------------------------------


def add_subnet(tx: Tx, cloud: Cloud, row: Any, subnet_id: str, project_id: str) -> Interface:
    """An interface with the subnet's gateway address. Raises BadRequest, Conflict when that address is taken."""
    sub = subnets.get(tx, subnet_id)
    if sub.gateway is None:
        raise problems.bad("Bad router request: Subnet for router interface must have a gateway IP.", "BadRequest")
    _check_new_subnets(tx, row, [sub])
    wanted = Wanted(subnet_id=sub.id, address=sub.gateway)
    if sub.version == 6:
        known = _ipv6_leg(tx, row.id, sub.network_id)
        if known is not None:
            have = [
                Wanted(subnet_id=one.subnet_id, address=one.address) for one in addresses.of_ports(tx, [known])[known]
            ]
            ports.change(tx, cloud, ports.get(tx, known), {}, fixed=[*have, wanted])
            return _interface(tx, cloud, row, known, subnet_first=sub.id)
    new = ports.New(
        project_id=project_id,
        network_id=sub.network_id,
        device_id=row.id,
        device_owner=ROUTER,
        groups=(),
        port_security=False,
        fixed=[wanted],
    )
    return _interface(tx, cloud, row, ports.create(tx, cloud, new))


def add_port(tx: Tx, cloud: Cloud, row: Any, leg: Any) -> Interface:
    """An interface made of a port that nothing has. Raises PortInUse, BadRequest."""
    if leg.device_id and leg.device_id != row.id:
        raise problems.refused(
            f"Unable to complete operation on port {leg.id} for network {leg.network_id}. Port already has an attached "
            f"device {leg.device_id}.",
            "PortInUse",
        )
    taken = addresses.of_ports(tx, [leg.id]).get(leg.id, [])
    if not taken:
        raise problems.bad("Bad router request: Router port must have at least one fixed IP.", "BadRequest")
    rows = [subnets.get(tx, one.subnet_id) for one in taken]
    if sum(each.version == 4 for each in rows) > 1:
        raise problems.bad("Bad router request: Cannot have multiple IPv4 subnets on router port.", "BadRequest")
    _check_new_subnets(tx, row, rows)
    if any(each.version == 6 for each in rows):
        other = _ipv6_leg(tx, row.id, leg.network_id)
        if other is not None:
            raise problems.bad(
                f"Bad router request: Router already contains IPv6 port {other} belonging to network id "
                f"{leg.network_id}. Only one IPv6 port from the same network subnet can be connected to a router.",
                "BadRequest",
            )
    values: dict[str, Any] = {"device_id": row.id, "device_owner": ROUTER, "port_security_enabled": False, "pairs": []}
    ports.change(tx, cloud, leg, values, wanted=[])
    return _interface(tx, cloud, row, leg.id)


def _check_new_subnets(tx: Tx, row: Any, rows: Sequence[Any]) -> None:
    for sub in rows:
        if sub.version == 6 and sub.address_mode is not None and sub.ra_mode is None:
            raise problems.bad(
                f"Bad router request: IPv6 subnet {sub.id} configured to receive RAs from an external router cannot be "
                "added to a router.",
                "BadRequest",
            )
    for each in tx.all(_attached, {"router": row.id, "owners": [ROUTER, GATEWAY]}):
        for sub in rows:
            if sub.id == each.subnet_id:
                raise problems.bad(f"Bad router request: Router already has a port on subnet {sub.id}.", "BadRequest")
            _check_apart(sub.id, sub.cidr, each.subnet_id, each.cidr)


def _ipv6_leg(tx: Tx, router_id: str, network_id: str) -> str | None:
    """The router's leg in a network that has only IPv6 addresses: it takes those of all IPv6 subnets."""
    versions: dict[str, set[int]] = {}
    for each in tx.all(_attached, {"router": router_id, "owners": [ROUTER]}):
        if each.network_id == network_id:
            versions.setdefault(each.id, set()).add(each.version)
    return next((key for key, found in versions.items() if found == {6}), None)


def _interface(tx: Tx, cloud: Cloud, row: Any, port_id: str, *, subnet_first: str | None = None) -> Interface:
    resource.revise(tx, router, row.id)
    place(tx, cloud, get(tx, row.id))
    ids = [one.subnet_id for one in addresses.of_ports(tx, [port_id]).get(port_id, [])]
    if subnet_first is not None:
        ids.sort(key=lambda key: key != subnet_first)
    return Interface(port_id=port_id, network_id=ports.get(tx, port_id).network_id, subnet_ids=tuple(ids))


def drop_interface(tx: Tx, cloud: Cloud, row: Any, *, port_id: str | None, subnet_id: str | None) -> Interface:
    """Raises RouterInterfaceNotFound, RouterInterfaceInUseByFloatingIP, RouterInterfaceInUseByRoute, BadRequest."""
    found = [
        each
        for each in tx.all(_attached, {"router": row.id, "owners": [ROUTER]})
        if (port_id is None or each.id == port_id) and (subnet_id is None or each.subnet_id == subnet_id)
    ]
    if not found:
        if (
            port_id is not None
            and subnet_id is not None
            and any(each.id == port_id for each in tx.all(_attached, {"router": row.id, "owners": [ROUTER]}))
        ):
            raise problems.bad(
                f"Subnet on port {port_id} does not match the requested subnet {subnet_id}.", "SubnetMismatchForPort"
            )
        what = f"port {port_id}" if port_id is not None else f"subnet {subnet_id}"
        code = "RouterInterfaceNotFound" if port_id is not None else "RouterInterfaceNotFoundForSubnet"
        raise problems.missing(f"Router {row.id} interface for", what, code)
    leg = found[0]
    gone = [each for each in tx.all(_attached, {"router": row.id, "owners": [ROUTER]}) if each.id == leg.id]
    if subnet_id is not None and leg.version == 6 and len(gone) > 1 and port_id is None:
        kept = [each for each in gone if each.subnet_id != subnet_id]
        gone = [each for each in gone if each.subnet_id == subnet_id]
    else:
        kept = []
    for each in gone:
        _check_not_needed(tx, row, each)
    if kept:
        wanted = [Wanted(subnet_id=each.subnet_id, address=each.address) for each in kept]
        ports.change(tx, cloud, ports.get(tx, leg.id), {}, fixed=wanted)
    else:
        ports.remove(tx, cloud, ports.get(tx, leg.id))
    resource.revise(tx, router, row.id)
    place(tx, cloud, get(tx, row.id))
    return Interface(port_id=leg.id, network_id=leg.network_id, subnet_ids=tuple(each.subnet_id for each in gone))


def _check_not_needed(tx: Tx, row: Any, leg: Any) -> None:
    range_ = ipaddress.ip_network(leg.cidr)
    for one in tx.all(select(floatingip.c.id, floatingip.c.fixed_address).where(floatingip.c.router_id == row.id)):
        if one.fixed_address and ipaddress.ip_address(one.fixed_address) in range_:
            raise problems.refused(
                f"Router interface for subnet {leg.subnet_id} on router {row.id} cannot be deleted, as it is "
                "required by "
                f"one or more floating IPs: {one.id}.",
                "RouterInterfaceInUseByFloatingIP",
            )
    for destination, nexthop in row.routes or ():
        if ipaddress.ip_address(nexthop) in range_:
            raise problems.refused(
                f"Router interface for subnet {leg.subnet_id} on router {row.id} cannot be deleted, as it is "
                "required by "
                f"one or more routes: {destination} via {nexthop}.",
                "RouterInterfaceInUseByRoute",
            )


# --- routes ----------------------------------------------------------------------------------------------------------


def checked_routes(tx: Tx, router_id: str, wanted: Sequence[tuple[str, str]]) -> list[list[str]]:
    """(destination, next hop) pairs in their own form. Raises BadRequest for a next hop that no leg reaches."""
    if len(wanted) > MOST_ROUTES:
        raise problems.bad(
            f"Unable to complete operation for {router_id}. The number of routes exceeds the maximum {MOST_ROUTES}.",
            "RoutesExhausted",
        )
    legs = tx.all(_attached, {"router": router_id, "owners": [ROUTER, GATEWAY]})
    ranges = [ipaddress.ip_network(leg.cidr) for leg in legs]
    own = {leg.address for leg in legs}
    found: list[list[str]] = []
    for destination, nexthop in wanted:
        to, hop = addressing.network("routes", destination), addressing.address("routes", nexthop)
        why = None
        if to.version != hop.version:
            why = "the destination and the nexthop are of different IP versions"
        elif not any(hop in range_ for range_ in ranges):
            why = "the nexthop is not connected with router"
        elif str(hop) in own:
            why = "the nexthop is used by router"
        if why:
            raise problems.bad(f"Invalid format for routes: {destination} via {nexthop}, {why}.", "InvalidRoutes")
        pair = [str(to), str(hop)]
        if pair in found:
            raise problems.invalid("routes", f"Duplicate items in the list: {destination} via {nexthop}")
        found.append(pair)
    return found


def add_routes(tx: Tx, cloud: Cloud, row: Any, wanted: Sequence[tuple[str, str]]) -> None:
    """Add routes; those that are there stay (extraroute-atomic)."""
    have = [(to, by) for to, by in row.routes or ()]
    new = [pair for pair in checked_routes(tx, row.id, wanted) if tuple(pair) not in have]
    update(tx, cloud, row, {"routes": [*have, *((to, by) for to, by in new)]})


def drop_routes(tx: Tx, cloud: Cloud, row: Any, wanted: Sequence[tuple[str, str]]) -> None:
    """Remove routes; those that are not there do not matter."""
    gone = {(str(addressing.network("routes", to)), str(addressing.address("routes", by))) for to, by in wanted}
    update(tx, cloud, row, {"routes": [(to, by) for to, by in row.routes or () if (to, by) not in gone]})
