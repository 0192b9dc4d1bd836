"""Connection tracking helpers of routers."""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, Table, UniqueConstraint

from nephos.kernel.db.schema import integer, key, metadata, text, when
from nephos.network.routers.store import router

helper = Table(
    "network_conntrack_helper",
    metadata,
    key(),
    Column(
        "router_id", router.c.id.type, ForeignKey("network_router.id", ondelete="CASCADE"), nullable=False, index=True
    ),
    text("protocol"),
    integer("port"),
    text("helper"),
    integer("revision", default=1),
    when("created_at"),
    when("updated_at"),
    UniqueConstraint("router_id", "protocol", "port", "helper"),
)
