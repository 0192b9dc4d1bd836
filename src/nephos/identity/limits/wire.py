"""Bodies of the unified limits API. Source: Keystone API v3.14, "Unified limits"."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType
from sqlalchemy import Row

from nephos.identity import wire
from nephos.identity.wire import LooseId, Name, Words
from nephos.kernel.http.call import Call

Amount = Annotated[int, Meta(ge=-1, le=0x7FFFFFFF)]


class RegisteredCreate(msgspec.Struct, forbid_unknown_fields=True):
    service_id: LooseId
    resource_name: Name
    default_limit: Amount
    region_id: LooseId | None = None
    description: Words | None = None


class RegisteredUpdate(msgspec.Struct, forbid_unknown_fields=True):
    service_id: LooseId | UnsetType = UNSET
    region_id: LooseId | UnsetType | None = UNSET
    resource_name: Name | UnsetType = UNSET
    default_limit: Amount | UnsetType = UNSET
    description: Words | UnsetType | None = UNSET


class RegisteredBody(msgspec.Struct, forbid_unknown_fields=True):
    registered_limits: Annotated[list[RegisteredCreate], Meta(min_length=1)]


class LimitCreate(msgspec.Struct, forbid_unknown_fields=True):
    service_id: LooseId
    resource_name: Name
    resource_limit: Amount
    project_id: LooseId | None = None
    domain_id: LooseId | None = None
    region_id: LooseId | None = None
    description: Words | None = None


class LimitUpdate(msgspec.Struct, forbid_unknown_fields=True):
    resource_limit: Amount | UnsetType = UNSET
    description: Words | UnsetType | None = UNSET


class LimitsBody(msgspec.Struct, forbid_unknown_fields=True):
    limits: Annotated[list[LimitCreate], Meta(min_length=1)]


def registered_limit(call: Call, row: Row[Any]) -> dict[str, Any]:
    return {
        "id": row.id,
        "service_id": row.service_id,
        "region_id": row.region_id,
        "resource_name": row.resource_name,
        "default_limit": row.default_limit,
        "description": row.description,
        "links": wire.links(call, "registered_limits", row.id),
    }


def limit(call: Call, row: Row[Any]) -> dict[str, Any]:
    return {
        "id": row.id,
        "service_id": row.service_id,
        "region_id": row.region_id,
        "resource_name": row.resource_name,
        "resource_limit": row.resource_limit,
        "project_id": row.project_id,
        "domain_id": row.domain_id,
        "description": row.description,
        "links": wire.links(call, "limits", row.id),
    }
