"""Claim capacity, give it back, count it. Capacity is counted from the rows in the transaction that claims it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from sqlalchemy import bindparam, case, delete, func, select, update

from nephos import errors
from nephos.hosts import store as hosts
from nephos.kernel.db.engine import Tx
from nephos.placement.allocations import store
from nephos.placement.inventories import actions as inventories
from nephos.placement.inventories.store import inventory
from nephos.placement.providers.store import provider
from nephos.settings import Compute

_a, _h, _p = store.allocation, hosts.host, provider

_others = (
    select(
        _a.c.resource_class,
        func.sum(case((_a.c.consumer_id == bindparam("consumer"), 0), else_=_a.c.used)).label("used"),
        func.max(case((_a.c.consumer_id == bindparam("consumer"), 1), else_=0)).label("mine"),
    )
    .where(_a.c.provider_id == bindparam("host"))
    .group_by(_a.c.resource_class)
)
_drop = delete(_a).where(
    _a.c.consumer_id == bindparam("consumer"),
    _a.c.provider_id == bindparam("host"),
    _a.c.resource_class == bindparam("class_name"),
)
_bump = (
    update(_h)
    .where(_h.c.id == bindparam("host"), _h.c.generation == bindparam("seen"))
    .values(generation=_h.c.generation + 1)
)
_free = update(_h).where(_h.c.id == bindparam("host")).values(generation=_h.c.generation + 1)
_below = select(_p.c.name, _p.c.generation).where(_p.c.id == bindparam("host"))
_inventories = select(inventory).where(inventory.c.provider_id == bindparam("host"))
_bump_below = (
    update(_p)
    .where(_p.c.id == bindparam("host"), _p.c.generation == bindparam("seen"))
    .values(generation=_p.c.generation + 1)
)
_free_below = update(_p).where(_p.c.id == bindparam("host")).values(generation=_p.c.generation + 1)
_used = select(_a.c.provider_id, _a.c.resource_class, func.sum(_a.c.used).label("used")).group_by(
    _a.c.provider_id, _a.c.resource_class
)
_by_project = (
    select(_a.c.resource_class, func.sum(_a.c.used).label("used"))
    .where(_a.c.project_id == bindparam("project"))
    .group_by(_a.c.resource_class)
)


class Claim(NamedTuple):
    """What a consumer (a server, by its id) wants of a host. `resources` maps resource classes to amounts; zeros are
    left out."""

    consumer_id: str
    host_id: str
    resources: Mapping[str, int]
    project_id: str
    user_id: str
    consumer_type: str = "INSTANCE"


def claim(tx: Tx, overcommit: Compute, wanted: Claim) -> None:
    """Take capacity of a host for a consumer; `overcommit` is the setting `compute`.

    Again for the same consumer and host replaces what it had there. The host's generation is swapped, so of two claims
    that saw the same capacity one loses. Raises Conflict naming every class that is short, or that the host is gone or
    was changed meanwhile; then nothing was taken.
    """
    known = inventories.of_host(tx, wanted.host_id, overcommit)
    if known is None:
        raise errors.Conflict(f"Host {wanted.host_id} does not exist any more.", code="placement.undefined_code")
    usage = {row.resource_class: row for row in tx.execute(_others, _names(wanted))}
    amounts = {name: amount for name, amount in wanted.resources.items() if amount}
    short: list[str] = []
    for name, amount in amounts.items():
        of_class = known.inventories.get(name)
        used = int(usage[name].used) if name in usage else 0
        reason = of_class.refusal(amount, used) if of_class else "the host has none"
        if reason:
            short.append(f"{name}: {reason}")
    if short:
        raise errors.Conflict(
            f"Host {known.name} has not enough for {wanted.consumer_id}: {'; '.join(short)}.",
            code="placement.undefined_code",
            detail={"short": short},
        )
    if not tx.execute(_bump, {"host": wanted.host_id, "seen": known.generation}).rowcount:
        raise errors.Conflict(
            f"Host {known.name} was changed by another request at the same time.", code="placement.concurrent_update"
        )
    if amounts:
        tx.upsert(
            _a,
            [_row(tx, wanted, name, amount) for name, amount in amounts.items()],
            key=("consumer_id", "provider_id", "resource_class"),
            put=("used", "project_id", "user_id", "updated_at"),
            count=("consumer_generation",),
        )
    for name, row in usage.items():
        if row.mine and name not in amounts:
            tx.execute(_drop, {**_names(wanted), "class_name": name})


def claim_below(tx: Tx, wanted: Claim) -> None:
    """Take resources of a provider below a host, which `host_id` names here, for a consumer that has none of it yet.

    Raises Conflict naming the classes that are short, or that somebody else changed it.
    """
    keys = _names(wanted)
    below = tx.first(_below, keys)
    have = {row.resource_class: row for row in tx.execute(_inventories, keys)}
    usage = {row.resource_class: int(row.used) for row in tx.execute(_others, keys)}
    short = []
    for name, amount in wanted.resources.items():
        of_class = inventories.of_row(have[name]) if name in have else None
        reason = of_class.refusal(amount, usage.get(name, 0)) if of_class else "it has none"
        if reason:
            short.append(f"{name}: {reason}")
    if below is None or short:
        name = below.name if below is not None else wanted.host_id
        raise errors.Conflict(
            f"{name} has not enough for {wanted.consumer_id}: {'; '.join(short) or 'it is gone'}.",
            code="placement.undefined_code",
        )
    if not tx.execute(_bump_below, {**keys, "seen": below.generation}).rowcount:
        raise errors.Conflict(
            f"{below.name} was changed by another request at the same time.", code="placement.concurrent_update"
        )
    tx.insert(_a, [_row(tx, wanted, name, amount) for name, amount in wanted.resources.items()])


def release_below(tx: Tx, consumer_id: str, host_id: str) -> None:
    """Give back what a consumer has of providers below a host."""
    below = select(_p.c.id).where(_p.c.root_id == host_id)
    taken = delete(_a).where(_a.c.consumer_id == consumer_id, _a.c.provider_id.in_(below))
    for provider_id in sorted(set(tx.column(taken.returning(_a.c.provider_id)))):
        tx.execute(_free_below, {"host": provider_id})


def release(tx: Tx, consumer_id: str, host_id: str | None = None) -> None:
    """Give back what a consumer has, everywhere or on one host. A consumer that has nothing is no error."""
    of_consumer = _a.c.consumer_id == consumer_id
    chosen = of_consumer if host_id is None else of_consumer & (_a.c.provider_id == host_id)
    providers = set(tx.column(delete(_a).where(chosen).returning(_a.c.provider_id)))
    for provider_id in sorted(providers):
        if not tx.execute(_free, {"host": provider_id}).rowcount:
            tx.execute(_free_below, {"host": provider_id})


def transfer(tx: Tx, consumer_id: str, other: str, *, consumer_type: str = "INSTANCE") -> None:
    """What a consumer has is another's, who has nothing yet. No host's use changes."""
    tx.execute(
        update(_a)
        .where(_a.c.consumer_id == consumer_id)
        .values(consumer_id=other, consumer_type=consumer_type, consumer_generation=1, updated_at=tx.now)
    )


def usage_of_hosts(tx: Tx) -> dict[str, dict[str, int]]:
    """host id → resource class → amount in use, for every host that has any, in one query."""
    found: dict[str, dict[str, int]] = {}
    for row in tx.execute(_used):
        found.setdefault(row.provider_id, {})[row.resource_class] = int(row.used)
    return found


def usage_of_project(tx: Tx, project_id: str) -> dict[str, int]:
    """resource class → amount in use by a project's consumers."""
    return {row.resource_class: int(row.used) for row in tx.execute(_by_project, {"project": project_id})}


