"""Ports, and the security groups on them."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, ForeignKey, Index, Table, Text, UniqueConstraint, false

from nephos.kernel.db.schema import boolean, document, integer, key, metadata, text, when

port = Table(
    "network_port",
    metadata,
    key(),
    text("project_id", index=True),
    Column("network_id", Text, ForeignKey("network_network.id"), nullable=False),
    text("name"),
    text("description", default=""),
    boolean("admin_state_up", default=True),
    text("status"),
    text("mac"),
    text("device_id", default=""),
    text("device_owner", default=""),
    text("host_id", null=True),
    integer("host_index", null=True),
    boolean("port_security_enabled", default=True),
    text("vnic_type", default="normal"),
    document("profile"),
    text("dns_name", default=""),
    document("dhcp_options"),
    document("pairs"),
    text("qos_policy_id", null=True, index=True),
    document("uncounted"),
    document("extras"),
    boolean("made_by_compute"),
    text("nic_tag", null=True),
    integer("nic_order", default=0),
    Column("deferred", Boolean, nullable=False, default=False, server_default=false()),
    text("taken_address", null=True),
    when("taken_at", null=True),
    document("learned"),
    document("rogue"),
    when("rogue_at", null=True),
    text("wiring_error", null=True),
    document("tags"),
    integer("revision", default=1),
    when("created_at"),
    when("updated_at"),
    UniqueConstraint("network_id", "mac"),
    UniqueConstraint("host_id", "host_index"),
    Index("ix_network_port_device_id", "device_id"),
    Index("ix_network_port_network_host", "network_id", "host_id"),
)
"""`taken_address` is the address that the guest really took, and `taken_at` when (S2-54). `extras` holds what only the
API reads: dns_domain, data_plane_status, propagate_uplink_status, numa_affinity_policy, hints and trusted, as set. A `deferred`
port of a routed network gets its addresses when it is bound to a host. `learned` are the (MAC, address) pairs seen
behind the port beside its own (S0-10), `rogue` the servers that were blocked there: (what, MAC, address, frames), and
when last (S3-54). `uncounted` are the kinds of minimum rules that the port's policy brought while the port was on its host:
nothing is taken for these there, as Neutron has it. `wiring_error` is why its host could not wire it."""

port_group = Table(
    "network_port_group",
    metadata,
    Column("port_id", Text, ForeignKey("network_port.id", ondelete="CASCADE"), primary_key=True),
    Column("group_id", Text, ForeignKey("network_group.id"), primary_key=True, index=True),
)

COMPUTE = "compute:"
DHCP, ROUTER, GATEWAY, FLOATING, HA, LOCAL = (
    "network:dhcp",
    "network:router_interface",
    "network:router_gateway",
    "network:floatingip",
    "network:router_ha_interface",
    "network:local_ip",
)
ACTIVE, DOWN = "ACTIVE", "DOWN"
