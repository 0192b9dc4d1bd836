"""Subnets, and every address that is taken of them."""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, Index, Table, Text

from nephos.kernel.db.schema import boolean, document, integer, key, metadata, text, when

subnet = Table(
    "network_subnet",
    metadata,
    key(),
    Column("network_id", Text, ForeignKey("network_network.id"), nullable=False, index=True),
    text("project_id", index=True),
    text("name"),
    text("description", default=""),
    integer("version"),
    text("cidr"),
    text("gateway", null=True),
    document("pools"),
    boolean("dhcp", default=True),
    document("dns"),
    document("routes"),
    text("ra_mode", null=True),
    text("address_mode", null=True),
    document("service_types"),
    text("pool_id", null=True, index=True),
    text("segment_id", null=True, index=True),
    integer("next", default=0),
    document("tags"),
    integer("revision", default=1),
    when("created_at"),
    when("updated_at"),
)
"""`pools` are [first, last] addresses; `next` is where the search for a free one begins, from the first of the range."""

address = Table(
    "network_address",
    metadata,
    Column("subnet_id", Text, ForeignKey("network_subnet.id"), primary_key=True),
    Column("address", Text, primary_key=True),
    integer("number", null=True),
    Column("port_id", Text, ForeignKey("network_port.id", ondelete="CASCADE"), nullable=False, index=True),
    integer("place", default=0),
    Index("ix_network_address_number", "subnet_id", "number"),
    Index("ix_network_address_address", "address"),
)
"""`number` is the distance from the start of the range, NULL beyond 2^62; `place` orders a port's addresses."""
