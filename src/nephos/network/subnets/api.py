"""/subnets."""

from __future__ import annotations

from typing import Any

from msgspec import UNSET

from nephos.kernel.db.engine import Tx
from nephos.kernel.http.call import Call, Reply
from nephos.kernel.http.routes import Route
from nephos.network import addressing, problems, resource
from nephos.network.networks.wire import NOUN as NETWORK
from nephos.network.resource import V, View
from nephos.network.subnetpools import cutting
from nephos.network.subnets import actions
from nephos.network.subnets.wire import NOUN, Create, HostRoute, Pool, Update

_create = resource.Body(NOUN, Create, bulk=True)
_update = resource.Body(NOUN, Update)
DELEGATION = "prefix_delegation"
"""What stands for a subnet pool where the prefix is asked for outside (neutron-lib: IPV6_PD_POOL_ID)."""
index, show = resource.readers(NOUN)


def create(call: Call) -> Reply:
    return resource.make(call, NOUN, _create, _make)


def _make(tx: Tx, view: View, model: Create) -> str:
    project_id = resource.owner(view, model)
    network = resource.fetch(tx, NETWORK, view, model.network_id)
    if model.project_id is UNSET and model.tenant_id is UNSET and view.sees_all:
        project_id = project_id or network.project_id
    target = {
        "project_id": project_id,
        "tenant_id": project_id,
        "network:project_id": network.project_id,
        "shared": bool(network.shared),
    }
    view.call.permit(target)
    _create.enforce(view, model, target, "create")
    pool_id, version = _source(tx, view, model)
    new = actions.New(
        project_id=project_id,
        network_id=network.id,
        version=version,
        cidr=model.cidr or None,
        name=model.name,
        description=model.description,
        gateway="" if model.gateway_ip is UNSET else model.gateway_ip,
        pools=_pools(model.allocation_pools) if model.allocation_pools else None,
        dhcp=model.enable_dhcp,
        dns=tuple(model.dns_nameservers or ()),
        routes=_routes(model.host_routes or []),
        ra_mode=model.ipv6_ra_mode or None,
        address_mode=model.ipv6_address_mode or None,
        service_types=tuple(model.service_types or ()),
        pool_id=pool_id,
        segment_id=resource.given(model.segment_id),
        prefixlen=model.prefixlen if isinstance(model.prefixlen, int) else None,
    )
    return actions.create(tx, view.cloud, new)


def _source(tx: Tx, view: View, model: Create) -> tuple[str | None, int]:
    """(subnet pool or None, IP version). Raises BadRequest when the request does not tell."""
    pool_id = model.subnetpool_id or None
    if pool_id == DELEGATION:
        _refuse_delegation(model)
        pool_id = None
    if isinstance(model.prefixlen, int) and pool_id is None and not model.use_default_subnetpool:
        raise problems.bad("Bad subnets request: prefixlen is only for subnets of a subnetpool.", "BadRequest")
    if model.use_default_subnetpool:
        if pool_id is not None:
            raise problems.bad(
                "Bad subnets request: subnetpool_id and use_default_subnetpool cannot both be specified.", "BadRequest"
            )
        if model.ip_version is UNSET:
            raise problems.invalid("ip_version", "it is required")
        return cutting.default_pool(tx, int(model.ip_version), view.project_id), int(model.ip_version)
    if pool_id is not None:
        cutting.check_visible(tx, pool_id, view.project_id, sees_all=view.sees_all)
    if model.ip_version is not UNSET:
        return pool_id, int(model.ip_version)
    if pool_id is not None:
        return pool_id, cutting.version_of(tx, pool_id)
    if model.cidr:
        return None, addressing.network("cidr", str(model.cidr)).version
    raise problems.invalid("ip_version", "it is required")


def _refuse_delegation(model: Create) -> None:
    """With a range it is a subnet like any other, as in Neutron. Raises BadRequest for one whose prefix a router would
    have to ask for outside (RFC 8415, section 6.3): none does."""
    if model.cidr:
        return
    automatic = (model.ipv6_ra_mode, model.ipv6_address_mode)
    if model.ip_version is UNSET or int(model.ip_version) != 6:
        why = "Prefix Delegation can only be used with IPv6 subnets."
    elif any(mode not in ("slaac", "dhcpv6-stateless") for mode in automatic):
        why = "IPv6 RA Mode and IPv6 Address Mode must be SLAAC or Stateless for Prefix Delegation."
    else:
        why = (
            "Prefix Delegation is not available in this cloud: no router asks for prefixes outside. Give the subnet a "
            "cidr, or a subnetpool that holds the prefixes that are routed here."
        )
    raise problems.bad(f"Bad subnets request: {why}", "BadRequest")


def _pools(pools: list[Pool]) -> tuple[tuple[str, str], ...]:
    return tuple((pool.start, pool.end) for pool in pools)


def _routes(routes: list[HostRoute]) -> tuple[tuple[str, str], ...]:
    return tuple((route.destination, route.nexthop) for route in routes)


def update(call: Call) -> Reply:
    return resource.change(call, NOUN, call.params["id"], _update, _change)


def _change(tx: Tx, view: View, row: Any, model: Update) -> None:
    values = resource.settings_of(
        model,
        gateway_ip="gateway",
        allocation_pools="pools",
        enable_dhcp="dhcp",
        dns_nameservers="dns",
        host_routes="routes",
    )
    if "pools" in values:
        values["pools"] = _pools(values["pools"])
    if "routes" in values:
        values["routes"] = _routes(values["routes"] or [])
    actions.update(tx, view.cloud, row, values)


def delete(call: Call) -> Reply:
    return resource.remove(call, NOUN, call.params["id"], lambda tx, view, row: actions.remove(tx, view.cloud, row))


ROUTES = (
    Route("GET", V + "/subnets", index, "get_subnet", target="later"),
    Route("POST", V + "/subnets", create, "create_subnet", 201, target="later"),
    Route("GET", V + "/subnets/{id}", show, "get_subnet", target="later"),
    Route("PUT", V + "/subnets/{id}", update, "update_subnet", target="later"),
    Route("DELETE", V + "/subnets/{id}", delete, "delete_subnet", 204, target="later"),
)
