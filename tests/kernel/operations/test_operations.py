"""How operations start, wait, go on, fail, are undone, superseded and end; driven by hand on a clock of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import select, update

from nephos import errors
from nephos.kernel import clock
from nephos.kernel.db.engine import Tx
from nephos.kernel.operations import store
from nephos.kernel.operations.engine import UNDO_SECONDS
from nephos.kernel.operations.model import Kind, Later, Mark, Operation, Outcome, Outside, Step
from tests.kernel.operations.toy import DEADLINE, LEASE, UNMAKE, WAIT, Toys, claim, open_toys, task, toy


class Bench:
    """Toys on a clock that stands until it is moved."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1_800_000_000_000_000
        monkeypatch.setattr(clock, "now_us", self._tick)
        self.toys: Toys = open_toys(path)
        self.jobs: list[Outside] = []

    def _tick(self) -> int:
        self.now += 1
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += int(seconds * 1_000_000)

    def turn(self) -> None:
        """Advance everything that is due until nothing is."""
        operations, database = self.toys.operations, self.toys.database
        for _ in range(100):
            with database.read() as tx:
                due = operations.due(tx)
            if not due:
                return
            for each in due:
                job = database.write(lambda tx, each=each: operations.advance(tx, each))  # type: ignore[misc]
                if job is not None:
                    self.jobs.append(job)
        raise AssertionError("always something is due")

    def outside(self) -> None:
        """Do the works outside transactions and take their results."""
        for job in self.jobs:
            self.resume(job.task, job.work())
        self.jobs.clear()

    def resume(self, name: str, result: object = None, error: str | None = None, marks: tuple[Mark, ...] = ()) -> None:
        self.toys.database.write(lambda tx: self.toys.operations.resume(tx, name, result, error, marks, "host-1"))

    def tasks(self) -> list[str]:
        with self.toys.database.read() as tx:
            return tx.column(select(task.c.id).order_by(task.c.number))

    def host(self, error: str | None = None) -> None:
        """The host does its tasks in order and answers."""
        with self.toys.database.read() as tx:
            rows = tx.all(select(task).order_by(task.c.number))
        for row in rows:
            if error is None:
                self.toys.world.do(row.what, row.toy_id)
            self.toys.database.write(lambda tx, row=row: self.toys.answer(tx, row.id, error))  # type: ignore[misc]

    def run(self) -> None:
        """Let everybody do their part until nothing moves."""
        for _ in range(20):
            self.turn()
            self.outside()
            self.host()

    def row(self, operation_id: str) -> object:
        with self.toys.database.read() as tx:
            return tx.first(select(store.operation).where(store.operation.c.id == operation_id))

    def value(self, operation_id: str, name: str) -> object:
        return getattr(self.row(operation_id), name)


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    one = Bench(tmp_path, monkeypatch)
    yield one
    one.toys.database.close()


def failing(step: str, call: str, error: Exception, times: int = 1000) -> Callable[[Operation, str], None]:
    left = [times]

    def fail(operation: Operation, called: str) -> None:
        if (operation.step, called) == (step, call) and left[0]:
            left[0] -= 1
            raise error

    return fail


# --- going forward -------------------------------------------------------------------------------------------


def test_steps_run_in_order_and_the_timeline_names_them(bench: Bench) -> None:
    operation = bench.toys.make("t")
    bench.run()
    assert bench.toys.calls == ["run claim", "run paint", "after paint", "run place", "after place", "run settle"]
    assert bench.value(operation, "state") == "done"
    assert bench.toys.timeline(operation) == [(name, "Success") for name in ("claim", "paint", "place", "settle")]
    bench.toys.check("t")
    assert bench.toys.status("t") == "ACTIVE"


def test_steps_that_do_not_wait_share_one_unit_of_work(bench: Bench) -> None:
    ran: list[object] = []

    def run(tx: Tx, operation: Operation) -> Outcome:
        ran.append(tx)
        return None

    kind = Kind("quick", "quick", tuple(Step(name, run) for name in "abc"), 60, lambda *_: None)
    bench.toys.operations.register([kind])
    bench.toys.database.write(lambda tx: bench.toys.operations.start(tx, "quick", "thing", "x"))
    bench.turn()
    assert len(ran) == 3
    assert len(set(map(id, ran))) == 1


