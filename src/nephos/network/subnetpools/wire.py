"""Subnet pools as the API shows and takes them."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import UNSET, Meta, UnsetType
from sqlalchemy import ColumnElement, or_, select

from nephos.network import resource
from nephos.network.resource import Item, Loaded, Noun, View
from nephos.network.sharing import scope
from nephos.network.subnetpools.store import subnetpool

Name = Annotated[str, Meta(max_length=255)]
Words = Annotated[str, Meta(max_length=255)]
Length = Annotated[int, Meta(ge=0, le=128)]


class Create(resource.Owned, kw_only=True):
    """POST /subnetpools."""

    name: Annotated[str, Meta(min_length=1, max_length=255)]
    prefixes: list[str]
    description: Words = ""
    default_quota: Annotated[int, Meta(ge=0, le=2**31 - 1)] | UnsetType | None = UNSET
    default_prefixlen: Length | UnsetType = UNSET
    min_prefixlen: Length | UnsetType = UNSET
    max_prefixlen: Length | UnsetType = UNSET
    is_default: bool = False
    shared: bool = False
    address_scope_id: str | UnsetType | None = UNSET


class Update(resource.Base, kw_only=True):
    """PUT /subnetpools/{id}."""

    name: Annotated[str, Meta(min_length=1, max_length=255)] | UnsetType = UNSET
    prefixes: list[str] | UnsetType = UNSET
    description: Words | UnsetType = UNSET
    default_quota: Annotated[int, Meta(ge=0, le=2**31 - 1)] | UnsetType | None = UNSET
    default_prefixlen: Length | UnsetType = UNSET
    min_prefixlen: Length | UnsetType = UNSET
    max_prefixlen: Length | UnsetType = UNSET
    is_default: bool | UnsetType = UNSET
    address_scope_id: str | UnsetType | None = UNSET


def _target(row: Any) -> dict[str, Any]:
    return {"project_id": row.project_id, "tenant_id": row.project_id, "shared": bool(row.seen)}


def _render(row: Any, loaded: Loaded, view: View) -> Item:
    return {
        "id": row.id,
        "name": row.name,
        "prefixes": row.prefixes,
        "ip_version": row.version,
        "default_prefixlen": str(row.default_prefixlen),
        "min_prefixlen": str(row.min_prefixlen),
        "max_prefixlen": str(row.max_prefixlen),
        "default_quota": row.default_quota,
        "shared": bool(row.seen),
        "is_default": row.is_default,
        "address_scope_id": row.address_scope_id,
        **resource.standard(row),
    }


_c = subnetpool.c


def visible(project_id: str | ColumnElement[str] = resource.VIEWER) -> ColumnElement[bool]:
    """Whether a pool is shared with a project, or with all."""
    return or_(_c.shared.is_(True), scope.shared_with(_c.id, project_id))


NOUN = Noun(
    name="subnetpool",
    plural="subnetpools",
    title="Subnet pool",
    table=subnetpool,
    select=select(subnetpool, visible().label("seen")),
    scope=or_(_c.project_id == resource.VIEWER, visible()),
    render=_render,
    target=_target,
    guarded=frozenset({"shared", "is_default"}),
    columns={
        "ip_version": _c.version,
        "is_default": _c.is_default,
        "default_prefixlen": _c.default_prefixlen,
        "min_prefixlen": _c.min_prefixlen,
        "max_prefixlen": _c.max_prefixlen,
        "default_quota": _c.default_quota,
        "address_scope_id": _c.address_scope_id,
    },
    filters={"shared": scope.flag(visible())},
)
