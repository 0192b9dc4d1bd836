"""The unit of work: what is kept, what is not, and who hears of it when."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Column, ForeignKey, Integer, MetaData, Table, Text, func, insert, select, text, update

from nephos import errors
from nephos.kernel.db.engine import Tx
from nephos.kernel.db.sqlite import MOST_WORKS_A_COMMIT, SqliteDatabase

metadata = MetaData()
counter = Table("counter", metadata, Column("id", Text, primary_key=True), Column("value", Integer, nullable=False))
child = Table(
    "child",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("counter_id", Text, ForeignKey("counter.id")),
)


class Ledger:
    """A database and the SQL that its writer really ran."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.database = SqliteDatabase(f"sqlite:///{path}")
        with self.database.engine.connect() as connection:
            metadata.create_all(connection)

    def trace(self) -> list[str]:
        """Every statement that the writer runs from now on."""
        ran: list[str] = []

        def watch(tx: Tx) -> None:
            raw = tx._connection.connection.driver_connection
            assert isinstance(raw, sqlite3.Connection)
            raw.set_trace_callback(ran.append)

        self.database.write(watch)
        ran.clear()
        return ran

    def values(self) -> dict[str, int]:
        """What another process would see."""
        with sqlite3.connect(self.path) as raw:
            return dict(raw.execute("select id, value from counter"))

    def hold(self) -> tuple[threading.Event, Future[None]]:
        """Keep the writer inside a work until the event is set, so that what follows gathers in one batch."""
        entered, release = threading.Event(), threading.Event()

        def work(tx: Tx) -> None:
            entered.set()
            assert release.wait(10)

        future = self.database.submit(work)
        assert entered.wait(10)
        return release, future


def put(name: str, value: int = 0) -> Callable[[Tx], str]:
    def work(tx: Tx) -> str:
        tx.insert(counter, {"id": name, "value": value})
        return name

    return work


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    one = Ledger(tmp_path / "ledger.db")
    yield one
    one.database.close()


def test_many_works_one_commit(ledger: Ledger) -> None:
    ran = ledger.trace()
    release, held = ledger.hold()
    futures = [ledger.database.submit(put(f"c{number}")) for number in range(20)]
    release.set()
    held.result(10)
    assert [future.result(10) for future in futures] == [f"c{number}" for number in range(20)]
    assert [sql for sql in ran if sql.startswith(("BEGIN", "COMMIT"))] == ["BEGIN IMMEDIATE", "COMMIT"]
    assert len(ledger.values()) == 20


def test_a_batch_is_bounded(ledger: Ledger) -> None:
    ran = ledger.trace()
    release, held = ledger.hold()
    futures = [ledger.database.submit(put(f"c{number}")) for number in range(2 * MOST_WORKS_A_COMMIT)]
    release.set()
    held.result(10)
    for future in futures:
        future.result(10)
    assert ran.count("COMMIT") == 3
    assert len(ledger.values()) == 2 * MOST_WORKS_A_COMMIT


def test_a_failing_work_rolls_back_only_itself(ledger: Ledger) -> None:
    def fails(tx: Tx) -> None:
        tx.insert(counter, {"id": "lost", "value": 1})
        tx.execute(update(counter).values(value=99))
        raise errors.Forbidden("no")

    rung: list[str] = []

    def rings(tx: Tx) -> None:
        tx.after_commit(lambda: rung.append("lost"))
        raise KeyError("unforeseen")

    release, held = ledger.hold()
    before = ledger.database.submit(put("before", 1))
    wrong = ledger.database.submit(fails)
    loud = ledger.database.submit(rings)
    after = ledger.database.submit(put("after", 2))
    release.set()
    held.result(10)
    assert (before.result(10), after.result(10)) == ("before", "after")
    with pytest.raises(errors.Forbidden, match="no"):
        wrong.result(10)
    with pytest.raises(KeyError, match="unforeseen"):
        loud.result(10)
    assert ledger.values() == {"before": 1, "after": 2}
    assert rung == []


def test_write_raises_what_the_work_raised_and_goes_on(ledger: Ledger) -> None:
    ledger.database.write(put("one"))
    with pytest.raises(errors.Conflict, match="counter"):
        ledger.database.write(put("one"))
    assert ledger.database.write(put("two")) == "two"


def test_doorbells_ring_when_the_rows_are_durable_and_before_the_caller_goes_on(ledger: Ledger) -> None:
    seen: list[dict[str, int]] = []

    def work(tx: Tx) -> None:
        tx.insert(counter, {"id": "a", "value": 1})
        tx.after_commit(lambda: seen.append(ledger.values()))
        assert ledger.values() == {}

    ledger.database.write(work)
    assert seen == [{"a": 1}]


