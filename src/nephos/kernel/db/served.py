"""The ledger of a cluster: PostgreSQL or MariaDB, any number of servers.

A unit of work runs in the caller's thread at SERIALIZABLE, and is repeated whole when it met another: on a
serialisation failure, a deadlock, a connection lost before the commit, or a uniqueness that its own snapshot could not
see. The first attempt runs beside all others; from the second on a work has its process to itself, so that it
can only meet those of other servers, and any number of clients of one project cost latency and not failures. Reads are snapshots at REPEATABLE READ.

A connection that breaks in the very commit leaves open whether the work was kept, so that one is not repeated: the
caller hears so.
"""

from __future__ import annotations

import logging
import threading
from abc import abstractmethod
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from contextvars import copy_context
from typing import Any, ClassVar, TypeVar

from sqlalchemy import URL, Connection, Engine, create_engine, event, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import QueuePool

from nephos import errors
from nephos.kernel import clock
from nephos.kernel.db.engine import LOSES_ALL, Database, Tx, Why, Work, away, explain, said

log = logging.getLogger(__name__)
T = TypeVar("T")
MOST_ATTEMPTS = 10
MOST_CONSTRAINT_ATTEMPTS = 3
"""A uniqueness that is broken thrice is no other's doing."""
SUBMIT_THREADS = 8
CONNECT_SECONDS = 5
POOL_SECONDS = 10
STATEMENT_SECONDS = 30
SPARE_CONNECTIONS = 3
"""Left to whoever looks at the database by hand."""
OWN_CONNECTIONS = 2
"""What a server has beside the pool: its doorbell, and the lock of its start."""
CLOCK_SECONDS = 10.0
"""How long the engine's clock is believed before it is asked again."""


class _Repeat(Exception):
    """The attempt kept nothing and may be made again."""


