"""The networks of hosts as providers: below a host one for its packets, and below that one for each physical network, as
Neutron's agents are. They are as the host says when it arrives; ratios and reserves that an operator set stay."""

from __future__ import annotations

from sqlalchemy import bindparam, delete, or_, select, update

from nephos.hosts import actions as hosts
from nephos.hosts.wire import Seen
from nephos.kernel.db.engine import Tx
from nephos.network.qos import needs
from nephos.placement.allocations.store import allocation
from nephos.placement.inventories import actions as inventories
from nephos.placement.inventories.actions import Inventory
from nephos.placement.inventories.store import inventory
from nephos.placement.providers.store import aggregate, provider
from nephos.placement.traits import actions as traits
from nephos.placement.traits.store import provider_trait

_mine = (
    select(provider.c.id, provider.c.parent_id)
    .where(or_(provider.c.id == bindparam("top"), provider.c.parent_id == bindparam("top")))
    .order_by(provider.c.id == bindparam("top"))
)
"""The providers of a host's networks, the one above the others last."""


def keep(tx: Tx, seen: Seen) -> None:
    """A host arrived: its networks are providers of what it says."""
    host = hosts.get(tx, seen.id)
    wanted = needs.provided(host.network_capacity or {})
    top = needs.provider_id(host.id, "")
    if wanted and wanted[0].name:
        wanted = [needs.Provided("", (needs.vnic_trait("normal"),), {}), *wanted]
    known = [row.id for row in tx.all(_mine, {"top": top})]
    for each in wanted:
        key = needs.provider_id(host.id, each.name)
        if key not in known:
            tx.insert(
                provider,
                {
                    "id": key,
                    "name": f"{host.name}:network" + (f":{each.name}" if each.name else ""),
                    "parent_id": top if each.name else host.id,
                    "root_id": host.id,
                    "generation": 0,
                    "created_at": tx.now,
                    "updated_at": tx.now,
                },
            )
            for name in each.traits:
                traits.create(tx, name)
            traits.replace(tx, key, each.traits)
        _have(tx, key, dict(each.resources))
    left = {needs.provider_id(host.id, each.name) for each in wanted}
    for key in known:
        if key not in left:
            _remove(tx, key)


def _have(tx: Tx, key: str, resources: dict[str, int]) -> None:
    before = {row.resource_class: row for row in tx.all(select(inventory).where(inventory.c.provider_id == key))}
    changed = False
    for name, total in resources.items():
        old = before.pop(name, None)
        if old is None or old.total != total:
            was = inventories.of_row(old) if old is not None else Inventory(total)
            inventories.write(tx, key, name, was._replace(total=total, max_unit=total))
            changed = True
    for name in before:
        inventories.erase(tx, key, name)
    if changed or before:
        tx.execute(update(provider).where(provider.c.id == key).values(generation=provider.c.generation + 1))


def _remove(tx: Tx, key: str) -> None:
    """It gives nothing more; what servers have of it is theirs until they go, and so long it stays."""
    _have(tx, key, {})
    used = select(allocation.c.consumer_id).where(allocation.c.provider_id == key).limit(1)
    below = select(provider.c.id).where(provider.c.parent_id == key).limit(1)
    if tx.first(used) is None and tx.first(below) is None:
        for table in (provider_trait, aggregate):
            tx.execute(delete(table).where(table.c.provider_id == key))
        tx.execute(delete(provider).where(provider.c.id == key))
