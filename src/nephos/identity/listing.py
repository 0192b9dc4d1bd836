"""Lists: filters of the query string, and the page that is asked for.

Source: Keystone API v3.14, "Filtering" and "Inexact matching": `?name=x`, `?name__contains=x`; an unknown parameter is
no filter. Without a limit all is shown, as Keystone does by default.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Boolean, ColumnElement, Row, Select, func, or_, select

from nephos.identity.projects.store import project
from nephos.kernel.db.engine import Tx
from nephos.kernel.db.paging import paginate
from nephos.kernel.http.call import Call
from nephos.kernel.http.query import Query, page

_FALSE = frozenset({"0", "false", "f", "no", "n", "off"})


class Listed(NamedTuple):
    """Rows of one page. `marker` is the id of its last row when there are more."""

    rows: Sequence[Row[Any]]
    marker: str | None


def truth(text: str) -> bool:
    """A boolean filter: all but 0 and false is true."""
    return text.lower() not in _FALSE


def narrow(query: Query, statement: Select[Any], columns: Mapping[str, ColumnElement[Any]]) -> Select[Any]:
    """The statement with the query's filters on these columns, exact and inexact."""
    for key, values in query.items():
        name, _, how = key.partition("__")
        column = columns.get(name)
        if column is None:
            continue
        value = values[-1]
        if isinstance(column.type, Boolean):
            statement = statement.where(column.is_(truth(value)))
        elif not how and name == "domain_id":
            statement = statement.where(_of_domain(column, value))
        elif not how:
            statement = statement.where(column == value)
        else:
            found = _inexact(column, how, value)
            if found is not None:
                statement = statement.where(found)
    return statement


def _of_domain(column: ColumnElement[Any], value: str) -> ColumnElement[bool]:
    """By the domain's id, or by its name, which openstackclient sends in its place: `user list --group G --domain NAME`."""
    named = select(project.c.id).where(project.c.is_domain.is_(True), project.c.name == value)
    return or_(column == value, column.in_(named))


def _inexact(column: ColumnElement[Any], how: str, value: str) -> ColumnElement[bool] | None:
    if how.startswith("i"):
        column, value, how = func.lower(column), value.lower(), how[1:]
    if how == "contains":
        return column.contains(value, autoescape=True)
    if how == "startswith":
        return column.startswith(value, autoescape=True)
    if how == "endswith":
        return column.endswith(value, autoescape=True)
    return None


def fetch(
    tx: Tx,
    call: Call,
    statement: Select[Any],
    columns: Mapping[str, ColumnElement[Any]],
    *,
    key: ColumnElement[Any],
    sort: str = "name",
) -> Listed:
    """The page of `statement` that the query's limit, marker and sort_key ask for.

    Raises BadRequest for a marker that is no row of the list, a bad limit or sort key.
    """
    asked = page(
        call.query,
        most=call.cloud.settings.api.max_limit,
        allowed=frozenset(columns),
        default=((sort, False),),
    )
    rows = tx.all(paginate(tx, narrow(call.query, statement, columns), asked, columns, key=key, extra=1))
    if asked.limit is None or len(rows) <= asked.limit:
        return Listed(rows, None)
    rows = rows[: asked.limit]
    return Listed(rows, rows[-1].id if rows else None)
