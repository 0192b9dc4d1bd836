"""Subnet pools: prefixes that subnets are cut from."""

from __future__ import annotations

from sqlalchemy import Table

from nephos.kernel.db.schema import boolean, document, integer, key, metadata, text, when

subnetpool = Table(
    "network_subnetpool",
    metadata,
    key(),
    text("project_id", index=True),
    text("name"),
    text("description", default=""),
    document("prefixes"),
    integer("version"),
    integer("default_prefixlen"),
    integer("min_prefixlen"),
    integer("max_prefixlen"),
    integer("default_quota", null=True),
    boolean("shared"),
    boolean("is_default"),
    text("address_scope_id", null=True, index=True),
    document("tags"),
    integer("revision", default=1),
    when("created_at"),
    when("updated_at"),
)
"""`shared` is of pools from before there were policies for them; newer ones have a policy for all projects."""
