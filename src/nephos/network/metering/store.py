"""Metering labels and their rules."""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, Table

from nephos.kernel.db.schema import boolean, integer, key, metadata, text, when

label = Table(
    "network_metering_label",
    metadata,
    key(),
    text("project_id", index=True),
    text("name"),
    text("description", default=""),
    boolean("shared"),
    integer("revision", default=1),
    when("created_at"),
    when("updated_at"),
)

rule = Table(
    "network_metering_rule",
    metadata,
    key(),
    Column(
        "label_id",
        label.c.id.type,
        ForeignKey("network_metering_label.id", ondelete="CASCADE"),
        nullable=False,
        index=True,
    ),
    text("direction"),
    boolean("excluded"),
    text("remote", null=True),
    text("source", null=True),
    text("destination", null=True),
    integer("revision", default=1),
    when("created_at"),
    when("updated_at"),
)
"""`remote` is the older way to say `source` (of what comes in) or `destination` (of what goes out)."""
