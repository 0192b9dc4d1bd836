"""Routers as the API shows and takes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType
from sqlalchemy import ColumnElement, select

from nephos.kernel.db.engine import Tx
from nephos.network import resource
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


class Update(resource.Base, kw_only=True):
    """PUT /routers/{id}."""

    name: Name | UnsetType = UNSET
    description: Words | UnsetType = UNSET
    admin_state_up: bool | UnsetType = UNSET
    external_gateway_info: GatewayInfo | UnsetType | None = UNSET
    routes: list[Route] | UnsetType | None = UNSET
    distributed: bool | UnsetType | None = UNSET
    ha: bool | UnsetType | None = UNSET


class Routes(resource.Base, kw_only=True):
    """PUT /routers/{id}/add_extraroutes and remove_extraroutes."""

    routes: list[Route]


class InterfaceBody(msgspec.Struct, kw_only=True):
    """PUT /routers/{id}/add_router_interface and remove_router_interface."""

    subnet_id: str | None = None
    port_id: str | None = None


def _load(tx: Tx, rows: Sequence[Any], view: View) -> Loaded:
    legs = [row.gateway_port_id for row in rows if row.gateway_port_id]
    return addresses.of_ports(tx, legs) if legs else {}


def _render(row: Any, loaded: Loaded, view: View) -> Item:
    gateway: Item | None = None
    if row.gateway_network_id is not None:
        gateway = {
            "network_id": row.gateway_network_id,
            "enable_snat": row.snat,
            "external_fixed_ips": [
                {"subnet_id": one.subnet_id, "ip_address": one.address} for one in loaded.get(row.gateway_port_id, ())
            ],
        }
    return {
        "id": row.id,
        "name": row.name,
        "admin_state_up": row.admin_state_up,
        "status": "ACTIVE",
        "external_gateway_info": gateway,
        "routes": [{"destination": to, "nexthop": by} for to, by in row.routes or ()],
        "availability_zone_hints": row.zone_hints or [],
        "availability_zones": [view.cloud.settings.compute.zone] if row.host_id else [],
        "distributed": False,
        "ha": False,
        "flavor_id": None,
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
    guarded=frozenset({"external_gateway_info", "distributed", "ha"}),
    filters={
        **resource.standard_filters(router),
        "admin_state_up": resource.flag(_c.admin_state_up),
        "status": _status,
    },
    sorts=resource.standard_sorts(router, admin_state_up=_c.admin_state_up, status=_c.admin_state_up),
    read_only=frozenset(
        {
            "id",
            "status",
            "created_at",
            "updated_at",
            "revision_number",
            "tags",
            "tenant_id",
            "project_id",
            "availability_zones",
            "availability_zone_hints",
        }
    ),
)
