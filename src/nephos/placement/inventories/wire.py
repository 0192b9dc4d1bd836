"""Inventory bodies."""

from __future__ import annotations

from typing import Annotated

import msgspec

from nephos.placement import wire
from nephos.placement.inventories.actions import Inventory

_Positive = Annotated[int, msgspec.Meta(ge=1, le=wire.MOST)]


class Record(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """An inventory as clients send it."""

    total: _Positive
    reserved: Annotated[int, msgspec.Meta(ge=0, le=wire.MOST)] = 0
    min_unit: _Positive = 1
    max_unit: _Positive = wire.MOST
    step_size: _Positive = 1
    allocation_ratio: Annotated[float, msgspec.Meta(le=3.40282e38)] = 1.0
    resource_provider_generation: int | None = None

    def inventory(self) -> Inventory:
        return Inventory(*(getattr(self, name) for name in Inventory._fields))


class NewInventory(Record, forbid_unknown_fields=True, kw_only=True):
    resource_class: wire.ClassName


class OneInventory(Record, forbid_unknown_fields=True, kw_only=True):
    resource_provider_generation: int


class AllInventories(msgspec.Struct, forbid_unknown_fields=True):
    resource_provider_generation: int
    inventories: dict[wire.ClassName, Record]
