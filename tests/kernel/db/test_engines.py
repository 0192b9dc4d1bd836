"""What a ledger promises whatever keeps it; and what a served one does when its database is away."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Column, ForeignKey, Integer, MetaData, Table, Text, func, insert, select, text, update

from nephos import app, errors
from nephos.kernel.db import migrate
from nephos.kernel.db.engine import Database, Tx
from nephos.kernel.db.schema import boolean, document, integer, metadata
from nephos.settings import Settings
from tests import engines

tables = MetaData()
counter = Table(
    "counter",
    tables,
    Column("id", Text, primary_key=True),
    integer("value", default=0),
    Column("words", Text),
    boolean("on"),
    document("what"),
)
child = Table("child", tables, Column("id", Integer, primary_key=True), Column("counter_id", Text, ForeignKey("counter.id")))
SERVED = [name for name in engines.ENGINES if name != "sqlite"]


class Servers:
    """One ledger, and as many servers on it as are asked for."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.made: list[Database] = []

    def server(self, connections: int = 20) -> Database:
        self.made.append(app.open_database(Settings(database=self.url, connections=connections)))
        return self.made[-1]

    def two(self) -> tuple[Database, Database]:
        """Two servers; the embedded ledger has one, which is both."""
        one = self.server()
        return one, one if one.embedded else self.server()


@pytest.fixture(params=engines.ENGINES)
def servers(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Servers]:
    with engines.ledger(request.param, tmp_path, tables=False) as url:
        made = Servers(url)
        with made.server().engine.connect() as connection:
            tables.create_all(connection)
        yield made
        for database in made.made:
            database.close()


def put(name: str, value: int = 0) -> Callable[[Tx], str]:
    def work(tx: Tx) -> str:
        tx.insert(counter, {"id": name, "value": value})
        return name

    return work


def values(database: Database) -> dict[str, int]:
    with database.read() as tx:
        return {row.id: row.value for row in tx.all(select(counter.c.id, counter.c.value))}


def test_a_work_is_kept_whole_or_not_at_all_and_rings_only_then(servers: Servers) -> None:
    one, other = servers.two()
    rung: list[dict[str, int]] = []

    def fails(tx: Tx) -> None:
        tx.insert(counter, {"id": "lost", "value": 1})
        tx.after_commit(lambda: rung.append({}))
        raise errors.Forbidden("no")

    def works(tx: Tx) -> None:
        tx.insert(counter, {"id": "kept", "value": 1})
        tx.after_commit(lambda: rung.append(values(other)))

    with pytest.raises(errors.Forbidden, match="no"):
        one.write(fails)
    assert values(other) == {}
    if one.embedded:
        one.write(works)
        assert len(rung) == 1
    else:
        one.submit(works).result(10)
        assert rung == [{"kept": 1}]
    assert values(other) == {"kept": 1}


def test_part_of_a_work_is_taken_back_and_constraints_are_told_apart(servers: Servers) -> None:
    one, _ = servers.two()

    def work(tx: Tx) -> None:
        tx.insert(counter, {"id": "kept", "value": 1})
        with pytest.raises(errors.Conflict, match="exists already"), tx.savepoint():
            tx.insert(counter, {"id": "lost", "value": 1})
            tx.insert(counter, {"id": "kept", "value": 2})
        with tx.savepoint():
            with pytest.raises(errors.NotFound), tx.savepoint():
                tx.insert(counter, {"id": "inner", "value": 1})
                raise errors.NotFound("inside another")
            tx.insert(counter, {"id": "more", "value": 3})

    one.write(work)
    assert values(one) == {"kept": 1, "more": 3}
    with pytest.raises(errors.Conflict, match="counter"):
        one.write(put("kept"))
    with pytest.raises(errors.Conflict, match="not there any more"):
        one.write(lambda tx: tx.insert(child, {"counter_id": "nobody"}))
    with pytest.raises(Exception, match=r"(?i)null") as null:
        one.write(lambda tx: tx.insert(counter, {"id": "a", "value": None}))
    assert not isinstance(null.value, errors.NephosError)
    assert values(one) == {"kept": 1, "more": 3}


def test_reads_are_snapshots_and_works_do_not_nest(servers: Servers) -> None:
    one, other = servers.two()
    count = select(func.count()).select_from(counter)
    with one.read() as tx, ThreadPoolExecutor(1) as thread:
        assert tx.scalar(count) == 0
        thread.submit(other.write, put("a")).result(10)
        with one.read() as inner:
            assert inner is tx
            assert inner.scalar(count) == 0
        with pytest.raises(RuntimeError, match="inside"):
            one.write(put("b"))
        with pytest.raises(Exception, match=r"(?i)read.?only"):
            tx.execute(insert(counter), {"id": "c", "value": 1})
    with pytest.raises(RuntimeError, match="inside"):
        one.write(lambda tx: one.write(put("d")))

    def sees(tx: Tx) -> int:
        tx.insert(counter, {"id": "e", "value": 5})
        with one.read() as inside:
            return int(inside.scalar(select(counter.c.value).where(counter.c.id == "e")))

    assert one.write(sees) == 5
    assert values(one) == {"a": 0, "e": 5}


