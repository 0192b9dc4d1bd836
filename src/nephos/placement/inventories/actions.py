"""Inventories: a host's are counted from what it reported, and what an operator set by the API lies over them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from sqlalchemy import bindparam, delete, select

from nephos import errors
from nephos.hosts import store as hosts
from nephos.kernel.db.engine import Tx
from nephos.placement.classes import actions as classes
from nephos.placement.inventories import store
from nephos.settings import Compute

VCPU, MEMORY_MB, DISK_GB = "VCPU", "MEMORY_MB", "DISK_GB"


class Inventory(NamedTuple):
    """How much of a resource class a provider has. Units are the class's own (MEMORY_MB: MiB, DISK_GB: GiB)."""

    total: int
    reserved: int = 0
    min_unit: int = 1
    max_unit: int = 2147483647
    step_size: int = 1
    allocation_ratio: float = 1.0

    @property
    def capacity(self) -> int:
        """What may be used in all, overcommit counted."""
        return int((self.total - self.reserved) * self.allocation_ratio)

    def refusal(self, amount: int, used: int) -> str | None:
        """Why `amount` more cannot be had beside `used`; None when it can."""
        if amount < self.min_unit:
            return f"requested {amount} is below the smallest unit {self.min_unit}"
        if amount > self.max_unit:
            return f"requested {amount} is above the largest unit {self.max_unit} of one consumer"
        if amount % self.step_size:
            return f"requested {amount} is not a multiple of {self.step_size}"
        if used + amount > self.capacity:
            return f"requested {amount}, used {used}, capacity {self.capacity}"
        return None


class Provider(NamedTuple):
    """A host as a provider of resources: `generation` is what a claim compares and swaps."""

    id: str
    name: str
    generation: int
    inventories: dict[str, Inventory]


_h, _i = hosts.host, store.inventory
_columns = (
    _h.c.id,
    _h.c.name,
    _h.c.generation,
    _h.c.vcpus,
    _h.c.ram_mb,
    _h.c.disk_gb,
    _i.c.resource_class,
    *(_i.c[name] for name in Inventory._fields),
)
_all = select(*_columns).select_from(_h.outerjoin(_i, _i.c.provider_id == _h.c.id)).order_by(_h.c.name)
_one = _all.where(_h.c.id == bindparam("host"))


def of_hosts(tx: Tx, overcommit: Compute) -> dict[str, Provider]:
    """Every host with its inventories, by host id, in one query. `overcommit` is the setting `compute`."""
    return _providers(tx.execute(_all), overcommit)


def of_host(tx: Tx, host_id: str, overcommit: Compute) -> Provider | None:
    return _providers(tx.execute(_one, {"host": host_id}), overcommit).get(host_id)


def _providers(rows: Iterable[Any], overcommit: Compute) -> dict[str, Provider]:
    found: dict[str, Provider] = {}
    for row in rows:
        provider = found.get(row.id)
        if provider is None:
            provider = found[row.id] = Provider(row.id, row.name, row.generation, counted(row, overcommit))
        if row.resource_class is not None:
            provider.inventories[row.resource_class] = of_row(row)
    return found


def of_row(row: Any) -> Inventory:
    """The inventory of a row that has its columns."""
    return Inventory(*(getattr(row, name) for name in Inventory._fields))


def counted(host: Any, overcommit: Compute) -> dict[str, Inventory]:
    """The inventories that a host row itself stands for; a class of which it has nothing is left out."""
    reserved = min(overcommit.reserved_ram_mb, host.ram_mb)
    wanted = {
        VCPU: (host.vcpus, 0, overcommit.cpu_ratio),
        MEMORY_MB: (host.ram_mb, reserved, overcommit.ram_ratio),
        DISK_GB: (host.disk_gb, 0, overcommit.disk_ratio),
    }
    return {
        name: Inventory(total, reserved=held, max_unit=total, allocation_ratio=ratio)
        for name, (total, held, ratio) in wanted.items()
        if total > 0
    }


def write(tx: Tx, provider_id: str, name: str, inventory: Inventory) -> None:
    """Set what a provider has of a class. Raises BadRequest for a class that does not exist."""
    if classes.unknown(tx, {name}):
        raise errors.BadRequest(
            f"Unknown resource class in inventory for resource provider {provider_id}: No such resource class {name}."
        )
    erase(tx, provider_id, name)
    tx.insert(_i, {"provider_id": provider_id, "resource_class": name, **inventory._asdict()})


def erase(tx: Tx, provider_id: str, name: str) -> None:
    """Forget what was set. What a host stands for by itself is there again."""
    tx.execute(delete(_i).where(_i.c.provider_id == provider_id, _i.c.resource_class == name))
