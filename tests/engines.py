"""The engines that a ledger may be kept by, for tests: each server is started by the first test that wants it, as an
unprivileged user, on a Unix socket in a folder of its own, and ends with the test process.

    with ledger("postgresql", tmp_path) as url:     # a fresh, empty ledger with all tables
        ...

`pytest --engine postgresql` makes every suite that composes a cloud use that engine.
"""

from __future__ import annotations

import atexit
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pymysql
from sqlalchemy import create_engine, text

import nephos.app  # noqa: F401  (declares every table)
from nephos.kernel.db.schema import metadata
from nephos.kernel.db.sqlite import SqliteDatabase

ENGINES = ("sqlite", "postgresql", "mariadb")
DEFAULT = ["sqlite"]
"""The engine of a Harness that names none; the option `--engine` sets it."""
USER = "nobody"
_numbers = count(1)


@contextmanager
def ledger(engine: str, path: Path, *, tables: bool = True) -> Iterator[str]:
    """The address of a fresh ledger of its own; empty, or with every table that the code declares."""
    if engine == "sqlite":
        url = f"sqlite:///{path / 'ledger.db'}"
        if tables:
            database = SqliteDatabase(url)
            with database.engine.connect() as connection:
                metadata.create_all(connection)
            database.close()
        yield url
        return
    served = server(engine)
    name = served.make(tables=tables)
    try:
        yield served.url(name)
    finally:
        served.drop(name)


_kept: dict[Path, tuple[ExitStack, str]] = {}
_released: set[Path] = set()


def release(path: Path) -> None:
    """The cloud of a state directory has stopped."""
    _released.add(path)


def kept(engine: str, path: Path) -> str:
    """The ledger of a state directory: after its cloud stopped the same one again, until another cloud starts."""
    if path not in _kept:
        for other in _released & set(_kept):
            _kept.pop(other)[0].close()
        stack = ExitStack()
        _kept[path] = stack, stack.enter_context(ledger(engine, path))
    _released.discard(path)
    return _kept[path][1]


@cache
def server(engine: str) -> Server:
    """The one server of this engine in this process."""
    made = {"postgresql": Postgres, "mariadb": Maria}[engine]()
    atexit.register(made.stop)
    return made