def test_a_broken_doorbell_breaks_nothing(ledger: Ledger) -> None:
    rung: list[int] = []

    def work(tx: Tx) -> int:
        tx.after_commit(lambda: 1 // 0)  # type: ignore[arg-type]
        tx.after_commit(lambda: rung.append(1))
        return 7

    assert ledger.database.write(work) == 7
    assert rung == [1]
    assert ledger.database.write(put("b")) == "b"


def test_reads_see_what_was_committed_and_nested_reads_one_snapshot(ledger: Ledger) -> None:
    count = select(func.count()).select_from(counter)
    with ledger.database.read() as tx:
        assert tx.scalar(count) == 0
        with ThreadPoolExecutor(1) as other:
            other.submit(ledger.database.write, put("a")).result(10)
        with ledger.database.read() as inner:
            assert inner is tx
            assert inner.scalar(count) == 0
        assert tx.scalar(count) == 0
    with ledger.database.read() as tx:
        assert tx.scalar(count) == 1


def test_a_read_cannot_write(ledger: Ledger) -> None:
    with ledger.database.read() as tx, pytest.raises(Exception, match="readonly"):
        tx.execute(insert(counter), {"id": "a", "value": 1})
    with ledger.database.read() as tx:
        assert tx.all(select(counter)) == []


def test_an_error_in_a_read_ends_its_snapshot(ledger: Ledger) -> None:
    with pytest.raises(ZeroDivisionError), ledger.database.read() as tx:
        tx.scalar(select(func.count()).select_from(counter))
        raise ZeroDivisionError
    ledger.database.write(put("a"))
    with ledger.database.read() as tx:
        assert tx.scalar(select(func.count()).select_from(counter)) == 1


def test_a_read_inside_a_work_sees_the_works_rows(ledger: Ledger) -> None:
    def work(tx: Tx) -> int:
        tx.insert(counter, {"id": "a", "value": 5})
        with ledger.database.read() as inside:
            return int(inside.scalar(select(counter.c.value)))

    assert ledger.database.write(work) == 5


def test_units_of_work_do_not_nest(ledger: Ledger) -> None:
    with ledger.database.read(), pytest.raises(RuntimeError, match="inside"):
        ledger.database.write(put("a"))
    with pytest.raises(RuntimeError, match="inside"):
        ledger.database.write(lambda tx: ledger.database.write(put("b")))
    wrong: list[BaseException] = []

    def rings() -> None:
        try:
            ledger.database.write(put("c"))
        except RuntimeError as error:
            wrong.append(error)

    ledger.database.write(lambda tx: tx.after_commit(rings))
    assert len(wrong) == 1
    assert ledger.values() == {}


def test_part_of_a_work_can_be_taken_back(ledger: Ledger) -> None:
    rung: list[str] = []

    def work(tx: Tx) -> None:
        tx.insert(counter, {"id": "kept", "value": 1})
        tx.after_commit(lambda: rung.append("kept"))
        with pytest.raises(errors.Conflict), tx.savepoint():
            tx.insert(counter, {"id": "lost", "value": 1})
            tx.after_commit(lambda: rung.append("lost"))
            tx.insert(counter, {"id": "kept", "value": 2})
        with tx.savepoint():
            tx.insert(counter, {"id": "more", "value": 3})

    ledger.database.write(work)
    assert ledger.values() == {"kept": 1, "more": 3}
    assert rung == ["kept"]


def test_broken_constraints_are_told_apart(ledger: Ledger) -> None:
    with pytest.raises(errors.Conflict, match="not there any more"):
        ledger.database.write(lambda tx: tx.insert(child, {"counter_id": "nobody"}))
    with pytest.raises(Exception, match="NOT NULL") as null:
        ledger.database.write(lambda tx: tx.insert(counter, {"id": "a", "value": None}))
    assert not isinstance(null.value, errors.NephosError)


def test_counters_are_exact_under_32_threads(ledger: Ledger) -> None:
    names = [f"c{number}" for number in range(4)]
    ledger.database.write(lambda tx: tx.insert(counter, [{"id": name, "value": 0} for name in names]))

    def bump(name: str) -> Callable[[Tx], int]:
        def work(tx: Tx) -> int:
            value = tx.scalar(select(counter.c.value).where(counter.c.id == name)) + 1
            tx.execute(update(counter).where(counter.c.id == name).values(value=value))
            return int(value)

        return work

    def run(number: int) -> list[int]:
        return [ledger.database.write(bump(names[(number + turn) % 4])) for turn in range(25)]

    with ThreadPoolExecutor(32) as threads:
        answers = sorted(value for values in threads.map(run, range(32)) for value in values)
    assert ledger.values() == dict.fromkeys(names, 200)
    assert answers == sorted(list(range(1, 201)) * 4)


def test_readers_never_see_half_a_work_while_writers_write(ledger: Ledger) -> None:
    ledger.database.write(lambda tx: tx.insert(counter, [{"id": "a", "value": 0}, {"id": "b", "value": 0}]))
    stop = threading.Event()
    torn: list[list[int]] = []

    def look() -> None:
        while not stop.is_set():
            with ledger.database.read() as tx:
                values = [tx.scalar(select(counter.c.value).where(counter.c.id == name)) for name in ("a", "b")]
            if values[0] != values[1]:
                torn.append(values)

    def both(tx: Tx) -> None:
        for name in ("a", "b"):
            tx.execute(update(counter).where(counter.c.id == name).values(value=counter.c.value + 1))

    with ThreadPoolExecutor(2) as threads:
        looking = [threads.submit(look) for _ in range(2)]
        for _ in range(200):
            ledger.database.write(both)
        stop.set()
        for future in looking:
            future.result(10)
    assert torn == []
    assert ledger.values() == {"a": 200, "b": 200}


def test_a_ledger_that_another_process_holds_answers_with_words_and_recovers(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.db")
    ledger.database.write(lambda tx: tx.execute(text("PRAGMA busy_timeout=50")))
    other = sqlite3.connect(ledger.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(errors.Unavailable, match="locked"):
        ledger.database.submit(put("a")).result(10)
    other.execute("ROLLBACK")
    other.close()
    assert ledger.database.write(put("b")) == "b"
    assert ledger.values() == {"b": 0}
    ledger.database.close()


def test_a_lost_commit_reaches_every_caller_of_the_batch(ledger: Ledger) -> None:
    """The transaction ends under the batch's feet, as it does when the disk is full."""
    rung: list[int] = []

    def first(tx: Tx) -> None:
        tx.insert(counter, {"id": "a", "value": 0})
        tx.after_commit(lambda: rung.append(1))

    release, held = ledger.hold()
    futures: list[Future[Any]] = [
        ledger.database.submit(first),
        ledger.database.submit(lambda tx: tx.execute(text("ROLLBACK"))),
        ledger.database.submit(put("b")),
    ]
    release.set()
    for future in [held, futures[0], futures[1]]:
        with pytest.raises(errors.Unavailable, match="could not be written"):
            future.result(10)
    assert futures[2].exception(10) is None or isinstance(futures[2].exception(10), errors.Unavailable)
    assert "a" not in ledger.values()
    assert rung == []
    assert ledger.database.write(put("c")) == "c"


def test_a_closed_ledger_finishes_what_it_took_and_refuses_the_rest(ledger: Ledger) -> None:
    release, held = ledger.hold()
    taken = [ledger.database.submit(put(f"c{number}")) for number in range(5)]
    closing = threading.Thread(target=ledger.database.close)
    closing.start()
    while not ledger.database._closed:
        pass
    with pytest.raises(errors.Unavailable, match="closing"):
        ledger.database.submit(put("late"))
    release.set()
    closing.join(10)
    held.result(10)
    assert [future.result(1) for future in taken] == [f"c{number}" for number in range(5)]
    assert len(ledger.values()) == 5
    with pytest.raises(errors.Unavailable), ledger.database.read():
        pass
    ledger.database.close()


def test_no_caller_is_lost_when_closing_races_with_writing(tmp_path: Path) -> None:
    for turn in range(10):
        ledger = Ledger(tmp_path / f"{turn}.db")
        answered: list[str] = []

        def write(number: int, ledger: Ledger = ledger, answered: list[str] = answered) -> None:
            for attempt in range(50):
                try:
                    ledger.database.submit(put(f"{number}-{attempt}")).result(10)
                except errors.Unavailable:
                    answered.append("refused")
                    return
            answered.append("all")

        threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        ledger.database.close()
        for thread in threads:
            thread.join(10)
        assert len(answered) == 4


def test_queries_are_counted(ledger: Ledger) -> None:
    with ledger.database.read() as tx:
        tx.all(select(counter))
        tx.column(select(counter.c.id))
        assert tx.first(select(counter)) is None
        assert tx.queries == 3
