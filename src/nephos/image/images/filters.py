"""What a list of images is filtered and sorted by (image API v2, "List images")."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from operator import eq, ge, gt, le, lt, ne
from typing import Any

from sqlalchemy import ColumnElement, exists, false, true

from nephos import errors
from nephos.image.images import store
from nephos.image.images.wire import VISIBILITIES
from nephos.kernel.http.query import Page, Query

DEFAULT_LIMIT = 25
MOST = 1000
SORT_KEYS = {
    name: store.image.c[name]
    for name in ("name", "status", "container_format", "disk_format", "size", "id", "created_at", "updated_at")
}
_NOT_FILTERS = frozenset(("limit", "marker", "member_status", "sort", "sort_key", "sort_dir", "tag", "visibility"))
_CHOICES = frozenset(("name", "id", "status", "container_format", "disk_format"))
_NUMBERS = frozenset(("size", "virtual_size", "min_ram", "min_disk"))
_EQUAL = frozenset(("checksum", "os_hash_algo", "os_hash_value", "owner"))
_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {"gt": gt, "gte": ge, "lt": lt, "lte": le, "neq": ne, "eq": eq}
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"(?:,|$)|([^",]*)(?:,|$)')
_i, _t, _p = store.image, store.tag, store.property_


def page(query: Query) -> Page:
    """Limit, marker and sort. Raises BadRequest for what is malformed."""
    limit = query.integer("limit")
    keys, directions = query.many("sort_key"), query.many("sort_dir")
    if query.one("sort") is not None:
        if keys or directions:
            raise errors.BadRequest("Old and new sorting syntax cannot be combined")
        parts = [part.partition(":") for part in (query.one("sort") or "").split(",")]
        keys = [name for name, _, _ in parts]
        directions = [direction or "desc" for _, _, direction in parts]
    elif len(directions) > 1 and len(directions) != len(keys):
        raise errors.BadRequest("Number of sort dirs does not match the number of sort keys")
    keys = [name.strip() for name in keys] or ["created_at"]
    directions = [direction.strip() for direction in directions] or ["desc"]
    for name in keys:
        if name not in SORT_KEYS:
            raise errors.BadRequest(
                f"Invalid sort key: {name}. It must be one of the following: {', '.join(SORT_KEYS)}."
            )
    for direction in directions:
        if direction not in ("asc", "desc"):
            raise errors.BadRequest(f"Invalid sort direction: {direction}")
    if len(directions) == 1:
        directions *= len(keys)
    sorts = [(name, direction == "desc") for name, direction in zip(keys, directions, strict=True)]
    if "created_at" not in keys:
        sorts.append(("created_at", sorts[0][1]))
    return Page(min(MOST, DEFAULT_LIMIT if limit is None else limit), query.one("marker"), tuple(sorts))


def visibility(query: Query) -> str | None:
    """Raises BadRequest for one that does not exist."""
    value = query.one("visibility")
    if value and value not in (*VISIBILITIES, "all"):
        raise errors.BadRequest(f"Invalid visibility value: {value}")
    return value or None


def member_status(query: Query) -> str:
    """Raises BadRequest for one that does not exist."""
    value = query.one("member_status") or "accepted"
    if value not in ("pending", "accepted", "rejected", "all"):
        raise errors.BadRequest(f"Invalid status: {value}")
    return value


def conditions(query: Query) -> list[ColumnElement[bool]]:
    """All filters of a query. A name that is no attribute filters by a custom property. Raises BadRequest."""
    found = [exists().where(_t.c.image_id == _i.c.id, _t.c.value == each.strip()) for each in query.many("tag")]  # type: list[ColumnElement[bool]]
    found.append(_i.c.os_hidden == _boolean(query, "os_hidden", "false"))
    for name in query:
        if name not in _NOT_FILTERS and name != "os_hidden":
            found.append(_condition(query, name, query[name][-1]))
    return found


def _condition(query: Query, name: str, value: str) -> ColumnElement[bool]:
    if name == "changes-since":
        raise errors.BadRequest('The "changes-since" filter is no longer available on v2.')
    if name == "protected":
        return _i.c.protected == _boolean(query, name, "false")
    if name in _CHOICES:
        return _choice(name, value)
    if name in ("created_at", "updated_at"):
        return _moment(name, value)
    if name in _EQUAL:
        return _i.c[name] == value
    if name in _NUMBERS:
        return _i.c[name] == _number(value)
    if name[-4:] in ("_min", "_max") and name[:-4] in _NUMBERS:
        column = _i.c[name[:-4]]
        return column >= _number(value) if name.endswith("_min") else column <= _number(value)
    return exists().where(_p.c.image_id == _i.c.id, _p.c.name == name, _p.c.value == value)


def _choice(name: str, value: str) -> ColumnElement[bool]:
    operator, colon, rest = value.partition(":")
    if colon and operator == "in":
        return _i.c[name].in_(_split(rest))
    if colon and operator == "eq":
        return _i.c[name] == rest
    if colon and name != "name":
        raise errors.BadRequest(f"Unable to filter by unknown operator '{operator}'.")
    return _i.c[name] == value


def _split(text: str) -> list[str]:
    """Values separated by commas; one in double quotes may hold commas. Raises BadRequest for a stray quote."""
    values, at = [], 0
    while at < len(text):
        found = _QUOTED.match(text, at)
        if found is None:
            raise errors.BadRequest(f"Invalid filter value {text}. The quote is not closed or not between commas.")
        values.append(found[2] if found[1] is None else re.sub(r"\\(.)", r"\1", found[1]))
        at = found.end()
    return values


def _moment(name: str, value: str) -> ColumnElement[bool]:
    operator, text = "eq", value
    moment = _iso(text)
    if moment is None:
        operator, _, text = value.partition(":")
        moment = _iso(text)
    if moment is None:
        raise errors.BadRequest(f'Bad "{name}" query filter format. Use ISO 8601 DateTime notation.')
    if operator not in _OPERATORS:
        raise errors.BadRequest("Unable to filter on a unknown operator.")
    # Times are shown in whole seconds, so a filter by a time that was shown must find its image.
    column, second = _i.c[name], 1_000_000
    if operator in ("eq", "neq"):
        inside = (column >= moment) & (column < moment + second)
        return inside if operator == "eq" else ~inside
    if operator in ("gt", "lte"):
        compare = ge if operator == "gt" else lt
        return compare(column, moment + second)  # type: ignore[no-any-return]
    return _OPERATORS[operator](column, moment)  # type: ignore[no-any-return]


def _iso(text: str) -> int | None:
    """Whole seconds, as microseconds since the epoch; None when it is no ISO 8601 time."""
    try:
        moment = datetime.fromisoformat(text)
        return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()) * 1_000_000
    except (ValueError, OverflowError):
        return None


def _number(value: str) -> int:
    if not re.fullmatch(r"-?\d{1,18}", value, re.ASCII):
        raise errors.BadRequest("Unable to filter on a range with a non-numeric value.")
    return int(value)


def _boolean(query: Query, name: str, default: str) -> ColumnElement[bool]:
    value = (query.one(name) or default).lower()
    if value not in ("true", "false"):
        raise errors.BadRequest(f"Invalid value '{value}' for '{name}' filter. Valid values are 'true' or 'false'.")
    return true() if value == "true" else false()
