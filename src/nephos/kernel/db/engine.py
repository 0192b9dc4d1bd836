"""The unit of work on the ledger.

A unit of work is a function `work(tx)`. On SQLite it runs on the one writer thread inside BEGIN IMMEDIATE, each work
in a savepoint of its own and many to a commit; the caller waits for the commit. Reads use read-only connections, one a
thread, each a consistent snapshot. So a work holds no I/O, sleep or hashing: ids, times and random values are passed
in, and doorbells go by `tx.after_commit`.
"""

from __future__ import annotations

import logging
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from contextvars import Context, copy_context
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

from sqlalchemy import Connection, CursorResult, Engine, Executable, Insert, Row, Table, create_engine, event, insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.pool import NullPool

from nephos import errors
from nephos.kernel import clock

if TYPE_CHECKING:
    from nephos.kernel.notifications.outbox import Outbox

log = logging.getLogger(__name__)
T = TypeVar("T")
Work = Callable[["Tx"], T]
MOST_WORKS_A_COMMIT = 128


class Tx:
    """What a unit of work, or a read, sees. `now` is the ledger's time in microseconds, the same for the whole work.

    `outbox` takes what the work has to tell outside; None when nobody is to be told.
    """

    __slots__ = ("_after", "_connection", "now", "outbox", "queries")

    def __init__(self, connection: Connection, outbox: Outbox | None = None) -> None:
        self._connection = connection
        self._after: list[Callable[[], None]] = []
        self.outbox = outbox
        self.now = clock.now_us()
        self.queries = 0

    def execute(self, statement: Executable, parameters: Any = None) -> CursorResult[Any]:
        self.queries += 1
        return cast(CursorResult[Any], self._connection.execute(statement, parameters))

    def all(self, statement: Executable, parameters: Any = None) -> Sequence[Row[Any]]:
        return self.execute(statement, parameters).fetchall()

    def first(self, statement: Executable, parameters: Any = None) -> Row[Any] | None:
        return self.execute(statement, parameters).first()

    def scalar(self, statement: Executable, parameters: Any = None) -> Any:
        """The first column of the first row; None when there is none."""
        return self.execute(statement, parameters).scalar()

    def column(self, statement: Executable, parameters: Any = None) -> list[Any]:
        """The first column of every row."""
        return [row[0] for row in self.execute(statement, parameters)]

    def insert(self, table: Table, values: dict[str, Any] | Sequence[dict[str, Any]]) -> None:
        """Add one row or many; a broken uniqueness, or a parent that is gone, is a Conflict."""
        if not values:
            return
        try:
            self.execute(_insert(table), values)
        except IntegrityError as broken:
            why = str(broken.orig)
            if "UNIQUE" in why:
                raise errors.Conflict(f"A row of {table.name} with these values exists already.") from broken
            if "FOREIGN KEY" in why:
                raise errors.Conflict(f"What a row of {table.name} belongs to is not there any more.") from broken
            raise

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """What is written inside is taken back when the block raises; the work may go on."""
        raw = _raw(self._connection)
        waiting = len(self._after)
        raw.execute("SAVEPOINT part")
        try:
            yield
        except BaseException:
            del self._after[waiting:]
            raw.execute("ROLLBACK TO part")
            raise
        finally:
            raw.execute("RELEASE part")

    def after_commit(self, call: Callable[[], None]) -> None:
        """Run `call` once the work is durable; it must be quick and must not raise."""
        self._after.append(call)

    def run_after_commit(self) -> None:
        for call in self._after:
            try:
                call()
            except Exception:
                log.exception("after commit")
        self._after.clear()


class _Job(NamedTuple):
    """A unit of work that waits for the writer."""

    work: Work[Any]
    future: Future[Any]
    context: Context


