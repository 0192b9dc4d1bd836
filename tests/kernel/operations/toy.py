"""A toy noun whose operations have every kind of step, and a world outside the ledger that they change.

A toy is claimed (ledger), painted (work outside a transaction), placed (work of a host that answers later) and settled.
Unmaking it takes all that back. Claims are rows, paint and places are files, so that they outlive a `kill -9`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import Column, Integer, MetaData, Table, Text, bindparam, delete, select, update
from sqlalchemy.dialects.sqlite import insert as upsert

from nephos import errors
from nephos.kernel.db.engine import Database, Tx
from nephos.kernel.db.schema import metadata
from nephos.kernel.db.sqlite import SqliteDatabase
from nephos.kernel.doorbell.memory import MemoryDoorbell
from nephos.kernel.operations import store
from nephos.kernel.operations.engine import Operations
from nephos.kernel.operations.model import Kind, Operation, Outcome, Outside, Step, Wait

MAKE, UNMAKE = "toy.make", "toy.unmake"
LEASE, WAIT, DEADLINE = 30.0, 20.0, 600.0

own = MetaData()
"""Not the product's: its migrations know nothing of toys."""
toy = Table("toy", own, Column("id", Text, primary_key=True), Column("status", Text))
claim = Table("toy_claim", own, Column("toy_id", Text, primary_key=True))
task = Table(
    "toy_task",
    own,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("id", Text, unique=True),
    Column("toy_id", Text),
    Column("what", Text),
)
_forget = delete(task).where(task.c.id == bindparam("task"))


