"""The bindings of a port beside the active one: where it is prepared to live next."""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, Table

from nephos.kernel.db.schema import document, key, metadata, text

binding = Table(
    "network_binding",
    metadata,
    Column("port_id", ForeignKey("network_port.id", ondelete="CASCADE"), primary_key=True),
    key("host_id"),
    text("vnic_type", default="normal"),
    document("profile"),
)
"""The active binding is in the port's own row."""
