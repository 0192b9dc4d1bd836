"""What is free at the providers below hosts, for who schedules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from sqlalchemy import func, select

from nephos.kernel.db.engine import Tx
from nephos.placement.allocations.store import allocation
from nephos.placement.inventories import actions as inventories
from nephos.placement.inventories.store import inventory
from nephos.placement.providers.store import provider
from nephos.placement.traits.store import provider_trait

_below = select(provider.c.id, provider.c.root_id).where(provider.c.root_id != provider.c.id).order_by(provider.c.id)
_ids = select(provider.c.id).where(provider.c.root_id != provider.c.id)


class Branch(NamedTuple):
    """A provider below a host: what one consumer may take of it now, by resource class."""

    id: str
    traits: frozenset[str]
    free: Mapping[str, int]


def of_hosts(tx: Tx, host_id: str | None = None) -> dict[str, Sequence[Branch]]:
    """Host → the providers below it; of one host where it is named. One query where there are none, else four."""
    rows = tx.all(_below if host_id is None else _below.where(provider.c.root_id == host_id))
    if not rows:
        return {}
    used: dict[str, dict[str, int]] = {}
    usage = select(allocation.c.provider_id, allocation.c.resource_class, func.sum(allocation.c.used).label("used"))
    usage = usage.where(allocation.c.provider_id.in_(_ids))
    for row in tx.all(usage.group_by(allocation.c.provider_id, allocation.c.resource_class)):
        used.setdefault(row.provider_id, {})[row.resource_class] = int(row.used)
    free: dict[str, dict[str, int]] = {}
    for row in tx.all(select(inventory).where(inventory.c.provider_id.in_(_ids))):
        have = inventories.of_row(row)
        left = have.capacity - used.get(row.provider_id, {}).get(row.resource_class, 0)
        free.setdefault(row.provider_id, {})[row.resource_class] = min(left, have.max_unit)
    known: dict[str, set[str]] = {}
    for row in tx.all(select(provider_trait).where(provider_trait.c.provider_id.in_(_ids))):
        known.setdefault(row.provider_id, set()).add(row.trait)
    found: dict[str, list[Branch]] = {}
    for row in rows:
        branch = Branch(row.id, frozenset(known.get(row.id, ())), free.get(row.id, {}))
        found.setdefault(row.root_id, []).append(branch)
    return dict(found)
