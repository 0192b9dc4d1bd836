"""The table of key pairs: a user's, whatever the project. Private halves are never kept."""

from __future__ import annotations

from sqlalchemy import Column, Integer, Table, UniqueConstraint

from nephos.kernel.db.schema import metadata, text, when

keypair = Table(
    "compute_keypair",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    text("user_id"),
    text("name"),
    text("type", default="ssh"),
    text("fingerprint"),
    text("public_key"),
    when("created_at"),
    UniqueConstraint("user_id", "name"),
)
