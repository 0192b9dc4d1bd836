"""Flavors of routers, and the service profiles that say what a flavor is."""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, Table

from nephos.kernel.db.schema import boolean, integer, key, metadata, text, when

flavor = Table(
    "network_flavor",
    metadata,
    key(),
    text("name"),
    text("description", default=""),
    text("service_type"),
    boolean("enabled", default=True),
    integer("revision", default=1),
    when("created_at"),
    when("updated_at"),
)

profile = Table(
    "network_service_profile",
    metadata,
    key(),
    text("description", default=""),
    text("driver", default=""),
    text("metainfo", default=""),
    boolean("enabled", default=True),
    integer("revision", default=1),
    when("created_at"),
    when("updated_at"),
)

flavor_profile = Table(
    "network_flavor_profile",
    metadata,
    Column("flavor_id", flavor.c.id.type, ForeignKey("network_flavor.id", ondelete="CASCADE"), primary_key=True),
    Column("profile_id", profile.c.id.type, ForeignKey("network_service_profile.id"), primary_key=True, index=True),
)
