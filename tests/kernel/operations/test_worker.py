"""The worker itself, in its threads and in real time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from sqlalchemy import select

from nephos import errors
from nephos.kernel.db.engine import Tx
from nephos.kernel.operations import store, worker
from nephos.kernel.operations.model import Kind, Later, Operation, Outcome, Outside, Step
from nephos.kernel.operations.worker import Worker
from tests.kernel.operations.toy import Toys, open_toys, task


def until(happened: Callable[[], object], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.005)


@pytest.fixture
def toys(tmp_path: Path) -> Iterator[Toys]:
    one = open_toys(tmp_path)
    yield one
    one.database.close()


@pytest.fixture
def working(toys: Toys) -> Iterator[Worker]:
    one = Worker(toys.database, toys.operations, toys.doorbell)
    one.start()
    yield one
    one.stop()


def start(toys: Toys, *steps: Step, deadline: float = 60, noun_id: str = "x") -> str:
    toys.operations.register([Kind(f"kind-{noun_id}", "do", steps, deadline, lambda *_: None)])
    return toys.database.write(lambda tx: toys.operations.start(tx, f"kind-{noun_id}", "thing", noun_id))


def state(toys: Toys, operation: str) -> str:
    with toys.database.read() as tx:
        return str(tx.scalar(select(store.operation.c.state).where(store.operation.c.id == operation)))


def answered(toys: Toys) -> bool:
    """The host does what it has to do."""
    with toys.database.read() as tx:
        rows = tx.all(select(task))
    for row in rows:
        toys.world.do(row.what, row.toy_id)
        toys.database.write(lambda tx, row=row: toys.answer(tx, row.id))  # type: ignore[misc]
    return True


def test_a_toy_is_made_and_unmade(toys: Toys, working: Worker) -> None:
    toys.make("t")
    until(lambda: answered(toys) and toys.status("t") == "ACTIVE")
    toys.check("t")
    toys.unmake("t")
    until(lambda: answered(toys) and toys.status("t") is None)
    toys.check("t")


def test_a_ring_is_answered_at_once_and_a_lost_one_soon(
    toys: Toys, working: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = Step("quick", lambda tx, operation: None)
    monkeypatch.setattr(worker, "LOOK_EVERY", 30)
    time.sleep(1.1)
    operation = start(toys, quick)
    until(lambda: state(toys, operation) == "done", 5)
    monkeypatch.setattr(worker, "LOOK_EVERY", 0.2)
    toys.doorbell.ring("operations")
    time.sleep(0.3)
    monkeypatch.setattr(toys.doorbell, "_listeners", ())
    operation = start(toys, quick)
    until(lambda: state(toys, operation) == "done", 5)


def test_a_short_pause_is_kept_short(toys: Toys, working: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "LOOK_EVERY", 30)
    looks: list[float] = []

    def run(tx: Tx, operation: Operation) -> Outcome:
        looks.append(time.monotonic())
        return Later(0.05) if len(looks) < 5 else None

    operation = start(toys, Step("look", run))
    until(lambda: state(toys, operation) == "done", 10)
    assert all(later - earlier >= 0.045 for earlier, later in pairwise(looks))


def test_a_broken_step_keeps_nobody_else_waiting(
    toys: Toys, working: Worker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(worker, "AGAIN_SECONDS", 0.1)
    broken = [True]

    def run(tx: Tx, operation: Operation) -> Outcome:
        if broken[0]:
            raise ZeroDivisionError("bug")
        return None

    bad = start(toys, Step("bad", run), noun_id="bad")
    good = [start(toys, Step("good", lambda tx, operation: None), noun_id=f"good{number}") for number in range(20)]
    until(lambda: all(state(toys, each) == "done" for each in good))
    assert state(toys, bad) == "running"
    assert "ZeroDivisionError" in caplog.text
    broken[0] = False
    until(lambda: state(toys, bad) == "done")


def test_work_outside_that_fails_undoes(toys: Toys, working: Worker) -> None:
    undone: list[str] = []

    def work() -> None:
        raise errors.HostFault("the disk is full")

    def bug() -> None:
        raise KeyError("x")

    def undo(tx: Tx, operation: Operation) -> None:
        undone.append(operation.error or "")

    for name, call in (("a", work), ("b", bug)):
        operation = start(toys, Step("out", lambda tx, operation, call=call: Outside(call), undo=undo), noun_id=name)  # type: ignore[misc]
        until(lambda: state(toys, operation) == "failed")  # noqa: B023
    assert undone == ["the disk is full", "KeyError: 'x'"]


def test_work_that_outlives_its_lease_is_not_begun_twice(toys: Toys, working: Worker) -> None:
    begun: list[float] = []
    release = threading.Event()

    def work() -> int:
        begun.append(time.monotonic())
        assert release.wait(10)
        return 7

    taken: list[object] = []
    operation = start(
        toys,
        Step(
            "long", lambda tx, operation: Outside(work, lease=0.1), lambda tx, operation, result: taken.append(result)
        ),
    )
    time.sleep(0.8)
    assert len(begun) == 1
    release.set()
    until(lambda: state(toys, operation) == "done")
    assert taken == [7]


def test_a_result_that_could_not_be_taken_comes_again_after_the_lease(toys: Toys, working: Worker) -> None:
    begun: list[int] = []
    refused = [True]

    def after(tx: Tx, operation: Operation, result: object) -> None:
        if refused.pop() if refused else False:
            raise ZeroDivisionError("bug")

    operation = start(toys, Step("out", lambda tx, operation: Outside(lambda: begun.append(1), lease=0.2), after))
    until(lambda: state(toys, operation) == "done")
    assert begun == [1, 1]


def test_many_works_outside_share_a_few_threads(toys: Toys, working: Worker) -> None:
    threads: set[str] = set()

    def work() -> None:
        threads.add(threading.current_thread().name)
        time.sleep(0.01)

    operations = [
        start(toys, Step("out", lambda tx, operation: Outside(work, lease=0.05)), noun_id=f"n{number}")
        for number in range(30)
    ]
    until(lambda: all(state(toys, each) == "done" for each in operations))
    assert len(threads) == worker.OUTSIDE_THREADS


def test_a_stopped_worker_does_nothing_more(toys: Toys) -> None:
    one = Worker(toys.database, toys.operations, toys.doorbell)
    one.start()
    one.stop()
    operation = start(toys, Step("quick", lambda tx, operation: None))
    time.sleep(0.2)
    assert state(toys, operation) == "running"
    other = Worker(toys.database, toys.operations, toys.doorbell)
    other.stop()
