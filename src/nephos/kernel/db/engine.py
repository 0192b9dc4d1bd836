"""The unit of work on the ledger.

A unit of work is a function `work(tx)`: it sees one consistent state, all of what it wrote is kept or nothing, and it
may be run more than once. So it holds no I/O, sleep or hashing: ids, times and random values are passed in, and
doorbells go by `tx.after_commit`. How a work is made durable is the engine's: `kernel.db.sqlite` gathers the works of
the one process that has the ledger, `kernel.db.served` runs each in its caller's thread on PostgreSQL or MariaDB and
repeats it whole when it met another.
"""

from __future__ import annotations

import enum
import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, cast

from sqlalchemy import (
    ColumnElement,
    Connection,
    CursorResult,
    Engine,
    Executable,
    Insert,
    Row,
    Select,
    Table,
    Update,
    insert,
    literal_column,
    select,
)
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.exc import DBAPIError, IntegrityError

from nephos import errors

if TYPE_CHECKING:
    from nephos.kernel.notifications.outbox import Outbox

log = logging.getLogger(__name__)
T = TypeVar("T")
Columns = tuple[ColumnElement[Any], ...]
Work = Callable[["Tx"], T]
RETRY_SECONDS = 2
"""What a client is told to wait when the ledger cannot be reached."""


class Why(enum.Enum):
    """What an engine's error means to a unit of work."""

    TAKEN = "a row with these values is there already"
    PARENT = "a row that this one belongs to is not there, or one that belongs to it is"
    MET = "another unit of work changed the same rows"
    LOST = "the connection broke"
    AWAY = "the engine cannot do it now: too many connections, a full disk, a shut-down"
    VALUE = "a value that the column cannot hold"
    OTHER = "anything else: a fault of the program"


LOSES_ALL = (Why.MET, Why.LOST, Why.AWAY)
"""After these the whole transaction is gone, whatever the work makes of it."""


class Tx:
    """What a unit of work, or a read, sees. `now` is the ledger's time in microseconds, the same for the whole work.

    `outbox` takes what the work has to tell outside; None when nobody is to be told.
    """

    __slots__ = ("_after", "_command", "_connection", "_database", "_kept", "_parts", "met", "now", "outbox", "queries")

    def __init__(self, connection: Connection, database: Database, now: int, command: Callable[[str], object]) -> None:
        self._connection = connection
        self._database = database
        self._command = command
        self._after: list[Callable[[], None]] = []
        self.outbox = database.outbox
        self._parts = 0
        self._kept: dict[Any, Any] | None = None
        self.now = now
        self.queries = 0
        self.met: Why | None = None
        """The last error that may be another's doing, also when the work caught it."""

    @property
    def dialect(self) -> str:
        """sqlite, postgresql or mariadb."""
        return self._connection.dialect.name

    def execute(self, statement: Executable, parameters: Any = None) -> CursorResult[Any]:
        """Raises Unavailable when the engine cannot do it now, BadRequest for a value that a column cannot hold."""
        self._check_there()
        self.queries += 1
        try:
            return cast(CursorResult[Any], self._connection.execute(statement, parameters))
        except DBAPIError as wrong:
            why = self._database.why(wrong)
            if why is not Why.VALUE and why is not Why.OTHER:
                self.met = why
            explained = explain(why, wrong)
            if explained is None:
                raise
            raise explained from wrong

    def _check_there(self) -> None:
        """Raises Unavailable when the transaction is lost: MariaDB would keep what is written after that by itself."""
        if self.met in LOSES_ALL:
            raise away(self.met.value)

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

    def once(self, key: Any, ask: Callable[[], T]) -> T:
        """What `ask` answers, which a snapshot is asked once for each key; a unit of work, whose rows change, each time."""
        if self._kept is None:
            return ask()
        if key not in self._kept:
            self._kept[key] = ask()
        return cast(T, self._kept[key])

    def insert(self, table: Table, values: dict[str, Any] | Sequence[dict[str, Any]]) -> None:
        """Add one row or many; a broken uniqueness, or a parent that is gone, is a Conflict.

        After a Conflict a work may go on only when this stood in a `savepoint`.
        """
        if not values:
            return
        try:
            self.execute(_insert(table), values)
        except IntegrityError as broken:
            why = self._database.why(broken)
            if why is Why.TAKEN:
                raise errors.Conflict(f"A row of {table.name} with these values exists already.") from broken
            if why is Why.PARENT:
                raise errors.Conflict(f"What a row of {table.name} belongs to is not there any more.") from broken
            raise

    def upsert(
        self,
        table: Table,
        values: dict[str, Any] | Sequence[dict[str, Any]],
        *,
        key: tuple[str, ...],
        put: tuple[str, ...] = (),
        count: tuple[str, ...] = (),
    ) -> None:
        """Add rows; where `key` is there already, put the columns `put` in its row and count those of `count` up by one."""
        if values:
            self.execute(_upsert(self.dialect, table, key, put, count), values)

    def updated(self, statement: Update, *columns: ColumnElement[Any], parameters: Any = None) -> Sequence[Row[Any]]:
        """Run an update, answer `columns` of the rows as they are now. What it changes must not be what it looks for."""
        returning, after = _updated(statement, columns)
        if self._connection.dialect.update_returning:
            return self.all(returning, parameters)
        self.execute(statement, parameters)
        return self.all(after, parameters)

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """What is written inside is taken back when the block raises; the work may go on."""
        self._check_there()
        waiting = len(self._after)
        self._parts += 1
        # one inside another has a name of its own: MariaDB forgets the outer one else
        name = f"part_{self._parts}"
        self._command(f"SAVEPOINT {name}")
        try:
            yield
        except BaseException:
            del self._after[waiting:]
            if self.met not in LOSES_ALL:
                self._command(f"ROLLBACK TO SAVEPOINT {name}")
                self._command(f"RELEASE SAVEPOINT {name}")
            raise
        else:
            self._command(f"RELEASE SAVEPOINT {name}")

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


