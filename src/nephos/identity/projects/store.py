"""Projects, and domains, which are projects without a parent that hold users and projects."""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, Index, Table, Text, UniqueConstraint

from nephos.kernel.db.schema import boolean, document, key, metadata, text, when

NO_DOMAIN = ""
"""What a domain has as its own domain id."""

project = Table(
    "identity_project",
    metadata,
    key(),
    text("domain_id"),
    text("name"),
    text("parent_id", null=True, index=True),
    boolean("is_domain"),
    boolean("enabled", default=True),
    text("description", default=""),
    document("options"),
    document("extra"),
    when("revoked_before", null=True),
    when("created_at"),
    UniqueConstraint("domain_id", "name"),
    Index("ix_identity_project_is_domain", "is_domain"),
    Index("ix_identity_project_name", "name"),
)

tag = Table(
    "identity_project_tag",
    metadata,
    Column("project_id", Text, ForeignKey("identity_project.id", ondelete="CASCADE"), primary_key=True),
    Column("name", Text, primary_key=True),
)
