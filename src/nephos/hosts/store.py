"""Hosts, what changed for each, the work that waits for each, and invitations that were used or withdrawn."""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, Index, Integer, Table, Text, UniqueConstraint

from nephos.kernel.db.schema import blob, boolean, document, integer, key, metadata, text, when

host = Table(
    "host",
    metadata,
    key(),
    integer("number"),
    text("name"),
    text("public_key"),
    text("service_id"),
    text("hypervisor_type", null=True),
    integer("hypervisor_version", default=0),
    integer("vcpus", default=0),
    integer("ram_mb", default=0),
    integer("disk_gb", default=0),
    document("cpu_info"),
    text("tunnel_address", null=True),
    document("physical"),
    text("switch", null=True),
    text("tunnel_fallback", null=True),
    document("network_capacity"),
    document("trusts"),
    boolean("disabled"),
    text("disabled_reason", null=True),
    boolean("forced_down"),
    text("zone", null=True),
    integer("revision", default=0),
    integer("generation", default=0),
    when("last_seen", null=True),
    when("created_at"),
    when("updated_at"),
    UniqueConstraint("name"),
)

change = Table(
    "host_change",
    metadata,
    Column("host_id", Text, ForeignKey("host.id", ondelete="CASCADE"), primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("item_id", Text, primary_key=True),
    integer("revision"),
    Index("ix_host_change_revision", "host_id", "revision"),
)

task = Table(
    "host_task",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    text("id"),
    Column("host_id", Text, ForeignKey("host.id", ondelete="CASCADE"), nullable=False),
    text("kind"),
    document("body"),
    integer("revision"),
    when("created_at"),
    UniqueConstraint("id"),
    Index("ix_host_task_host", "host_id", "revision"),
)

question = Table(
    "host_question",
    metadata,
    key(),
    Column("host_id", Text, ForeignKey("host.id", ondelete="CASCADE"), nullable=False, index=True),
    text("kind"),
    text("item_id", default=""),
    integer("limit", null=True),
    boolean("answered"),
    blob("answer"),
    text("error", null=True),
    boolean("away"),
    when("created_at"),
)
"""A live question of one server to a host whose agent is connected to another: for seconds, see `relay`. `answer` is
msgpack; `away` tells an error of the way there from one of the host."""

invitation = Table(
    "host_invitation",
    metadata,
    key(),
    text("host"),
    when("expires_at"),
    when("used_at"),
)
