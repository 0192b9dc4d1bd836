"""Bodies of the users API. Source: Keystone API v3.14, "Users"."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType
from sqlalchemy import Row

from nephos.identity import wire
from nephos.identity.wire import Id, LooseId, Name, Words
from nephos.kernel.http.call import Call

Password = Annotated[str, Meta(max_length=4096)]


class UserOptions(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Null takes an option away."""

    ignore_change_password_upon_first_use: bool | UnsetType | None = UNSET
    ignore_password_expiry: bool | UnsetType | None = UNSET
    ignore_lockout_failure_attempts: bool | UnsetType | None = UNSET
    ignore_user_inactivity: bool | UnsetType | None = UNSET
    lock_password: bool | UnsetType | None = UNSET
    multi_factor_auth_enabled: bool | UnsetType | None = UNSET
    multi_factor_auth_rules: list[list[str]] | UnsetType | None = UNSET


class UserCreate(msgspec.Struct):
    name: Name
    password: Password | None = None
    domain_id: Id | None = None
    default_project_id: LooseId | None = None
    description: Words | UnsetType | None = UNSET
    enabled: bool = True
    options: UserOptions = msgspec.field(default_factory=UserOptions)


class UserUpdate(msgspec.Struct):
    name: Name | UnsetType = UNSET
    password: Password | UnsetType | None = UNSET
    domain_id: LooseId | UnsetType = UNSET
    default_project_id: LooseId | UnsetType | None = UNSET
    description: Words | UnsetType | None = UNSET
    enabled: bool | UnsetType = UNSET
    options: UserOptions | UnsetType = UNSET


class PasswordChange(msgspec.Struct):
    password: Password
    original_password: Password


def options(given: UserOptions) -> dict[str, Any]:
    return wire.given(given)


def user(call: Call, row: Row[Any]) -> dict[str, Any]:
    extra: Mapping[str, Any] = row.extra or {}
    shown = {
        **extra,
        "id": row.id,
        "name": row.name,
        "domain_id": row.domain_id,
        "enabled": row.enabled,
        "password_expires_at": wire.moment(row.password_expires_at),
        "options": row.options or {},
        "links": wire.links(call, "users", row.id),
    }
    if row.default_project_id is not None:
        shown["default_project_id"] = row.default_project_id
    return shown
