"""Security groups and their rules."""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, Index, Table, Text

from nephos.kernel.db.schema import boolean, document, integer, key, metadata, text, when

group = Table(
    "network_group",
    metadata,
    key(),
    text("project_id", index=True),
    text("name"),
    text("description", default=""),
    boolean("stateful", default=True),
    text("default_of", null=True),
    document("tags"),
    integer("revision", default=1),
    when("created_at"),
    when("updated_at"),
    Index("uq_network_group_default_of", "default_of", unique=True),
)
"""`default_of` is the project whose default group it is, NULL for all others."""

rule = Table(
    "network_rule",
    metadata,
    key(),
    Column("group_id", Text, ForeignKey("network_group.id", ondelete="CASCADE"), nullable=False, index=True),
    text("project_id", index=True),
    text("description", default=""),
    text("direction"),
    integer("version"),
    text("protocol", null=True),
    integer("port_min", null=True),
    integer("port_max", null=True),
    text("remote_cidr", null=True),
    text("remote_prefix", null=True),
    text("remote_group_id", null=True, index=True),
    text("remote_address_group_id", null=True, index=True),
    document("tags"),
    integer("revision", default=1),
    when("created_at"),
    when("updated_at"),
)
