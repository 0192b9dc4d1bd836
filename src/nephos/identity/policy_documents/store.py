"""Policy documents kept for services that ask for theirs, and which endpoint, service or region each is for."""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, Table, Text, UniqueConstraint

from nephos.kernel.db.schema import document, key, metadata, text, when

policy = Table(
    "identity_policy",
    metadata,
    key(),
    text("type"),
    text("blob"),
    document("extra"),
    when("created_at"),
)

association = Table(
    "identity_policy_association",
    metadata,
    key(),
    Column("policy_id", Text, ForeignKey("identity_policy.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("endpoint_id", Text, ForeignKey("identity_endpoint.id", ondelete="CASCADE"), nullable=True),
    Column("service_id", Text, ForeignKey("identity_service.id", ondelete="CASCADE"), nullable=True),
    Column("region_id", Text, ForeignKey("identity_region.id", ondelete="CASCADE"), nullable=True),
    UniqueConstraint("endpoint_id", "service_id", "region_id"),
)
"""For an endpoint, for a service, or for a service in a region; the newest association of a place replaces the last."""
