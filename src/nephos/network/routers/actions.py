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
from nephos.network.addressscopes import actions as addressscopes
from nephos.network.flavors import actions as flavors
from nephos.network.floatingips.store import floatingip
from nephos.network.ndpproxies.store import ndp_proxy
from nephos.network.networks import actions as networks
from nephos.network.ports import actions as ports
from nephos.network.ports.store import GATEWAY, ROUTER
from nephos.network.quotas import actions as quotas
from nephos.network.routers import ha as net
from nephos.network.routers import routes
from nephos.network.routers.placing import displace, place
from nephos.network.routers.store import router
from nephos.network.subnets import actions as subnets
from nephos.network.subnets import addresses
from nephos.network.subnets.addresses import Wanted

_by_id = select(router).where(router.c.id == bindparam("id"))


class Gateway(msgspec.Struct, frozen=True, kw_only=True):
    """A gateway to be set; `snat` None keeps what is, `fixed` None any address of the network. `policy` is a QoS policy:
    None takes it away, UNSET keeps what is."""

    network_id: str
    snat: bool | None = None
    fixed: Sequence[Wanted] | None = None
    policy: str | msgspec.UnsetType | None = msgspec.UNSET


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
    ha: bool = False,
    distributed: bool = False,
    flavor_id: str | None = None,
    ndp_proxy: bool = False,
    ecmp: bool = False,
) -> str:
    """Raises OverQuota, NoVRIDAvailable, FlavorNotFound, and what setting the gateway raises."""
    quotas.take(tx, cloud, project_id, "router")
    if flavor_id is not None:
        ha = flavors.of_router(tx, flavor_id, ha=ha)
    _check_one_form(ha=ha, distributed=distributed)
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
            "ha": ha,
            "ha_number": net.number(tx, project_id) if ha else None,
            "distributed": distributed,
            "flavor_id": flavor_id,
            "ecmp": ecmp,
        },
    )
    if ha:
        net.ensure(tx, cloud, project_id)
    if gateway is not None:
        set_gateway(tx, cloud, get(tx, router_id), gateway)
    if ndp_proxy:
        update(tx, cloud, get(tx, router_id), {"ndp_proxy": True})
    return router_id


def update(tx: Tx, cloud: Cloud, row: Any, values: dict[str, Any]) -> None:
    """Set name, description, admin_state_up, routes, ha, ndp_proxy, distributed and ecmp.

    Raises BadRequest for routes that lead nowhere and for a change of `ha` while the router is up (as Neutron does),
    RouterGatewayNotValid for NDP proxy without an IPv6 gateway.
    """
    if "routes" in values:
        values["routes"] = routes.checked(tx, row.id, values["routes"] or [])
    if values.get("ndp_proxy"):
        _check_ndp_gateway(tx, row)
    _check_one_form(ha=values.get("ha", row.ha), distributed=values.get("distributed", row.distributed))
    if values.get("distributed", row.distributed) != row.distributed:
        _change_distributed(tx, cloud, row, values)
    if values.get("ha", row.ha) != row.ha:
        _change_ha(tx, cloud, row, values)
    resource.revise(tx, router, row.id, values)
    if {"routes", "admin_state_up", "ha", "ndp_proxy", "ecmp"} & values.keys():
        place(tx, cloud, get(tx, row.id))


def _check_one_form(*, ha: bool, distributed: bool) -> None:
    """Raises BadRequest for a router that is both highly available and distributed."""
    if ha and distributed:
        raise problems.bad(
            "Bad router request: A router is either highly available or distributed in this cloud, not both.",
            "BadRequest",
        )


def _change_distributed(tx: Tx, cloud: Cloud, row: Any, values: dict[str, Any]) -> None:
    """Its edges come or go."""
    if row.admin_state_up and values.get("admin_state_up", True):
        raise problems.bad(
            "Bad router request: Cannot change the 'distributed' attribute of active routers. Please set router "
            "admin_state_up to False prior to upgrade.",
            "BadRequest",
        )
    touch.router(tx, cloud, row.host_id, row.id)


