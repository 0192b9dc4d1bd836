"""Floating IPs."""

from __future__ import annotations

from sqlalchemy import Table, UniqueConstraint

from nephos.kernel.db.schema import document, integer, key, metadata, text, when

floatingip = Table(
    "network_floatingip",
    metadata,
    key(),
    text("project_id", index=True),
    text("description", default=""),
    text("network_id", index=True),
    text("subnet_id", null=True),
    text("port_id"),
    text("address", index=True),
    text("router_id", null=True, index=True),
    text("fixed_port_id", null=True),
    text("fixed_address", null=True),
    text("status"),
    text("dns_name", default=""),
    text("dns_domain", default=""),
    document("tags"),
    integer("revision", default=1),
    when("created_at"),
    when("updated_at"),
    UniqueConstraint("fixed_port_id", "fixed_address"),
)
"""`port_id` is its own port in the external network, which holds the address."""
