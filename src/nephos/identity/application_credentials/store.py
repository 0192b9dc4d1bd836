"""Application credentials, the roles that each carries, and users' access rules."""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, Index, Table, Text, UniqueConstraint

from nephos.kernel.db.schema import boolean, document, key, metadata, text, when

application_credential = Table(
    "identity_application_credential",
    metadata,
    key(),
    Column("user_id", Text, ForeignKey("identity_user.id", ondelete="CASCADE"), nullable=False),
    text("project_id", index=True),
    text("name"),
    text("secret_hash"),
    text("description", null=True),
    boolean("unrestricted"),
    document("access_rule_ids"),
    when("expires_at", null=True),
    when("created_at"),
    UniqueConstraint("user_id", "name"),
)

application_role = Table(
    "identity_application_credential_role",
    metadata,
    Column(
        "application_credential_id",
        Text,
        ForeignKey("identity_application_credential.id", ondelete="CASCADE"),
        primary_key=True,
    ),
    Column("role_id", Text, ForeignKey("identity_role.id", ondelete="CASCADE"), primary_key=True),
    Index("ix_identity_application_credential_role_role_id", "role_id"),
)

access_rule = Table(
    "identity_access_rule",
    metadata,
    key(),
    Column("user_id", Text, ForeignKey("identity_user.id", ondelete="CASCADE"), nullable=False),
    text("service"),
    text("method"),
    text("path"),
    when("created_at"),
    UniqueConstraint("user_id", "service", "method", "path"),
)
