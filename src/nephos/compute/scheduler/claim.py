"""Choose a host and claim its capacity, in the transaction that needs it.

The snapshot proposes, the ledger decides: a claim that loses takes the next host, and a refusal is believed only of a
snapshot that was taken just now.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from nephos import errors
from nephos.compute.scheduler import filters, networks, weighers
from nephos.compute.scheduler.filters import Removed, Request
from nephos.compute.scheduler.snapshot import Cache, Snapshot
from nephos.kernel import clock
from nephos.kernel.db.engine import Tx
from nephos.placement.allocations import actions as allocations
from nephos.settings import Compute

MOST_CLAIMS = 10


class Consumer(NamedTuple):
    """For whom capacity is claimed."""

    id: str
    project_id: str
    user_id: str


class Placed(NamedTuple):
    """The host that was claimed. `filtered` and `claimed` are the moments between which each part was done."""

    host_id: str
    host_name: str
    zone: str
    removed: tuple[Removed, ...]
    hosts: int
    filtered: int
    claimed: int


def place(tx: Tx, cache: Cache, settings: Compute, request: Request, consumer: Consumer) -> Placed:
    """Raises NoValidHost with every filter that removed hosts, how many and why."""
    snapshot, fresh = cache.get(tx, settings)
    while True:
        mask, removed = filters.run(snapshot, request)
        filtered = clock.now_us()
        lost: list[str] = []
        for at in weighers.best_first(weighers.weigh(snapshot, request, mask), mask):
            host_id = snapshot.ids[at]
            try:
                _take(tx, settings, host_id, request, consumer)
            except errors.Conflict as short:
                lost.append(short.message)
                if len(lost) == MOST_CLAIMS:
                    break
                continue
            cache.forget() if request.needs else cache.claimed(host_id, request.resources)
            zone = snapshot.zone_of(at)
            return Placed(host_id, snapshot.names[at], zone, tuple(removed), len(snapshot), filtered, clock.now_us())
        if fresh:
            raise errors.NoValidHost(refusal(snapshot, removed, lost))
        snapshot, fresh = cache.get(tx, settings, fresh=True)


def _take(tx: Tx, settings: Compute, host_id: str, request: Request, consumer: Consumer) -> None:
    wanted = _claim(host_id, request.resources, consumer)
    if not request.needs:
        allocations.claim(tx, settings, wanted)
        return
    with tx.savepoint():
        allocations.claim(tx, settings, wanted)
        networks.claim(tx, host_id, request.needs, wanted)


def refusal(snapshot: Snapshot, removed: Sequence[Removed], lost: Sequence[str] = ()) -> str:
    """The whole reason why there is no host."""
    if not len(snapshot):
        return "No valid host was found. There is no compute host in this cloud."
    parts = [f"{each.filter} removed {each.hosts} ({each.why})" for each in removed]
    parts += [f"claim failed: {each}" for each in lost]
    return f"No valid host was found. Of {len(snapshot)} hosts: {'; '.join(parts)}."


def _claim(host_id: str, resources: Mapping[str, int], consumer: Consumer) -> allocations.Claim:
    return allocations.Claim(
        consumer_id=consumer.id,
        host_id=host_id,
        resources=resources,
        project_id=consumer.project_id,
        user_id=consumer.user_id,
    )
