"""The tables of operations: the row is the queue, and the events are the timeline that users read."""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, Index, Integer, Table, Text

from nephos.kernel.db.schema import boolean, document, integer, key, metadata, text, when

operation = Table(
    "operation",
    metadata,
    key(),
    text("noun"),
    text("noun_id"),
    text("kind"),
    text("state"),
    text("step"),
    integer("attempt", default=0),
    text("lease_owner", null=True),
    when("lease_until", null=True),
    when("due_at"),
    when("deadline"),
    text("after", null=True, index=True),
    boolean("cancelled"),
    text("request_id"),
    text("project_id", null=True),
    text("user_id", null=True),
    document("data"),
    text("error", null=True),
    when("created_at"),
    when("updated_at"),
    when("finished_at", null=True),
    Index("ix_operation_due", "state", "due_at"),
    Index("ix_operation_noun", "noun", "noun_id", "created_at"),
)

event = Table(
    "operation_event",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("operation_id", Text, ForeignKey("operation.id", ondelete="CASCADE"), nullable=False, index=True),
    text("name"),
    text("host", null=True),
    when("started_at"),
    when("finished_at", null=True),
    text("result", null=True),
    text("detail", null=True),
)
