"""Query parameters, typed; and the page that a list asks for."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple
from urllib.parse import parse_qsl, quote, urlencode

from nephos import errors

_WHOLE = re.compile(r"-?[0-9]{1,18}")
_TRUE = frozenset({"1", "t", "true", "on", "y", "yes"})
_FALSE = frozenset({"0", "f", "false", "off", "n", "no"})


class Query(Mapping[str, list[str]]):
    """A query string, keys in order, values decoded as UTF-8.

    Raises BadRequest for bytes that are no UTF-8 and for null characters.
    """

    __slots__ = ("_values", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self._values: dict[str, list[str]] = {}
        if text:
            try:
                if not text.isascii():
                    text = text.encode("latin-1").decode()
                pairs = parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=1000)
            except ValueError as wrong:
                raise errors.BadRequest(f"The query string cannot be read: {wrong}") from wrong
            for name, value in pairs:
                if "\x00" in name or "\x00" in value:
                    raise errors.BadRequest("The query string holds a null character.")
                self._values.setdefault(name, []).append(value)

    def __getitem__(self, name: str) -> list[str]:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def one(self, name: str) -> str | None:
        """The last value of a parameter, None when it is not there."""
        values = self._values.get(name)
        return values[-1] if values else None

    def many(self, name: str) -> list[str]:
        return self._values.get(name, [])

    def integer(self, name: str, *, least: int = 0, most: int = 1 << 53) -> int | None:
        """Raises BadRequest unless it is a whole number between `least` and `most`."""
        value = self.one(name)
        if value is None:
            return None
        if _WHOLE.fullmatch(value) is None or not least <= int(value) <= most:
            raise errors.BadRequest(
                f"Invalid input for query parameters {name}. Value: {value}. It must be a whole number from {least}."
            )
        return int(value)

    def boolean(self, name: str, *, default: bool | None = None) -> bool | None:
        """Raises BadRequest for a value that is neither true nor false; an empty value counts as true."""
        value = self.one(name)
        if value is None:
            return default
        if value.lower() in _TRUE or value == "":
            return True
        if value.lower() in _FALSE:
            return False
        raise errors.BadRequest(f"Invalid input for query parameter {name}: {value!r} is not a boolean.")

    def without(self, *names: str) -> list[tuple[str, str]]:
        return [(name, value) for name, values in self._values.items() if name not in names for value in values]

    def next_link(self, url: str, marker: str, **more: str) -> str:
        """The URL of the next page: the same query with another marker."""
        return (
            url + "?" + urlencode([*self.without("marker", *more), *more.items(), ("marker", marker)], quote_via=quote)
        )


class Page(NamedTuple):
    """What part of a list is asked for. `sorts` are (key, descending); `limit` None means all."""

    limit: int | None = None
    marker: str | None = None
    sorts: tuple[tuple[str, bool], ...] = ()
    reverse: bool = False


def page(query: Query, *, most: int, allowed: frozenset[str], default: tuple[tuple[str, bool], ...]) -> Page:
    """Read limit, marker, sort_key/sort_dir (repeated) or `sort=key:dir,…`.

    Raises BadRequest for an unknown sort key or direction.
    """
    limit = query.integer("limit")
    sorts: list[tuple[str, bool]] = []
    if query.one("sort"):
        for part in (query.one("sort") or "").split(","):
            name, _, direction = part.partition(":")
            sorts.append((name, _descending(direction or "desc")))
    else:
        directions = query.many("sort_dir")
        for position, name in enumerate(query.many("sort_key")):
            given = directions[position] if position < len(directions) else (directions[-1] if directions else "asc")
            sorts.append((name, _descending(given)))
    for name, _ in sorts:
        if name not in allowed:
            raise errors.BadRequest(f"Invalid sort key {name!r}: one of {', '.join(sorted(allowed))}.")
    shown = min(limit, most) if limit is not None else None
    reverse = bool(query.boolean("page_reverse", default=False)) if "page_reverse" in query else False
    return Page(shown, query.one("marker"), tuple(sorts) or default, reverse)


def _descending(direction: str) -> bool:
    if direction not in ("asc", "desc"):
        raise errors.BadRequest(f"Invalid sort direction {direction!r}: asc or desc.")
    return direction == "desc"
