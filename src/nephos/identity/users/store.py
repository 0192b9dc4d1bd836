"""Users and the passwords they had."""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, Index, Integer, Table, Text, UniqueConstraint

from nephos.kernel.db.schema import boolean, document, integer, key, metadata, text, when

user = Table(
    "identity_user",
    metadata,
    key(),
    Column("domain_id", Text, ForeignKey("identity_project.id"), nullable=False),
    text("name"),
    boolean("enabled", default=True),
    text("default_project_id", null=True, index=True),
    text("password_hash", null=True),
    when("password_changed_at", null=True),
    when("password_expires_at", null=True),
    document("options"),
    document("extra"),
    integer("failures", default=0),
    when("failed_at", null=True),
    when("last_seen_at", null=True),
    when("revoked_before", null=True),
    when("created_at"),
    UniqueConstraint("domain_id", "name"),
    Index("ix_identity_user_name", "name"),
)
"""`failures` and `failed_at` are for lock-out; `revoked_before` is the moment up to which tokens count no more."""

password = Table(
    "identity_password",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("user_id", Text, ForeignKey("identity_user.id", ondelete="CASCADE"), nullable=False),
    text("hash"),
    when("created_at"),
    Index("ix_identity_password_user_id", "user_id"),
)
"""Hashes of former passwords, newest last; kept when the settings forbid to use one again."""