class Server(ABC):
    """A database server in a temporary folder."""

    words: list[str]
    """The command; `start` runs it."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="nephos-db-", dir="/var/tmp"))
        self.data = self.folder / "data"
        self._give(self.folder)
        self.initialise()
        self.start()

    @abstractmethod
    def initialise(self) -> None: ...

    @abstractmethod
    def answers(self) -> bool: ...

    @abstractmethod
    def make(self, *, tables: bool) -> str: ...

    @abstractmethod
    def drop(self, name: str) -> None: ...

    @abstractmethod
    def url(self, name: str) -> str: ...

    def _give(self, path: Path) -> None:
        if os.geteuid() == 0:
            owner = pwd.getpwnam(USER)
            os.chown(path, owner.pw_uid, owner.pw_gid)

    def _options(self) -> dict[str, Any]:
        options: dict[str, Any] = {"cwd": self.folder, "stdin": subprocess.DEVNULL}
        if os.geteuid() == 0:
            owner = pwd.getpwnam(USER)
            options |= {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}
        return options

    def run(self, *words: str) -> None:
        done = subprocess.run(words, capture_output=True, text=True, check=False, **self._options())
        assert done.returncode == 0, f"{' '.join(words)}: {done.stdout}\n{done.stderr}"

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(self.words, stdout=log, stderr=log, **self._options())
        end = time.monotonic() + 60
        while not self.answers():
            alive = self.process.poll() is None and time.monotonic() < end
            assert alive, (self.folder / "log").read_text()
            time.sleep(0.02)

    def kill(self) -> None:
        """As a power failure would; `start` brings it back with what it had."""
        self.process.send_signal(signal.SIGQUIT if isinstance(self, Postgres) else signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGQUIT if isinstance(self, Postgres) else signal.SIGKILL)
            self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


class Postgres(Server):
    """`most` is max_connections; small where a test uses them up."""

    def __init__(self, *, most: int = 200) -> None:
        self.most = most
        self._template = False
        super().__init__()

    def initialise(self) -> None:
        newest = max(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
        self.run(
            *(str(newest), "-D", str(self.data), "-U", USER, "-A", "trust", "--no-sync"),
            *("--encoding", "UTF8", "--locale", "C.UTF-8"),
        )
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.folder),
            "fsync": "off",
            "full_page_writes": "off",
            "shared_buffers": "64MB",
            "max_connections": str(self.most),
            "autovacuum": "off",
        }
        self.words = [str(newest.with_name("postgres")), "-D", str(self.data)]
        for name, value in settings.items():
            self.words += ["-c", f"{name}={value}"]

    def answers(self) -> bool:
        try:
            self._execute("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

    def make(self, *, tables: bool) -> str:
        if tables and not self._template:
            self._execute("CREATE DATABASE declared")
            engine = create_engine(self.url("declared").replace("postgresql:", "postgresql+psycopg:"))
            with engine.begin() as connection:
                metadata.create_all(connection)
            engine.dispose()
            self._template = True
        name = f"t{next(_numbers)}"
        self._execute(f"CREATE DATABASE {name} TEMPLATE {'declared' if tables else 'template0'} STRATEGY file_copy")
        return name

    def drop(self, name: str) -> None:
        self._execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def url(self, name: str) -> str:
        return f"postgresql://{USER}@/{name}?host={self.folder}"

    def _execute(self, sql: str) -> None:
        with psycopg.connect(host=str(self.folder), user=USER, dbname="postgres", autocommit=True) as connection:
            connection.execute(sql)  # type: ignore[call-overload]


class Maria(Server):
    """A ledger that is given back is emptied and given out again: to make all tables takes it seconds."""

    def __init__(self) -> None:
        self._ready: list[str] = []
        super().__init__()

    def initialise(self) -> None:
        self.run(
            *("mariadb-install-db", "--no-defaults", f"--datadir={self.data}", "--auth-root-authentication-method=normal"),
            *("--skip-test-db", "--skip-name-resolve", "--innodb-flush-method=nosync"),
        )
        self.words = [
            *("/usr/sbin/mariadbd", "--no-defaults", f"--datadir={self.data}", f"--socket={self.folder}/socket"),
            *("--skip-networking", "--skip-name-resolve", "--innodb-flush-log-at-trx-commit=0"),
            *("--innodb-flush-method=nosync", "--innodb-buffer-pool-size=64M", "--max-connections=200"),
            *("--innodb-doublewrite=0", "--sync-binlog=0", f"--pid-file={self.folder}/pid", "--innodb-log-file-size=32M"),
        ]

    def answers(self) -> bool:
        try:
            self._execute("SELECT 1")
        except pymysql.err.OperationalError:
            return False
        return True

    def make(self, *, tables: bool) -> str:
        if tables and self._ready:
            return self._ready.pop()
        name = f"{'declared' if tables else 't'}{next(_numbers)}"
        self._execute(f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
        if tables:
            engine = create_engine(self.url(name).replace("mariadb:", "mariadb+pymysql:"))
            with engine.begin() as connection:
                metadata.create_all(connection)
            engine.dispose()
        return name

    def drop(self, name: str) -> None:
        if not name.startswith("declared"):
            self._execute(f"DROP DATABASE IF EXISTS {name}")
            return
        engine = create_engine(self.url(name).replace("mariadb:", "mariadb+pymysql:"))
        with engine.begin() as connection:
            connection.execute(text("SET FOREIGN_KEY_CHECKS = 0"))
            for table in metadata.tables:
                connection.execute(text(f"DELETE FROM `{table}`"))
        engine.dispose()
        self._ready.append(name)

    def url(self, name: str) -> str:
        return f"mariadb://root@localhost/{name}?unix_socket={self.folder}/socket"

    def _execute(self, sql: str) -> None:
        connection = pymysql.connect(unix_socket=f"{self.folder}/socket", user="root", autocommit=True)
        with connection, connection.cursor() as cursor:
            cursor.execute(sql)
