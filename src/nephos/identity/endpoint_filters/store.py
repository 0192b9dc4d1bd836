"""Which endpoints a project's catalog shows: single ones, and groups of them that filters describe."""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, Index, Table, Text

from nephos.kernel.db.schema import document, key, metadata, text, when

endpoint_group = Table(
    "identity_endpoint_group",
    metadata,
    key(),
    text("name"),
    text("description", null=True),
    document("filters"),
    when("created_at"),
)
"""`filters` has some of interface, service_id, region_id and enabled."""

group_project = Table(
    "identity_endpoint_group_project",
    metadata,
    Column("endpoint_group_id", Text, ForeignKey("identity_endpoint_group.id", ondelete="CASCADE"), primary_key=True),
    Column("project_id", Text, ForeignKey("identity_project.id", ondelete="CASCADE"), primary_key=True),
    Index("ix_identity_endpoint_group_project_project_id", "project_id"),
)

project_endpoint = Table(
    "identity_project_endpoint",
    metadata,
    Column("project_id", Text, ForeignKey("identity_project.id", ondelete="CASCADE"), primary_key=True),
    Column("endpoint_id", Text, ForeignKey("identity_endpoint.id", ondelete="CASCADE"), primary_key=True),
    Index("ix_identity_project_endpoint_endpoint_id", "endpoint_id"),
)
