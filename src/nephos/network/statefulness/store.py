"""Whether new security groups are stateful when nobody says, by project."""

from __future__ import annotations

from sqlalchemy import Index, Table

from nephos.kernel.db.schema import boolean, integer, key, metadata, text, when

statefulness = Table(
    "network_statefulness",
    metadata,
    key(),
    text("project_id"),
    boolean("stateful", default=True),
    integer("revision", default=1),
    when("created_at"),
    when("updated_at"),
    Index("uq_network_statefulness_project_id", "project_id", unique=True),
)
"""`project_id` is empty for what holds in every project without a setting of its own."""
