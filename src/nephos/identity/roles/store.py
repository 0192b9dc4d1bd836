"""Roles, and which role implies which."""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, Table, Text, UniqueConstraint

from nephos.kernel.db.schema import document, key, metadata, text, when

GLOBAL = ""
"""The domain id of a role that belongs to no domain."""

role = Table(
    "identity_role",
    metadata,
    key(),
    text("domain_id", default=GLOBAL),
    text("name"),
    text("description", null=True),
    document("options"),
    document("extra"),
    when("created_at"),
    UniqueConstraint("domain_id", "name"),
)

implied = Table(
    "identity_implied_role",
    metadata,
    Column("prior_id", Text, ForeignKey("identity_role.id", ondelete="CASCADE"), primary_key=True),
    Column("implied_id", Text, ForeignKey("identity_role.id", ondelete="CASCADE"), primary_key=True),
)
