"""Forgetting operations that ended: what is live is never touched. Their events go with them."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import delete, select

from nephos.kernel.db.engine import Tx
from nephos.kernel.operations.model import LIVE
from nephos.kernel.operations.store import operation

_o = operation


def busy(tx: Tx, noun: str, ids: Collection[str]) -> set[str]:
    """Those of the things that an operation still works on."""
    return set(tx.column(select(_o.c.noun_id).where(_o.c.noun == noun, _o.c.noun_id.in_(ids), _o.c.state.in_(LIVE))))


def forget(tx: Tx, noun: str, ids: Collection[str]) -> None:
    """All that was done to these things."""
    tx.execute(delete(_o).where(_o.c.noun == noun, _o.c.noun_id.in_(ids), _o.c.state.not_in(LIVE)))


def forget_before(tx: Tx, noun: str, before: int, most: int) -> int:
    """Operations of a noun that ended before a time (microseconds), at most so many; answers how many."""
    ended = select(_o.c.id).where(_o.c.noun == noun, _o.c.finished_at < before, _o.c.state.not_in(LIVE)).limit(most)
    ids = tx.column(ended)
    tx.execute(delete(_o).where(_o.c.id.in_(ids)))
    return len(ids)
