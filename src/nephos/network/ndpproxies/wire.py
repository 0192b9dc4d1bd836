"""NDP proxies as the API shows and takes them."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import UNSET, Meta, UnsetType
from sqlalchemy import select

from nephos.kernel import clock
from nephos.network import resource
from nephos.network.ndpproxies.store import ndp_proxy
from nephos.network.resource import Item, Loaded, Noun, View

Name = Annotated[str, Meta(max_length=255)]
Words = Annotated[str, Meta(max_length=1024)]


class Create(resource.Owned, kw_only=True):
    """POST /ndp_proxies."""

    router_id: str
    port_id: str
    ip_address: str | None = None
    name: Name = ""
    description: Words = ""


class Update(resource.Base, kw_only=True):
    """PUT /ndp_proxies/{id}."""

    name: Name | UnsetType = UNSET
    description: Words | UnsetType = UNSET


def _render(row: Any, loaded: Loaded, view: View) -> Item:
    return {
        "id": row.id,
        "name": row.name,
        "project_id": row.project_id,
        "tenant_id": row.project_id,
        "router_id": row.router_id,
        "port_id": row.port_id,
        "ip_address": row.address,
        "description": row.description,
        "created_at": clock.iso(row.created_at),
        "updated_at": clock.iso(row.updated_at),
        "revision_number": row.revision,
    }


_c = ndp_proxy.c
NOUN = Noun(
    name="ndp_proxy",
    plural="ndp_proxies",
    title="NDP Proxy",
    table=ndp_proxy,
    select=select(ndp_proxy),
    scope=_c.project_id == resource.VIEWER,
    render=_render,
    columns={"router_id": _c.router_id, "port_id": _c.port_id, "ip_address": _c.address},
)