class Database:
    """The ledger: `read()` for a snapshot, `write(work)` for a unit of work."""

    def __init__(self, url: str) -> None:
        if not url.startswith("sqlite:///"):
            raise errors.SettingsError(f"database: {url.split(':', 1)[0]!r} is not served; use sqlite:///PATH")
        self.path = Path(url.removeprefix("sqlite:///"))
        self.engine = _engine(url)
        self._local = threading.local()
        self.outbox: Outbox | None = None
        self._queue: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._writer: threading.Thread | None = None
        self._closed = False
        self._lock = threading.Lock()

    @contextmanager
    def read(self) -> Iterator[Tx]:
        """A consistent snapshot; nested reads of one thread share it, and inside a unit of work they see its rows."""
        current: Tx | None = getattr(self._local, "tx", None)
        if current is not None:
            yield current
            return
        if self._closed:
            raise errors.Unavailable("The ledger is closing.")
        connection: Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self.engine.connect()
            _raw(connection).execute("PRAGMA query_only=1")
            self._local.connection = connection
        raw = _raw(connection)
        raw.execute("BEGIN")
        tx = self._local.tx = Tx(connection)
        try:
            yield tx
        finally:
            self._local.tx = None
            raw.execute("ROLLBACK")

    def write(self, work: Work[T]) -> T:
        """Run a unit of work and wait until it is durable. Raises what the work raised; then nothing of it was kept."""
        if getattr(self._local, "tx", None) is not None or threading.current_thread() is self._writer:
            raise RuntimeError("a unit of work inside a read or another unit of work would wait for itself to end")
        return self.submit(work).result()

    def submit(self, work: Work[T]) -> Future[T]:
        """Like write, without waiting. The work runs in the caller's context: its logs carry the caller's request id."""
        future: Future[T] = Future()
        with self._lock:
            if self._closed:
                raise errors.Unavailable("The ledger is closing.")
            if self._writer is None:
                self._writer = threading.Thread(target=self._write_loop, name="ledger-writer", daemon=True)
                self._writer.start()
            self._queue.put(_Job(work, future, copy_context()))
        return future

    def close(self) -> None:
        """Finish what was submitted, then refuse everything. Again: nothing."""
        with self._lock:
            first, self._closed = not self._closed, True
        if self._writer is not None:
            if first:
                self._queue.put(None)
            self._writer.join(timeout=10)
        self.engine.dispose()

    def _write_loop(self) -> None:
        connection: Connection | None = None
        more = True
        while more:
            first = self._queue.get()
            if first is None:
                break
            batch = [first]
            try:
                if connection is None:
                    connection = self.engine.connect()
                more = self._commit_batch(connection, batch)
            except BaseException as error:
                log.exception("the ledger could not commit")
                more = not self._closed or not self._queue.empty()
                if connection is not None:
                    with suppress(Exception):
                        connection.close()
                    connection = None
                for job in batch:
                    job.future.set_exception(errors.Unavailable(f"The ledger could not be written: {error}"))
        if connection is not None:
            connection.close()

    def _commit_batch(self, connection: Connection, batch: list[_Job]) -> bool:
        """Run the one work of `batch` and all that wait behind it, noting them there, then commit and answer them.

        False when the queue's end was met. When it raises nothing was kept and nobody was answered.
        """
        raw = _raw(connection)
        answers: list[tuple[Tx, Any, BaseException | None]] = []
        more = True
        raw.execute("BEGIN IMMEDIATE")
        while True:
            answers.append(self._attempt(connection, raw, batch[-1]))
            if len(batch) >= MOST_WORKS_A_COMMIT:
                break
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                break
            if item is None:
                more = False
                break
            batch.append(item)
        raw.execute("COMMIT")
        for tx, _, wrong in answers:
            if wrong is None:
                tx.run_after_commit()
        for job, (_, result, wrong) in zip(batch, answers, strict=True):
            if wrong is None:
                job.future.set_result(result)
            else:
                job.future.set_exception(wrong)
        return more

    def _attempt(
        self, connection: Connection, raw: sqlite3.Connection, job: _Job
    ) -> tuple[Tx, Any, BaseException | None]:
        """One work in a savepoint of its own: its result, or why nothing of it was kept."""
        tx = self._local.tx = Tx(connection, self.outbox)
        result: Any = None
        wrong: BaseException | None = None
        raw.execute("SAVEPOINT work")
        try:
            result = job.context.run(job.work, tx)
        except BaseException as error:
            wrong = error
            raw.execute("ROLLBACK TO work")
        finally:
            self._local.tx = None
        raw.execute("RELEASE work")
        return tx, result, wrong


@cache
def _insert(table: Table) -> Insert:
    """Statements are looked up quicker by the engine when they are the same object."""
    return insert(table)


def _engine(url: str) -> Engine:
    engine = create_engine(
        url, poolclass=NullPool, isolation_level="AUTOCOMMIT", connect_args={"check_same_thread": False}
    )

    @event.listens_for(engine, "connect")
    def prepare(raw: sqlite3.Connection, _: object) -> None:
        raw.execute("PRAGMA journal_mode=WAL")
        raw.execute("PRAGMA synchronous=FULL")
        raw.execute("PRAGMA foreign_keys=1")
        raw.execute("PRAGMA busy_timeout=5000")
        raw.execute("PRAGMA cache_size=-8000")

    return engine


def _raw(connection: Connection) -> sqlite3.Connection:
    return cast(sqlite3.Connection, connection.connection.driver_connection)
