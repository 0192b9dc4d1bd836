"""Providers that operators made, and their aggregates. A host is a provider by itself, with the host's id."""

from __future__ import annotations

from sqlalchemy import Column, Table, Text, UniqueConstraint

from nephos.kernel.db.schema import integer, key, metadata, text, when

provider = Table(
    "placement_provider",
    metadata,
    key(),
    text("name"),
    text("parent_id", null=True, index=True),
    text("root_id", index=True),
    integer("generation", default=0),
    when("created_at"),
    when("updated_at"),
    UniqueConstraint("name"),
)

aggregate = Table(
    "placement_aggregate",
    metadata,
    Column("provider_id", Text, primary_key=True),
    Column("aggregate_id", Text, primary_key=True, index=True),
)
