"""Routers as the API shows and takes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType
from sqlalchemy import ColumnElement, bindparam, select

from nephos.kernel.db.engine import Tx
from nephos.network import resource
from nephos.network.conntrack import actions as helpers
from nephos.network.networks.store import network
from nephos.network.ports.store import GATEWAY, port
from nephos.network.ports.wire import FixedIp
from nephos.network.resource import Item, Loaded, Noun, View
from nephos.network.routers.store import router
from nephos.network.subnets import addresses

Name = Annotated[str, Meta(max_length=255)]
Words = Annotated[str, Meta(max_length=255)]


class GatewayInfo(resource.Base, kw_only=True):
    """`external_gateway_info`; without a network it clears the gateway."""

    network_id: str | UnsetType | None = UNSET
    enable_snat: bool | UnsetType = UNSET
    external_fixed_ips: list[FixedIp] | UnsetType | None = UNSET
    qos_policy_id: str | UnsetType | None = UNSET


class Route(resource.Base, kw_only=True):
    """A static route."""

    destination: str
    nexthop: str


class Create(resource.Owned, kw_only=True):
    """POST /routers."""

    name: Name = ""
    description: Words = ""
    admin_state_up: bool = True
    external_gateway_info: GatewayInfo | UnsetType | None = UNSET
    availability_zone_hints: list[str] = []
    distributed: bool | UnsetType | None = UNSET
    ha: bool | UnsetType | None = UNSET
    flavor_id: str | UnsetType | None = UNSET
    enable_ndp_proxy: bool | UnsetType | None = UNSET
    enable_default_route_ecmp: bool | UnsetType | None = UNSET
    enable_default_route_bfd: bool | UnsetType | None = UNSET


class Update(resource.Base, kw_only=True):
    """PUT /routers/{id}."""

    name: Name | UnsetType = UNSET
    description: Words | UnsetType = UNSET
    admin_state_up: bool | UnsetType = UNSET
    external_gateway_info: GatewayInfo | UnsetType | None = UNSET
    routes: list[Route] | UnsetType | None = UNSET
    distributed: bool | UnsetType | None = UNSET
    ha: bool | UnsetType | None = UNSET
    enable_ndp_proxy: bool | UnsetType | None = UNSET
    enable_default_route_ecmp: bool | UnsetType | None = UNSET
    enable_default_route_bfd: bool | UnsetType | None = UNSET


class Gateways(resource.Base, kw_only=True):
    """PUT /routers/{id}/add_external_gateways, update_external_gateways and remove_external_gateways. Clients send {} for
    an empty list."""

    external_gateways: Annotated[list[GatewayInfo], Meta(max_length=50)] | Annotated[dict[str, str], Meta(max_length=0)]


class Routes(resource.Base, kw_only=True):
    """PUT /routers/{id}/add_extraroutes and remove_extraroutes."""

    routes: list[Route]


class InterfaceBody(msgspec.Struct, kw_only=True):
    """PUT /routers/{id}/add_router_interface and remove_router_interface."""

    subnet_id: str | None = None
    port_id: str | None = None


_outer = (
    select(
        port.c.id,
        port.c.device_id,
        port.c.network_id,
        port.c.qos_policy_id,
        network.c.qos_policy_id.label("network_policy_id"),
    )
    .join(network, network.c.id == port.c.network_id)
    .where(port.c.device_id.in_(bindparam("routers", expanding=True)), port.c.device_owner == GATEWAY)
    .order_by(port.c.created_at, port.c.id)
)


def _load(tx: Tx, rows: Sequence[Any], view: View) -> Loaded:
    """Router → (port's row, addresses) of its gateways, the main one first, and its connection tracking helpers."""
    found: dict[str, Any] = {"helpers": helpers.of_routers(tx, [row.id for row in rows])}
    outside = [row for row in rows if row.gateway_port_id]
    if not outside:
        return found
    main = {row.gateway_port_id for row in outside}
    legs = sorted(tx.all(_outer, {"routers": [row.id for row in outside]}), key=lambda leg: leg.id not in main)
    taken = addresses.of_ports(tx, [leg.id for leg in legs])
    for leg in legs:
        found.setdefault(leg.device_id, []).append((leg, taken.get(leg.id, ())))
    return found


def _gateway(leg: Any, taken: Sequence[addresses.Taken]) -> Item:
    """As in Neutron, a gateway tells its QoS policy where it or its network has one."""
    fixed = [{"subnet_id": one.subnet_id, "ip_address": one.address} for one in taken]
    found: Item = {"network_id": leg.network_id, "external_fixed_ips": fixed}
    if leg.qos_policy_id or leg.network_policy_id:
        found["qos_policy_id"] = leg.qos_policy_id
    return found


def _render(row: Any, loaded: Loaded, view: View) -> Item:
    gateways = [_gateway(*each) for each in loaded.get(row.id, ())]
    return {
        "id": row.id,
        "name": row.name,
        "admin_state_up": row.admin_state_up,
        "status": "ACTIVE",
        "external_gateway_info": {**gateways[0], "enable_snat": row.snat} if gateways else None,
        "external_gateways": gateways,
        "routes": [{"destination": to, "nexthop": by} for to, by in row.routes or ()],
        "availability_zone_hints": row.zone_hints or [],
        "availability_zones": [view.cloud.settings.compute.zone] if row.host_id else [],
        "distributed": row.distributed,
        "ha": row.ha,
        "flavor_id": row.flavor_id,
        "enable_ndp_proxy": row.ndp_proxy,
        "enable_default_route_ecmp": row.ecmp,
        "conntrack_helpers": [
            {"protocol": each.protocol, "port": each.port, "helper": each.helper}
            for each in loaded["helpers"].get(row.id, ())
        ],
        **resource.standard(row),
    }


def _status(values: list[str], view: View) -> ColumnElement[bool]:
    return router.c.id.is_not(None) if "ACTIVE" in values else router.c.id.is_(None)


_c = router.c
NOUN = Noun(
    name="router",
    plural="routers",
    title="Router",
    table=router,
    select=select(router),
    scope=router.c.project_id == resource.VIEWER,
    render=_render,
    load=_load,
    hidden=("distributed", "ha"),
    guarded=frozenset(
        {
            "external_gateway_info",
            "external_gateways",
            "distributed",
            "ha",
            "enable_default_route_ecmp",
            "enable_default_route_bfd",
        }
    ),
    columns={"admin_state_up": _c.admin_state_up, "flavor_id": _c.flavor_id},
    filters={"status": _status, "ha": _c.ha, "distributed": _c.distributed, "enable_ndp_proxy": _c.ndp_proxy},
    orders={"status": _c.admin_state_up},
    read_only=frozenset({"availability_zone_hints", "availability_zones", "conntrack_helpers", "external_gateways"}),
)
