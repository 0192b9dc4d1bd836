"""PostgreSQL, by psycopg 3."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg.adapt import Buffer, Loader
from psycopg.pq import TransactionStatus
from sqlalchemy import Connection, make_url, text
from sqlalchemy.exc import DBAPIError

from nephos.kernel.db.engine import Why, away, said
from nephos.kernel.db.served import CONNECT_SECONDS, STATEMENT_SECONDS, ServedDatabase

_WHY = {
    "23505": Why.TAKEN,
    "23503": Why.PARENT,
    "40001": Why.MET,
    "40P01": Why.MET,
    "55P03": Why.MET,  # a lock was not had in time
    "22001": Why.VALUE,
    "22003": Why.VALUE,
    "22021": Why.VALUE,
    "22P05": Why.VALUE,
}
_AWAY = ("53", "57", "58", "25006")
"""Too many connections, disk full, shut down or cancelled, the system's own error, a server that only reads."""


class PostgresDatabase(ServedDatabase):
    """`url` is postgresql://USER:PASSWORD@HOST:PORT/NAME."""

    begin_write = ("BEGIN ISOLATION LEVEL SERIALIZABLE",)
    begin_read = ("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",)
    ask_clock = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
    ask_most = (
        "SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int"
    )

    def __init__(self, url: str, *, connections: int) -> None:
        super().__init__(make_url(url).set(drivername="postgresql+psycopg"), connections=connections)

    def connect_arguments(self) -> dict[str, Any]:
        return {
            "connect_timeout": CONNECT_SECONDS,
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": STATEMENT_SECONDS * 1000,
            "application_name": "nephos",
        }

    def prepare(self, raw: psycopg.Connection[Any]) -> None:
        raw.adapters.register_loader("numeric", _Number)
        settings = {
            "statement_timeout": STATEMENT_SECONDS * 1000,
            "lock_timeout": STATEMENT_SECONDS * 500,
            "idle_in_transaction_session_timeout": 2 * STATEMENT_SECONDS * 1000,
        }
        was, raw.autocommit = raw.autocommit, True
        raw.execute("; ".join(f"SET {name} = {value}" for name, value in settings.items()))
        raw.autocommit = was

    def doomed(self, connection: Connection) -> bool:
        raw: Any = connection.connection.driver_connection
        return bool(raw.info.transaction_status == TransactionStatus.INERROR)

    def why(self, wrong: DBAPIError) -> Why:
        code = getattr(wrong.orig, "sqlstate", None)
        if code in _WHY:
            return _WHY[code]
        if wrong.connection_invalidated or (code or "").startswith(("08", "57P01", "57P02")):
            return Why.LOST
        if code is None and isinstance(wrong.orig, psycopg.OperationalError):
            return Why.LOST
        if code is None and isinstance(wrong.orig, psycopg.DataError):
            return Why.VALUE
        return Why.AWAY if (code or "").startswith(_AWAY) else Why.OTHER

    @contextmanager
    def alone(self, what: str) -> Iterator[None]:
        number = zlib.crc32(f"nephos:{what}".encode())
        try:
            with self.engine.connect() as connection:
                connection.exec_driver_sql("SET statement_timeout = 0; SET lock_timeout = 0")
                connection.execute(text("SELECT pg_advisory_lock(:number)"), {"number": number})
                try:
                    yield
                finally:
                    connection.detach()  # closing it gives the lock back
        except DBAPIError as wrong:
            raise away(said(wrong)) from wrong


class _Number(Loader):
    """Sums of whole numbers are whole numbers, as the columns are."""

    def load(self, data: Buffer) -> int | float:
        words = bytes(data)
        return float(words) if b"." in words else int(words)
