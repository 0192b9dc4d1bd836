"""The keys of tokens, credentials and receipts, one set a kind, sealed with the cloud's master key."""

from __future__ import annotations

from sqlalchemy import Column, String, Table, UniqueConstraint

from nephos.kernel.db.schema import integer, key, metadata, text, when

signing_key = Table(
    "identity_key",
    metadata,
    key(),
    Column("kind", String(32), nullable=False),
    integer("number"),
    text("sealed"),
    when("created_at"),
    when("primary_at", null=True),
    when("retired_at", null=True),
    UniqueConstraint("kind", "number"),
)
"""`number` 0 is staged, the highest is primary, those between only verify. It was primary from `primary_at` to
`retired_at`."""
