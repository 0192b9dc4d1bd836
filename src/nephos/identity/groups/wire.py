"""Bodies of the groups API. Source: Keystone API v3.14, "Groups"."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType
from sqlalchemy import Row

from nephos.identity import wire
from nephos.identity.wire import Id, LooseId, Name, Words
from nephos.kernel.http.call import Call


class GroupCreate(msgspec.Struct):
    name: Name
    description: Words | None = None
    domain_id: Id | None = None


class GroupUpdate(msgspec.Struct):
    name: Name | UnsetType = UNSET
    description: Words | UnsetType | None = UNSET
    domain_id: LooseId | UnsetType = UNSET


def group(call: Call, row: Row[Any]) -> dict[str, Any]:
    extra: Mapping[str, Any] = row.extra or {}
    return {
        **extra,
        "id": row.id,
        "name": row.name,
        "domain_id": row.domain_id,
        "description": row.description,
        "links": wire.links(call, "groups", row.id),
    }
