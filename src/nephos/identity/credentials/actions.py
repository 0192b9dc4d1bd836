"""What credentials can do. Blobs come sealed. Source: Keystone API v3.14."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Row, bindparam, delete, select, update

from nephos import errors
from nephos.identity.credentials.store import credential
from nephos.identity.projects import actions as projects
from nephos.identity.users import actions as users
from nephos.kernel.db.engine import Tx

_BY_ID = select(credential).where(credential.c.id == bindparam("id"))


def get(tx: Tx, ident: str) -> Row[Any] | None:
    return tx.first(_BY_ID, {"id": ident})


def find(tx: Tx, ident: str) -> Row[Any]:
    """Raises NotFound."""
    row = get(tx, ident)
    if row is None:
        raise errors.NotFound(f"Could not find credential: {ident}.")
    return row


def of_user(tx: Tx, user_id: str, kind: str) -> list[Row[Any]]:
    return list(tx.all(select(credential).where(credential.c.user_id == user_id, credential.c.type == kind)))


def create(tx: Tx, new: Mapping[str, Any]) -> Row[Any]:
    """Raises Conflict for an access key that is there already, BadRequest for a user or project that does not exist."""
    if get(tx, new["id"]) is not None:
        raise errors.Conflict(f"Conflict occurred attempting to store credential - Duplicate ID, {new['id']}.")
    if users.get(tx, new["user_id"]) is None:
        raise errors.BadRequest(f"Could not find user: {new['user_id']}.")
    if new["project_id"] is not None and projects.get(tx, new["project_id"]) is None:
        raise errors.BadRequest(f"Could not find project: {new['project_id']}.")
    tx.insert(credential, {"created_at": tx.now, **new})
    return find(tx, new["id"])


def reseal(tx: Tx, ident: str, sealed: str) -> Row[Any]:
    tx.execute(update(credential).where(credential.c.id == ident).values(sealed=sealed))
    return find(tx, ident)


def remove(tx: Tx, ident: str) -> None:
    """Raises NotFound."""
    if tx.execute(delete(credential).where(credential.c.id == ident)).rowcount == 0:
        raise errors.NotFound(f"Could not find credential: {ident}.")
