"""Traits that operators made, and which provider has which; the standard ones come with os-traits."""

from __future__ import annotations

from sqlalchemy import Column, Table, Text

from nephos.kernel.db.schema import key, metadata, when

trait = Table("placement_trait", metadata, key("name"), when("created_at"))

provider_trait = Table(
    "placement_provider_trait",
    metadata,
    Column("provider_id", Text, primary_key=True),
    Column("trait", Text, primary_key=True, index=True),
)
