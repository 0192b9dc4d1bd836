"""Routers. Their legs are ports: of device owner network:router_interface, network:router_gateway and, where a router
is highly available, network:router_ha_interface."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, ForeignKey, Table, UniqueConstraint, false, select

from nephos.kernel.db.schema import boolean, document, integer, key, metadata, text, when
from nephos.network.ports.store import GATEWAY, ROUTER, port

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
    Column("ha", Boolean, nullable=False, default=False, server_default=false()),
    integer("ha_number", null=True),
    text("flavor_id", null=True),
    Column("ndp_proxy", Boolean, nullable=False, default=False, server_default=false()),
    Column("distributed", Boolean, nullable=False, default=False, server_default=false(), index=True),
    Column("ecmp", Boolean, nullable=False, default=False, server_default=false()),
)
"""`host_id` is the host that carries it, chosen when it has its first leg; of a highly available one the active host.
The gateway here is the main one; further ones are only ports. With `ecmp` they share what leaves. `ha_number` is its VRRP number in the HA network."""

router_host = Table(
    "network_router_host",
    metadata,
    Column("router_id", router.c.id.type, ForeignKey("network_router.id", ondelete="CASCADE"), primary_key=True),
    Column("host_id", router.c.id.type, primary_key=True, index=True),
    text("port_id"),
    text("state"),
    when("since"),
    integer("priority", null=True),
)
"""The hosts of a highly available router: `port_id` is its leg in the HA network there, `state` what the host said last,
since when (0: it has said nothing yet). The host with the highest `priority`, 0 to 32767, is to be the active one; where
none has any, none is preferred."""

ha_network = Table(
    "network_ha_network", metadata, key("project_id"), text("network_id"), UniqueConstraint("network_id")
)
"""The network over which the hosts of a project's highly available routers elect the active ones."""

silent_gateway = Table(
    "network_silent_gateway",
    metadata,
    Column("port_id", router.c.id.type, ForeignKey("network_port.id", ondelete="CASCADE"), primary_key=True),
    Column("address", router.c.id.type, primary_key=True),
    text("host_id"),
    when("since"),
)
"""Gateways of external subnets that do not answer on the real link when a router's leg asks for them (S2-35)."""

ACTIVE, STANDBY = "active", "standby"

standby_networks = (
    select(port.c.network_id, router_host.c.host_id)
    .join(router_host, router_host.c.router_id == port.c.device_id)
    .where(port.c.device_owner.in_([ROUTER, GATEWAY]))
)
"""(network, host) for every host that carries a network because a highly available router may become active there."""
