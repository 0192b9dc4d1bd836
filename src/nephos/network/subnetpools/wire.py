"""Subnet pools as the API shows and takes them."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import UNSET, Meta, UnsetType
from sqlalchemy import or_, select

from nephos.network import resource
from nephos.network.resource import Item, Loaded, Noun, View
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
    address_scope_id: None = None


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
    address_scope_id: UnsetType | None = UNSET


def _target(row: Any) -> dict[str, Any]:
    return {"project_id": row.project_id, "tenant_id": row.project_id, "shared": row.shared}


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
        "shared": row.shared,
        "is_default": row.is_default,
        "address_scope_id": None,
        **resource.standard(row),
    }


_c = subnetpool.c
NOUN = Noun(
    name="subnetpool",
    plural="subnetpools",
    title="Subnet pool",
    table=subnetpool,
    select=select(subnetpool),
    scope=or_(subnetpool.c.project_id == resource.VIEWER, subnetpool.c.shared.is_(True)),
    render=_render,
    target=_target,
    guarded=frozenset({"shared", "is_default"}),
    filters={
        **resource.standard_filters(subnetpool),
        "ip_version": resource.number(_c.version),
        "shared": resource.flag(_c.shared),
        "is_default": resource.flag(_c.is_default),
        "default_prefixlen": resource.number(_c.default_prefixlen),
        "min_prefixlen": resource.number(_c.min_prefixlen),
        "max_prefixlen": resource.number(_c.max_prefixlen),
        "default_quota": resource.number(_c.default_quota),
        "address_scope_id": lambda values, _: _c.id.is_(None),
    },
    sorts=resource.standard_sorts(
        subnetpool,
        ip_version=_c.version,
        is_default=_c.is_default,
        shared=_c.shared,
        default_prefixlen=_c.default_prefixlen,
        min_prefixlen=_c.min_prefixlen,
        max_prefixlen=_c.max_prefixlen,
        default_quota=_c.default_quota,
    ),
    read_only=frozenset(
        {"id", "ip_version", "shared", "created_at", "updated_at", "revision_number", "tags", "tenant_id", "project_id"}
    ),
)
