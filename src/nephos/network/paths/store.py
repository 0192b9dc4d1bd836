"""The tunnels between hosts, as each host proves those to its peers."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, Integer, Table, Text

from nephos.kernel.db.schema import metadata, when

path = Table(
    "network_path",
    metadata,
    Column("host_id", Text, primary_key=True),
    Column("peer", Text, primary_key=True),
    Column("up", Boolean, nullable=False),
    Column("mtu", Integer, nullable=True),
    Column("wanted", Integer, nullable=True),
    Column("detour_up", Boolean, nullable=True),
    Column("detour_mtu", Integer, nullable=True),
    when("since"),
)
"""`peer` is the other host's tunnel address. `mtu` is the largest frame content that came through when `wanted` was the
largest that networks need; both NULL while the path is down. `detour_up` and `detour_mtu` are what was found of the
fall-back meanwhile; NULL as long as nothing was."""
