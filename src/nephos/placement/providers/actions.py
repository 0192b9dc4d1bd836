"""Resource providers: the hosts, counted from the ledger, and what operators added by the API."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import msgspec
from sqlalchemy import delete, func, select, update

from nephos import errors
from nephos.hosts import store as hosts
from nephos.kernel.db.engine import Tx
from nephos.placement import wire
from nephos.placement.allocations.store import allocation
from nephos.placement.inventories import actions as inventories
from nephos.placement.inventories.actions import Inventory
from nephos.placement.inventories.store import inventory
from nephos.placement.providers import store
from nephos.placement.traits import actions as traits
from nephos.placement.traits.store import provider_trait
from nephos.settings import Compute

_h, _p, _a, _i, _t, _g = hosts.host, store.provider, allocation, inventory, provider_trait, store.aggregate


class Provider(msgspec.Struct):
    """A provider with all that is known of it. `used` are amounts by resource class."""

    id: str
    name: str
    generation: int
    created_at: int
    updated_at: int
    parent_id: str | None
    root_id: str
    is_host: bool
    inventories: dict[str, Inventory]
    used: dict[str, int]
    traits: set[str]
    aggregates: set[str]


def load(tx: Tx, overcommit: Compute, ids: Collection[str] | None = None) -> dict[str, Provider]:
    """Providers by id, in the order of their making; all of them without `ids`. Six queries."""

    def of(table: Any, column: Any) -> Any:
        chosen = select(table)
        return chosen if ids is None else chosen.where(column.in_(list(ids)))

    found = {row.id: _host(row, overcommit) for row in tx.execute(of(_h, _h.c.id).order_by(_h.c.number))}
    for row in tx.execute(of(_p, _p.c.id).order_by(_p.c.created_at, _p.c.name)):
        found[row.id] = Provider(
            *(row.id, row.name, row.generation, row.created_at, row.updated_at, row.parent_id, row.root_id, False),
            *({}, {}, set(), set()),
        )
    for row in tx.execute(of(_i, _i.c.provider_id)):
        if row.provider_id in found:
            found[row.provider_id].inventories[row.resource_class] = inventories.of_row(row)
    usage = select(_a.c.provider_id, _a.c.resource_class, func.sum(_a.c.used).label("used"))
    usage = usage if ids is None else usage.where(_a.c.provider_id.in_(list(ids)))
    for row in tx.execute(usage.group_by(_a.c.provider_id, _a.c.resource_class)):
        if row.provider_id in found:
            found[row.provider_id].used[row.resource_class] = int(row.used)
    for row in tx.execute(of(_t, _t.c.provider_id)):
        if row.provider_id in found:
            found[row.provider_id].traits.add(row.trait)
    for row in tx.execute(of(_g, _g.c.provider_id)):
        if row.provider_id in found:
            found[row.provider_id].aggregates.add(row.aggregate_id)
    return found


def _host(row: Any, overcommit: Compute) -> Provider:
    own = {traits.COMPUTE_NODE, traits.COMPUTE_STATUS_DISABLED} if row.disabled else {traits.COMPUTE_NODE}
    return Provider(
        *(row.id, row.name, row.generation, row.created_at, row.updated_at, None, row.id, True),
        *(inventories.counted(row, overcommit), {}, own, set()),
    )


def get(tx: Tx, overcommit: Compute, provider_id: str) -> Provider:
    """Raises NotFound."""
    found = load(tx, overcommit, (provider_id,)).get(provider_id)
    if found is None:
        raise errors.NotFound(f"No resource provider with uuid {provider_id} found")
    return found


def bump(tx: Tx, provider: Provider) -> None:
    """Swap the generation, so that of two who saw the same provider one loses. Raises Conflict."""
    table = _h if provider.is_host else _p
    changed = tx.execute(
        update(table)
        .where(table.c.id == provider.id, table.c.generation == provider.generation)
        .values(generation=table.c.generation + 1, updated_at=tx.now)
    )
    if not changed.rowcount:
        raise errors.Conflict(
            "Update conflict: Another thread concurrently updated the resource provider data. Please retry your update",
            code=wire.CONCURRENT_UPDATE,
        )
    provider.generation += 1


def check_generation(provider: Provider, given: int) -> None:
    """Raises Conflict when a client saw another generation."""
    if provider.generation != given:
        raise errors.Conflict(
            "resource provider generation conflict: Resource provider's generation already changed. "
            "Please update the generation and try again.",
            code=wire.CONCURRENT_UPDATE,
        )


def create(tx: Tx, overcommit: Compute, provider_id: str, name: str, parent_id: str | None) -> None:
    """Raises Conflict when id or name are taken, BadRequest for a parent that is not there."""
    _check_free(tx, name, provider_id)
    root_id = provider_id
    if parent_id is not None:
        root_id = _parent(tx, overcommit, provider_id, parent_id).root_id
    tx.insert(
        _p,
        {
            "id": provider_id,
            "name": name,
            "parent_id": parent_id,
            "root_id": root_id,
            "generation": 0,
            "created_at": tx.now,
            "updated_at": tx.now,
        },
    )


def _check_free(tx: Tx, name: str, provider_id: str | None) -> None:
    for table in (_h, _p):
        for column, value in ((table.c.id, provider_id), (table.c.name, name)):
            if value is not None and tx.first(select(table.c.id).where(column == value)) is not None:
                what = "uuid" if column is table.c.id else "name"
                raise errors.Conflict(
                    f"Conflicting resource provider {what}: {value} already exists.", code=wire.DUPLICATE_NAME
                )


def _parent(tx: Tx, overcommit: Compute, provider_id: str, parent_id: str) -> Provider:
    if parent_id == provider_id:
        raise errors.BadRequest(
            f"Unable to save resource provider {provider_id}: creating loop in the provider tree is not allowed. "
            "The parent provider UUID cannot be same as UUID."
        )
    try:
        return get(tx, overcommit, parent_id)
    except errors.NotFound as missing:
        raise errors.BadRequest(
            f"Unable to save resource provider {provider_id}: parent provider UUID does not exist: {parent_id}."
        ) from missing


def change(
    tx: Tx, overcommit: Compute, provider: Provider, name: str, parent_id: str | None, *, reparent: bool
) -> None:
    """Rename a provider and give it a parent; `reparent` allows to change or take away one that it has.

    Raises Conflict when the name is taken; BadRequest for a host, which is what it is, and for a parent that is not
    there, is below the provider, or may not be changed.
    """
    if provider.is_host:
        if (name, parent_id) != (provider.name, None):
            raise errors.BadRequest(
                f"Unable to save resource provider {provider.id}: it is a compute host, which has its name from there."
            )
        return
    if name != provider.name:
        _check_free(tx, name, None)
    root_id = provider.root_id
    if parent_id != provider.parent_id:
        root_id = _reparent(tx, overcommit, provider, parent_id, reparent)
    tx.execute(
        update(_p)
        .where(_p.c.id == provider.id)
        .values(name=name, parent_id=parent_id, root_id=root_id, updated_at=tx.now)
    )
    provider.name, provider.parent_id, provider.root_id, provider.updated_at = name, parent_id, root_id, tx.now


def _reparent(tx: Tx, overcommit: Compute, provider: Provider, parent_id: str | None, allowed: bool) -> str:
    if parent_id is None and not allowed:
        raise errors.BadRequest(
            f"Unable to save resource provider {provider.id}: un-parenting a provider is not currently allowed."
        )
    parent = None if parent_id is None else _parent(tx, overcommit, provider.id, parent_id)
    if provider.parent_id is not None and not allowed:
        raise errors.BadRequest(
            f"Unable to save resource provider {provider.id}: re-parenting a provider is not currently allowed."
        )
    below = _subtree(tx, provider)
    if parent is not None and parent.id in below:
        raise errors.BadRequest(
            f"Unable to save resource provider {provider.id}: creating loop in the provider tree is not allowed."
        )
    root_id = provider.id if parent is None else parent.root_id
    tx.execute(update(_p).where(_p.c.id.in_(below)).values(root_id=root_id))
    return root_id


def _subtree(tx: Tx, provider: Provider) -> set[str]:
    """The provider and all below it."""
    parents = {row.id: row.parent_id for row in tx.execute(select(_p).where(_p.c.root_id == provider.root_id))}
    found = {provider.id}
    while more := {each for each, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def remove(tx: Tx, overcommit: Compute, provider_id: str) -> None:
    """Raises NotFound, and Conflict while it is in use, has children, or is a host."""
    try:
        provider = get(tx, overcommit, provider_id)
    except errors.NotFound as missing:
        raise errors.NotFound(f"No resource provider with uuid {provider_id} found for delete") from missing
    if tx.first(select(_p.c.id).where(_p.c.parent_id == provider_id).limit(1)) is not None:
        raise errors.Conflict(
            f"Unable to delete parent resource provider {provider_id}: It has child resource providers.",
            code=wire.HAS_CHILDREN,
        )
    if provider.used:
        raise errors.Conflict(
            f"Unable to delete resource provider {provider_id}: Resource provider has allocations.",
            code=wire.PROVIDER_IN_USE,
        )
    if provider.is_host:
        raise errors.Conflict(
            f"Unable to delete resource provider {provider_id}: it is the compute host {provider.name}.",
            code=wire.PROVIDER_IN_USE,
        )
    for table in (_i, _t, _g):
        tx.execute(delete(table).where(table.c.provider_id == provider_id))
    tx.execute(delete(_p).where(_p.c.id == provider_id))


def set_traits(tx: Tx, provider: Provider, names: Iterable[str]) -> None:
    """Make these its traits. Raises BadRequest for one that does not exist, Conflict."""
    names = set(names)
    wrong = traits.unknown(tx, names)
    if wrong:
        raise errors.BadRequest(f"No such trait {', '.join(wrong)}")
    bump(tx, provider)
    traits.replace(tx, provider.id, names)
    own = provider.traits & {traits.COMPUTE_NODE, traits.COMPUTE_STATUS_DISABLED} if provider.is_host else set()
    provider.traits = names | own


def set_aggregates(tx: Tx, provider: Provider, ids: Iterable[str], *, swap: bool = True) -> None:
    """Make these its aggregates; `swap` also swaps the generation. Raises Conflict."""
    if swap:
        bump(tx, provider)
    provider.aggregates = set(ids)
    tx.execute(delete(_g).where(_g.c.provider_id == provider.id))
    tx.insert(_g, [{"provider_id": provider.id, "aggregate_id": each} for each in sorted(provider.aggregates)])
