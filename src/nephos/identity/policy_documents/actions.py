"""What policy documents can do. Source: Keystone API v3.14, "Policies" and "OS-ENDPOINT-POLICY"."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import ColumnElement, Row, and_, delete, select, update

from nephos import errors
from nephos.identity import notifications
from nephos.identity.catalog import actions as catalog
from nephos.identity.catalog.store import endpoint, region, service
from nephos.identity.policy_documents.store import association, policy
from nephos.identity.wire import merged
from nephos.kernel.db.engine import Tx

_TABLES = {"endpoint_id": endpoint, "service_id": service, "region_id": region}
_a = association.c


def find(tx: Tx, ident: str) -> Row[Any]:
    """Raises NotFound."""
    row = tx.first(select(policy).where(policy.c.id == ident))
    if row is None:
        raise errors.NotFound(f"Could not find policy: {ident}.")
    return row


def create(tx: Tx, new: Mapping[str, Any]) -> Row[Any]:
    tx.insert(policy, {"created_at": tx.now, **new})
    notifications.tell(tx, "policy", notifications.CREATED, new["id"])
    return find(tx, new["id"])


def change(tx: Tx, old: Row[Any], changes: dict[str, Any], extra: Mapping[str, Any]) -> Row[Any]:
    if extra:
        changes["extra"] = merged(old.extra, extra)
    tx.execute(update(policy).where(policy.c.id == old.id).values(**changes))
    notifications.tell(tx, "policy", notifications.UPDATED, old.id)
    return find(tx, old.id)


def remove(tx: Tx, row: Row[Any]) -> None:
    tx.execute(delete(policy).where(policy.c.id == row.id))
    notifications.tell(tx, "policy", notifications.DELETED, row.id)


def _at(place: Mapping[str, str]) -> ColumnElement[bool]:
    return and_(*[_a[name] == place[name] if name in place else _a[name].is_(None) for name in _TABLES])


def _exist(tx: Tx, policy_id: str, place: Mapping[str, str]) -> None:
    find(tx, policy_id)
    for name, ident in place.items():
        catalog.find(tx, _TABLES[name], ident)


def associate(tx: Tx, new_id: str, policy_id: str, place: Mapping[str, str]) -> None:
    """`place` names an endpoint, a service, or a service and a region. Raises NotFound."""
    _exist(tx, policy_id, place)
    tx.execute(delete(association).where(_at(place)))
    tx.insert(association, {"id": new_id, "policy_id": policy_id, **place})


def check(tx: Tx, policy_id: str, place: Mapping[str, str]) -> None:
    """Raises NotFound unless they are joined."""
    _exist(tx, policy_id, place)
    if tx.first(select(_a.id).where(_at(place), _a.policy_id == policy_id)) is None:
        raise errors.NotFound("Could not find policy association.")


def dissociate(tx: Tx, policy_id: str, place: Mapping[str, str]) -> None:
    check(tx, policy_id, place)
    tx.execute(delete(association).where(_at(place), _a.policy_id == policy_id))


def for_endpoint(tx: Tx, endpoint_id: str) -> Row[Any]:
    """The nearest: the endpoint's own, its service's in its region or a region around that, its service's.

    Raises NotFound.
    """
    row = catalog.find(tx, endpoint, endpoint_id)
    places: list[dict[str, str]] = [{"endpoint_id": row.id}]
    region_id = row.region_id
    while region_id is not None:
        places.append({"service_id": row.service_id, "region_id": region_id})
        region_id = catalog.find(tx, region, region_id).parent_region_id
    places.append({"service_id": row.service_id})
    for place in places:
        found = tx.scalar(select(_a.policy_id).where(_at(place)))
        if found is not None:
            return find(tx, found)
    raise errors.NotFound(f"No policy is associated with endpoint {endpoint_id}.")


def endpoints_for(tx: Tx, policy_id: str) -> list[Row[Any]]:
    """All endpoints whose nearest policy this is. Raises NotFound."""
    find(tx, policy_id)
    found = []
    for row in tx.all(select(endpoint).order_by(endpoint.c.id)):
        try:
            if for_endpoint(tx, row.id).id == policy_id:
                found.append(row)
        except errors.NotFound:
            continue
    return found
