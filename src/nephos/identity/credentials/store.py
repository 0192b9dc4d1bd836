"""Credentials that users keep here: EC2 keys, TOTP seeds…"""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, Table, Text

from nephos.kernel.db.schema import document, integer, key, metadata, text, when

credential = Table(
    "identity_credential",
    metadata,
    key(),
    Column("user_id", Text, ForeignKey("identity_user.id", ondelete="CASCADE"), nullable=False, index=True),
    text("project_id", null=True, index=True),
    text("type"),
    text("sealed"),
    text("key_id", null=True, index=True),
    document("extra"),
    when("created_at"),
    integer("spent", null=True),
)
"""`sealed` is the blob, encrypted with the credential key of `key_id`; None where the first release sealed it. `spent` is
the period of the last passcode of a TOTP seed that was taken."""
