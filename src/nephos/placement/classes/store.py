"""Resource classes that operators made; the standard ones come with os-resource-classes."""

from __future__ import annotations

from sqlalchemy import Table

from nephos.kernel.db.schema import key, metadata, when

resource_class = Table("placement_class", metadata, key("name"), when("created_at"))
