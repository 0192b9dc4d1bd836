"""Resource classes: what resources are counted in."""

from __future__ import annotations

from functools import cache

from sqlalchemy import delete, select, update

from nephos import errors
from nephos.kernel.db.engine import Tx
from nephos.placement.allocations.store import allocation
from nephos.placement.classes import store
from nephos.placement.inventories.store import inventory

_c = store.resource_class


@cache
def standard() -> tuple[str, ...]:
    """The names that everybody means the same by, in their fixed order."""
    import os_resource_classes

    return tuple(os_resource_classes.STANDARDS)


def rank(name: str) -> tuple[int, str]:
    """To sort by: the standard ones in their order, then the others by name."""
    names = standard()
    return (names.index(name) if name in names else len(names), name)


def customs(tx: Tx) -> dict[str, int]:
    """Name → when it was made, in that order."""
    return {row.name: row.created_at for row in tx.execute(select(_c).order_by(_c.c.created_at, _c.c.name))}


def exists(tx: Tx, name: str) -> bool:
    return name in standard() or tx.first(select(_c).where(_c.c.name == name)) is not None


def unknown(tx: Tx, names: set[str]) -> list[str]:
    """Which of these are no resource classes, sorted."""
    rest = names.difference(standard())
    return sorted(rest - set(tx.column(select(_c.c.name).where(_c.c.name.in_(rest)))) if rest else rest)


def check(tx: Tx, name: str) -> None:
    """Raises NotFound."""
    if not exists(tx, name):
        raise errors.NotFound(f"No such resource class {name}.")


def create(tx: Tx, name: str) -> bool:
    """Answers whether it is new."""
    if exists(tx, name):
        return False
    tx.insert(_c, {"name": name, "created_at": tx.now})
    return True


def remove(tx: Tx, name: str) -> None:
    """Raises NotFound, BadRequest for a standard class, Conflict while a provider has an inventory of it."""
    check(tx, name)
    if name in standard():
        raise errors.BadRequest(f"Error in delete resource class: Cannot delete standard resource class {name}.")
    if tx.first(select(inventory).where(inventory.c.resource_class == name).limit(1)) is not None:
        raise errors.Conflict(
            f"Error in delete resource class: Cannot delete resource class {name}. Class is in use in inventory."
        )
    tx.execute(delete(_c).where(_c.c.name == name))


def rename(tx: Tx, name: str, new: str) -> None:
    """Raises NotFound, BadRequest for a standard class, Conflict when the new name is taken."""
    check(tx, name)
    if name in standard():
        raise errors.BadRequest(f"Cannot update standard resource class {name}")
    if name != new and exists(tx, new):
        raise errors.Conflict(f"Resource class already exists: {new}")
    tx.execute(update(_c).where(_c.c.name == name).values(name=new))
    for table in (inventory, allocation):
        tx.execute(update(table).where(table.c.resource_class == name).values(resource_class=new))
