"""Servers and hosts that die at every moment: what was accepted ends done, undone or gone, and nothing is half-made.

The simulated part runs server, works outside and host one event at a time, so that a crash falls between any two of
them. The real part kills a process that works on the same ledger.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from nephos import errors
from nephos.kernel import clock
from nephos.kernel.operations import store
from nephos.kernel.operations.model import LIVE, Operation, Outside
from tests.kernel.operations.toy import Toys, World, open_toys, task

ROOT = Path(__file__).parents[3]
EVENTS = (
    "advance",
    "work",
    "take",
    "pull",
    "host",
    "report",
    "report again",
    "sleep",
    "server dies",
    "host dies",
    "delete",
)
FAILURES = [None, ("claim", "run"), ("paint", "run"), ("paint", "after"), ("place", "after"), ("settle", "run")]


class Simulation:
    """A server, its works outside and one host, each event by itself, on a clock of their own."""

    def __init__(self, path: Path) -> None:
        self.now = 1_800_000_000_000_000
        self.toys = open_toys(path)
        self.jobs: list[Outside] = []
        self.results: list[str] = []
        self.queue: list[tuple[str, str, str]] = []
        self.known: set[str] = set()
        self.outbox: list[str] = []
        self.failure: tuple[str, str] | None = None
        self.hit = 0
        self.deleted = False
        self._watch()

    def tick(self) -> int:
        self.now += 1
        return self.now

    def _watch(self) -> None:
        def fail(operation: Operation, call: str) -> None:
            if operation.kind == "toy.make" and (operation.step, call) == self.failure:
                raise errors.HostFault("it asked to fail here")

        self.toys.fail = fail

    def do(self, event: str) -> bool:
        """One event; answers whether there was anything to do."""
        self.hit += 1
        done: Callable[[], bool] = getattr(self, "_" + event.replace(" ", "_"))
        return done()

    def _advance(self) -> bool:
        with self.toys.database.read() as tx:
            due = self.toys.operations.due(tx)
        for each in due[:1]:
            away = {job.task.split(":")[0] for job in self.jobs} | {name.split(":")[0] for name in self.results}
            if each in away:
                self.toys.database.write(lambda tx: self.toys.operations.renew(tx, each, 10))  # noqa: B023
                continue
            job = self.toys.database.write(lambda tx: self.toys.operations.advance(tx, each))  # noqa: B023
            if job is not None:
                self.jobs.append(job)
        return bool(due)

    def _work(self) -> bool:
        if not self.jobs:
            return False
        job = self.jobs.pop(self.hit % len(self.jobs))
        job.work()
        self.results.append(job.task)
        return True

    def _take(self) -> bool:
        if not self.results:
            return False
        name = self.results.pop(0)
        self.toys.database.write(lambda tx: self.toys.operations.resume(tx, name, "done", None, (), None))
        return True

    def _pull(self) -> bool:
        with self.toys.database.read() as tx:
            rows = tx.all(select(task).order_by(task.c.number))
        fresh = [(row.id, row.what, row.toy_id) for row in rows if row.id not in self.known]
        self.queue += fresh
        self.known |= {name for name, _, _ in fresh}
        return bool(fresh)

    def _host(self) -> bool:
        if not self.queue:
            return False
        name, what, toy_id = self.queue.pop(0)
        self.toys.world.do(what, toy_id)
        self.outbox.append(name)
        return True

    def _report(self) -> bool:
        if not self.outbox:
            return False
        name = self.outbox.pop(0)
        self.toys.database.write(lambda tx: self.toys.answer(tx, name))
        return True

    def _report_again(self) -> bool:
        if self.outbox:
            self.toys.database.write(lambda tx: self.toys.answer(tx, self.outbox[0]))
        return False

    def _sleep(self) -> bool:
        with self.toys.database.read() as tx:
            at = self.toys.operations.next_due(tx)
        if at is None:
            return False
        self.now = max(self.now, at) + 1
        return True

    def _server_dies(self) -> bool:
        self.jobs.clear()
        self.results.clear()
        self.toys = Toys(self.toys.database, self.toys.world)
        self._watch()
        self.toys.database.write(self.toys.operations.abandon)
        return False

    def _host_dies(self) -> bool:
        self.queue.clear()
        self.known.clear()
        self.outbox.clear()
        return False

    def _delete(self) -> bool:
        if self.toys.status("t") is not None:
            self.toys.unmake("t")
            self.deleted = True
        return False

    def settle(self) -> None:
        """Everybody does their part; time passes only when nobody has anything to do."""
        for _ in range(400):
            busy = [self.do(event) for event in ("advance", "work", "take", "pull", "host", "report")]
            if not any(busy) and not self.do("sleep"):
                return
        raise AssertionError(f"it never ends: {self.toys.states()}")

    def check(self) -> None:
        with self.toys.database.read() as tx:
            assert tx.all(select(store.operation).where(store.operation.c.state.in_(LIVE))) == []
            assert tx.all(select(task)) == [], "a task that nobody waits for"
        self.toys.check("t")
        if self.deleted:
            assert self.toys.status("t") is None
        elif self.failure is None:
            assert self.toys.status("t") in ("ACTIVE", "ERROR")
        else:
            assert self.toys.status("t") == "ERROR"


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(failure=st.sampled_from(FAILURES), events=st.lists(st.sampled_from(EVENTS), max_size=60))
def test_any_order_of_events_and_deaths_ends_whole(
    tmp_path_factory: pytest.TempPathFactory, failure: tuple[str, str] | None, events: list[str]
) -> None:
    simulation = Simulation(tmp_path_factory.mktemp("simulation"))
    simulation.failure = failure
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clock, "now_us", simulation.tick)
        simulation.toys.make("t")
        for event in events:
            simulation.do(event)
        simulation.settle()
        simulation.check()
    simulation.toys.database.close()


def _scenario(path: Path, failure: tuple[str, str] | None, at: int, deaths: tuple[str, ...], delete_at: int) -> int:
    """A create (and a delete, as event `delete_at`), with deaths as event `at`. Answers the number of events."""
    simulation = Simulation(path)
    simulation.failure = failure
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clock, "now_us", simulation.tick)
        simulation.toys.make("t")
        events = 0
        quiet = 0
        while quiet < 8:
            for event in ("advance", "work", "take", "pull", "host", "report"):
                if events == delete_at:
                    simulation.do("delete")
                if events == at:
                    for death in deaths:
                        simulation.do(death)
                busy = simulation.do(event)
                events += busy
                quiet = 0 if busy else quiet + 1
            if quiet >= 6 and simulation.do("sleep"):
                quiet = 0
        if delete_at >= events:
            simulation.do("delete")
        simulation.settle()
        simulation.check()
    simulation.toys.database.close()
    return events


@pytest.mark.parametrize("deaths", [("server dies",), ("host dies",), ("server dies", "host dies")])
@pytest.mark.parametrize("failure", [None, ("place", "after"), ("settle", "run")])
def test_a_death_at_every_event_of_a_create(
    tmp_path: Path, failure: tuple[str, str] | None, deaths: tuple[str, ...]
) -> None:
    at, events = 0, 1
    while at <= events:
        (tmp_path / str(at)).mkdir()
        events = _scenario(tmp_path / str(at), failure, at, deaths, 10_000 if at % 2 else -1)
        at += 1
    assert events >= 6


def test_a_delete_at_every_event_of_a_create_with_a_death_after_it(tmp_path: Path) -> None:
    for delete_at in range(14):
        for after in (0, 1, 2, 3):
            path = tmp_path / f"{delete_at}-{after}"
            path.mkdir()
            _scenario(path, None, delete_at + after, ("server dies", "host dies"), delete_at)


# --- a real process, really killed ---------------------------------------------------------------------------

WORKER = """
import sys, threading, time
from pathlib import Path
from tests.kernel.operations import toy
from sqlalchemy import select
from nephos.kernel.operations.worker import Worker