class World:
    """What is outside the ledger: a file for everything that was painted or placed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(exist_ok=True)

    def do(self, what: str, toy_id: str) -> None:
        verb, _, undo = what.partition("-")
        file = self.path / f"{verb}.{toy_id}"
        if undo:
            file.unlink(missing_ok=True)
        else:
            file.touch()

    def things(self, toy_id: str) -> set[str]:
        return {file.name.partition(".")[0] for file in self.path.iterdir() if file.name.endswith("." + toy_id)}


class Toys:
    """The kinds of operations of toys. `fail(operation, call)` is asked before each call of a step and may raise."""

    def __init__(self, database: Database, world: World) -> None:
        self.database, self.world = database, world
        self.doorbell = MemoryDoorbell()
        self.operations = Operations(self.doorbell)
        self.operations.voided.append(self._void)
        self.calls: list[str] = []
        self.fail: Callable[[Operation, str], None] = lambda operation, call: None
        self.operations.register([self._make(), self._unmake()])

    # --- what a handler does ---------------------------------------------------------------------------------

    def make(self, toy_id: str) -> str:
        def work(tx: Tx) -> str:
            tx.insert(toy, {"id": toy_id, "status": "BUILD"})
            return self.operations.start(tx, MAKE, "toy", toy_id, request_id="req-make")

        return self.database.write(work)

    def unmake(self, toy_id: str) -> str:
        return self.database.write(lambda tx: self.operations.start(tx, UNMAKE, "toy", toy_id, request_id="req-unmake"))

    def answer(self, tx: Tx, name: str, error: str | None = None) -> None:
        """A host's answer, taken as the server takes it: once."""
        if tx.first(select(task.c.id).where(task.c.id == name)) is None:
            return
        tx.execute(_forget, {"task": name})
        self.operations.resume(tx, name, f"done {name}", error, (), "host-1")

    def _void(self, tx: Tx, name: str) -> None:
        tx.execute(_forget, {"task": name})

    # --- looking ---------------------------------------------------------------------------------------------

    def status(self, toy_id: str) -> str | None:
        with self.database.read() as tx:
            status: str | None = tx.scalar(select(toy.c.status).where(toy.c.id == toy_id))
            return status

    def claimed(self, toy_id: str) -> bool:
        with self.database.read() as tx:
            return tx.first(select(claim).where(claim.c.toy_id == toy_id)) is not None

    def states(self) -> dict[str, str]:
        """State of each operation, by kind and resource, the last one where there are several."""
        with self.database.read() as tx:
            rows = tx.all(select(store.operation).order_by(store.operation.c.created_at))
        return {f"{row.kind} {row.noun_id}": row.state for row in rows}

    def timeline(self, operation_id: str) -> list[tuple[str, str]]:
        with self.database.read() as tx:
            rows = tx.all(
                select(store.event).where(store.event.c.operation_id == operation_id).order_by(store.event.c.id)
            )
        return [(row.name, row.result) for row in rows]

    def check(self, toy_id: str) -> None:
        """Done, undone or gone: nothing half-made."""
        status, things, claimed = self.status(toy_id), self.world.things(toy_id), self.claimed(toy_id)
        if status == "ACTIVE":
            assert (things, claimed) == ({"paint", "place"}, True), (toy_id, status, things, claimed)
        else:
            assert status in (None, "ERROR")
            assert (things, claimed) == (set(), False), (toy_id, status, things, claimed)

    # --- kinds -----------------------------------------------------------------------------------------------

    def _make(self) -> Kind:
        return Kind(
            MAKE,
            "make",
            (
                Step("claim", self._call("run", self._claim), undo=self._call("undo", self._unclaim)),
                Step(
                    "paint",
                    self._call("run", self._paint("paint")),
                    after=self._took,
                    undo=self._call("undo", self._paint("paint-undo")),
                    undone=self._took,
                ),
                Step(
                    "place",
                    self._call("run", self._place("place")),
                    after=self._took,
                    undo=self._call("undo", self._place("place-undo")),
                    undone=self._took,
                ),
                Step("settle", self._call("run", self._status("ACTIVE")), undo=self._call("undo", lambda *_: None)),
            ),
            DEADLINE,
            self._failed,
        )

    def _unmake(self) -> Kind:
        return Kind(
            UNMAKE,
            "unmake",
            (
                Step("hide", self._call("run", self._status("DELETING"))),
                Step("displace", self._call("run", self._place("place-undo")), after=self._took),
                Step("strip", self._call("run", self._paint("paint-undo")), after=self._took),
                Step("erase", self._call("run", self._erase)),
            ),
            DEADLINE,
            self._failed,
            supersedes=True,
        )

    def _call(self, call: str, run: Callable[[Tx, Operation], Outcome]) -> Callable[[Tx, Operation], Outcome]:
        def called(tx: Tx, operation: Operation) -> Outcome:
            self.calls.append(f"{call} {operation.step}")
            self.fail(operation, call)
            return run(tx, operation)

        return called

    def _took(self, tx: Tx, operation: Operation, result: Any) -> None:
        self.calls.append(f"{'after' if operation.state == 'running' else 'undone'} {operation.step}")
        self.fail(operation, "after" if operation.state == "running" else "undone")

    def _claim(self, tx: Tx, operation: Operation) -> Outcome:
        tx.execute(upsert(claim).on_conflict_do_nothing(), {"toy_id": operation.noun_id})
        return None

    def _unclaim(self, tx: Tx, operation: Operation) -> Outcome:
        tx.execute(delete(claim).where(claim.c.toy_id == operation.noun_id))
        return None

    def _paint(self, what: str) -> Callable[[Tx, Operation], Outcome]:
        return lambda tx, operation: Outside(lambda: self.world.do(what, operation.noun_id), LEASE)

    def _place(self, what: str) -> Callable[[Tx, Operation], Outcome]:
        def place(tx: Tx, operation: Operation) -> Outcome:
            values = {"id": operation.task, "toy_id": operation.noun_id, "what": what}
            tx.execute(upsert(task).on_conflict_do_nothing(), values)
            return Wait(operation.task, WAIT)

        return place

    def _status(self, status: str) -> Callable[[Tx, Operation], Outcome]:
        def settle(tx: Tx, operation: Operation) -> Outcome:
            tx.execute(update(toy).where(toy.c.id == operation.noun_id).values(status=status))
            return None

        return settle

    def _erase(self, tx: Tx, operation: Operation) -> Outcome:
        tx.execute(delete(claim).where(claim.c.toy_id == operation.noun_id))
        tx.execute(delete(toy).where(toy.c.id == operation.noun_id))
        return None

    def _failed(self, tx: Tx, operation: Operation, why: errors.NephosError) -> None:
        tx.execute(update(toy).where(toy.c.id == operation.noun_id).values(status="ERROR"))


def open_toys(path: Path) -> Toys:
    """The toys of a folder, made when there are none yet."""
    database = SqliteDatabase(f"sqlite:///{path / 'ledger.db'}")
    with database.engine.connect() as connection:
        metadata.create_all(connection, tables=[store.operation, store.event])
        own.create_all(connection)
    return Toys(database, World(path / "world"))
