"""Groups of users of one domain, and who is in them."""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, Index, Table, Text, UniqueConstraint

from nephos.kernel.db.schema import document, key, metadata, text, when

group = Table(
    "identity_group",
    metadata,
    key(),
    Column("domain_id", Text, ForeignKey("identity_project.id"), nullable=False),
    text("name"),
    text("description", default=""),
    document("extra"),
    when("created_at"),
    UniqueConstraint("domain_id", "name"),
)

membership = Table(
    "identity_membership",
    metadata,
    Column("user_id", Text, ForeignKey("identity_user.id", ondelete="CASCADE"), primary_key=True),
    Column("group_id", Text, ForeignKey("identity_group.id", ondelete="CASCADE"), primary_key=True),
    Index("ix_identity_membership_group_id", "group_id"),
)
