"""Address groups: named ranges that security group rules refer to."""

from __future__ import annotations

from sqlalchemy import Table

from nephos.kernel.db.schema import document, integer, key, metadata, text, when

address_group = Table(
    "network_address_group",
    metadata,
    key(),
    text("project_id", index=True),
    text("name"),
    text("description", default=""),
    document("addresses"),
    document("tags"),
    integer("revision", default=1),
    when("created_at"),
    when("updated_at"),
)
"""`addresses` are CIDRs in their own form, each once, in order."""
