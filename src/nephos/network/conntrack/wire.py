"""Connection tracking helpers as the API shows and takes them."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import UNSET, Meta, UnsetType
from sqlalchemy import bindparam, select

from nephos.network import below, resource
from nephos.network.conntrack.store import helper
from nephos.network.resource import Item, Loaded, Noun, View
from nephos.network.routers.store import router

Number = Annotated[int, Meta(ge=1, le=65535)]
Word = Annotated[str, Meta(max_length=64)]


class Create(resource.Owned, kw_only=True):
    """POST /routers/{id}/conntrack_helpers."""

    protocol: Word
    port: Number
    helper: Word


class Update(resource.Base, kw_only=True):
    """PUT /routers/{id}/conntrack_helpers/{id}."""

    protocol: Word | UnsetType = UNSET
    port: Number | UnsetType = UNSET
    helper: Word | UnsetType = UNSET


def _render(row: Any, loaded: Loaded, view: View) -> Item:
    return {"id": row.id, "protocol": row.protocol, "port": row.port, "helper": row.helper}


_c = helper.c
NOUN = Noun(
    name="router_conntrack_helper",
    word="conntrack_helper",
    plural="conntrack_helpers",
    title="Conntrack Helper",
    table=helper,
    select=select(helper, router.c.project_id.label("owner"))
    .join(router, router.c.id == _c.router_id)
    .where(_c.router_id == bindparam("above")),
    scope=router.c.project_id == resource.VIEWER,
    render=_render,
    lacks=resource.NO_REVISIONS,
    target=below.target,
    columns={"protocol": _c.protocol, "port": _c.port, "helper": _c.helper},
)
"""Those of the router that the statements know as `above`."""
