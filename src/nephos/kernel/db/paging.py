"""Keyset paging: the page after a marker, whatever the sort."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, literal, or_

from nephos import errors
from nephos.kernel.db.engine import Tx
from nephos.kernel.http.query import Page


def paginate(
    tx: Tx,
    statement: Select[Any],
    page: Page,
    columns: Mapping[str, ColumnElement[Any]],
    *,
    key: ColumnElement[Any],
    missing: str = "marker",
    extra: int = 0,
    parameters: Mapping[str, Any] | None = None,
) -> Select[Any]:
    """`statement` with order, limit (+ `extra`) and the rows after the marker. `key` makes the order total.

    Sort keys come from `columns`; NULL sorts as smallest. `parameters` are what the statement itself is bound with. Raises BadRequest when the marker is no row of the list.
    """
    order = [(columns[name], descending) for name, descending in page.sorts if name in columns]
    if not any(column is key for column, _ in order):
        order.append((key, order[0][1] if order else False))
    if page.reverse:
        order = [(column, not descending) for column, descending in order]
    if page.marker is not None:
        row = tx.first(statement.with_only_columns(*[column for column, _ in order]).where(key == page.marker), parameters)
        if row is None:
            raise errors.BadRequest(f"The marker [{page.marker}] could not be found.", code=missing)
        statement = statement.where(_after(order, list(row)))
    statement = statement.order_by(*[_sorted(tx, column, descending) for column, descending in order])
    return statement if page.limit is None else statement.limit(page.limit + extra)


def _sorted(tx: Tx, column: ColumnElement[Any], descending: bool) -> ColumnElement[Any]:
    """NULL is the smallest. PostgreSQL is told so; to the other engines it is, and MariaDB has no word for it."""
    found = column.desc() if descending else column.asc()
    if tx.dialect != "postgresql" or not getattr(column, "nullable", True):
        return found
    return found.nulls_last() if descending else found.nulls_first()


def _after(order: list[tuple[ColumnElement[Any], bool]], values: list[Any]) -> ColumnElement[bool]:
    """Rows that sort after `values`: later in the first key, or equal in it and later in the next, and so on."""
    choices: list[ColumnElement[bool]] = []
    equal: list[ColumnElement[bool]] = []
    for (column, descending), value in zip(order, values, strict=True):
        there = literal(value, column.type)
        later: ColumnElement[bool] | None
        if value is None:
            later = None if descending else column.is_not(None)
        elif descending:
            later = or_(column < there, column.is_(None))
        else:
            later = column > there
        if later is not None:
            choices.append(and_(*equal, later))
        equal.append(column.is_(None) if value is None else column == there)
    return or_(*choices)