toys = toy.open_toys(Path(sys.argv[1]))
slow = toys.world.do
def do(what, toy_id):
    time.sleep(0.002)
    slow(what, toy_id)
    time.sleep(0.002)
toys.world.do = do
worker = Worker(toys.database, toys.operations, toys.doorbell)
worker.start()
print("up", flush=True)
while True:
    with toys.database.read() as tx:
        rows = tx.all(select(toy.task).order_by(toy.task.c.number))
    for row in rows:
        do(row.what, row.toy_id)
        toys.database.write(lambda tx: toys.answer(tx, row.id))
    time.sleep(0.005)
"""


def test_a_killed_server_leaves_nothing_half_made(tmp_path: Path) -> None:
    chance = random.Random(os.getpid())
    toys = open_toys(tmp_path)
    names = [f"t{number}" for number in range(40)]
    for name in names:
        toys.make(name)
    for name in names[::3]:
        toys.unmake(name)
    toys.database.close()
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    deaths = 0
    until = time.monotonic() + 60
    while True:
        process = subprocess.Popen(
            [sys.executable, "-c", WORKER, str(tmp_path)], stdout=subprocess.PIPE, env=environment, cwd=ROOT
        )
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        if deaths < 8:
            time.sleep(chance.uniform(0, 0.08))
        else:
            while _live(tmp_path):
                assert time.monotonic() < until, "it never ends"
                time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.wait(10)
        process.stdout.close()
        deaths += 1
        if not _live(tmp_path):
            break
    toys = open_toys(tmp_path)
    for name in names:
        toys.check(name)
        assert toys.status(name) == (None if name in names[::3] else "ACTIVE")
    toys.database.close()
    assert sorted(World(tmp_path / "world").things("t1")) == ["paint", "place"]


def _live(path: Path) -> int:
    toys = open_toys(path)
    try:
        with toys.database.read() as tx:
            return len(tx.all(select(store.operation.c.id).where(store.operation.c.state.in_(LIVE))))
    finally:
        toys.database.close()
