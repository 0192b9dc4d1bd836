"""The table of server groups. Who is in one stands in the server's row."""

from __future__ import annotations

from sqlalchemy import Column, Integer, Table, UniqueConstraint

from nephos.kernel.db.schema import document, metadata, text, when

group = Table(
    "compute_server_group",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    text("id"),
    text("project_id", index=True),
    text("user_id"),
    text("name"),
    text("policy"),
    document("rules"),
    when("created_at"),
    UniqueConstraint("id"),
)
