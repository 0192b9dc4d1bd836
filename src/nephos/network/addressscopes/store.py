"""Address scopes: subnet pools whose ranges do not overlap."""

from __future__ import annotations

from sqlalchemy import Table

from nephos.kernel.db.schema import integer, key, metadata, text, when

address_scope = Table(
    "network_address_scope",
    metadata,
    key(),
    text("project_id", index=True),
    text("name"),
    integer("version"),
    integer("revision", default=1),
    when("created_at"),
    when("updated_at"),
)
"""`version` is the IP version, 4 or 6. Whom it is shared with is policies' to say."""
