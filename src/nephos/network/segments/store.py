"""Segments: what carries each network."""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, Table, Text, UniqueConstraint

from nephos.kernel.db.schema import integer, key, metadata, text, when

segment = Table(
    "network_segment",
    metadata,
    key(),
    Column("network_id", Text, ForeignKey("network_network.id"), nullable=False, index=True),
    text("name", null=True),
    text("description", null=True),
    text("kind"),
    text("physical", null=True),
    integer("number", null=True),
    text("segment_key", null=True),
    integer("position", default=0),
    integer("revision", default=1),
    when("created_at"),
    when("updated_at"),
    UniqueConstraint("segment_key"),
)
"""`position` orders a network's segments; the first is also in the network's own row. `segment_key` is what no two
segments may share; NULL for those of local networks."""
