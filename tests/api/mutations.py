"""Wrong bodies made from a right one: every value replaced, taken away or joined by others, wherever a type has a field.

The types are asked of the handlers themselves: while a right request is answered, what msgspec is told to read is noted.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import pytest
from msgspec import inspect

from nephos.network.resource import Body

Path = tuple[str | int, ...]
Seen = list[tuple[Path, Any]]
HUGE = "x" * 100_000
ABSENT = object()

NULL = "a\0b"
WRONG: tuple[Any, ...] = (
    *(None, True, 0, -1, 2**31, 2**63, 3.5, "", " ", "nonesuch", "-1", "' OR 1=1 --", "Zoë 雪 🚀", NULL, HUGE),
    *([], ["x"], [None], [[]], {}, {"x": {}}, {"": None}),
    *(msgspec.Raw(each) for each in (b"1" * 400, b"1e999", b"NaN", b'"\\ud800"')),
)
"""Of every kind of JSON, and beyond: numbers that fit nowhere, half a surrogate pair, null characters."""
RAW = (
    b"",
    b"{",
    b"[]",
    b"{}",
    b"null",
    b"1",
    b'"x"',
    b"NaN",
    b"\xff\xfe{\x00}\x00",
    b'{"x": {}}',
    b'{"x": 1, "x": 2}',
    b"[" * 100_000,
    b'{"x": ' * 10_000,
    b'{"\\u0000": "\\u0000"}',
)
"""Bodies that are nothing anywhere."""


@contextmanager
def noted(patch: pytest.MonkeyPatch, sent: Any) -> Iterator[Seen]:
    """While inside, which type is asked of which part of the body `sent`."""
    seen: Seen = []
    decode, convert, network = msgspec.json.decode, msgspec.convert, Body._decode

    def note(value: Any, kind: Any) -> None:
        seen.extend((path, kind) for path, each in walk(sent) if each == value and isinstance(each, dict))

    def noting_decode(raw: Any, **more: Any) -> Any:
        if "type" in more:
            note(decode(raw), more["type"])
        return decode(raw, **more)

    def noting_convert(value: Any, kind: Any, **more: Any) -> Any:
        note(value, kind)
        return convert(value, kind, **more)

    def noting_network(self: Any, decoder: Any, raw: bytes, *, creating: bool) -> Any:
        note(decode(raw), decoder.type)
        return network(self, decoder, raw, creating=creating)

    with patch.context() as inside:
        inside.setattr(msgspec.json, "decode", noting_decode)
        inside.setattr(msgspec, "convert", noting_convert)
        inside.setattr(Body, "_decode", noting_network)
        yield seen


def walk(body: Any, at: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every part of a body with its path; the body itself first."""
    yield at, body
    parts = body.items() if isinstance(body, dict) else enumerate(body) if isinstance(body, list) else ()
    for key, value in parts:
        yield from walk(value, (*at, key))


def places(body: Any, seen: Seen) -> list[Path]:
    """Where a value can stand: wherever one does, and in every field that the types have and the body has not."""
    found = dict.fromkeys(path for path, _ in walk(body))
    for path, kind in seen:
        for absent in _absent(inspect.type_info(kind), get(body, path), path):
            found[absent] = None
    return list(found)


def _absent(kind: inspect.Type, value: Any, at: Path) -> Iterator[Path]:
    if isinstance(kind, inspect.UnionType):
        for each in kind.types:
            yield from _absent(each, value, at)
    elif isinstance(kind, inspect.Metadata):
        yield from _absent(kind.type, value, at)
    elif isinstance(kind, inspect.StructType) and isinstance(value, dict):
        for field in kind.fields:
            path = (*at, field.encode_name)
            if field.encode_name in value:
                yield from _absent(field.type, value[field.encode_name], path)
            else:
                yield path
    elif isinstance(kind, inspect.ListType) and isinstance(value, list):
        for position, each in enumerate(value):
            yield from _absent(kind.item_type, each, (*at, position))
    elif isinstance(kind, inspect.DictType) and isinstance(value, dict):
        for key, each in value.items():
            yield from _absent(kind.value_type, each, (*at, key))


def get(body: Any, path: Path) -> Any:
    for key in path:
        body = body[key]
    return body


def put(body: Any, path: Path, value: Any) -> Any:
    """A copy of the body with another value there; `ABSENT` takes the place away."""
    if not path:
        return value
    changed = copy.deepcopy(body)
    place = get(changed, path[:-1])
    if value is ABSENT:
        if isinstance(place, dict):
            place.pop(path[-1], None)
        else:
            del place[path[-1]]
    else:
        place[path[-1]] = value
    return changed


def wrong(body: Any, seen: Seen) -> Iterator[tuple[Path, Any, Any]]:
    """(where, what, the body) of every wrong body that a right one gives."""
    for path in places(body, seen):
        for value in WRONG:
            yield path, value, put(body, path, value)
    for path, value in walk(body):
        if path:
            yield path, "taken away", put(body, path, ABSENT)
        if isinstance(value, dict):
            yield path, "another field", put(body, (*path, "nonesuch"), "x")
            yield path, "a name of all alphabets", put(body, (*path, "Zoë 雪 🚀"), "Zoë 雪 🚀")
            yield path, "a null character in a key", put(body, (*path, NULL), "x")


def shown(value: Any) -> str:
    """For a failed test's words."""
    text = bytes(value).decode(errors="replace") if isinstance(value, msgspec.Raw) else repr(value)
    return text if len(text) < 60 else f"{text[:30]}… ({len(text)} characters)"
