"""What tokens themselves do not say: which were revoked, and when anything about identity last changed."""

from __future__ import annotations

from sqlalchemy import Column, Index, Integer, Table, Text

from nephos.kernel.db.schema import boolean, integer, metadata, when

revocation = Table(
    "identity_revocation",
    metadata,
    Column("audit_id", Text, primary_key=True),
    boolean("chain"),
    when("revoked_at"),
    when("expires_at"),
    Index("ix_identity_revocation_expires_at", "expires_at"),
)
"""One revoked token until it would have expired anyway; with `chain` those that were got with it, too."""

epoch = Table(
    "identity_epoch", metadata, Column("id", Integer, primary_key=True), integer("value"), integer("key_epoch", null=True)
)
"""One row: `value` is counted up by every change that a token's meaning depends on, `key_epoch` when keys come or go."""