class ServedDatabase(Database):
    """What PostgreSQL and MariaDB have in common; each names its statements and its errors."""

    embedded = False
    begin_write: ClassVar[tuple[str, ...]]
    begin_read: ClassVar[tuple[str, ...]]
    ask_clock: ClassVar[str]
    """The engine's clock in microseconds since the epoch."""
    ask_most: ClassVar[str]
    """How many connections the engine gives to all its clients."""

    def __init__(self, url: URL, *, connections: int) -> None:
        """At most `connections` at once; a caller that finds all in use waits POOL_SECONDS, then hears Unavailable."""
        super().__init__()
        self.path = url.render_as_string(hide_password=True)
        self._url = url
        self._connections = connections
        self.engine = self._make_engine(url)
        self._gate = _Gate()
        self._submitted = ThreadPoolExecutor(SUBMIT_THREADS, thread_name_prefix="ledger")
        self._clock = _Clock(self.ask_clock)

    def _make_engine(self, url: URL) -> Engine:
        engine = create_engine(
            url,
            poolclass=QueuePool,
            pool_size=self._connections,
            max_overflow=0,
            pool_timeout=POOL_SECONDS,
            pool_use_lifo=True,
            isolation_level="AUTOCOMMIT",
            connect_args=self.connect_arguments(),
        )
        event.listen(engine, "connect", lambda raw, _: self.prepare(raw))
        return engine

    @abstractmethod
    def connect_arguments(self) -> dict[str, Any]:
        """The driver's own."""

    def doomed(self, connection: Connection) -> bool:
        """Whether a commit would silently keep nothing."""
        return False

    @abstractmethod
    def prepare(self, raw: Any) -> None:
        """Settings of every new connection."""

    def fit(self, servers: int) -> None:
        """Callers beyond the share wait for each other, which is quicker than to be refused."""
        try:
            with self.engine.connect() as connection:
                most = int(connection.execute(text(self.ask_most)).scalar() or 0)
        except DBAPIError as wrong:
            raise away(said(wrong)) from wrong
        share = max(2, (most - SPARE_CONNECTIONS) // servers - OWN_CONNECTIONS)
        if share < self._connections:
            self._connections = share
            self.engine.dispose()
            self.engine = self._make_engine(self._url)
        log.info("at most %d connections of %d to %s", self._connections, most, self.path)

    @contextmanager
    def _snapshot(self) -> Iterator[Tx]:
        connection = self._begin(self.begin_read)
        try:
            yield self._tx(connection)
        finally:
            self._end(connection)

    def write(self, work: Work[T]) -> T:
        if getattr(self._local, "tx", None) is not None or getattr(self._local, "ending", False):
            raise RuntimeError("a unit of work inside a read or another unit of work would not be part of it")
        if self._closed:
            raise errors.Unavailable("The ledger is closing.")
        return self._write(work)

    def submit(self, work: Work[T]) -> Future[T]:
        if self._closed:
            raise errors.Unavailable("The ledger is closing.")
        try:
            return self._submitted.submit(copy_context().run, self._write, work)
        except RuntimeError as closed:
            raise errors.Unavailable("The ledger is closing.") from closed

    def close(self) -> None:
        self._closed = True
        self._submitted.shutdown(wait=True)
        self.engine.dispose()

    def _write(self, work: Work[T]) -> T:
        attempt = 1
        while True:
            try:
                with self._gate.beside() if attempt == 1 else self._gate.alone():
                    return self._attempt(work, attempt)
            except _Repeat:
                clock.sleep(clock.jitter() * min(0.2, 0.002 * 2**attempt))
                attempt += 1

    def _attempt(self, work: Work[T], attempt: int) -> T:
        connection = self._begin(self.begin_write)
        tx = self._local.tx = self._tx(connection)
        try:
            result = work(tx)
        except BaseException as wrong:
            if self._again(tx, attempt):
                log.debug("attempt %d: %s", attempt, wrong)
                raise _Repeat from wrong
            raise
        else:
            if tx.met in LOSES_ALL:  # what the work made of the error is not what was asked of it
                if self._again(tx, attempt):
                    raise _Repeat
                raise away(tx.met.value)
            if self.doomed(connection):
                raise RuntimeError("a unit of work went on after a statement that failed outside of a savepoint")
            self._commit(connection, tx, attempt)
        finally:
            self._local.tx = None
            self._end(connection)
        self._local.ending = True
        try:
            tx.run_after_commit()
        finally:
            self._local.ending = False
        return result

    def _commit(self, connection: Connection, tx: Tx, attempt: int) -> None:
        try:
            connection.exec_driver_sql("COMMIT")
        except DBAPIError as wrong:
            tx.met = self.why(wrong)
            if tx.met is Why.LOST:
                raise away(f"the connection broke in the commit; look whether it was done ({said(wrong)})") from wrong
            if self._again(tx, attempt):
                raise _Repeat from wrong
            raise explain(tx.met, wrong) or wrong from wrong

    @staticmethod
    def _again(tx: Tx, attempt: int) -> bool:
        if tx.met in (Why.TAKEN, Why.PARENT):
            return attempt < MOST_CONSTRAINT_ATTEMPTS
        return tx.met in (Why.MET, Why.LOST) and attempt < MOST_ATTEMPTS

    def _begin(self, statements: tuple[str, ...]) -> Connection:
        """A connection inside a transaction. One that broke while nobody used it is replaced. Raises Unavailable."""
        connection: Connection | None = None
        for last in (False, True):
            try:
                connection = self.engine.connect()
                self._clock.keep(connection)
                for statement in statements:
                    connection.exec_driver_sql(statement)
                return connection
            except PoolTimeout as wrong:
                raise away(f"all {self._connections} connections to it are in use for {POOL_SECONDS} s") from wrong
            except DBAPIError as wrong:
                reached, connection = connection is not None, self._drop(connection)
                if last or not reached or self.why(wrong) is not Why.LOST:
                    raise away(said(wrong)) from wrong
            except BaseException:
                self._drop(connection)
                raise
        raise AssertionError

    @staticmethod
    def _drop(connection: Connection | None) -> None:
        if connection is not None:
            with suppress(Exception):
                connection.invalidate()
            with suppress(Exception):
                connection.close()

    def _end(self, connection: Connection) -> None:
        """Roll back what was not committed, and give the connection back."""
        try:
            if not connection.invalidated:
                connection.exec_driver_sql("ROLLBACK")
            connection.close()
        except Exception:
            self._drop(connection)

    def _tx(self, connection: Connection) -> Tx:
        return Tx(connection, self, self._clock.now(), connection.exec_driver_sql)


class _Gate:
    """Lets works in beside each other, or one that waits for the others to end and lets none in meanwhile."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside = 0
        self._waiting = 0
        self._closed = False

    @contextmanager
    def beside(self) -> Iterator[None]:
        """Raises Unavailable, as `alone` does, when it takes too long."""
        with self._changed:
            self._wait(lambda: not self._closed and not self._waiting)
            self._inside += 1
        try:
            yield
        finally:
            with self._changed:
                self._inside -= 1
                self._changed.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        with self._changed:
            self._waiting += 1
            try:
                self._wait(lambda: not self._closed and not self._inside)
                self._closed = True
            finally:
                self._waiting -= 1
                self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._closed = False
                self._changed.notify_all()

    def _wait(self, until: Callable[[], bool]) -> None:
        if not self._changed.wait_for(until, timeout=STATEMENT_SECONDS):
            raise away("too many wait for the same rows")


class _Clock:
    """The engine's clock, so that all servers of a ledger agree on what is due: asked now and then, kept by the monotonic one."""

    def __init__(self, question: str) -> None:
        self._question = text(question)
        self._asked = -CLOCK_SECONDS
        self._zero = 0

    def keep(self, connection: Connection) -> None:
        """Ask again, when it is time to. Outside of any transaction."""
        before = clock.monotonic()
        if before - self._asked < CLOCK_SECONDS:
            return
        there = int(connection.execute(self._question).scalar() or 0)
        after = clock.monotonic()
        self._zero = there - int((before + after) / 2 * 1_000_000)
        self._asked = after

    def now(self) -> int:
        return self._zero + int(clock.monotonic() * 1_000_000)


