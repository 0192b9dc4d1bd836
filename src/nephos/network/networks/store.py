"""Networks, and the policies that share them."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, Index, Table, UniqueConstraint, false

from nephos.kernel.db.schema import boolean, document, integer, key, metadata, text, when

network = Table(
    "network_network",
    metadata,
    key(),
    text("project_id", index=True),
    text("name"),
    text("description", default=""),
    boolean("admin_state_up", default=True),
    text("kind"),
    text("physical", null=True),
    integer("segment", null=True),
    text("segment_key", null=True),
    Column("multi", Boolean, nullable=False, default=False, server_default=false()),
    integer("mtu"),
    boolean("port_security_enabled", default=True),
    boolean("external"),
    boolean("is_default"),
    text("dns_domain", default=""),
    document("zone_hints"),
    text("qos_policy_id", null=True, index=True),
    document("rogue"),
    when("rogue_at", null=True),
    document("tags"),
    integer("revision", default=1),
    when("created_at"),
    when("updated_at"),
    UniqueConstraint("segment_key"),
    Index("ix_network_network_name", "name"),
)
"""`kind`, `physical`, `segment` and `segment_key` are those of the network's first segment; `multi` tells that it has
more. `rogue` are DHCP servers outside the cloud whose offers were blocked: (what, MAC, address, frames), and when last."""

rbac = Table(
    "network_rbac",
    metadata,
    key(),
    text("project_id", index=True),
    text("object_type"),
    text("object_id"),
    text("action"),
    text("target"),
    integer("revision", default=1),
    when("created_at"),
    when("updated_at"),
    UniqueConstraint("object_id", "action", "target"),
)
"""`target` is a project or *; `action` access_as_shared or access_as_external."""

SHARED, EXTERNAL = "access_as_shared", "access_as_external"
