"""What a provider has to give, where it is not counted from the host itself."""

from __future__ import annotations

from sqlalchemy import Column, Float, Table, Text

from nephos.kernel.db.schema import integer, metadata

inventory = Table(
    "placement_inventory",
    metadata,
    Column("provider_id", Text, primary_key=True),
    Column("resource_class", Text, primary_key=True),
    integer("total"),
    integer("reserved", default=0),
    integer("min_unit", default=1),
    integer("max_unit"),
    integer("step_size", default=1),
    Column("allocation_ratio", Float, nullable=False),
)
