"""Routers. Their legs are ports: of device owner network:router_interface and network:router_gateway."""

from __future__ import annotations

from sqlalchemy import Table

from nephos.kernel.db.schema import boolean, document, integer, key, metadata, text, when

router = Table(
    "network_router",
    metadata,
    key(),
    text("project_id", index=True),
    text("name"),
    text("description", default=""),
    boolean("admin_state_up", default=True),
    text("host_id", null=True, index=True),
    text("gateway_network_id", null=True, index=True),
    text("gateway_port_id", null=True),
    boolean("snat", default=True),
    document("routes"),
    document("zone_hints"),
    document("tags"),
    integer("revision", default=1),
    when("created_at"),
    when("updated_at"),
)
"""`host_id` is the host that carries it, chosen when it has its first leg."""
