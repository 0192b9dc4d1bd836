"""Filters and sort keys of lists, as Neutron's clients write them."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec
from sqlalchemy import Boolean, ColumnElement, Integer, Table, Text, and_, false, func, not_, or_, type_coerce

from nephos.network import problems

if TYPE_CHECKING:
    from nephos.network.resource import View

TRUE = frozenset({"1", "t", "true", "on", "y", "yes"})
FALSE = frozenset({"0", "f", "false", "off", "n", "no"})
Filter = Callable[[list[str], "View"], ColumnElement[bool]]
"""From the values given for one name, and who looks, to a clause."""


def of(column: ColumnElement[Any]) -> Filter:
    """By a column's own type."""
    if isinstance(column.type, Boolean):
        return flag(column)
    return number(column) if isinstance(column.type, Integer) else equals(column)


def equals(column: ColumnElement[Any]) -> Filter:
    """Any of the values given."""
    return lambda values, _view: column == values[0] if len(values) == 1 else column.in_(values)


def flag(column: ColumnElement[Any]) -> Filter:
    """A boolean, in any of the words that Neutron takes."""

    def clause(values: list[str], _view: View) -> ColumnElement[bool]:
        wanted = {boolean(value) for value in values}
        return column.in_(sorted(wanted))

    return clause


def number(column: ColumnElement[Any]) -> Filter:
    """A whole number; what is none matches nothing."""

    def clause(values: list[str], _view: View) -> ColumnElement[bool]:
        wanted = [int(value) for value in values if re.fullmatch(r"-?\d{1,18}", value)]
        return column.in_(wanted) if wanted else false()

    return clause


def boolean(value: str) -> bool:
    """Raises BadRequest for a word that is neither true nor false."""
    if value.lower() in TRUE:
        return True
    if value.lower() in FALSE:
        return False
    raise problems.bad(f"'{value}' cannot be converted to boolean", "HTTPBadRequest")


def _has_tag(column: ColumnElement[Any], tag: str) -> ColumnElement[bool]:
    # A JSON array of strings holds the quoted form of a string without commas only where it is an element.
    quoted = msgspec.json.encode(tag).decode()
    return func.coalesce(type_coerce(column, Text), "").contains(quoted, autoescape=True)


def _tagged(column: ColumnElement[Any], values: list[str], *, every: bool) -> ColumnElement[bool]:
    wanted = [_has_tag(column, tag) for value in values for tag in value.split(",")]
    return and_(*wanted) if every else or_(*wanted)


_STANDARD = (
    ("id", "id"),
    ("name", "name"),
    ("project_id", "project_id"),
    ("tenant_id", "project_id"),
    ("description", "description"),
    ("revision_number", "revision"),
)


def standard_filters(table: Table, lacks: Collection[str] = ()) -> dict[str, Filter]:
    """Filters by those of the standard attributes that a table has, but for what the API `lacks`."""
    column = table.c
    found = {name: of(column[stored]) for name, stored in _STANDARD if stored in column and name not in lacks}
    if "revision_number" in found:
        found["changed_since"] = lambda values, _: column.updated_at >= _moment(values[-1])
    if "tags" in column and "tags" not in lacks:
        text = type_coerce(column.tags, Text)
        found["tags"] = lambda values, _: _tagged(text, values, every=True)
        found["tags-any"] = lambda values, _: _tagged(text, values, every=False)
        found["not-tags"] = lambda values, _: not_(_tagged(text, values, every=True))
        found["not-tags-any"] = lambda values, _: not_(_tagged(text, values, every=False))
    return found


def _moment(value: str) -> int:
    """A timestamp as Neutron writes it, as the ledger's microseconds. Raises BadRequest."""
    try:
        moment = datetime.fromisoformat(value)
    except ValueError as wrong:
        raise problems.bad(f"Invalid input for changed_since: {value!r} is no time (ISO 8601).") from wrong
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()) * 1_000_000


def standard_sorts(table: Table) -> dict[str, ColumnElement[Any]]:
    """Sort keys of those of the standard attributes that a table has."""
    return {name: table.c[stored] for name, stored in _STANDARD[:4] if stored in table.c}
