"""With which projects an image is shared."""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, Index, Table, Text

from nephos.kernel.db.schema import metadata, text, when

member = Table(
    "image_member",
    metadata,
    Column("image_id", Text, ForeignKey("image.id", ondelete="CASCADE"), primary_key=True),
    Column("member_id", Text, primary_key=True),
    text("status"),
    when("created_at"),
    when("updated_at"),
    Index("ix_image_member_member", "member_id", "status"),
)
