"""Bodies of the regions, services and endpoints APIs. Source: Keystone API v3.14, "Service catalog and endpoints"."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType
from sqlalchemy import Row

from nephos.identity import wire
from nephos.identity.wire import LooseId, Words
from nephos.kernel.http.call import Call

Text = Annotated[str, Meta(max_length=255)]
Url = Annotated[str, Meta(min_length=1, max_length=225, pattern=r"^([a-zA-Z0-9+.-]+:.+|\$\(url\)s)")]
Interface = Literal["public", "internal", "admin"]


class RegionCreate(msgspec.Struct):
    id: Annotated[str, Meta(min_length=1, max_length=255)] | None = None
    description: Words | None = ""
    parent_region_id: LooseId | None = None


class RegionUpdate(msgspec.Struct):
    description: Words | UnsetType | None = UNSET
    parent_region_id: LooseId | UnsetType | None = UNSET


class ServiceCreate(msgspec.Struct):
    type: Annotated[str, Meta(min_length=1, max_length=255)]
    name: Text | None = None
    enabled: bool = True


class ServiceUpdate(msgspec.Struct):
    type: Annotated[str, Meta(min_length=1, max_length=255)] | UnsetType = UNSET
    name: Text | UnsetType | None = UNSET
    enabled: bool | UnsetType = UNSET


class EndpointCreate(msgspec.Struct):
    interface: Interface
    service_id: LooseId
    url: Url
    region_id: LooseId | None = None
    region: LooseId | None = None
    enabled: bool = True


class EndpointUpdate(msgspec.Struct):
    interface: Interface | UnsetType = UNSET
    service_id: LooseId | UnsetType = UNSET
    url: Url | UnsetType = UNSET
    region_id: LooseId | UnsetType | None = UNSET
    region: LooseId | UnsetType | None = UNSET
    enabled: bool | UnsetType = UNSET


def region(call: Call, row: Row[Any]) -> dict[str, Any]:
    extra: Mapping[str, Any] = row.extra or {}
    return {
        **extra,
        "id": row.id,
        "description": row.description,
        "parent_region_id": row.parent_region_id,
        "links": wire.links(call, "regions", row.id),
    }


def service(call: Call, row: Row[Any]) -> dict[str, Any]:
    extra: Mapping[str, Any] = row.extra or {}
    shown = {
        **extra,
        "id": row.id,
        "type": row.type,
        "enabled": row.enabled,
        "links": wire.links(call, "services", row.id),
    }
    if row.name is not None:
        shown["name"] = row.name
    return shown


def endpoint(call: Call, row: Row[Any]) -> dict[str, Any]:
    extra: Mapping[str, Any] = row.extra or {}
    return {
        **extra,
        "id": row.id,
        "interface": row.interface,
        "service_id": row.service_id,
        "region_id": row.region_id,
        "region": row.region_id,
        "url": row.url.replace("$(url)s", call.cloud.settings.url),
        "enabled": row.enabled,
        "links": wire.links(call, "endpoints", row.id),
    }
