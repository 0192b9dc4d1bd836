"""Bodies of the projects and domains APIs. Source: Keystone API v3.14, "Projects" and "Domains"."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType
from sqlalchemy import Row

from nephos.identity import wire
from nephos.identity.wire import MOST_TAGS, Id, Options, ShortName, Tag, Words
from nephos.kernel.http.call import Call

Tags = Annotated[list[Tag], Meta(max_length=MOST_TAGS)]


class ProjectCreate(msgspec.Struct):
    name: ShortName
    description: Words | None = None
    domain_id: Id | None = None
    parent_id: Id | None = None
    enabled: bool = True
    is_domain: bool = False
    tags: Tags = []
    options: Options = {}


class ProjectUpdate(msgspec.Struct):
    name: ShortName | UnsetType = UNSET
    description: Words | UnsetType | None = UNSET
    domain_id: Id | UnsetType | None = UNSET
    parent_id: Id | UnsetType | None = UNSET
    is_domain: bool | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET
    tags: Tags | UnsetType = UNSET
    options: Options | UnsetType = UNSET


class DomainCreate(msgspec.Struct):
    name: ShortName
    description: Words | None = None
    enabled: bool = True
    tags: Tags = []
    options: Options = {}
    explicit_domain_id: str | None = None


class DomainUpdate(msgspec.Struct):
    name: ShortName | UnsetType = UNSET
    description: Words | UnsetType | None = UNSET
    enabled: bool | UnsetType = UNSET
    tags: Tags | UnsetType = UNSET
    options: Options | UnsetType = UNSET


class TagsBody(msgspec.Struct):
    tags: Tags


def project(call: Call, row: Row[Any], tags: Sequence[str]) -> dict[str, Any]:
    extra: Mapping[str, Any] = row.extra or {}
    return {
        **extra,
        "id": row.id,
        "name": row.name,
        "domain_id": row.domain_id or None,
        "description": row.description,
        "enabled": row.enabled,
        "parent_id": row.parent_id,
        "is_domain": row.is_domain,
        "tags": list(tags),
        "options": row.options or {},
        "links": wire.links(call, "projects", row.id),
    }


def domain(call: Call, row: Row[Any], tags: Sequence[str]) -> dict[str, Any]:
    return {
        "id": row.id,
        "name": row.name,
        "description": row.description,
        "enabled": row.enabled,
        "tags": list(tags),
        "options": row.options or {},
        "links": wire.links(call, "domains", row.id),
    }