def allocations_of(tx: Tx, consumer_ids: Iterable[str]) -> dict[str, dict[str, dict[str, int]]]:
    """consumer id → host id → resource class → amount, for the consumers that have any, in one query."""
    found: dict[str, dict[str, dict[str, int]]] = {}
    chosen = select(_a.c.consumer_id, _a.c.provider_id, _a.c.resource_class, _a.c.used).where(
        _a.c.consumer_id.in_(list(consumer_ids))
    )
    for row in tx.execute(chosen):
        found.setdefault(row.consumer_id, {}).setdefault(row.provider_id, {})[row.resource_class] = int(row.used)
    return found


def consumers(tx: Tx) -> set[str]:
    """Every consumer that has an allocation, for `audit`."""
    return set(tx.column(select(_a.c.consumer_id).distinct()))


def _names(wanted: Claim) -> dict[str, str]:
    return {"consumer": wanted.consumer_id, "host": wanted.host_id}


def _row(tx: Tx, wanted: Claim, name: str, amount: int) -> dict[str, object]:
    return {
        "consumer_id": wanted.consumer_id,
        "provider_id": wanted.host_id,
        "resource_class": name,
        "used": amount,
        "project_id": wanted.project_id,
        "user_id": wanted.user_id,
        "consumer_type": wanted.consumer_type,
        "consumer_generation": 1,
        "created_at": tx.now,
        "updated_at": tx.now,
    }
