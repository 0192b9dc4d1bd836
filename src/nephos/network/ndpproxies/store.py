"""NDP proxies: IPv6 addresses of guests that a router's gateway answers for."""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, Table, UniqueConstraint

from nephos.kernel.db.schema import integer, key, metadata, text, when
from nephos.network.routers.store import router

ndp_proxy = Table(
    "network_ndp_proxy",
    metadata,
    key(),
    text("project_id", index=True),
    text("name"),
    text("description", default=""),
    Column(
        "router_id", router.c.id.type, ForeignKey("network_router.id", ondelete="CASCADE"), nullable=False, index=True
    ),
    text("port_id", index=True),
    text("address"),
    integer("revision", default=1),
    when("created_at"),
    when("updated_at"),
    UniqueConstraint("router_id", "address"),
)