def _change_ha(tx: Tx, cloud: Cloud, row: Any, values: dict[str, Any]) -> None:
    """It lives nowhere for a moment: its namespace is made anew in its other form."""
    if row.admin_state_up and values.get("admin_state_up", True):
        raise problems.bad(
            "Bad router request: Cannot change HA attribute of active routers. Please set router admin_state_up to "
            "False prior to upgrade.",
            "BadRequest",
        )
    if row.host_id is not None:
        displace(tx, cloud, row)
    values["ha_number"] = net.number(tx, row.project_id) if values["ha"] else None
    if values["ha"]:
        net.ensure(tx, cloud, row.project_id)
    else:
        values["ha"] = False
        resource.revise(tx, router, row.id, {"ha": False, "ha_number": None})
        net.tidy(tx, cloud, row.project_id)


def _check_ndp_gateway(tx: Tx, row: Any) -> None:
    outer = tx.all(routes.attached, {"router": row.id, "owners": [GATEWAY]})
    scope = row.gateway_network_id and addressscopes.of_network(tx, row.gateway_network_id, 6)
    if scope is None or not any(each.version == 6 for each in outer):
        raise problems.refused(
            f"Can not set enable_ndp_proxy to True for router {row.id}: it has no external gateway, or the external "
            "gateway port has no IPv6 address or the external network no IPv6 address scope.",
            "RouterGatewayNotValid",
        )


def remove(tx: Tx, cloud: Cloud, row: Any) -> None:
    """Raises RouterInUse (409) naming the interfaces that it still has."""
    left = ports.of_device(tx, row.id, ROUTER)
    if left:
        raise problems.refused(
            f"Router {row.id} still has ports: {', '.join(each.id for each in left)}.", "RouterInUse"
        )
    for each in gateways_of(tx, row)[1:]:
        ports.remove(tx, cloud, ports.get(tx, each))
    clear_gateway(tx, cloud, row)
    if row.ha:
        displace(tx, cloud, get(tx, row.id))
    tx.execute(delete(router).where(router.c.id == row.id))
    if row.ha:
        net.tidy(tx, cloud, row.project_id)


# --- the gateway -----------------------------------------------------------------------------------------------------


def set_gateway(tx: Tx, cloud: Cloud, row: Any, wanted: Gateway) -> None:
    """Raises BadRequest for a network that is not external, Conflict while floating IPs use the present one."""
    external = _external(tx, wanted)
    present = ports.get(tx, row.gateway_port_id) if row.gateway_port_id else None
    values: dict[str, Any] = {} if wanted.snat is None else {"snat": wanted.snat}
    if wanted.snat is None and row.gateway_network_id != external.id:
        values["snat"] = True
    if present is not None and row.gateway_network_id != external.id:
        if wanted.policy is msgspec.UNSET:
            wanted = msgspec.structs.replace(wanted, policy=present.qos_policy_id)
        clear_gateway(tx, cloud, row)
        present = None
    if present is None:
        values |= {"gateway_network_id": external.id, "gateway_port_id": _gateway_port(tx, cloud, row, wanted)}
    else:
        _change_gateway(tx, cloud, present, wanted)
    resource.revise(tx, router, row.id, values)
    place(tx, cloud, get(tx, row.id))


def _external(tx: Tx, wanted: Gateway) -> Any:
    external = networks.get(tx, wanted.network_id)
    if not external.external:
        raise problems.bad(f"Bad router request: Network {external.id} is not an external network.", "BadRequest")
    outer = {each.gateway for each in addresses.subnets_of(tx, external.id)} - {None}
    for one in wanted.fixed or ():
        if one.address in outer:
            raise problems.bad(
                f"Bad router request: External IP {one.address} is the same as the gateway IP.", "BadRequest"
            )
    return external


def _gateway_port(tx: Tx, cloud: Cloud, row: Any, wanted: Gateway) -> str:
    _check_gateway_ranges(tx, row, wanted.network_id)
    new = ports.New(
        project_id="",
        network_id=wanted.network_id,
        device_id=row.id,
        device_owner=GATEWAY,
        groups=(),
        port_security=False,
        fixed=wanted.fixed,
        counted=False,
        qos_policy_id=wanted.policy or None,
    )
    return ports.create(tx, cloud, new)


def _change_gateway(tx: Tx, cloud: Cloud, leg: Any, wanted: Gateway) -> None:
    """Give a gateway that stays the addresses and the QoS policy that are wanted."""
    values = {} if wanted.policy is msgspec.UNSET else {"qos_policy_id": wanted.policy}
    if values or wanted.fixed is not None:
        ports.change(tx, cloud, leg, values, fixed=wanted.fixed)


