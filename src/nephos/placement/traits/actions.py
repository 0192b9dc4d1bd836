"""Traits: what providers are like."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from sqlalchemy import delete, select

from nephos import errors
from nephos.kernel.db.engine import Tx
from nephos.placement.traits import store

COMPUTE_NODE, COMPUTE_STATUS_DISABLED = "COMPUTE_NODE", "COMPUTE_STATUS_DISABLED"
_t, _p = store.trait, store.provider_trait


@cache
def standard() -> frozenset[str]:
    """The names that everybody means the same by."""
    import os_traits

    return frozenset(os_traits.get_traits())


def customs(tx: Tx) -> dict[str, int]:
    """Name → when it was made."""
    return {row.name: row.created_at for row in tx.execute(select(_t).order_by(_t.c.name))}


def exists(tx: Tx, name: str) -> bool:
    return name in standard() or tx.first(select(_t).where(_t.c.name == name)) is not None


def check(tx: Tx, name: str) -> None:
    """Raises NotFound."""
    if not exists(tx, name):
        raise errors.NotFound(f"No such trait(s): {name}.")


def unknown(tx: Tx, names: Iterable[str]) -> list[str]:
    """Which of these are no traits, sorted."""
    rest = set(names).difference(standard())
    return sorted(rest - set(tx.column(select(_t.c.name).where(_t.c.name.in_(rest)))) if rest else rest)


def create(tx: Tx, name: str) -> bool:
    """Answers whether it is new."""
    if exists(tx, name):
        return False
    tx.insert(_t, {"name": name, "created_at": tx.now})
    return True


def remove(tx: Tx, name: str) -> None:
    """Raises NotFound, BadRequest for a standard trait, Conflict while a provider has it."""
    check(tx, name)
    if name in standard():
        raise errors.BadRequest(f"Cannot delete standard trait {name}.")
    if tx.first(select(_p).where(_p.c.trait == name).limit(1)) is not None:
        raise errors.Conflict(f"The trait {name} is in use by a resource provider.")
    tx.execute(delete(_t).where(_t.c.name == name))


def associated(tx: Tx) -> set[str]:
    """Traits that some provider has by the API; what hosts have by themselves is added by `providers`."""
    return set(tx.column(select(_p.c.trait).distinct()))


def replace(tx: Tx, provider_id: str, names: Iterable[str]) -> None:
    tx.execute(delete(_p).where(_p.c.provider_id == provider_id))
    tx.insert(_p, [{"provider_id": provider_id, "trait": name} for name in sorted(set(names))])