def test_later_looks_again_and_keeps_its_data(bench: Bench) -> None:
    def run(tx: Tx, operation: Operation) -> Outcome:
        operation.data["looks"] = operation.data.get("looks", 0) + 1
        return None if operation.data["looks"] == 3 else Later(2)

    bench.toys.operations.register([Kind("slow", "slow", (Step("look", run),), 60, lambda *_: None)])
    operation = bench.toys.database.write(
        lambda tx: bench.toys.operations.start(tx, "slow", "thing", "x", data={"why": "é"})
    )
    for looks in (1, 1, 2, 2, 3):
        bench.turn()
        assert bench.value(operation, "data") == {"why": "é", "looks": looks}
        bench.sleep(1.1)
    assert bench.value(operation, "state") == "done"


def test_marks_of_the_host_are_on_the_timeline_with_their_times_and_host(bench: Bench) -> None:
    operation = bench.toys.make("t")
    bench.turn()
    bench.outside()
    bench.resume(bench.tasks()[0], marks=(Mark("disk", 10, 20), Mark("running", 20, 30, "x")))
    bench.turn()
    with bench.toys.database.read() as tx:
        made = store.event.c.name.in_(["disk", "running"])
        rows = tx.all(select(store.event).where(made, store.event.c.host == "host-1").order_by(store.event.c.id))
    assert [(row.name, row.started_at, row.finished_at, row.detail) for row in rows] == [
        ("disk", 10, 20, None),
        ("running", 20, 30, "x"),
    ]
    assert [name for name, _ in bench.toys.timeline(operation)] == ["claim", "paint", "disk", "running", "settle"]


def test_a_wait_that_nobody_answers_is_looked_at_again_under_the_same_name(bench: Bench) -> None:
    bench.toys.make("t")
    bench.turn()
    bench.outside()
    tasks = bench.tasks()
    bench.sleep(WAIT + 1)
    bench.turn()
    assert bench.toys.calls.count("run place") == 2
    assert bench.tasks() == tasks
    bench.host()
    bench.turn()
    bench.toys.check("t")


def test_late_older_and_doubled_answers_are_ignored(bench: Bench) -> None:
    operation = bench.toys.make("t")
    bench.turn()
    bench.outside()
    old = bench.tasks()[0]
    bench.toys.database.write(lambda tx: bench.toys.operations.retry(tx, operation, "the host was lost"))
    assert bench.tasks() == [], "nobody is to do the older attempt any more"
    bench.turn()
    new = bench.tasks()[-1]
    assert (bench.value(operation, "attempt"), new) == (1, old[:-1] + "1")
    for name in (
        old,
        f"{operation}:place:7",
        f"{operation}:claim:0",
        f"{operation}:place:1:undo",
        "nobody:place:1",
        "",
    ):
        bench.resume(name, error="late")
    assert (bench.value(operation, "step"), bench.value(operation, "state")) == ("place", "running")
    bench.host()
    bench.resume(new, error="doubled")
    bench.turn()
    assert bench.value(operation, "state") == "done"
    bench.resume(new, error="after the end")
    assert bench.value(operation, "state") == "done"
    assert ("place", "Success") in bench.toys.timeline(operation)


def test_the_longest_waiting_is_first_and_nobody_starves(bench: Bench) -> None:
    order: list[str] = []

    def greedy(tx: Tx, operation: Operation) -> Outcome:
        order.append(operation.noun_id)
        return Later(0) if order.count(operation.noun_id) < 50 else None

    bench.toys.operations.register([Kind("greedy", "greedy", (Step("eat", greedy),), 60, lambda *_: None)])
    for name in "abc":
        bench.toys.database.write(lambda tx, name=name: bench.toys.operations.start(tx, "greedy", "thing", name))  # type: ignore[misc]
    operations, database = bench.toys.operations, bench.toys.database
    for _ in range(30):
        with database.read() as tx:
            first = operations.due(tx, 1)[0]
        database.write(lambda tx, first=first: operations.advance(tx, first))  # type: ignore[misc]
    assert order == list("abc") * 10


