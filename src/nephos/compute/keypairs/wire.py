"""Key pairs on the wire."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, UnsetType

from nephos import errors
from nephos.compute.wire import Name, Strict, fine_moment, name, since
from nephos.kernel.http.call import Call

_BEFORE_292, _FROM_292 = re.compile(r"[_\- a-zA-Z0-9]+"), re.compile(r"[_\-@. a-zA-Z0-9]+")


class NewKeypair(Strict):
    name: Name
    type: Literal["ssh", "x509"] | UnsetType = UNSET
    public_key: Annotated[str, Meta(max_length=65535)] | UnsetType = UNSET
    user_id: Annotated[str, Meta(min_length=1, max_length=255)] | UnsetType = UNSET


class NewKeypairBody(Strict):
    keypair: NewKeypair


def check_name(value: str, *, wide: bool) -> str:
    """Raises BadRequest; `wide` allows @ and . too (2.92)."""
    name(value)
    if not (_FROM_292 if wide else _BEFORE_292).fullmatch(value):
        allowed = "letters, digits, spaces, underscores, hyphens" + (", at signs and dots" if wide else "")
        raise errors.BadRequest(f"Keypair data is invalid: Keypair name {value!r} may hold only {allowed}.")
    return value


def created(call: Call, row: Any, private: str | None) -> dict[str, Any]:
    shown = {"name": row.name, "public_key": row.public_key, "fingerprint": row.fingerprint, "user_id": row.user_id}
    if private is not None:
        shown["private_key"] = private
    return _typed(call, row, shown)


def listed(call: Call, row: Any) -> dict[str, Any]:
    return _typed(call, row, {"name": row.name, "public_key": row.public_key, "fingerprint": row.fingerprint})


def shown(call: Call, row: Any) -> dict[str, Any]:
    body = {
        "name": row.name,
        "public_key": row.public_key,
        "fingerprint": row.fingerprint,
        "user_id": row.user_id,
        "created_at": fine_moment(row.created_at),
        "deleted": False,
        "deleted_at": None,
        "id": row.number,
        "updated_at": None,
    }
    return _typed(call, row, body)


def _typed(call: Call, row: Any, shown: dict[str, Any]) -> dict[str, Any]:
    if since(call, 2):
        shown["type"] = row.type
    return shown
