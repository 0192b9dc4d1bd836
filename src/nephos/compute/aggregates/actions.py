"""What host aggregates can do. A host's zone follows from its aggregates and is kept in the host's own row too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import delete as delete_from
from sqlalchemy import func, insert, select, update

from nephos import errors
from nephos.compute.aggregates import store
from nephos.compute.aggregates.store import ZONE
from nephos.compute.servers import store as servers
from nephos.hosts import actions as hosts
from nephos.kernel import clock
from nephos.kernel.db.engine import Tx

_a, _m = store.aggregate, store.member


def get(tx: Tx, aggregate_id: str | int) -> Any:
    """An aggregate's row. Raises NotFound."""
    number = int(aggregate_id) if str(aggregate_id).isascii() and str(aggregate_id).isdigit() else -1
    row = tx.first(select(_a).where(_a.c.id == min(number, (1 << 62))))
    if row is None:
        raise errors.NotFound(f"Aggregate {aggregate_id} could not be found.")
    return row


def create(tx: Tx, name: str, zone: str | None) -> Any:
    """Raises Conflict when the name is taken."""
    _refuse_name(tx, name)
    values = {
        "uuid": clock.uuid4(),
        "name": name,
        "metadata": {ZONE: zone} if zone else {},
        "created_at": tx.now,
        "updated_at": None,
    }
    key = tx.execute(insert(_a).returning(_a.c.id), values).scalar()
    return get(tx, int(key or 0))


def change(tx: Tx, row: Any, name: str | None, zone: str | None) -> Any:
    """Raises Conflict for a taken name, and for another zone while a host of it holds servers."""
    values: dict[str, Any] = {"updated_at": tx.now}
    if name is not None and name != row.name:
        _refuse_name(tx, name)
        values["name"] = name
    tx.execute(update(_a).where(_a.c.id == row.id).values(**values))
    return set_metadata(tx, get(tx, row.id), {ZONE: zone}) if zone is not None else get(tx, row.id)


def delete(tx: Tx, row: Any) -> None:
    """Raises BadRequest while it has hosts."""
    if tx.scalar(select(func.count()).select_from(_m).where(_m.c.aggregate_id == row.id)):
        raise errors.BadRequest(f"Cannot delete aggregate {row.id}: host aggregate is not empty.")
    tx.execute(delete_from(_a).where(_a.c.id == row.id))


def set_metadata(tx: Tx, row: Any, given: Mapping[str, str | None]) -> Any:
    """None removes a key. Raises Conflict for another zone while a host of it holds servers."""
    merged = {**(row.metadata or {}), **given}
    kept = {key: value for key, value in merged.items() if value is not None}
    hosts_here = store.hosts_of(tx, [row.id]).get(row.id, [])
    if kept.get(ZONE) != (row.metadata or {}).get(ZONE):
        for host_id in hosts_here:
            _refuse_zone(tx, host_id, row.id, kept.get(ZONE))
    tx.execute(update(_a).where(_a.c.id == row.id).values(metadata=kept, updated_at=tx.now))
    for host_id in hosts_here:
        _follow(tx, host_id)
    return get(tx, row.id)


def add_host(tx: Tx, row: Any, name: str) -> Any:
    """Raises NotFound, Conflict for a host that is in it or in another zone."""
    host = hosts.by_name(tx, name)
    if host.id in store.hosts_of(tx, [row.id]).get(row.id, []):
        raise errors.Conflict(
            f"Cannot add host {name} in aggregate {row.id}: Aggregate {row.id} already has host {name}."
        )
    zone = (row.metadata or {}).get(ZONE)
    if zone is not None:
        _refuse_zone(tx, host.id, row.id, zone)
    tx.insert(_m, {"aggregate_id": row.id, "host_id": host.id})
    _follow(tx, host.id)
    return _touched(tx, row)


def remove_host(tx: Tx, row: Any, name: str) -> Any:
    """Raises NotFound, Conflict when the host's servers would change their zone."""
    host = hosts.by_name(tx, name)
    if host.id not in store.hosts_of(tx, [row.id]).get(row.id, []):
        raise errors.NotFound(f"Aggregate {row.id} has no host {name}.")
    if (row.metadata or {}).get(ZONE) and servers.of_host(tx, host.id):
        raise errors.Conflict(
            f"Cannot remove host {name} from aggregate {row.id}: its servers would move to another availability zone."
        )
    tx.execute(delete_from(_m).where(_m.c.aggregate_id == row.id, _m.c.host_id == host.id))
    _follow(tx, host.id)
    return _touched(tx, row)


def _touched(tx: Tx, row: Any) -> Any:
    tx.execute(update(_a).where(_a.c.id == row.id).values(updated_at=tx.now))
    return get(tx, row.id)


def _refuse_name(tx: Tx, name: str) -> None:
    if tx.first(select(_a.c.id).where(_a.c.name == name)) is not None:
        raise errors.Conflict(f"Aggregate {name} already exists.")


def _zones_of(tx: Tx, host_id: str) -> list[tuple[int, str]]:
    statement = select(_a.c.id, _a.c.metadata).join(_m, _m.c.aggregate_id == _a.c.id).where(_m.c.host_id == host_id)
    rows = tx.all(statement.order_by(_a.c.id))
    return [(row.id, str(row.metadata[ZONE])) for row in rows if (row.metadata or {}).get(ZONE)]


def _refuse_zone(tx: Tx, host_id: str, aggregate_id: int, zone: str | None) -> None:
    """A host is in one zone, and its servers do not change theirs."""
    others = {name for number, name in _zones_of(tx, host_id) if number != aggregate_id}
    if zone is not None and others - {zone}:
        raise errors.Conflict(f"Cannot perform action: host is already in availability zone {sorted(others)[0]}.")
    host = hosts.get(tx, host_id)
    if host.zone != zone and not others and servers.of_host(tx, host_id):
        raise errors.Conflict(f"One or more hosts contain instances: {host.name} would change its availability zone.")


def _follow(tx: Tx, host_id: str) -> None:
    zones = _zones_of(tx, host_id)
    hosts.change(tx, host_id, zone=zones[0][1] if zones else None)
