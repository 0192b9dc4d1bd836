"""The embedded ledger: SQLite, one process.

A unit of work runs on the one writer thread inside BEGIN IMMEDIATE, each in a savepoint of its own and many to a
commit; the caller waits for the commit. Reads use read-only connections, one a thread, each a consistent snapshot.
Nothing ever meets anything, so nothing is repeated.
"""

from __future__ import annotations

import logging
import queue
import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from contextvars import Context, copy_context
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from nephos import errors
from nephos.kernel import clock
from nephos.kernel.db.engine import Database, Tx, Why, Work, away, said

log = logging.getLogger(__name__)
T = TypeVar("T")
MOST_WORKS_A_COMMIT = 128


class _Job(NamedTuple):
    """A unit of work that waits for the writer."""

    work: Work[Any]
    future: Future[Any]
    context: Context


class SqliteDatabase(Database):
    """`url` is sqlite:///PATH."""

    embedded = True

    def __init__(self, url: str) -> None:
        super().__init__()
        self.path = Path(url.removeprefix("sqlite:///"))
        self.engine = _engine(url)
        self._queue: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._writer: threading.Thread | None = None
        self._lock = threading.Lock()

    @contextmanager
    def _snapshot(self) -> Iterator[Tx]:
        connection: Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            try:
                connection = self.engine.connect()
            except DBAPIError as wrong:
                raise away(said(wrong)) from wrong
            _raw(connection).execute("PRAGMA query_only=1")
            self._local.connection = connection
        raw = _raw(connection)
        raw.execute("BEGIN")
        try:
            yield Tx(connection, self, clock.now_us(), raw.execute)
        finally:
            raw.execute("ROLLBACK")

    def write(self, work: Work[T]) -> T:
        if getattr(self._local, "tx", None) is not None or threading.current_thread() is self._writer:
            raise RuntimeError("a unit of work inside a read or another unit of work would wait for itself to end")
        return self.submit(work).result()

    def submit(self, work: Work[T]) -> Future[T]:
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
        with self._lock:
            first, self._closed = not self._closed, True
        if self._writer is not None:
            if first:
                self._queue.put(None)
            self._writer.join(timeout=10)
        self.engine.dispose()

    def fit(self, servers: int) -> None:
        """SQLite gives as many as files may be open."""

    @contextmanager
    def alone(self, what: str) -> Iterator[None]:
        """Nothing to hold: the server's own lock (`server.lock`) lets one process have the ledger."""
        yield

    def why(self, wrong: DBAPIError) -> Why:
        words = str(wrong.orig)
        if "UNIQUE" in words:
            return Why.TAKEN
        if "FOREIGN KEY" in words:
            return Why.PARENT
        code = getattr(wrong.orig, "sqlite_errorcode", 0) & 0xFF
        return Why.AWAY if code in _AWAY else Why.OTHER

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
                why = error if isinstance(error, errors.Unavailable) else away(f"it could not be written: {error}")
                for job in batch:
                    job.future.set_exception(why)
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
        tx = self._local.tx = Tx(connection, self, clock.now_us(), raw.execute)
        result: Any = None
        wrong: BaseException | None = None
        raw.execute("SAVEPOINT work")
        try:
            result = job.context.run(job.work, tx)
        except BaseException as error:
            wrong = error
            if not raw.in_transaction:  # a full disk took back the whole transaction
                raise
            raw.execute("ROLLBACK TO work")
        finally:
            self._local.tx = None
        raw.execute("RELEASE work")
        return tx, result, wrong


_AWAY = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_NOMEM,
}


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
        raw.execute("PRAGMA case_sensitive_like=1")  # as the other engines' LIKE is

    return engine


def _raw(connection: Connection) -> sqlite3.Connection:
    return cast(sqlite3.Connection, connection.connection.driver_connection)
