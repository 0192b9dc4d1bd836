"""Bodies of the policies API. Source: Keystone API v3.14, "Policies"."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType
from sqlalchemy import Row

from nephos.identity import wire
from nephos.kernel.http.call import Call

Blob = Annotated[str, Meta(max_length=65535)] | dict[str, Any]
Type = Annotated[str, Meta(min_length=1, max_length=255)]


class PolicyCreate(msgspec.Struct):
    blob: Blob
    type: Type


class PolicyUpdate(msgspec.Struct):
    blob: Blob | UnsetType = UNSET
    type: Type | UnsetType = UNSET


def text(blob: str | dict[str, Any]) -> str:
    return blob if isinstance(blob, str) else msgspec.json.encode(blob).decode()


def policy(call: Call, row: Row[Any]) -> dict[str, Any]:
    return {
        **(row.extra or {}),
        "id": row.id,
        "type": row.type,
        "blob": row.blob,
        "links": wire.links(call, "policies", row.id),
    }
