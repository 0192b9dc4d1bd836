"""What the network service remembers of hosts."""

from __future__ import annotations

from sqlalchemy import Table

from nephos.kernel.db.schema import boolean, key, metadata, text

host = Table(
    "network_host",
    metadata,
    key(),
    text("tunnel_address", null=True),
)
"""`tunnel_address` is the one that the other hosts were told."""

agent = Table(
    "network_agent",
    metadata,
    key(),
    boolean("admin_state_up", default=True),
    text("description", default=""),
)
"""What an operator set of an agent; the rest of an agent is derived from its host."""
