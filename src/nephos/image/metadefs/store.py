"""Metadata definitions: namespaces and what they hold."""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, Table, Text, UniqueConstraint

from nephos.kernel.db.schema import boolean, document, key, metadata, text, when

namespace = Table(
    "metadef_namespace",
    metadata,
    key(),
    text("namespace"),
    text("display_name", null=True),
    text("description", null=True),
    text("visibility"),
    boolean("protected"),
    text("owner", null=True),
    when("created_at"),
    when("updated_at"),
    UniqueConstraint("namespace"),
)

item = Table(
    "metadef_item",
    metadata,
    Column("namespace_id", Text, ForeignKey("metadef_namespace.id", ondelete="CASCADE"), primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    document("body"),
    when("created_at"),
    when("updated_at"),
)
"""`kind` is object, property, tag or resource_type (an association); `body` is what the client said of it."""
