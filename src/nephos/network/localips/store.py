"""Local IPs: addresses that lead, on each host, to a port of that very host."""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, Table

from nephos.kernel.db.schema import integer, key, metadata, text, when
from nephos.network.ports.store import port

local_ip = Table(
    "network_local_ip",
    metadata,
    key(),
    text("project_id", index=True),
    text("name"),
    text("description", default=""),
    Column("local_port_id", port.c.id.type, ForeignKey("network_port.id"), nullable=False, index=True),
    text("network_id", index=True),
    text("address"),
    text("ip_mode"),
    integer("revision", default=1),
    when("created_at"),
    when("updated_at"),
)
"""`local_port_id` is the port that has the address, and where it leads on hosts without an association."""

association = Table(
    "network_local_ip_association",
    metadata,
    Column("local_ip_id", local_ip.c.id.type, ForeignKey("network_local_ip.id", ondelete="CASCADE"), primary_key=True),
    Column("id", port.c.id.type, ForeignKey("network_port.id", ondelete="CASCADE"), primary_key=True, index=True),
    text("fixed_address"),
)
"""`id` is the port that the local IP leads to on the port's host, at its `fixed_address`."""

TRANSLATE, PASSTHROUGH = "translate", "passthrough"