def test_what_is_done_at_once_leaves_its_history(bench: Bench) -> None:
    bench.toys.make("t")
    bench.run()
    bench.toys.database.write(
        lambda tx: bench.toys.operations.note(
            tx, "toy.lock", "toy", "t", request_id="req-1", project_id="p", user_id="u"
        )
    )
    with bench.toys.database.read() as tx:
        row = tx.first(select(store.operation).where(store.operation.c.kind == "toy.lock"))
        assert bench.toys.operations.live(tx, "toy", "t") is None
    assert row is not None
    assert (row.state, row.noun_id, row.request_id, row.project_id) == ("done", "t", "req-1", "p")
    assert row.created_at == row.finished_at


# --- failing and undoing -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "call", "undone"),
    [
        ("claim", "run", ["claim"]),
        ("paint", "run", ["paint", "claim"]),
        ("paint", "after", ["paint", "claim"]),
        ("place", "run", ["place", "paint", "claim"]),
        ("place", "after", ["place", "paint", "claim"]),
        ("settle", "run", ["settle", "place", "paint", "claim"]),
    ],
)
def test_a_failure_undoes_what_was_begun_last_first(bench: Bench, step: str, call: str, undone: list[str]) -> None:
    bench.toys.fail = failing(step, call, errors.NoValidHost("No valid host was found."))
    operation = bench.toys.make("t")
    bench.run()
    began = dict.fromkeys(each.split()[1] for each in bench.toys.calls if each.startswith("undo "))
    assert list(began) == undone
    assert (bench.value(operation, "state"), bench.value(operation, "error")) == ("failed", "No valid host was found.")
    assert (step, "Error") in bench.toys.timeline(operation)
    assert bench.toys.status("t") == "ERROR"
    bench.toys.check("t")
    assert bench.tasks() == []


def test_a_hosts_error_undoes_with_its_whole_reason(bench: Bench) -> None:
    operation = bench.toys.make("t")
    bench.turn()
    bench.outside()
    bench.host("disk is full on sda3")
    bench.run()
    assert (bench.value(operation, "state"), bench.value(operation, "error")) == ("failed", "disk is full on sda3")
    bench.toys.check("t")


def test_what_a_failing_step_wrote_is_taken_back(bench: Bench) -> None:
    def run(tx: Tx, operation: Operation) -> Outcome:
        tx.insert(claim, {"toy_id": "half"})
        raise errors.Conflict("no")

    bench.toys.operations.register([Kind("half", "half", (Step("try", run),), 60, lambda *_: None)])
    operation = bench.toys.database.write(lambda tx: bench.toys.operations.start(tx, "half", "thing", "x"))
    bench.turn()
    assert bench.value(operation, "state") == "failed"
    assert not bench.toys.claimed("half")


def test_an_undo_that_fails_is_told_and_the_rest_is_still_undone(bench: Bench) -> None:
    def fail(operation: Operation, call: str) -> None:
        if (operation.step, call) == ("settle", "run"):
            raise errors.HostFault("cannot settle")
        if (operation.step, call) in (("place", "undone"), ("paint", "undo")):
            raise errors.HostFault("cannot take it back")

    bench.toys.fail = fail
    operation = bench.toys.make("t")
    bench.run()
    assert bench.value(operation, "state") == "failed"
    assert bench.toys.timeline(operation)[-2:] == [("place undo failed", "Success"), ("paint undo failed", "Success")]
    assert not bench.toys.claimed("t")
    assert bench.toys.status("t") == "ERROR"


def test_the_deadline_undoes(bench: Bench) -> None:
    operation = bench.toys.make("t")
    bench.turn()
    bench.outside()
    bench.turn()
    bench.sleep(DEADLINE + 1)
    bench.turn()
    assert bench.value(operation, "state") == "undoing"
    assert str(bench.value(operation, "error")).startswith("Step 'place' was not over")
    assert [name.endswith(":undo") for name in bench.tasks()] == [True], "the host is not to place it any more"
    bench.run()
    assert bench.value(operation, "state") == "failed"
    bench.toys.check("t")


def test_a_deadline_while_undoing_gives_up_the_stuck_step_only(bench: Bench) -> None:
    bench.toys.fail = failing("settle", "run", errors.HostFault("no"))
    operation = bench.toys.make("t")
    bench.turn()
    bench.outside()
    bench.host()
    bench.turn()
    assert (bench.value(operation, "state"), bench.value(operation, "step")) == ("undoing", "place")
    bench.sleep(UNDO_SECONDS + 1)
    bench.turn()
    bench.outside()
    bench.turn()
    assert bench.value(operation, "state") == "failed"
    assert ("place undo failed", "Success") in bench.toys.timeline(operation)
    assert not bench.toys.claimed("t")
    assert bench.toys.world.things("t") == {"place"}
    assert len(bench.tasks()) == 1, "the host that is away still hears of it"
    bench.host()
    bench.toys.check("t")


