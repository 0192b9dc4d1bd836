"""The tables of host aggregates. A host's zone follows from its aggregates and is kept in the host's own row too."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Column, ForeignKey, Integer, Table, Text, UniqueConstraint, select

from nephos.kernel.db.engine import Tx
from nephos.kernel.db.schema import document, metadata, text, when

ZONE = "availability_zone"
"""The metadata key that makes an aggregate an availability zone."""

aggregate = Table(
    "compute_aggregate",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    text("uuid"),
    text("name"),
    document("metadata"),
    when("created_at"),
    when("updated_at", null=True),
    UniqueConstraint("name"),
    UniqueConstraint("uuid"),
)

member = Table(
    "compute_aggregate_host",
    metadata,
    Column("aggregate_id", Integer, ForeignKey("compute_aggregate.id", ondelete="CASCADE"), primary_key=True),
    Column("host_id", Text, primary_key=True),
)


def hosts_of(tx: Tx, aggregate_ids: Iterable[int]) -> dict[int, list[str]]:
    """aggregate id → ids of its hosts."""
    chosen = select(member).where(member.c.aggregate_id.in_(list(aggregate_ids)))
    found: dict[int, list[str]] = {}
    for row in tx.all(chosen):
        found.setdefault(row.aggregate_id, []).append(row.host_id)
    return found


def metadata_of_hosts(tx: Tx) -> dict[str, list[Mapping[str, str]]]:
    """host id → the metadata of each aggregate it is in."""
    chosen = select(member.c.host_id, aggregate.c.metadata).join(aggregate, aggregate.c.id == member.c.aggregate_id)
    found: dict[str, list[Mapping[str, str]]] = {}
    rows: Any = tx.all(chosen.order_by(aggregate.c.id))
    for row in rows:
        found.setdefault(row[0], []).append(row[1] or {})
    return found


def zones(tx: Tx, default: str) -> set[str]:
    """Every availability zone: the default one and those that aggregates make."""
    found = {default}
    for grouped in tx.column(select(aggregate.c.metadata)):
        if grouped and grouped.get(ZONE):
            found.add(str(grouped[ZONE]))
    return found
