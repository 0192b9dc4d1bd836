"""What a domain sets of its own for the drivers behind it."""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, Table, Text

from nephos.kernel.db.schema import document, metadata

domain_option = Table(
    "identity_domain_option",
    metadata,
    Column("domain_id", Text, ForeignKey("identity_project.id", ondelete="CASCADE"), primary_key=True),
    Column("group", Text, primary_key=True),
    Column("option", Text, primary_key=True),
    document("value"),
)