def test_text_is_its_bytes_numbers_are_numbers(servers: Servers) -> None:
    one, _ = servers.two()
    names = ["B", "a", "a ", "A", "é", "b", "ab_c", "abXc", "漢"]
    one.write(lambda tx: tx.insert(counter, [{"id": name, "value": 1 << 40, "what": []} for name in names]))
    with one.read() as tx:
        assert tx.column(select(counter.c.id).order_by(counter.c.id)) == sorted(names, key=str.encode)
        assert tx.column(select(counter.c.id).where(counter.c.id == "a")) == ["a"]
        assert tx.column(select(counter.c.id).where(counter.c.id.like("a%")).order_by(counter.c.id)) == [
            "a", "a ", "abXc", "ab_c",
        ]  # fmt: skip
        assert tx.column(select(counter.c.id).where(counter.c.id.startswith("ab_", autoescape=True))) == ["ab_c"]
        total = tx.scalar(select(func.sum(counter.c.value)))
        assert total == len(names) << 40
        assert type(total) is int
        assert tx.scalar(select(func.count()).where(counter.c.what != [])) == 0
        assert tx.scalar(select(counter.c.on).where(counter.c.id == "a")) is False


def test_rows_are_put_counted_and_updated_in_one_way(servers: Servers) -> None:
    one, _ = servers.two()
    row = {"id": "a", "value": 1, "words": "x"}
    one.write(lambda tx: tx.upsert(counter, row, key=("id",), put=("words",), count=("value",)))
    one.write(lambda tx: tx.upsert(counter, [row | {"words": "y"}, row | {"id": "b"}], key=("id",), put=("words",), count=("value",)))
    bump = update(counter).where(counter.c.id == "a").values(value=counter.c.value + 10)
    assert [tuple(row) for row in one.write(lambda tx: tx.updated(bump, counter.c.id, counter.c.value))] == [("a", 12)]
    with one.read() as tx:
        assert [tuple(row) for row in tx.all(select(counter.c.id, counter.c.value, counter.c.words).order_by(counter.c.id))] == [
            ("a", 12, "y"), ("b", 1, "x"),
        ]  # fmt: skip


def test_counters_are_exact_under_32_threads_of_two_servers(servers: Servers) -> None:
    pair = servers.two()
    names = ["c0", "c1"]
    pair[0].write(lambda tx: tx.insert(counter, [{"id": name, "value": 0} for name in names]))
    pair[0].write(put("sum"))

    def bump(name: str) -> Callable[[Tx], int]:
        def work(tx: Tx) -> int:
            value = tx.scalar(select(counter.c.value).where(counter.c.id == name)) + 1
            tx.execute(update(counter).where(counter.c.id == name).values(value=value))
            total = tx.scalar(select(func.sum(counter.c.value)).where(counter.c.id.in_(names)))
            tx.execute(update(counter).where(counter.c.id == "sum").values(value=total))
            return int(value)

        return work

    def run(number: int) -> list[int]:
        return [pair[number % 2].write(bump(names[(number + turn) % 2])) for turn in range(4)]

    with ThreadPoolExecutor(32) as threads:
        answers = sorted(value for found in threads.map(run, range(32)) for value in found)
    assert values(pair[0]) == {"c0": 64, "c1": 64, "sum": 128}
    assert answers == sorted(list(range(1, 65)) * 2)


def test_two_that_see_the_same_gap_do_not_both_fill_it(servers: Servers) -> None:
    """Each adds a row when there are fewer than five: no row is changed by two, yet only five come to be."""
    pair = servers.two()

    def work(number: int) -> bool:
        def add(tx: Tx) -> bool:
            if tx.scalar(select(func.count()).select_from(counter)) >= 5:
                return False
            tx.insert(counter, {"id": f"n{number}", "value": 1})
            return True

        return pair[number % 2].write(add)

    with ThreadPoolExecutor(24) as threads:
        assert sum(threads.map(work, range(24))) == 5
    assert len(values(pair[0])) == 5


