"""What operators said of agents. The agents themselves are derived from hosts."""

from __future__ import annotations

from sqlalchemy import Column, Table, Text

from nephos.kernel.db.schema import boolean, document, key, metadata, text

host = Table(
    "network_host",
    metadata,
    key(),
    text("tunnel_address", null=True),
    text("tunnel_fallback", null=True),
    document("physical"),
)
"""Of a host, what the other hosts were told."""

agent = Table(
    "network_agent", metadata, key(), boolean("admin_state_up", default=True), text("description", default="")
)

binding = Table(
    "network_dhcp_binding",
    metadata,
    Column("host_id", Text, primary_key=True),
    Column("network_id", Text, primary_key=True, index=True),
    boolean("serves"),
)
"""Whether a host answers DHCP in a network, where an operator said so; else it does wherever it carries the network."""