def clear_gateway(tx: Tx, cloud: Cloud, row: Any) -> None:
    """The main gateway goes, and the next one becomes the main one. Raises RouterExternalGatewayInUseByFloatingIp
    naming it."""
    if row.gateway_port_id is None:
        return
    remove_gateway(tx, cloud, row, row.gateway_port_id)


def gateways_of(tx: Tx, row: Any) -> list[str]:
    """The gateways' ports, the main one first."""
    found = [each.id for each in ports.of_device(tx, row.id, GATEWAY)]
    return sorted(found, key=lambda key: key != row.gateway_port_id)


def add_gateway(tx: Tx, cloud: Cloud, row: Any, wanted: Gateway) -> None:
    """One more gateway; the first is the main one. Raises as `set_gateway`."""
    if row.gateway_port_id is None:
        set_gateway(tx, cloud, row, wanted)
        return
    _external(tx, wanted)
    _gateway_port(tx, cloud, row, wanted)
    resource.revise(tx, router, row.id)
    place(tx, cloud, get(tx, row.id))


def set_gateways(tx: Tx, cloud: Cloud, row: Any, wanted: Sequence[Gateway]) -> None:
    """The gateways become these: one that is there, on the same network, stays and takes the addresses wanted; others
    go, the missing come. Raises as `set_gateway` and `remove_gateway`."""
    left = gateways_of(tx, row)
    kept: list[str | None] = []
    for each in wanted:
        same = [key for key in left if ports.get(tx, key).network_id == each.network_id]
        named = {one.address for one in each.fixed or () if one.address is not None}
        taken = addresses.of_ports(tx, same)
        same.sort(key=lambda key: not named & {one.address for one in taken.get(key, ())})
        kept.append(same[0] if same else None)
        left = [key for key in left if key not in kept]
    for gone in sorted(left, key=lambda key: key == row.gateway_port_id):
        remove_gateway(tx, cloud, get(tx, row.id), gone)
    for key, each in zip(kept, wanted, strict=True):
        if key is None:
            add_gateway(tx, cloud, get(tx, row.id), each)
        else:
            _change_gateway(tx, cloud, ports.get(tx, key), each)
    resource.revise(tx, router, row.id)
    place(tx, cloud, get(tx, row.id))


def find_gateway(tx: Tx, row: Any, wanted: Gateway) -> Any:
    """The port of the gateway that is meant: by its network, and by an address where there are several there.

    Raises UnableToMatchGateways (400).
    """
    legs = [ports.get(tx, key) for key in gateways_of(tx, row)]
    here = [each for each in legs if each.network_id == wanted.network_id]
    named = {one.address for one in wanted.fixed or () if one.address is not None}
    if named:
        taken = addresses.of_ports(tx, [each.id for each in here])
        here = [each for each in here if named & {one.address for one in taken.get(each.id, ())}]
    if len(here) == 1:
        return here[0]
    why = (
        "there are several gateways to it and none of their addresses is given" if here else "there is no such gateway"
    )
    raise problems.bad(
        f"Unable to match a requested gateway port to existing gateway ports for router {row.id}: network "
        f"{wanted.network_id}, {why}.",
        "UnableToMatchGateways",
    )


def remove_gateway(tx: Tx, cloud: Cloud, row: Any, port_id: str) -> None:
    """Raises RouterExternalGatewayInUseByFloatingIp naming the floating IP that needs it, RouterInUseByNDPProxy."""
    leg = ports.get(tx, port_id)
    others = [each for each in gateways_of(tx, row) if each != port_id]
    networks_left = {ports.get(tx, each).network_id for each in others}
    if leg.network_id not in networks_left:
        _check_no_floating(tx, row, leg.network_id)
    if not others:
        user = tx.first(select(ndp_proxy.c.id).where(ndp_proxy.c.router_id == row.id))
        if user is not None:
            raise problems.refused(
                f"Unable to unset external gateway of router {row.id}. There are one or more ndp proxies still in use "
                f"on the router: {user.id}.",
                "RouterGatewayInUseByNDPProxy",
            )
    ports.remove(tx, cloud, leg)
    values: dict[str, Any] = {}
    if port_id == row.gateway_port_id:
        following = next(iter(others), None)
        network_id = ports.get(tx, following).network_id if following else None
        values = {"gateway_network_id": network_id, "gateway_port_id": following}
        if following is None:
            values |= {"snat": True, "ndp_proxy": False}
    resource.revise(tx, router, row.id, values)
    touch.router(tx, cloud, row.host_id, row.id)
    place(tx, cloud, get(tx, row.id))