class Database(ABC):
    """The ledger: `read()` for a snapshot, `write(work)` for a unit of work. `path` tells it in a log, without secrets."""

    embedded: ClassVar[bool]
    """Whether this process is the only one that has the ledger."""
    engine: Engine

    def __init__(self) -> None:
        self.outbox: Outbox | None = None
        self._local = threading.local()
        self._closed = False

    @contextmanager
    def read(self) -> Iterator[Tx]:
        """A consistent snapshot; nested reads of one thread share it, and inside a unit of work they see its rows.

        Raises Unavailable when the ledger cannot be reached, or is closing.
        """
        current: Tx | None = getattr(self._local, "tx", None)
        if current is not None:
            yield current
            return
        if self._closed:
            raise errors.Unavailable("The ledger is closing.")
        with self._snapshot() as tx:
            self._local.tx = tx
            tx._kept = {}
            try:
                yield tx
            finally:
                self._local.tx = None

    @abstractmethod
    def write(self, work: Work[T]) -> T:
        """Run a unit of work and wait until it is durable. Raises what the work raised; then nothing of it was kept."""

    @abstractmethod
    def submit(self, work: Work[T]) -> Future[T]:
        """Like write, without waiting. The work runs in the caller's context: its logs carry the caller's request id."""

    @abstractmethod
    def close(self) -> None:
        """Finish what was submitted, then refuse everything. Again: nothing."""

    @abstractmethod
    def fit(self, servers: int) -> None:
        """Ask for no more connections than the share of one of so many servers. Raises Unavailable."""

    @abstractmethod
    def alone(self, what: str) -> AbstractContextManager[None]:
        """Hold a lock of all servers of this ledger, by name: for what only one of them may do at a time (migrate)."""

    @abstractmethod
    def why(self, wrong: DBAPIError) -> Why:
        """What an error of this engine means."""

    @abstractmethod
    def _snapshot(self) -> AbstractContextManager[Tx]: ...


def explain(why: Why, wrong: DBAPIError) -> errors.NephosError | None:
    """The error that a caller understands; None where the engine's own says it best."""
    if why is Why.VALUE:
        return errors.BadRequest(f"A value cannot be kept: {said(wrong)}")
    if why in (Why.MET, Why.LOST, Why.AWAY):
        return away(said(wrong))
    return None


def away(reason: str) -> errors.Unavailable:
    """The 503 of a ledger that cannot be used now, with the time to wait (S3-15)."""
    return errors.Unavailable(f"The ledger cannot be used now: {reason}", retry_after=RETRY_SECONDS)


def said(wrong: DBAPIError) -> str:
    """The engine's own words, in one line, without the statement and its values."""
    original: Any = wrong.orig
    arguments: tuple[Any, ...] = getattr(original, "args", ())
    words = arguments[1] if len(arguments) > 1 and isinstance(arguments[1], str) else str(original)
    return " ".join(words.split("\n", 1)[0].split())


@cache
def _insert(table: Table) -> Insert:
    """Statements are looked up quicker by the engine when they are the same object."""
    return insert(table)


@cache
def _upsert(dialect: str, table: Table, key: tuple[str, ...], put: tuple[str, ...], count: tuple[str, ...]) -> Insert:
    counted: dict[str, Any] = {name: table.c[name] + literal_column("1") for name in count}
    if dialect == "mariadb":
        into = mysql.insert(table)
        return into.on_duplicate_key_update({name: into.inserted[name] for name in put} | counted)
    onto: Any = (postgresql if dialect == "postgresql" else sqlite).insert(table)
    return cast(
        Insert,
        onto.on_conflict_do_update(
            index_elements=list(key), set_={name: onto.excluded[name] for name in put} | counted
        ),
    )


@cache
def _updated(statement: Update, columns: Columns) -> tuple[Executable, Select[Any]]:
    return statement.returning(*columns), select(*columns).where(*statement._where_criteria)
