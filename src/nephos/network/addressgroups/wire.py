"""Address groups as the API shows and takes them (extension address-group)."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import UNSET, Meta, UnsetType
from sqlalchemy import or_, select

from nephos.network import resource
from nephos.network.addressgroups.store import address_group
from nephos.network.resource import Item, Loaded, Noun, View
from nephos.network.sharing.scope import shared_with

Name = Annotated[str, Meta(max_length=255)]
Words = Annotated[str, Meta(max_length=1024)]
Addresses = Annotated[list[Annotated[str, Meta(max_length=100)]], Meta(max_length=10_000)]


class Create(resource.Owned, kw_only=True):
    """POST /address-groups."""

    name: Name = ""
    description: Words = ""
    addresses: Addresses | None = None


class Update(resource.Base, kw_only=True):
    """PUT /address-groups/{id}."""

    name: Name | UnsetType = UNSET
    description: Words | UnsetType = UNSET


def _target(row: Any) -> dict[str, Any]:
    return {"project_id": row.project_id, "tenant_id": row.project_id, "shared": bool(row.shared)}


def _render(row: Any, loaded: Loaded, view: View) -> Item:
    standard = resource.standard(row)
    del standard["tags"]
    return {"id": row.id, "name": row.name, "addresses": row.addresses, "shared": bool(row.shared), **standard}


_seen = shared_with(address_group.c.id)
NOUN = Noun(
    name="address_group",
    plural="address_groups",
    title="Address group",
    table=address_group,
    select=select(address_group, _seen.label("shared")),
    scope=or_(address_group.c.project_id == resource.VIEWER, _seen),
    render=_render,
    lacks=frozenset({"tags"}),
    target=_target,
    columns={"description": address_group.c.description},
    read_only=frozenset({"addresses", "shared"}),
)
