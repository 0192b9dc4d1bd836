"""The ranges that segment ids are given out of."""

from __future__ import annotations

from sqlalchemy import Table

from nephos.kernel.db.schema import boolean, integer, key, metadata, text, when

segment_range = Table(
    "network_segment_range",
    metadata,
    key(),
    text("name", default=""),
    text("description", default=""),
    boolean("is_default"),
    boolean("shared"),
    text("project_id", null=True),
    text("kind"),
    text("physical", null=True),
    integer("minimum"),
    integer("maximum"),
    integer("revision", default=1),
    when("created_at"),
    when("updated_at"),
)
"""`is_default` ranges are those of the settings. A range that is not shared is for its project alone."""
