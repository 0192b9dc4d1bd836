"""What regions, services and endpoints can do. Source: Keystone API v3.14."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Row, Table, delete, select, update

from nephos import errors
from nephos.identity import notifications
from nephos.identity.catalog.store import endpoint, region, service
from nephos.identity.wire import merged
from nephos.kernel.db.engine import Tx

_WORDS = {region.name: "region", service.name: "service", endpoint.name: "endpoint"}


def get(tx: Tx, table: Table, ident: str) -> Row[Any] | None:
    return tx.first(select(table).where(table.c.id == ident))


def find(tx: Tx, table: Table, ident: str) -> Row[Any]:
    """A region, service or endpoint. Raises NotFound."""
    row = get(tx, table, ident)
    if row is None:
        raise errors.NotFound(f"Could not find {_WORDS[table.name]}: {ident}.")
    return row


def create_region(tx: Tx, new: Mapping[str, Any]) -> Row[Any]:
    """Raises Conflict for a taken id, NotFound for a parent that does not exist."""
    if get(tx, region, new["id"]) is not None:
        raise errors.Conflict(f"Conflict occurred attempting to store region - Duplicate ID, {new['id']}.")
    if new.get("parent_region_id") is not None:
        find(tx, region, new["parent_region_id"])
    tx.insert(region, {"created_at": tx.now, **new})
    notifications.tell(tx, "region", notifications.CREATED, new["id"])
    return find(tx, region, new["id"])


def change_region(tx: Tx, old: Row[Any], changes: dict[str, Any], extra: Mapping[str, Any]) -> Row[Any]:
    """Raises NotFound for a parent that does not exist, BadRequest for a circle."""
    parent_id = changes.get("parent_region_id")
    while parent_id is not None:
        if parent_id == old.id:
            raise errors.BadRequest(f"The specified parent region {changes['parent_region_id']} would create a circular "
                                    "region hierarchy.")  # fmt: skip
        parent_id = find(tx, region, parent_id).parent_region_id
    if "description" in changes:
        changes["description"] = changes["description"] or ""
    return _changed(tx, region, old, changes, extra)


def remove_region(tx: Tx, row: Row[Any]) -> None:
    """With the regions in it. Raises Forbidden while one of them has endpoints."""
    ids, waiting = [row.id], [row.id]
    while waiting:
        waiting = tx.column(select(region.c.id).where(region.c.parent_region_id.in_(waiting), region.c.id.not_in(ids)))
        ids += waiting
    if tx.first(select(endpoint.c.id).where(endpoint.c.region_id.in_(ids))) is not None:
        raise errors.Forbidden(
            f"Unable to delete region {row.id} because it or its child regions have associated endpoints."
        )
    tx.execute(delete(region).where(region.c.id.in_(ids)))
    notifications.tell(tx, "region", notifications.DELETED, *ids)


def create_service(tx: Tx, new: Mapping[str, Any]) -> Row[Any]:
    tx.insert(service, {"created_at": tx.now, **new})
    notifications.tell(tx, "service", notifications.CREATED, new["id"])
    return find(tx, service, new["id"])


def change_service(tx: Tx, old: Row[Any], changes: dict[str, Any], extra: Mapping[str, Any]) -> Row[Any]:
    return _changed(tx, service, old, changes, extra)


def remove_service(tx: Tx, row: Row[Any]) -> None:
    """With its endpoints."""
    tx.execute(delete(service).where(service.c.id == row.id))
    notifications.tell(tx, "service", notifications.DELETED, row.id)


def create_endpoint(tx: Tx, new: Mapping[str, Any], region_name: str | None) -> Row[Any]:
    """`region_name` is the older way to say a region: it is made when there is none. Raises BadRequest for a service or
    region that does not exist."""
    values = {"created_at": tx.now, **new}
    if values.get("region_id") is None and region_name is not None:
        values["region_id"] = _old_region(tx, region_name)
    _point(tx, values)
    tx.insert(endpoint, values)
    notifications.tell(tx, "endpoint", notifications.CREATED, values["id"])
    return find(tx, endpoint, values["id"])


def _old_region(tx: Tx, name: str) -> str:
    if get(tx, region, name) is None:
        create_region(tx, {"id": name})
    return name


def _point(tx: Tx, values: Mapping[str, Any]) -> None:
    for key, table in (("service_id", service), ("region_id", region)):
        if values.get(key) is not None and get(tx, table, values[key]) is None:
            raise errors.BadRequest(f"Could not find {_WORDS[table.name]}: {values[key]}.")


def change_endpoint(tx: Tx, old: Row[Any], changes: dict[str, Any], extra: Mapping[str, Any]) -> Row[Any]:
    """Raises BadRequest for a service or region that does not exist."""
    name = changes.pop("region", None)
    if name is not None and changes.get("region_id") is None:
        changes["region_id"] = _old_region(tx, name)
    _point(tx, changes)
    return _changed(tx, endpoint, old, changes, extra)


def remove_endpoint(tx: Tx, row: Row[Any]) -> None:
    tx.execute(delete(endpoint).where(endpoint.c.id == row.id))
    notifications.tell(tx, "endpoint", notifications.DELETED, row.id)


def _changed(tx: Tx, table: Table, old: Row[Any], changes: dict[str, Any], extra: Mapping[str, Any]) -> Row[Any]:
    if extra:
        changes["extra"] = merged(old.extra, extra)
    if changes:
        tx.execute(update(table).where(table.c.id == old.id).values(**changes))
    notifications.tell(tx, _WORDS[table.name], notifications.UPDATED, old.id)
    return find(tx, table, old.id)
