"""Unified limits: how much of a resource there is by default, and for one project or domain."""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, Index, Table, Text

from nephos.kernel.db.schema import integer, key, metadata, text, when

registered_limit = Table(
    "identity_registered_limit",
    metadata,
    key(),
    Column("service_id", Text, ForeignKey("identity_service.id", ondelete="CASCADE"), nullable=False),
    text("region_id", null=True),
    text("resource_name"),
    integer("default_limit"),
    text("description", null=True),
    when("created_at"),
    Index("ix_identity_registered_limit_service_id", "service_id", "resource_name"),
)

limit = Table(
    "identity_limit",
    metadata,
    key(),
    Column("registered_id", Text, ForeignKey("identity_registered_limit.id", ondelete="CASCADE"), nullable=False),
    Column("project_id", Text, ForeignKey("identity_project.id", ondelete="CASCADE"), nullable=True, index=True),
    Column("domain_id", Text, ForeignKey("identity_project.id", ondelete="CASCADE"), nullable=True, index=True),
    integer("resource_limit"),
    text("description", null=True),
    when("created_at"),
    Index("ix_identity_limit_registered_id", "registered_id"),
)
