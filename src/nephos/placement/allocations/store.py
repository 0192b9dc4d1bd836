"""Who uses how much of what: the truth of capacity."""

from __future__ import annotations

from sqlalchemy import Column, Index, Table, Text

from nephos.kernel.db.schema import integer, metadata, text, when

allocation = Table(
    "placement_allocation",
    metadata,
    Column("consumer_id", Text, primary_key=True),
    Column("provider_id", Text, primary_key=True),
    Column("resource_class", Text, primary_key=True),
    integer("used"),
    text("project_id"),
    text("user_id"),
    text("consumer_type", null=True),
    integer("consumer_generation", default=1),
    when("created_at"),
    when("updated_at"),
    Index("ix_placement_allocation_usage", "provider_id", "resource_class", "used"),
    Index("ix_placement_allocation_project", "project_id", "resource_class", "used"),
)
"""`provider_id` is a host's id, or that of a provider that an operator made. The consumer's own columns are the same on
all its rows: a consumer without allocations does not exist, as in the placement API."""
