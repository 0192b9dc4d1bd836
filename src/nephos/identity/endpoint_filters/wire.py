"""Bodies of the endpoint filter API. Source: Keystone API, "OS-EP-FILTER"."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType
from sqlalchemy import Row

from nephos.identity import wire
from nephos.identity.catalog.wire import Interface
from nephos.identity.wire import LooseId, Name, Words
from nephos.kernel.http.call import Call


class Filters(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    interface: Interface | UnsetType = UNSET
    service_id: LooseId | UnsetType = UNSET
    region_id: LooseId | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET


class GroupCreate(msgspec.Struct):
    name: Name
    filters: Filters
    description: Words | None = None


class GroupUpdate(msgspec.Struct):
    """The `openstack` client sends null for what it does not change."""

    name: Name | UnsetType | None = UNSET
    filters: Filters | UnsetType | None = UNSET
    description: Words | UnsetType | None = UNSET


def endpoint_group(call: Call, row: Row[Any]) -> dict[str, Any]:
    return {
        "id": row.id,
        "name": row.name,
        "description": row.description,
        "filters": row.filters,
        "links": wire.links(call, "OS-EP-FILTER/endpoint_groups", row.id),
    }
