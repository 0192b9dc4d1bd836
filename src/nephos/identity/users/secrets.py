"""A user's password in the ledger."""

from __future__ import annotations

from sqlalchemy import bindparam, update

from nephos.identity.users.store import user
from nephos.kernel.db.engine import Tx

_RENEW = (
    update(user)
    .where(user.c.id == bindparam("user_id"), user.c.password_hash == bindparam("old"))
    .values(password_hash=bindparam("new"))
)


def renew(tx: Tx, user_id: str, old: str, new: str) -> None:
    """Put a hash of the same password in place of an older form, unless the password was changed meanwhile."""
    tx.execute(_RENEW, {"user_id": user_id, "old": old, "new": new})
