"""Metadata definitions: a catalogue of the properties, objects and tags that images, flavors and volumes may carry."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import ColumnElement, and_, delete, or_, select, true, update

from nephos import errors
from nephos.image.images.actions import is_admin
from nephos.image.metadefs import store
from nephos.image.metadefs.wire import RESOURCE_TYPE
from nephos.kernel import clock
from nephos.kernel.auth.who import Who
from nephos.kernel.db.engine import Tx

STANDARD_TYPES = (
    *("OS::Cinder::Volume", "OS::Glance::Image", "OS::Nova::Aggregate", "OS::Nova::Flavor", "OS::Nova::Server"),
)
"""Resource types that every cloud has; others come with their first association."""
_n, _i = store.namespace, store.item


def seen_by(who: Who) -> ColumnElement[bool]:
    return true() if is_admin(who) else or_(_n.c.visibility == "public", _n.c.owner == who.project_id)


def find(tx: Tx, who: Who, namespace: str) -> Any:
    """A namespace that `who` may see. Raises NotFound."""
    row = tx.first(select(_n).where(_n.c.namespace == namespace, seen_by(who)))
    if row is None:
        raise errors.NotFound(f"Namespace {namespace} not found.")
    return row


def items_of(tx: Tx, namespace_ids: Iterable[str], kind: str | None = None) -> Sequence[Any]:
    """What namespaces hold, in the order of their making."""
    chosen = select(_i).where(_i.c.namespace_id.in_(list(namespace_ids)))
    if kind is not None:
        chosen = chosen.where(_i.c.kind == kind)
    return tx.all(chosen.order_by(_i.c.created_at, _i.c.name))


def item(tx: Tx, row: Any, kind: str, name: str) -> Any:
    """Raises NotFound."""
    found = tx.first(select(_i).where(_i.c.namespace_id == row.id, _i.c.kind == kind, _i.c.name == name))
    if found is None:
        raise errors.NotFound(f"The {kind.replace('_', ' ')} {name} was not found in namespace {row.namespace}.")
    return found


def resource_types(tx: Tx) -> list[str]:
    known = tx.column(select(_i.c.name).where(_i.c.kind == RESOURCE_TYPE).distinct())
    return sorted({*STANDARD_TYPES, *known})


def create(tx: Tx, values: dict[str, Any], items: Iterable[tuple[str, str, dict[str, Any]]]) -> Any:
    """Make a namespace with all that it holds. Raises Conflict for one that is there."""
    _check_free(tx, values["namespace"])
    namespace_id = clock.uuid4()
    tx.insert(_n, {**values, "id": namespace_id, "created_at": tx.now, "updated_at": tx.now})
    tx.insert(_i, [_item(tx, namespace_id, *each) for each in items])
    return tx.first(select(_n).where(_n.c.id == namespace_id))


def change(tx: Tx, row: Any, values: dict[str, Any]) -> Any:
    """Raises Conflict when its new name is another's."""
    if values["namespace"] != row.namespace:
        _check_free(tx, values["namespace"])
    tx.execute(update(_n).where(_n.c.id == row.id).values(**values, updated_at=tx.now))
    return tx.first(select(_n).where(_n.c.id == row.id))


def _check_free(tx: Tx, namespace: str) -> None:
    if tx.first(select(_n.c.id).where(_n.c.namespace == namespace)) is not None:
        raise errors.Conflict(f"The metadata definition namespace={namespace} already exists.")


def remove(tx: Tx, row: Any) -> None:
    """Raises Forbidden for a protected one."""
    check_unprotected(row)
    tx.execute(delete(_i).where(_i.c.namespace_id == row.id))
    tx.execute(delete(_n).where(_n.c.id == row.id))


def check_unprotected(row: Any) -> None:
    """Raises Forbidden."""
    if row.protected:
        raise errors.Forbidden(f"Metadata definition namespace {row.namespace} is protected and cannot be deleted.")


def add(tx: Tx, row: Any, kind: str, name: str, body: dict[str, Any]) -> Any:
    """Raises Conflict for one that is there."""
    known = and_(_i.c.namespace_id == row.id, _i.c.kind == kind, _i.c.name == name)
    if tx.first(select(_i).where(known)) is not None:
        raise errors.Conflict(
            f"A metadata definition {kind.replace('_', ' ')} with name={name} already exists in namespace={row.namespace}."
        )
    tx.insert(_i, _item(tx, row.id, kind, name, body))
    return item(tx, row, kind, name)


def _item(tx: Tx, namespace_id: str, kind: str, name: str, body: dict[str, Any]) -> dict[str, Any]:
    return {
        "namespace_id": namespace_id,
        "kind": kind,
        "name": name,
        "body": body,
        "created_at": tx.now,
        "updated_at": tx.now,
    }


def replace(tx: Tx, row: Any, kind: str, name: str, new: str, body: dict[str, Any]) -> Any:
    """Give one another body and perhaps another name. Raises NotFound, Conflict when the new name is taken."""
    old = item(tx, row, kind, name)
    if new != name:
        add(tx, row, kind, new, body)
        _erase(tx, old)
        return item(tx, row, kind, new)
    chosen = and_(_i.c.namespace_id == row.id, _i.c.kind == kind, _i.c.name == name)
    tx.execute(update(_i).where(chosen).values(body=body, updated_at=tx.now))
    return item(tx, row, kind, name)


def remove_item(tx: Tx, row: Any, kind: str, name: str) -> None:
    """Raises NotFound, and Forbidden in a protected namespace."""
    check_unprotected(row)
    _erase(tx, item(tx, row, kind, name))


def _erase(tx: Tx, old: Any) -> None:
    tx.execute(delete(_i).where(_i.c.namespace_id == old.namespace_id, _i.c.kind == old.kind, _i.c.name == old.name))


def remove_all(tx: Tx, row: Any, kind: str) -> None:
    """Raises Forbidden in a protected namespace."""
    check_unprotected(row)
    tx.execute(delete(_i).where(_i.c.namespace_id == row.id, _i.c.kind == kind))
