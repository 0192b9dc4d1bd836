"""What the scheduler looks at: every host, its capacity and use, as columns. Immutable; taken from the ledger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nephos.compute.aggregates import store as aggregates
from nephos.compute.servers import store as servers
from nephos.hosts import actions as hosts
from nephos.kernel import clock
from nephos.kernel.db.engine import Tx
from nephos.placement.allocations import actions as allocations
from nephos.placement.inventories import actions as inventories
from nephos.placement.providers import below
from nephos.placement.providers.below import Branch
from nephos.settings import Compute

VCPU, MEMORY_MB, DISK_GB = inventories.VCPU, inventories.MEMORY_MB, inventories.DISK_GB
Mask = NDArray[np.bool_]
Amounts = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Resource:
    """One resource class, a number a host: total as installed, capacity with overcommit, and the most one server may have."""

    total: Amounts
    capacity: Amounts
    most: Amounts
    used: Amounts

    @property
    def free(self) -> Amounts:
        return self.capacity - self.used


@dataclass(frozen=True, slots=True)
class Snapshot:
    """`facts` are what a host says of itself, `aggregates` the metadata of those it is in; `zones` by `zone`'s numbers."""

    ids: tuple[str, ...]
    names: tuple[str, ...]
    up: Mask
    enabled: Mask
    zone: NDArray[np.int32]
    zones: tuple[str, ...]
    resources: Mapping[str, Resource]
    servers: Amounts
    facts: tuple[Mapping[str, Any], ...]
    aggregates: tuple[tuple[Mapping[str, str], ...], ...]
    position: Mapping[str, int] = field(default_factory=dict)
    """host id → its place in the columns."""
    branches: Mapping[str, Sequence[Branch]] = field(default_factory=dict)
    """host id → the providers below it."""

    def __len__(self) -> int:
        return len(self.ids)

    def zone_of(self, at: int) -> str:
        return self.zones[int(self.zone[at])]

    def using(self, at: int, amounts: Mapping[str, int]) -> Snapshot:
        """The same with so much more used on one host."""
        changed = dict(self.resources)
        for name, amount in amounts.items():
            if amount and name in changed:
                used = changed[name].used.copy()
                used[at] += amount
                changed[name] = replace(changed[name], used=used)
        count = self.servers.copy()
        count[at] += 1
        return replace(self, resources=changed, servers=count)


def take(tx: Tx, settings: Compute) -> Snapshot:
    """Read the ledger: six queries, whatever the number of hosts, or nine where hosts have networks as providers."""
    rows = hosts.all_hosts(tx)
    providers = inventories.of_hosts(tx, settings)
    usage = allocations.usage_of_hosts(tx)
    grouped = aggregates.metadata_of_hosts(tx)
    counts = servers.counts_by_host(tx)
    names = [zone_of(grouped.get(row.id, ()), settings.zone) for row in rows]
    zones = tuple(sorted(set(names)))
    number = {zone: at for at, zone in enumerate(zones)}
    return Snapshot(
        ids=tuple(row.id for row in rows),
        names=tuple(row.name for row in rows),
        up=np.array([hosts.up(row, tx.now) for row in rows], dtype=np.bool_),
        enabled=np.array([not row.disabled for row in rows], dtype=np.bool_),
        zone=np.array([number[name] for name in names], dtype=np.int32),
        zones=zones,
        resources={name: _resource(name, rows, providers, usage) for name in (VCPU, MEMORY_MB, DISK_GB)},
        servers=np.array([counts.get(row.id, 0) for row in rows], dtype=np.int64),
        facts=tuple(facts_of(row) for row in rows),
        aggregates=tuple(tuple(grouped.get(row.id, ())) for row in rows),
        position={row.id: at for at, row in enumerate(rows)},
        branches=below.of_hosts(tx),
    )


def zone_of(grouped: Any, default: str) -> str:
    for each in grouped:
        zone = each.get(aggregates.ZONE)
        if zone:
            return str(zone)
    return default


def facts_of(row: Any) -> Mapping[str, Any]:
    """What capability and image property filters compare with."""
    about = dict(row.cpu_info or {})
    return about | {
        "cpu_info": about,
        "hypervisor_type": row.hypervisor_type or "",
        "hypervisor_version": row.hypervisor_version,
        "hypervisor_hostname": row.name,
        "host": row.name,
    }


def _resource(name: str, rows: Any, providers: Mapping[str, Any], usage: Mapping[str, Mapping[str, int]]) -> Resource:
    total, capacity, most, used = [], [], [], []
    for row in rows:
        inventory = providers[row.id].inventories.get(name) if row.id in providers else None
        total.append(inventory.total if inventory else 0)
        capacity.append(inventory.capacity if inventory else 0)
        most.append(min(inventory.max_unit, inventory.total) if inventory else 0)
        used.append(usage.get(row.id, {}).get(name, 0))
    return Resource(*(np.array(column, dtype=np.int64) for column in (total, capacity, most, used)))


class Cache:
    """The last snapshot, with what this server has claimed since. It is only a hint: the ledger decides at the claim.

    A snapshot is used for a second, or for fifty times as long as it took to take, so that taking it costs at most a
    fiftieth of the time however many hosts there are.
    """

    SECONDS = 1.0

    def __init__(self) -> None:
        self._snapshot: Snapshot | None = None
        self._until = 0.0

    def get(self, tx: Tx, settings: Compute, *, fresh: bool = False) -> tuple[Snapshot, bool]:
        """A snapshot, and whether it was taken just now."""
        now = clock.monotonic()
        if self._snapshot is not None and not fresh and now < self._until:
            return self._snapshot, False
        self._snapshot = take(tx, settings)
        end = clock.monotonic()
        self._until = end + max(self.SECONDS, 50 * (end - now))
        return self._snapshot, True

    def claimed(self, host_id: str, amounts: Mapping[str, int]) -> None:
        if self._snapshot is not None and host_id in self._snapshot.position:
            self._snapshot = self._snapshot.using(self._snapshot.position[host_id], amounts)

    def forget(self) -> None:
        """Something that it shows was changed: look anew next time."""
        self._until = 0.0