def test_what_cannot_be_kept_is_the_clients_fault(servers: Servers) -> None:
    one, _ = servers.two()
    if one.embedded:
        pytest.skip("SQLite has no widths")
    with pytest.raises(errors.BadRequest, match="cannot be kept"):
        one.write(lambda tx: tx.execute(insert(child).values(id=1 << 40)))
    with pytest.raises(errors.BadRequest, match="cannot be kept"):  # the one has no NUL in text, the other has widths
        one.write(put("a\0b" if one.engine.dialect.name == "postgresql" else "x" * 5000))


@pytest.fixture(params=SERVED)
def served(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Servers]:
    with engines.ledger(request.param, tmp_path, tables=False) as url:
        made = Servers(url)
        with made.server().engine.connect() as connection:
            tables.create_all(connection)
        yield made
        for database in made.made:
            database.close()


def cut(database: Database) -> None:
    """End every other connection to this database, as a fail-over does."""
    with database.engine.connect() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(
                text(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
            )
            return
        mine = "SELECT id FROM information_schema.processlist WHERE db = database() AND id <> connection_id()"
        for (number,) in connection.execute(text(mine)).fetchall():
            connection.execute(text(f"KILL {int(number)}"))


def test_a_connection_lost_before_the_commit_costs_nothing(served: Servers) -> None:
    one, operator = served.server(), served.server()
    attempts: list[int] = []

    def work(tx: Tx) -> None:
        attempts.append(1)
        tx.insert(counter, {"id": "a", "value": len(attempts)})
        if len(attempts) < 3:
            cut(operator)
        tx.execute(update(counter).where(counter.c.id == "a").values(words="late"))

    one.write(work)
    assert values(one) == {"a": 3}
    cut(operator)
    assert values(one) == {"a": 3}, "an idle connection that was cut is replaced"


def test_one_that_is_always_met_gives_up_with_words(served: Servers) -> None:
    one, other = served.server(), served.server()
    one.write(put("a"))
    attempts: list[int] = []

    def work(tx: Tx) -> None:
        attempts.append(1)
        before = tx.scalar(select(counter.c.value).where(counter.c.id == "a"))
        if one.engine.dialect.name == "mariadb":  # there a reader holds off who would change what it read
            raise errors.Forbidden("nobody can come between")
        bump = update(counter).where(counter.c.id == "a").values(value=counter.c.value + 1)
        with ThreadPoolExecutor(1) as thread:
            thread.submit(other.write, lambda tx: tx.execute(bump)).result(10)
        tx.execute(update(counter).where(counter.c.id == "a").values(value=before + 1))

    with pytest.raises((errors.Unavailable, errors.Forbidden)) as wrong:
        one.write(work)
    if one.engine.dialect.name == "postgresql":
        assert wrong.value.retry_after == 2
        assert len(attempts) == 10
        assert values(one) == {"a": 10}


def test_a_work_that_goes_on_after_it_was_lost_keeps_nothing(served: Servers) -> None:
    """Two works wait for each other, so one of them is ended by the engine; what it does then is not kept by itself."""
    one, other = served.two()
    one.write(put("a"))
    one.write(put("b"))
    both, lost = threading.Barrier(2), []

    def work(first: str, second: str) -> Callable[[Tx], None]:
        def body(tx: Tx) -> None:
            bump = update(counter).values(value=counter.c.value + 1)
            tx.execute(bump.where(counter.c.id == first))
            if not both.broken:
                with suppress(threading.BrokenBarrierError):
                    both.wait(5)
                both.abort()
            try:
                tx.execute(bump.where(counter.c.id == second))
            except errors.Unavailable:
                lost.append(first)
                with suppress(errors.Unavailable), tx.savepoint():
                    tx.insert(counter, {"id": "stray", "value": 1})

        return body

    with ThreadPoolExecutor(2) as threads:
        works = threads.submit(one.write, work("a", "b")), threads.submit(other.write, work("b", "a"))
        for each in works:
            each.result(30)
    assert lost
    assert values(one) == {"a": 2, "b": 2}


def test_a_work_that_goes_on_after_a_failure_is_a_fault_not_a_loss(served: Servers) -> None:
    one = served.server()
    one.write(put("a"))

    def work(tx: Tx) -> str:
        tx.insert(counter, {"id": "b", "value": 1})
        with pytest.raises(errors.Conflict):
            tx.insert(counter, {"id": "a", "value": 1})
        return "done"

    if one.engine.dialect.name == "postgresql":
        with pytest.raises(RuntimeError, match="savepoint"):
            one.write(work)
        assert values(one) == {"a": 0}
    else:
        assert one.write(work) == "done"
        assert values(one) == {"a": 0, "b": 1}


def test_all_servers_have_the_databases_clock(served: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = served.server(), served.server()
    monkeypatch.setattr("nephos.kernel.clock.now_us", lambda: 7)
    with one.read() as tx, other.read() as there:
        assert abs(tx.now - there.now) < 2_000_000
        assert abs(tx.now / 1_000_000 - time.time()) < 5


def test_one_at_a_time_among_all_servers(served: Servers) -> None:
    inside: list[str] = []
    most: list[int] = []

    def run(database: Database) -> None:
        with database.alone("migrate"):
            inside.append("x")
            most.append(len(inside))
            time.sleep(0.02)
            inside.pop()

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(run, [served.server(2) for _ in range(6)]))
    assert most == [1] * 6


@pytest.mark.parametrize("engine", engines.ENGINES)
def test_migrations_make_what_the_code_declares_once(engine: str, tmp_path: Path) -> None:
    """Two servers start at once on an empty ledger; on the embedded one the second start finds it done."""
    with engines.ledger(engine, tmp_path, tables=False) as url:
        pair = Servers(url).two()
        done: list[bool] = []

        def start(database: Database) -> None:
            with database.alone("migrate"):
                done.append(migrate.upgrade(database.engine))

        threads = [threading.Thread(target=start, args=(database,)) for database in pair]
        for thread in threads:
            thread.start()
            if pair[0].embedded:
                thread.join()
        for thread in threads:
            thread.join()
        assert sorted(done) == [False, True]
        with pair[0].engine.connect() as connection:
            context = MigrationContext.configure(connection, opts={"compare_type": False})
            differences: list[Any] = compare_metadata(context, metadata)
        assert differences == []
        for database in pair:
            database.close()


class TestAway:
    """A PostgreSQL of its own that gives ten connections, and that is killed."""

    @pytest.fixture(scope="class")
    @classmethod
    def postgres(cls) -> Iterator[engines.Postgres]:
        server = engines.Postgres(most=10)
        yield server
        server.stop()

    @pytest.fixture
    def one(self, postgres: engines.Postgres) -> Iterator[Database]:
        made = Servers(postgres.url(postgres.make(tables=False)))
        database = made.server(connections=30)
        with database.engine.connect() as connection:
            tables.create_all(connection)
        yield database
        database.close()

    def test_connections_used_up_are_said_at_once_and_come_back(self, one: Database) -> None:
        release, refused = threading.Event(), []

        def hold(number: int) -> None:
            try:
                with one.read() as tx:
                    tx.scalar(select(func.count()).select_from(counter))
                    release.wait(20)
            except errors.Unavailable as wrong:
                refused.append(wrong)
                if len(refused) == 5:
                    release.set()

        began = time.monotonic()
        with ThreadPoolExecutor(15) as threads:
            list(threads.map(hold, range(15)))
        assert time.monotonic() - began < 15
        assert len(refused) >= 5
        assert "too many clients" in refused[0].message or "remaining connection slots" in refused[0].message
        assert refused[0].retry_after == 2
        one.write(put("after"))
        assert values(one) == {"after": 0}

    def test_a_share_of_the_databases_connections_is_enough_for_any_number_of_threads(self, one: Database) -> None:
        one.fit(servers=1)
        one.write(put("n"))
        bump = update(counter).where(counter.c.id == "n").values(value=counter.c.value + 1)
        with ThreadPoolExecutor(30) as threads:
            list(threads.map(lambda _: one.write(lambda tx: tx.execute(bump)), range(60)))
        assert values(one) == {"n": 60}

    def test_a_database_that_is_down_is_a_503_and_comes_back(self, postgres: engines.Postgres, one: Database) -> None:
        one.write(put("before"))
        postgres.kill()
        began = time.monotonic()
        for call in (lambda: values(one), lambda: one.write(put("lost"))):
            with pytest.raises(errors.Unavailable, match="cannot be used now") as wrong:
                call()  # type: ignore[no-untyped-call]
            assert wrong.value.retry_after == 2
        assert time.monotonic() - began < 10
        postgres.start()
        assert values(one) == {"before": 0}
        one.write(put("after"))
        assert values(one) == {"before": 0, "after": 0}


def test_a_full_disk_is_said_and_passes(tmp_path: Path) -> None:
    with engines.ledger("sqlite", tmp_path, tables=False) as url:
        one = Servers(url).server()
        with one.engine.connect() as connection:
            tables.create_all(connection)

        def most(pages: int) -> None:
            one.write(lambda tx: tx.execute(text(f"PRAGMA max_page_count={pages}")))

        one.write(put("before"))
        most(12)
        with pytest.raises(errors.Unavailable, match="full") as wrong:
            one.write(lambda tx: tx.insert(counter, {"id": "big", "value": 1, "words": "x" * 200_000}))
        assert wrong.value.retry_after == 2
        assert values(one) == {"before": 0}
        most(1 << 30)
        one.write(put("after"))
        assert values(one) == {"before": 0, "after": 0}
        one.close()