def test_an_unforeseen_error_rolls_back_the_whole_turn_and_is_tried_again_until_the_deadline(bench: Bench) -> None:
    bench.toys.fail = failing("paint", "run", ZeroDivisionError("bug"))
    operation = bench.toys.make("t")
    operations, database = bench.toys.operations, bench.toys.database
    with pytest.raises(ZeroDivisionError):
        database.write(lambda tx: operations.advance(tx, operation))
    assert (bench.value(operation, "step"), bench.toys.claimed("t")) == ("claim", False)
    bench.toys.fail = lambda operation, call: None
    bench.run()
    bench.toys.check("t")
    assert bench.toys.status("t") == "ACTIVE"


def test_an_unforeseen_error_while_undoing_is_tried_again_and_given_up_at_the_deadline(bench: Bench) -> None:
    def fail(operation: Operation, call: str) -> None:
        if (operation.step, call) == ("settle", "run"):
            raise errors.HostFault("cannot settle")
        if (operation.step, call) == ("paint", "undo"):
            raise ZeroDivisionError("bug")

    bench.toys.fail = fail
    operation = bench.toys.make("t")
    bench.run()
    assert (bench.value(operation, "state"), bench.value(operation, "step")) == ("undoing", "paint")
    bench.sleep(10)
    bench.turn()
    assert bench.toys.calls.count("undo paint") >= 2
    bench.sleep(UNDO_SECONDS)
    bench.run()
    assert bench.value(operation, "state") == "failed"
    assert not bench.toys.claimed("t")


# --- one live operation a resource ---------------------------------------------------------------------------


def test_a_second_operation_is_refused_with_the_name_of_the_first(bench: Bench) -> None:
    first = bench.toys.make("t")
    with pytest.raises(errors.Conflict, match="make is at step 'claim'") as busy:
        bench.toys.database.write(lambda tx: bench.toys.operations.start(tx, "toy.make", "toy", "t"))
    assert busy.value.detail == {"operation": first}
    bench.toys.make("other")
    bench.run()
    assert bench.toys.status("other") == "ACTIVE"


@pytest.mark.parametrize("moment", ["accepted", "painting", "painted", "placing", "placed"])
def test_a_delete_supersedes_a_create_at_any_moment(bench: Bench, moment: str) -> None:
    create = bench.toys.make("t")
    if moment != "accepted":
        bench.turn()
    if moment in ("painted", "placing", "placed"):
        bench.outside()
    if moment == "placed":
        bench.turn()
        bench.host()
    done: list[tuple[str, str]] = []
    bench.toys.operations.ended.append(lambda tx, operation: done.append((operation.kind, operation.state)))
    gone = bench.toys.unmake("t")
    assert gone != create
    bench.run()
    bench.sleep(31)
    bench.run()
    expected = [("toy.make", "done" if moment == "placed" else "failed"), ("toy.unmake", "done")]
    assert done == expected[1 if moment == "placed" else 0 :]
    assert bench.toys.status("t") is None
    bench.toys.check("t")
    assert bench.tasks() == []
    first_delete = bench.toys.calls.index("run hide")
    assert all(not call.endswith("claim") for call in bench.toys.calls[first_delete:]), "the undo came first"


def test_a_cancel_waits_for_the_work_outside(bench: Bench) -> None:
    create = bench.toys.make("t")
    bench.turn()
    gone = bench.toys.unmake("t")
    bench.turn()
    assert (bench.value(create, "state"), bench.value(create, "cancelled")) == ("running", True)
    assert bench.value(gone, "step") == "hide"
    bench.outside()
    bench.turn()
    assert bench.value(create, "state") == "undoing"
    bench.run()
    assert bench.toys.status("t") is None
    bench.toys.check("t")


