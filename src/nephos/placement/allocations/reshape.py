"""Move inventories and allocations between providers in one transaction: what a host's driver does when it learns to
tell parts of the host apart (POST /reshaper)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from nephos import errors
from nephos.kernel.db.engine import Tx
from nephos.placement import wire
from nephos.placement.allocations.replace import Wanted, replace
from nephos.placement.inventories import actions as inventories
from nephos.placement.inventories.actions import Inventory
from nephos.placement.providers import actions as providers
from nephos.settings import Compute


class Inventories(NamedTuple):
    """All that a provider is to have, and the generation that the client saw."""

    generation: int
    by_class: dict[str, Inventory]


def reshape(tx: Tx, overcommit: Compute, wanted: Mapping[str, Inventories], consumers: Sequence[Wanted]) -> None:
    """First what is new is added, then allocations move, then what is left over goes.

    Raises BadRequest for a provider or resource class that does not exist; Conflict when a generation moved, when a
    provider has not enough, and when what would go is in use.
    """
    known = providers.load(tx, overcommit, wanted)
    for provider_id, each in wanted.items():
        if provider_id not in known:
            raise errors.BadRequest(
                f"Resource provider {provider_id} in inventories not found: No resource provider with uuid "
                f"{provider_id} found",
                code="placement.resource_provider.not_found",
            )
        provider = known[provider_id]
        if provider.generation != each.generation:
            raise errors.Conflict(
                f"resource provider generation conflict for provider {provider_id}: actual: {provider.generation}, "
                f"given: {each.generation}",
                code=wire.CONCURRENT_UPDATE,
            )
        if each.by_class:
            providers.bump(tx, provider)
        for name, inventory in each.by_class.items():
            inventories.write(tx, provider_id, name, inventory)
    if consumers:
        replace(tx, overcommit, consumers)
    for provider_id, provider in providers.load(tx, overcommit, wanted).items():
        gone = provider.inventories.keys() - wanted[provider_id].by_class.keys()
        used = sorted(gone & provider.used.keys())
        if used:
            raise errors.Conflict(
                f"update conflict: Inventory for '{', '.join(used)}' on resource provider '{provider_id}' in use.",
                code=wire.INVENTORY_IN_USE,
            )
        providers.bump(tx, provider)
        for name in gone:
            inventories.erase(tx, provider_id, name)
