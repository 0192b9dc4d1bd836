"""Keys of tokens, credentials and receipts: what there are, and their rotation. Secrets are never shown."""

from __future__ import annotations

from typing import Any

import msgspec

from nephos import errors
from nephos.identity.credentials import actions as credentials
from nephos.identity.keys import actions, rotation
from nephos.kernel import clock
from nephos.kernel.http.call import Call, Reply

TOKENS = "tokens"
"""Stands for the keys that new tokens are signed with, whichever form they have."""


class RotateBody(msgspec.Struct, forbid_unknown_fields=True):
    """With `force` a key goes though what it signed still counts."""

    force: bool = False


def index(call: Call) -> Reply:
    """Every key with its state and age; of those of credentials also how many each has sealed."""
    settings = call.cloud.settings
    with call.cloud.database.read() as tx:
        rows, sealed = actions.all_keys(tx), credentials.counted(tx)
    return Reply(
        {
            "provider": settings.tokens.provider,
            "lifetime": settings.tokens.lifetime,
            "max_active": settings.keys.max_active,
            "rotate_hours": settings.keys.rotate_hours,
            "keys": [_shown(row, sealed) for row in rows],
        }
    )


def rotate(call: Call) -> Reply:
    """Raises NotFound for an unknown kind, Conflict when a key would go whose tokens still count."""
    body = call.body(RotateBody) if call.raw else RotateBody()
    kind = call.params["kind"]
    if kind == TOKENS:
        kind = call.cloud.settings.tokens.provider
    row = rotation.rotate(call.cloud, kind, force=body.force)
    if row is None:
        raise errors.Conflict(f"The {kind} keys were rotated meanwhile.")
    with call.cloud.database.read() as tx:
        sealed = credentials.counted(tx)
    return Reply({"key": _shown(row, sealed)})


def _shown(row: Any, sealed: dict[str | None, int]) -> dict[str, Any]:
    shown = {
        "id": row.id,
        "kind": row.kind,
        "number": row.number,
        "state": actions.state(row),
        "created_at": clock.iso(row.created_at),
        "primary_at": clock.iso(row.primary_at),
        "retired_at": clock.iso(row.retired_at),
    }
    if row.kind == actions.CREDENTIALS:
        shown["credentials"] = sealed.get(row.id, 0)
    return shown