def test_a_superseding_operation_gets_its_whole_time_after_the_wait(bench: Bench) -> None:
    create = bench.toys.make("t")
    bench.turn()
    bench.outside()
    gone = bench.toys.unmake("t")
    bench.turn()
    bench.sleep(UNDO_SECONDS - 1)
    bench.turn()
    assert bench.value(create, "state") == "undoing"
    bench.run()
    assert bench.value(create, "state") == "failed"
    assert bench.value(gone, "state") == "done"
    finished = bench.value(create, "finished_at")
    assert isinstance(finished, int)
    assert bench.value(gone, "deadline") == finished + int(DEADLINE * 1_000_000)


def test_a_second_delete_is_the_first_one(bench: Bench) -> None:
    bench.toys.make("t")
    bench.turn()
    first = bench.toys.unmake("t")
    assert bench.toys.unmake("t") == first
    with bench.toys.database.read() as tx:
        live = bench.toys.operations.live(tx, "toy", "t")
        assert live is not None and live.id == first
        count = tx.column(select(store.operation.c.id).where(store.operation.c.kind == UNMAKE))
    assert count == [first]
    with pytest.raises(errors.Conflict, match="unmake"):
        bench.toys.database.write(lambda tx: bench.toys.operations.start(tx, "toy.make", "toy", "t"))
    bench.run()
    bench.toys.check("t")


def test_a_delete_after_a_delete_that_fails_is_a_new_one(bench: Bench) -> None:
    bench.toys.make("t")
    bench.run()
    bench.toys.fail = failing("displace", "after", errors.HostFault("stuck"), 1)
    first = bench.toys.unmake("t")
    bench.turn()
    bench.host()
    assert bench.value(first, "state") == "failed"
    second = bench.toys.unmake("t")
    assert second != first
    bench.run()
    assert bench.toys.status("t") is None
    bench.toys.check("t")


# --- work outside transactions -------------------------------------------------------------------------------


def test_lost_work_outside_is_done_again_after_its_lease_and_not_before(bench: Bench) -> None:
    operation = bench.toys.make("t")
    bench.turn()
    lost = bench.jobs.pop()
    bench.sleep(LEASE - 1)
    bench.toys.database.write(lambda tx: bench.toys.operations.postpone(tx, operation, 0))
    bench.turn()
    assert bench.jobs == []
    bench.sleep(2)
    bench.turn()
    assert [job.task for job in bench.jobs] == [lost.task]
    bench.run()
    bench.toys.check("t")
    bench.resume(lost.task, error="late")
    assert bench.toys.status("t") == "ACTIVE"


def test_a_new_server_does_not_wait_for_the_leases_of_the_lost_one(bench: Bench) -> None:
    bench.toys.make("t")
    bench.turn()
    bench.jobs.clear()
    bench.toys.database.write(bench.toys.operations.abandon)
    bench.run()
    assert bench.toys.status("t") == "ACTIVE"


def test_the_deadline_waits_for_the_lease(bench: Bench) -> None:
    operation = bench.toys.make("t")
    bench.sleep(DEADLINE - 10)
    bench.turn()
    bench.sleep(LEASE - 5)
    bench.turn()
    assert bench.value(operation, "state") == "running"
    bench.outside()
    bench.turn()
    assert bench.value(operation, "state") == "undoing"
    bench.run()
    bench.toys.check("t")


def test_work_outside_after_a_result_is_handed_to_a_worker(bench: Bench) -> None:
    """A step that works outside may follow one that waited: `resume` has nobody to give the work to."""
    bench.toys.make("t")
    bench.run()
    bench.toys.unmake("t")
    bench.turn()
    bench.host()
    assert bench.jobs == []
    bench.turn()
    assert len(bench.jobs) == 1
    bench.run()
    assert bench.toys.status("t") is None


def test_an_operation_of_a_kind_that_is_not_known_stays(bench: Bench) -> None:
    operation = bench.toys.make("t")
    bench.toys.database.write(
        lambda tx: tx.execute(update(store.operation).where(store.operation.c.id == operation).values(kind="newer"))
    )
    with pytest.raises(KeyError):
        bench.toys.database.write(lambda tx: bench.toys.operations.advance(tx, operation))
    with pytest.raises(errors.Conflict, match="newer"):
        bench.toys.database.write(lambda tx: bench.toys.operations.start(tx, "toy.make", "toy", "t"))
    assert bench.value(operation, "state") == "running"
    with bench.toys.database.read() as tx:
        assert tx.scalar(select(toy.c.status)) == "BUILD"
