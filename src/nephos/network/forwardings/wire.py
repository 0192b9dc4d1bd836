"""Port forwardings as the API shows and takes them."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import UNSET, Meta, UnsetType
from sqlalchemy import bindparam, case, cast, select
from sqlalchemy.types import String

from nephos.network import below, resource
from nephos.network.floatingips.store import floatingip
from nephos.network.forwardings.store import forwarding
from nephos.network.resource import Item, Loaded, Noun, View

Number = Annotated[int, Meta(ge=1, le=65535)]
Range = Annotated[str, Meta(pattern=r"^[0-9]{1,5}(:[0-9]{1,5})?$")] | Number
Words = Annotated[str, Meta(max_length=255)]


class Create(resource.Owned, kw_only=True):
    """POST /floatingips/{id}/port_forwardings."""

    protocol: str
    internal_port_id: str
    internal_ip_address: str | None = None
    internal_port: Number | None = None
    internal_port_range: Range | None = None
    external_port: Number | None = None
    external_port_range: Range | None = None
    description: Words = ""


class Update(resource.Base, kw_only=True):
    """PUT /floatingips/{id}/port_forwardings/{id}."""

    protocol: str | UnsetType = UNSET
    internal_port_id: str | UnsetType = UNSET
    internal_ip_address: str | UnsetType = UNSET
    internal_port: Number | UnsetType = UNSET
    internal_port_range: Range | UnsetType = UNSET
    external_port: Number | UnsetType = UNSET
    external_port_range: Range | UnsetType = UNSET
    description: Words | UnsetType = UNSET


def shown(row: Any) -> Item:
    """So a floating IP tells its port forwardings."""
    single = row.outside_first == row.outside_last and row.inside_first == row.inside_last
    ranges = {
        "external_port_range": f"{row.outside_first}:{row.outside_last}",
        "internal_port_range": f"{row.inside_first}:{row.inside_last}",
    }
    return {
        "id": row.id,
        "internal_port_id": row.port_id,
        "protocol": row.protocol,
        "external_port": row.outside_first if row.outside_first == row.outside_last else None,
        "internal_port": row.inside_first if row.inside_first == row.inside_last else None,
        "internal_ip_address": row.address,
        **({} if single else ranges),
    }


def _render(row: Any, loaded: Loaded, view: View) -> Item:
    return {
        **shown(row),
        "external_port_range": f"{row.outside_first}:{row.outside_last}",
        "internal_port_range": f"{row.inside_first}:{row.inside_last}",
        "description": row.description,
    }


_c = forwarding.c
_single = case((_c.outside_first == _c.outside_last, _c.outside_first), else_=None)
_span = cast(_c.outside_first, String(5)).concat(":").concat(cast(_c.outside_last, String(5)))
NOUN = Noun(
    name="floatingip_port_forwarding",
    word="port_forwarding",
    plural="port_forwardings",
    title="Port Forwarding",
    table=forwarding,
    select=select(forwarding, floatingip.c.project_id.label("owner"))
    .join(floatingip, floatingip.c.id == _c.floatingip_id)
    .where(_c.floatingip_id == bindparam("above")),
    scope=floatingip.c.project_id == resource.VIEWER,
    render=_render,
    lacks=resource.NO_REVISIONS,
    target=below.target,
    columns={"protocol": _c.protocol, "internal_port_id": _c.port_id},
    filters={"external_port": _single, "external_port_range": _span},
    orders={"external_port": _c.outside_first, "external_port_range": _c.outside_first},
)
"""Those of the floating IP that the statements know as `above`."""
