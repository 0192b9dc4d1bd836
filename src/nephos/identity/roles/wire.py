"""Bodies of the roles API. Source: Keystone API v3.14, "Roles"."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType
from sqlalchemy import Row

from nephos.identity import wire
from nephos.identity.wire import Id, LooseId, Name, Options, Words
from nephos.kernel.http.call import Call


class RoleCreate(msgspec.Struct):
    name: Name
    description: Words | None = None
    domain_id: Id | None = None
    options: Options = {}


class RoleUpdate(msgspec.Struct):
    name: Name | UnsetType = UNSET
    description: Words | UnsetType | None = UNSET
    domain_id: LooseId | UnsetType | None = UNSET
    options: Options | UnsetType = UNSET


def role(call: Call, row: Row[Any]) -> dict[str, Any]:
    extra: Mapping[str, Any] = row.extra or {}
    return {
        **extra,
        "id": row.id,
        "name": row.name,
        "domain_id": row.domain_id or None,
        "description": row.description,
        "options": row.options or {},
        "links": wire.links(call, "roles", row.id),
    }


def short(call: Call, row: Row[Any]) -> dict[str, Any]:
    """A role as inference rules name it."""
    return {"id": row.id, "name": row.name, "links": wire.links(call, "roles", row.id)}


def inference(call: Call, prior: Row[Any], implied: Row[Any] | Iterable[Row[Any]]) -> dict[str, Any]:
    shown: Any = short(call, implied) if isinstance(implied, Row) else [short(call, one) for one in implied]
    return {"prior_role": short(call, prior), "implies": shown}
