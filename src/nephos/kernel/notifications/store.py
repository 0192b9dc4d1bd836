"""The tables of notifications: what waits for a sink, and how each sink does."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, Table

from nephos.kernel.db.schema import boolean, document, integer, key, metadata, text, when

notification = Table(
    "notification",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    text("sink"),
    text("service"),
    text("topic"),
    text("event_type"),
    text("resource"),
    document("message", null=False),
    when("created_at"),
    boolean("dead"),
    text("reason", null=True),
    Index("ix_notification_waiting", "sink", "dead", "id"),
)
"""One row for each sink, deleted when it is delivered. `dead` ones will not be tried again; `reason` says why."""

sink = Table(
    "notification_sink",
    metadata,
    key("name"),
    text("lease_owner", null=True),
    when("lease_until", null=True),
    integer("failures", default=0),
    text("error", null=True),
)
"""Who delivers to a sink now, and why it does not get through."""
