"""Who has which role on what."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, ForeignKey, Index, Table, Text

from nephos.kernel.db.schema import metadata

USER, GROUP = "user", "group"
PROJECT, DOMAIN, SYSTEM = "project", "domain", "system"
ALL = "all"
"""The one target of kind `system`."""

assignment = Table(
    "identity_assignment",
    metadata,
    Column("actor_id", Text, primary_key=True),
    Column("target_id", Text, primary_key=True),
    Column("role_id", Text, ForeignKey("identity_role.id", ondelete="CASCADE"), primary_key=True),
    Column("inherited", Boolean, primary_key=True),
    Column("actor", Text, primary_key=True),
    Column("target", Text, primary_key=True),
    Index("ix_identity_assignment_target_id", "target_id"),
    Index("ix_identity_assignment_role_id", "role_id"),
)
"""`actor` is user or group; `target` is project, domain or system; an inherited one counts below its target only."""