def _check_no_floating(tx: Tx, row: Any, network_id: str) -> None:
    user = tx.first(
        select(floatingip.c.id, floatingip.c.address).where(
            floatingip.c.router_id == row.id, floatingip.c.network_id == network_id
        )
    )
    if user is not None:
        raise problems.refused(
            f"Gateway cannot be updated for router {row.id}, since a gateway to external network {network_id} is "
            f"required by one or more floating IPs: {user.address} ({user.id}).",
            "RouterExternalGatewayInUseByFloatingIp",
        )


def _check_gateway_ranges(tx: Tx, row: Any, network_id: str) -> None:
    mine = tx.all(routes.attached, {"router": row.id, "owners": [ROUTER]})
    others = [
        each for each in tx.all(routes.attached, {"router": row.id, "owners": [GATEWAY]}) if each.network_id != network_id
    ]
    for outer in addresses.subnets_of(tx, network_id):
        for each in (*mine, *others):
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
    if leg.device_id:
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
    for each in tx.all(routes.attached, {"router": row.id, "owners": [ROUTER, GATEWAY]}):
        for sub in rows:
            if sub.id == each.subnet_id:
                raise problems.bad(f"Bad router request: Router already has a port on subnet {sub.id}.", "BadRequest")
            _check_apart(sub.id, sub.cidr, each.subnet_id, each.cidr)


def _ipv6_leg(tx: Tx, router_id: str, network_id: str) -> str | None:
    """The router's leg in a network that has only IPv6 addresses: it takes those of all IPv6 subnets."""
    versions: dict[str, set[int]] = {}
    for each in tx.all(routes.attached, {"router": router_id, "owners": [ROUTER]}):
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
        for each in tx.all(routes.attached, {"router": row.id, "owners": [ROUTER]})
        if (port_id is None or each.id == port_id) and (subnet_id is None or each.subnet_id == subnet_id)
    ]
    if not found:
        if (
            port_id is not None
            and subnet_id is not None
            and any(each.id == port_id for each in tx.all(routes.attached, {"router": row.id, "owners": [ROUTER]}))
        ):
            raise problems.bad(
                f"Subnet on port {port_id} does not match the requested subnet {subnet_id}.", "SubnetMismatchForPort"
            )
        what = f"port {port_id}" if port_id is not None else f"subnet {subnet_id}"
        code = "RouterInterfaceNotFound" if port_id is not None else "RouterInterfaceNotFoundForSubnet"
        raise problems.missing(f"Router {row.id} interface for", what, code)
    leg = found[0]
    gone = [each for each in tx.all(routes.attached, {"router": row.id, "owners": [ROUTER]}) if each.id == leg.id]
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
    for proxy in tx.all(select(ndp_proxy.c.id, ndp_proxy.c.address).where(ndp_proxy.c.router_id == row.id)):
        if ipaddress.ip_address(proxy.address) in range_:
            raise problems.refused(
                f"Unable to remove subnet {leg.subnet_id} from router {row.id}. There are one or more ndp proxies still "
                f"in use on the subnet: {proxy.id}.",
                "RouterInterfaceInUseByNDPProxy",
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


def add_routes(tx: Tx, cloud: Cloud, row: Any, wanted: Sequence[tuple[str, str]]) -> None:
    """Add routes; those that are there stay (extraroute-atomic)."""
    have = [(to, by) for to, by in row.routes or ()]
    new = [pair for pair in routes.checked(tx, row.id, wanted) if tuple(pair) not in have]
    update(tx, cloud, row, {"routes": [*have, *((to, by) for to, by in new)]})


def drop_routes(tx: Tx, cloud: Cloud, row: Any, wanted: Sequence[tuple[str, str]]) -> None:
    """Remove routes; those that are not there do not matter."""
    gone = {(str(addressing.network("routes", to)), str(addressing.address("routes", by))) for to, by in wanted}
    update(tx, cloud, row, {"routes": [(to, by) for to, by in row.routes or () if (to, by) not in gone]})
