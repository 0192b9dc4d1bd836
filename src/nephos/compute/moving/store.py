"""Migrations: every move of a server from host to host, and every change of its flavor (Nova's name for both)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import (
    Column,
    Index,
    Integer,
    Table,
    UniqueConstraint,
    and_,
    bindparam,
    delete,
    or_,
    select,
    update,
)

from nephos.compute.servers.store import server
from nephos.kernel.db.engine import Tx
from nephos.kernel.db.schema import boolean, document, integer, metadata, text, when

RESIZE, COLD, LIVE = "resize", "migration", "live-migration"
PRE_MIGRATING, MIGRATING, POST_MIGRATING, FINISHED = "pre-migrating", "migrating", "post-migrating", "finished"
CONFIRMING, CONFIRMED, REVERTING, REVERTED = "confirming", "confirmed", "reverting", "reverted"
QUEUED, PREPARING, RUNNING, COMPLETED = "queued", "preparing", "running", "completed"
CANCELLED, FAILED, ERROR = "cancelled", "failed", "error"
IN_PROGRESS = (QUEUED, PREPARING, RUNNING, POST_MIGRATING)
"""The states in which a live migration is shown with its server."""

migration = Table(
    "compute_migration",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    text("id"),
    text("server_id"),
    text("project_id"),
    text("user_id", null=True),
    text("kind"),
    text("status"),
    text("source_id"),
    text("source_name"),
    text("target_id", null=True),
    text("target_name", null=True),
    text("source_zone", null=True),
    text("old_flavor_id"),
    document("old_flavor"),
    integer("old_number", null=True),
    text("new_flavor_id"),
    document("new_flavor"),
    integer("new_number", null=True),
    boolean("ran"),
    boolean("kept"),
    text("secret"),
    document("progress"),
    when("created_at"),
    when("updated_at", null=True),
    when("finished_at", null=True),
    UniqueConstraint("id"),
    Index("ix_compute_migration_server", "server_id", "created_at"),
    Index("ix_compute_migration_kept", "kept", "source_id"),
    Index("ix_compute_migration_list", "created_at", "number"),
)
"""`ran` is whether the guest ran before; `kept` that the source has it set aside, and that what the server had there is
held for the migration, until it is confirmed or reverted. `secret` opens the guest's parts to the host that receives it.
`progress` is of a live migration, in bytes: memory and disk × total, processed, remaining. `old_number` and `new_number`
are the flavors' own."""

_m = migration
_by_id = select(_m).where(_m.c.id == bindparam("id"))
_kept = select(_m).where(_m.c.server_id == bindparam("server"), _m.c.kept)
_aside = select(_m.c.server_id).where(_m.c.kept, _m.c.source_id == bindparam("host"))
_late = select(_m).where(
    _m.c.kept, _m.c.status == FINISHED, _m.c.finished_at.is_not(None), _m.c.finished_at < bindparam("before")
)
_ENDED = (FINISHED, CONFIRMED, REVERTED, COMPLETED, CANCELLED, FAILED, ERROR)
_going_on = select(_m).where(_m.c.status.not_in(_ENDED))
_holding = select(_m.c.id).where(or_(_m.c.kept, _m.c.status.not_in(_ENDED), _m.c.status == CANCELLED))
"""One that was cancelled holds what it has until the guest is known to stay."""


def add(tx: Tx, values: dict[str, Any]) -> None:
    tx.insert(_m, values)


def by_id(tx: Tx, migration_id: str) -> Any | None:
    return tx.first(_by_id, {"id": migration_id})


def of_server(tx: Tx, server_id: str, number: str) -> Any | None:
    """A server's migration, by its number or its id."""
    wanted = _m.c.number == int(number) if number.isdecimal() and len(number) < 10 else _m.c.id == number
    return tx.first(select(_m).where(_m.c.server_id == server_id, wanted))


def kept(tx: Tx, server_id: str) -> Sequence[Any]:
    """Those of a server whose source still has it set aside."""
    return tx.all(_kept, {"server": server_id})


def aside_on(tx: Tx, host_id: str, server_ids: Collection[str] | None = None) -> set[str]:
    """The servers that a host has set aside; of these, or of all."""
    chosen = _aside if server_ids is None else _aside.where(_m.c.server_id.in_(list(server_ids)))
    return set(tx.column(chosen, {"host": host_id}))


def holding(tx: Tx) -> set[str]:
    """Ids of the migrations that may hold capacity."""
    return set(tx.column(_holding))


def going_on(tx: Tx, server_id: str | None = None) -> Sequence[Any]:
    """Those that an operation must be working on, of a server or of all."""
    return tx.all(_going_on if server_id is None else _going_on.where(_m.c.server_id == server_id))


def finished_before(tx: Tx, before: int) -> Sequence[Any]:
    """Moves that wait for somebody to confirm them since before a time."""
    return tx.all(_late, {"before": before})


def change(tx: Tx, migration_id: str, **values: Any) -> None:
    tx.execute(update(_m).where(_m.c.id == migration_id).values(updated_at=tx.now, **values))


def sweep(tx: Tx, before: int, most: int) -> int:
    """Take away, at most so many, migrations that began before a time and whose server is not there any more."""
    gone = (
        select(_m.c.number)
        .outerjoin(server, server.c.id == _m.c.server_id)
        .where(and_(_m.c.created_at < before, or_(server.c.id.is_(None), server.c.deleted), ~_m.c.kept))
        .limit(most)
    )
    numbers = tx.column(gone)
    if numbers:
        tx.execute(delete(_m).where(_m.c.number.in_(numbers)))
    return len(numbers)
