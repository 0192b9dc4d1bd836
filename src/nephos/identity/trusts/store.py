"""Trusts: what one user lets another do in its stead."""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, Index, Table, Text

from nephos.kernel.db.schema import boolean, integer, key, metadata, text, when

trust = Table(
    "identity_trust",
    metadata,
    key(),
    Column("trustor_user_id", Text, ForeignKey("identity_user.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("trustee_user_id", Text, ForeignKey("identity_user.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("project_id", Text, ForeignKey("identity_project.id", ondelete="CASCADE"), nullable=True, index=True),
    boolean("impersonation"),
    integer("remaining_uses", null=True),
    text("redelegated_trust_id", null=True, index=True),
    integer("redelegation_count", default=0),
    when("expires_at", null=True),
    when("created_at"),
)

trust_role = Table(
    "identity_trust_role",
    metadata,
    Column("trust_id", Text, ForeignKey("identity_trust.id", ondelete="CASCADE"), primary_key=True),
    Column("role_id", Text, ForeignKey("identity_role.id", ondelete="CASCADE"), primary_key=True),
    Index("ix_identity_trust_role_role_id", "role_id"),
)
