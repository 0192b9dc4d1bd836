"""Port forwardings of floating IPs."""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, Table

from nephos.kernel.db.schema import integer, key, metadata, text, when
from nephos.network.floatingips.store import floatingip

forwarding = Table(
    "network_port_forwarding",
    metadata,
    key(),
    Column(
        "floatingip_id",
        floatingip.c.id.type,
        ForeignKey("network_floatingip.id", ondelete="CASCADE"),
        nullable=False,
        index=True,
    ),
    text("description", default=""),
    text("protocol"),
    integer("outside_first"),
    integer("outside_last"),
    text("port_id", index=True),
    text("address"),
    integer("inside_first"),
    integer("inside_last"),
    integer("revision", default=1),
    when("created_at"),
    when("updated_at"),
)
"""From the floating IP's ports `outside` to `address` of port `port_id`, its ports `inside`."""
