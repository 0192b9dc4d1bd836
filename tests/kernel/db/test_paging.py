"""Keyset paging against sorting in memory: whatever the sort, the pages put together are the list."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Boolean, Column, Integer, MetaData, Table, Text, delete, select

from nephos import errors
from nephos.kernel.db.engine import Database
from nephos.kernel.db.paging import paginate
from nephos.kernel.db.sqlite import SqliteDatabase
from nephos.kernel.http.query import Page

thing = Table(
    "thing",
    MetaData(),
    Column("id", Text, primary_key=True),
    Column("owner", Text),
    Column("name", Text),
    Column("size", Integer),
    Column("ready", Boolean),
)
COLUMNS = {name: thing.c[name] for name in ("id", "name", "size", "ready")}
NAMES = st.one_of(st.none(), st.sampled_from(["", "a", "A", "b", "é", "ß", "z'\"", "漢"]))
ROWS = st.lists(
    st.tuples(
        st.sampled_from(["me", "you"]),
        NAMES,
        st.one_of(st.none(), st.integers(-2, 2)),
        st.sampled_from([None, True, False]),
    ),
    max_size=14,
)
SORTS = st.lists(
    st.tuples(st.sampled_from(sorted(COLUMNS)), st.booleans()), max_size=3, unique_by=lambda sort: sort[0]
).map(tuple)


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    one = SqliteDatabase(f"sqlite:///{Path(tmp_path_factory.mktemp('paging')) / 'ledger.db'}")
    with one.engine.connect() as connection:
        thing.metadata.create_all(connection)
    yield one
    one.close()


def fill(database: Database, rows: list[tuple[Any, ...]]) -> list[dict[str, Any]]:
    filled = [
        {"id": f"{(number * 7) % 16:x}", "owner": owner, "name": name, "size": size, "ready": ready}
        for number, (owner, name, size, ready) in enumerate(rows)
    ]

    def work(tx: Any) -> None:
        tx.execute(delete(thing))
        tx.insert(thing, filled)

    database.write(work)
    return [row for row in filled if row["owner"] == "me"]


def ordered(rows: list[dict[str, Any]], sorts: tuple[tuple[str, bool], ...], reverse: bool) -> list[str]:
    """The same sort in memory: stable, last key first; NULL smallest, text by its UTF-8 bytes."""
    keys = list(sorts)
    if "id" not in [name for name, _ in keys]:
        keys.append(("id", keys[0][1] if keys else False))

    def value(row: dict[str, Any], name: str) -> tuple[Any, ...]:
        found = row[name]
        return (0,) if found is None else (1, found.encode() if isinstance(found, str) else int(found))

    for name, descending in reversed(keys):
        rows = sorted(rows, key=lambda row: value(row, name), reverse=descending != reverse)
    return [row["id"] for row in rows]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=ROWS, sorts=SORTS, limit=st.integers(1, 5), reverse=st.booleans())
def test_pages_put_together_are_the_list(
    database: Database, rows: list[Any], sorts: tuple[tuple[str, bool], ...], limit: int, reverse: bool
) -> None:
    expected = ordered(fill(database, rows), sorts, reverse)
    statement = select(thing).where(thing.c.owner == "me")
    found: list[str] = []
    marker: str | None = None
    with database.read() as tx:
        while True:
            page = Page(limit, marker, sorts, reverse)
            got = [row.id for row in tx.all(paginate(tx, statement, page, COLUMNS, key=thing.c.id, extra=1))]
            found += got[:limit]
            if len(got) <= limit:
                break
            marker = got[limit - 1]
        everything = [
            row.id
            for row in tx.all(paginate(tx, statement, Page(sorts=sorts, reverse=reverse), COLUMNS, key=thing.c.id))
        ]
    assert found == expected
    assert everything == expected


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=ROWS.filter(bool), sorts=SORTS)
def test_turning_round_at_a_marker_gives_what_came_before_it(
    database: Database, rows: list[Any], sorts: tuple[tuple[str, bool], ...]
) -> None:
    expected = ordered(fill(database, rows), sorts, False)
    statement = select(thing).where(thing.c.owner == "me")
    with database.read() as tx:
        for position, marker in enumerate(expected):
            page = Page(None, marker, sorts, True)
            before = [row.id for row in tx.all(paginate(tx, statement, page, COLUMNS, key=thing.c.id))]
            assert before == expected[:position][::-1]


def test_a_marker_outside_the_list_is_refused(database: Database) -> None:
    fill(database, [("me", "a", 1, True), ("you", "b", 2, False)])
    statement = select(thing).where(thing.c.owner == "me")
    with database.read() as tx:
        for marker in ("7", "nobody", ""):
            with pytest.raises(errors.BadRequest, match="marker") as wrong:
                paginate(tx, statement, Page(marker=marker), COLUMNS, key=thing.c.id, missing="gone")
            assert wrong.value.code == "gone"


def test_a_limit_of_zero_is_an_empty_page(database: Database) -> None:
    fill(database, [("me", "a", 1, True)])
    with database.read() as tx:
        assert tx.all(paginate(tx, select(thing), Page(limit=0), COLUMNS, key=thing.c.id)) == []
