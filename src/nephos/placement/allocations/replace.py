"""Replace all that consumers have, in one transaction: what the allocation API does. Servers use `actions.claim`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import delete, select

from nephos import errors
from nephos.kernel.db.engine import Tx
from nephos.placement import wire
from nephos.placement.allocations import store
from nephos.placement.classes import actions as classes
from nephos.placement.providers import actions as providers
from nephos.placement.providers.actions import Provider
from nephos.settings import Compute

_a = store.allocation


class Wanted(NamedTuple):
    """All that a consumer is to have: provider id → resource class → amount; empty takes everything back.

    `generation` is the one that the client saw, None for a consumer that is new; UNSET asks for no comparison.
    """

    consumer_id: str
    allocations: Mapping[str, Mapping[str, int]]
    project_id: str
    user_id: str
    consumer_type: str | msgspec.UnsetType | None = msgspec.UNSET
    generation: int | msgspec.UnsetType | None = msgspec.UNSET


def rows_of(tx: Tx, consumer_ids: Sequence[str]) -> dict[str, list[Any]]:
    """Consumer id → its rows; every id is a key."""
    found: dict[str, list[Any]] = {each: [] for each in consumer_ids}
    for row in tx.execute(select(_a).where(_a.c.consumer_id.in_(list(found)))):
        found[row.consumer_id].append(row)
    return found


def replace(tx: Tx, overcommit: Compute, wanted: Sequence[Wanted]) -> None:
    """All of it or nothing.

    Raises Conflict when a consumer has another generation or a provider has not enough; BadRequest for a provider or
    resource class that does not exist.
    """
    before = rows_of(tx, [each.consumer_id for each in wanted])
    for each in wanted:
        _check_generation(each, before[each.consumer_id])
    asked = {provider_id for each in wanted for provider_id in each.allocations}
    held = {row.provider_id for rows in before.values() for row in rows}
    known = providers.load(tx, overcommit, asked | held)
    for provider_id in sorted(asked - known.keys()):
        raise errors.BadRequest(f"Allocation for resource provider '{provider_id}' that does not exist.")
    wrong = classes.unknown(tx, {name for each in wanted for amounts in each.allocations.values() for name in amounts})
    if wrong:
        consumers = ", ".join(each.consumer_id for each in wanted)
        raise errors.BadRequest(
            f"Unable to allocate inventory for consumer {consumers}: No such resource class {wrong[0]}."
        )
    _check_room(wanted, before, known)
    for provider_id in sorted(known):
        providers.bump(tx, known[provider_id])
    tx.execute(delete(_a).where(_a.c.consumer_id.in_(list(before))))
    tx.insert(_a, [row for each in wanted for row in _rows(tx, each, before[each.consumer_id])])


def _check_generation(wanted: Wanted, rows: list[Any]) -> None:
    if wanted.generation is msgspec.UNSET:
        return
    now = rows[0].consumer_generation if rows else None
    if wanted.generation != now:
        raise errors.Conflict(
            f"consumer generation conflict - expected {'null' if now is None else now} but got {wanted.generation}",
            code=wire.CONCURRENT_UPDATE,
        )


def _check_room(wanted: Sequence[Wanted], before: Mapping[str, list[Any]], known: Mapping[str, Provider]) -> None:
    """Raises Conflict. Who takes less than before may, even of a provider that is over its capacity."""
    left = {provider_id: dict(provider.used) for provider_id, provider in known.items()}
    for rows in before.values():
        for row in rows:
            if row.provider_id in left:
                left[row.provider_id][row.resource_class] -= row.used
    for each in wanted:
        for provider_id, amounts in each.allocations.items():
            provider = known[provider_id]
            for name, amount in amounts.items():
                inventory = provider.inventories.get(name)
                if inventory is None:
                    raise errors.Conflict(
                        f"Unable to allocate inventory: Inventory for '{name}' on resource provider "
                        f"'{provider_id}' invalid."
                    )
                used = left[provider_id].get(name, 0)
                reason = inventory.refusal(amount, used)
                if reason and used + amount > inventory.capacity and used + amount <= provider.used.get(name, 0):
                    reason = inventory.refusal(amount, -amount)
                if reason:
                    raise errors.Conflict(_short(provider_id, name, amount, used, inventory.capacity, reason))
                left[provider_id][name] = used + amount


def _short(provider_id: str, name: str, amount: int, used: int, capacity: int, reason: str) -> str:
    begin = (
        f"Unable to allocate inventory: Unable to create allocation for '{name}' on resource provider '{provider_id}'."
    )
    if used + amount > capacity:
        return f"{begin} The requested amount would exceed the capacity: {reason}."
    return f"{begin} The requested amount would violate inventory constraints: {reason}."


def _rows(tx: Tx, wanted: Wanted, before: list[Any]) -> list[dict[str, Any]]:
    old = before[0] if before else None
    kind = wanted.consumer_type
    if kind is msgspec.UNSET:
        kind = old.consumer_type if old is not None else None
    return [
        {
            "consumer_id": wanted.consumer_id,
            "provider_id": provider_id,
            "resource_class": name,
            "used": amount,
            "project_id": wanted.project_id,
            "user_id": wanted.user_id,
            "consumer_type": kind,
            "consumer_generation": old.consumer_generation + 1 if old is not None else 1,
            "created_at": tx.now,
            "updated_at": tx.now,
        }
        for provider_id, amounts in wanted.allocations.items()
        for name, amount in amounts.items()
    ]
