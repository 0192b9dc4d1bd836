"""Regions, services and endpoints."""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, Table, Text

from nephos.kernel.db.schema import boolean, document, key, metadata, text, when

region = Table(
    "identity_region",
    metadata,
    key(),
    text("description", default=""),
    text("parent_region_id", null=True, index=True),
    document("extra"),
    when("created_at"),
)

service = Table(
    "identity_service",
    metadata,
    key(),
    text("type", index=True),
    text("name", null=True),
    boolean("enabled", default=True),
    document("extra"),
    when("created_at"),
)

endpoint = Table(
    "identity_endpoint",
    metadata,
    key(),
    Column("service_id", Text, ForeignKey("identity_service.id", ondelete="CASCADE"), nullable=False, index=True),
    text("region_id", null=True, index=True),
    text("interface"),
    text("url"),
    boolean("enabled", default=True),
    document("extra"),
    when("created_at"),
)
"""`url` may hold `$(url)s`, the address that the cloud is reached by, and the asker's `$(project_id)s`."""
