"""What can be done with key pairs."""

from __future__ import annotations

from typing import Any

from sqlalchemy import bindparam, func, select
from sqlalchemy import delete as delete_from

from nephos import errors
from nephos.compute.keypairs import store
from nephos.compute.keypairs.keys import Key
from nephos.kernel.db.engine import Tx

_k = store.keypair
_one = select(_k).where(_k.c.user_id == bindparam("user"), _k.c.name == bindparam("name"))


def find(tx: Tx, user_id: str, name: str) -> Any | None:
    return tx.first(_one, {"user": user_id, "name": name})


def get(tx: Tx, user_id: str, name: str) -> Any:
    """Raises NotFound."""
    row = find(tx, user_id, name)
    if row is None:
        raise errors.NotFound(f"Keypair {name} not found for user {user_id}")
    return row


def create(tx: Tx, user_id: str, name: str, kind: str, key: Key, limit: int) -> Any:
    """Add a key pair; answers its row. Raises Conflict when the user has one of that name, OverQuota beyond `limit`."""
    if find(tx, user_id, name) is not None:
        raise errors.Conflict(f"Key pair '{name}' already exists.")
    used = count(tx, user_id)
    if 0 <= limit <= used:
        raise errors.OverQuota("key_pairs", limit=limit, used=used, requested=1)
    values = {
        "user_id": user_id,
        "name": name,
        "type": kind,
        "fingerprint": key.fingerprint,
        "public_key": key.public,
        "created_at": tx.now,
    }
    tx.insert(_k, values)
    return find(tx, user_id, name)


def count(tx: Tx, user_id: str) -> int:
    return int(tx.scalar(select(func.count()).select_from(_k).where(_k.c.user_id == user_id)))


def delete(tx: Tx, user_id: str, name: str) -> None:
    """Servers that were made with the key keep it. Raises NotFound."""
    if not tx.execute(delete_from(_k).where(_k.c.user_id == user_id, _k.c.name == name)).rowcount:
        raise errors.NotFound(f"Keypair {name} not found for user {user_id}")
