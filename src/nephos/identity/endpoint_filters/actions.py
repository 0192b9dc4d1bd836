"""Endpoint groups and what projects see. Source: Keystone API, "OS-EP-FILTER"."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Row, Select, Table, and_, delete, select, update

from nephos import errors
from nephos.identity.catalog.store import endpoint
from nephos.identity.endpoint_filters.store import endpoint_group, group_project, project_endpoint
from nephos.kernel.db.engine import Tx


def find(tx: Tx, ident: str) -> Row[Any]:
    """Raises NotFound."""
    row = tx.first(select(endpoint_group).where(endpoint_group.c.id == ident))
    if row is None:
        raise errors.NotFound(f"Could not find Endpoint Group: {ident}.")
    return row


def create(tx: Tx, new: Mapping[str, Any]) -> Row[Any]:
    tx.insert(endpoint_group, {"created_at": tx.now, **new})
    return find(tx, new["id"])


def change(tx: Tx, old: Row[Any], changes: dict[str, Any]) -> Row[Any]:
    tx.execute(update(endpoint_group).where(endpoint_group.c.id == old.id).values(**changes))
    return find(tx, old.id)


def remove(tx: Tx, row: Row[Any]) -> None:
    tx.execute(delete(endpoint_group).where(endpoint_group.c.id == row.id))


def matching(filters: Mapping[str, Any]) -> Select[Any]:
    """The endpoints that a group's filters describe."""
    return select(endpoint).where(*[endpoint.c[name] == value for name, value in filters.items()])


def associated(tx: Tx, table: Table, **pair: str) -> bool:
    return tx.first(select(table).where(_same(table, pair))) is not None


def associate(tx: Tx, table: Table, **pair: str) -> None:
    """Again: nothing."""
    if not associated(tx, table, **pair):
        tx.insert(table, pair)


def dissociate(tx: Tx, table: Table, **pair: str) -> None:
    """Raises NotFound."""
    if tx.execute(delete(table).where(_same(table, pair))).rowcount == 0:
        raise errors.NotFound(f"Could not find an association of {' and '.join(pair.values())}.")


def _same(table: Table, pair: Mapping[str, str]) -> Any:
    return and_(*[table.c[name] == value for name, value in pair.items()])


def endpoint_ids(tx: Tx, project_id: str) -> set[str]:
    """What the project was given, one by one and by groups."""
    ids = set(tx.column(select(project_endpoint.c.endpoint_id).where(project_endpoint.c.project_id == project_id)))
    for filters in tx.column(_groups_of(project_id).with_only_columns(endpoint_group.c.filters)):
        ids.update(row.id for row in tx.all(matching(filters)))
    return ids


def groups_of(tx: Tx, project_id: str) -> list[Row[Any]]:
    return list(tx.all(_groups_of(project_id)))


def _groups_of(project_id: str) -> Select[Any]:
    given = select(group_project.c.endpoint_group_id).where(group_project.c.project_id == project_id)
    return select(endpoint_group).where(endpoint_group.c.id.in_(given)).order_by(endpoint_group.c.name)


def filtered(tx: Tx) -> dict[str, set[str]]:
    """Endpoint ids by project, for the projects that were given any; every other one sees all."""
    projects = set(tx.column(select(project_endpoint.c.project_id).distinct()))
    projects |= set(tx.column(select(group_project.c.project_id).distinct()))
    return {one: endpoint_ids(tx, one) for one in projects}
