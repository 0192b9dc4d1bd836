"""What credentials can do. Blobs come sealed. Source: Keystone API v3.14."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Row, bindparam, delete, func, or_, select, update

from nephos import errors
from nephos.identity import notifications
from nephos.identity.credentials.store import credential
from nephos.identity.keys import actions as keys
from nephos.identity.projects import actions as projects
from nephos.identity.users import actions as users
from nephos.kernel.db.engine import Tx

EC2 = "ec2"
_BY_ID = select(credential).where(credential.c.id == bindparam("id"))


def get(tx: Tx, ident: str) -> Row[Any] | None:
    return tx.first(_BY_ID, {"id": ident})


def ident_of(access: str) -> str:
    """The id of an EC2 credential is the digest of its access key, so that a key is unique."""
    return hashlib.sha256(access.encode()).hexdigest()


def by_access_key(tx: Tx, access: str) -> Row[Any] | None:
    """An EC2 credential, None when there is none."""
    row = get(tx, ident_of(access))
    return row if row is not None and row.type.lower() == EC2 else None


def find(tx: Tx, ident: str) -> Row[Any]:
    """Raises NotFound."""
    row = get(tx, ident)
    if row is None:
        raise errors.NotFound(f"Could not find credential: {ident}.")
    return row


def of_user(tx: Tx, user_id: str, kind: str) -> list[Row[Any]]:
    return list(tx.all(select(credential).where(credential.c.user_id == user_id, credential.c.type == kind)))


def spend(tx: Tx, key: str, period: int) -> bool:
    """Take the passcode of a period, once and none of before it (RFC 6238, 5.2). False when that was done already."""
    unused = or_(credential.c.spent.is_(None), credential.c.spent < period)
    return tx.execute(update(credential).where(credential.c.id == key, unused).values(spent=period)).rowcount == 1


def create(tx: Tx, new: Mapping[str, Any]) -> Row[Any]:
    """Raises Conflict for an access key that is there already, BadRequest for a user or project that does not exist."""
    if get(tx, new["id"]) is not None:
        raise errors.Conflict(f"Conflict occurred attempting to store credential - Duplicate ID, {new['id']}.")
    if users.get(tx, new["user_id"]) is None:
        raise errors.BadRequest(f"Could not find user: {new['user_id']}.")
    if new["project_id"] is not None and projects.get(tx, new["project_id"]) is None:
        raise errors.BadRequest(f"Could not find project: {new['project_id']}.")
    tx.insert(credential, {"created_at": tx.now, **new})
    notifications.tell(tx, "credential", notifications.CREATED, new["id"])
    return find(tx, new["id"])


def reseal(tx: Tx, ident: str, sealed: str, key_id: str) -> Row[Any]:
    """Another blob. Raises NotFound."""
    tx.execute(update(credential).where(credential.c.id == ident).values(sealed=sealed, key_id=key_id))
    return find(tx, ident)


def sealed_otherwise(tx: Tx, key_id: str, after: str, most: int) -> list[Row[Any]]:
    """Id and sealed blob of credentials that another key has sealed, in the order of their ids, beyond `after`."""
    other = or_(credential.c.key_id.is_(None), credential.c.key_id != key_id)
    statement = select(credential.c.id, credential.c.sealed).where(other, credential.c.id > after)
    return list(tx.all(statement.order_by(credential.c.id).limit(most)))


def reseal_all(tx: Tx, sealed: Iterable[tuple[str, str, str]], key_id: str) -> None:
    """The same blobs under another key: id, as it was and as it is to be. What changed meanwhile is left alone."""
    for ident, old, new in sealed:
        same = credential.c.id == ident, credential.c.sealed == old
        tx.execute(update(credential).where(*same).values(sealed=new, key_id=key_id))


def keys_in_use(tx: Tx) -> set[str]:
    """The ids of keys that open some credential. Where one does not say which, it may be any of them."""
    used = set(tx.column(select(credential.c.key_id).distinct()))
    if None in used:
        used.update(row.id for row in keys.of_kind(tx, keys.CREDENTIALS))
    return used - {None}


def counted(tx: Tx) -> dict[str | None, int]:
    """How many credentials each key has sealed, by its id."""
    many = func.count().label("many")
    rows = tx.all(select(credential.c.key_id, many).group_by(credential.c.key_id))
    return {row.key_id: row.many for row in rows}


def remove(tx: Tx, ident: str) -> None:
    """Raises NotFound."""
    if tx.execute(delete(credential).where(credential.c.id == ident)).rowcount == 0:
        raise errors.NotFound(f"Could not find credential: {ident}.")
    notifications.tell(tx, "credential", notifications.DELETED, ident)
