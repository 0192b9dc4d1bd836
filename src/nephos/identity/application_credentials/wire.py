"""Bodies of the application credentials and access rules APIs. Source: Keystone API v3.14."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta
from sqlalchemy import Row

from nephos.identity import wire
from nephos.identity.wire import LooseId, Name, Words
from nephos.kernel.http.call import Call

Secret = Annotated[str, Meta(min_length=1, max_length=4096)]


class RoleRef(msgspec.Struct, forbid_unknown_fields=True):
    id: LooseId | None = None
    name: LooseId | None = None


class RuleRef(msgspec.Struct, forbid_unknown_fields=True):
    """An access rule by its id, or by what it says."""

    id: LooseId | None = None
    service: Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[a-zA-Z0-9-]+$")] | None = None
    method: Literal["DELETE", "GET", "HEAD", "PATCH", "POST", "PUT"] | None = None
    path: Annotated[str, Meta(max_length=225, pattern=r"^/")] | None = None


class Create(msgspec.Struct):
    name: Name
    description: Words | None = None
    secret: Secret | None = None
    expires_at: str | None = None
    unrestricted: bool | None = None
    roles: list[RoleRef] = []
    access_rules: list[RuleRef] | None = None
    project_id: LooseId | None = None


def rule(call: Call, row: Row[Any]) -> dict[str, Any]:
    return {
        "id": row.id,
        "service": row.service,
        "method": row.method,
        "path": row.path,
        "links": wire.links(call, f"users/{row.user_id}/access_rules", row.id),
    }


def short_rule(row: Row[Any]) -> dict[str, Any]:
    return {"id": row.id, "service": row.service, "method": row.method, "path": row.path}


def application_credential(
    call: Call, row: Row[Any], roles: Iterable[Row[Any]], rules: Mapping[str, Row[Any]]
) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "id": row.id,
        "name": row.name,
        "description": row.description,
        "project_id": row.project_id,
        "user_id": row.user_id,
        "expires_at": wire.moment(row.expires_at),
        "unrestricted": row.unrestricted,
        "system": None,
        "roles": [
            {
                "id": one.id,
                "name": one.name,
                "domain_id": one.domain_id or None,
                "description": one.description,
                "options": one.options or {},
            }
            for one in roles
        ],
        "links": wire.links(call, f"users/{row.user_id}/application_credentials", row.id),
    }
    if row.access_rule_ids is not None:
        shown["access_rules"] = [short_rule(rules[one]) for one in row.access_rule_ids if one in rules]
    return shown
