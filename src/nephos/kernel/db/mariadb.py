"""MariaDB and Galera, by PyMySQL."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pymysql
from pymysql.constants import FIELD_TYPE
from pymysql.converters import conversions
from sqlalchemy import make_url, text
from sqlalchemy.exc import DBAPIError

from nephos.kernel.db.engine import Why, away, said
from nephos.kernel.db.served import CONNECT_SECONDS, STATEMENT_SECONDS, ServedDatabase

_WHY = {
    1062: Why.TAKEN,
    1451: Why.PARENT,
    1452: Why.PARENT,
    1020: Why.MET,  # the row changed since it was read
    1205: Why.MET,  # a lock was not had in time
    1213: Why.MET,  # a deadlock; on Galera also a certification that failed
    1047: Why.LOST,  # a node that left its cluster
    1264: Why.VALUE,
    1366: Why.VALUE,
    1406: Why.VALUE,
    2006: Why.LOST,
    2013: Why.LOST,
    2055: Why.LOST,
    1927: Why.LOST,
    1053: Why.LOST,
    1021: Why.AWAY,
    1040: Why.AWAY,
    1041: Why.AWAY,
    1114: Why.AWAY,
    1203: Why.AWAY,
    1226: Why.AWAY,
    1290: Why.AWAY,
    1969: Why.AWAY,  # the statement's time is over
    3024: Why.AWAY,
}


class MariaDatabase(ServedDatabase):
    """`url` is mariadb://USER:PASSWORD@HOST:PORT/NAME; mysql:// means the same."""

    begin_write = ("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", "START TRANSACTION")
    begin_read = ("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY",)
    ask_clock = "SELECT CAST(UNIX_TIMESTAMP(SYSDATE(6)) * 1000000 AS SIGNED)"
    ask_most = "SELECT @@max_connections"

    def __init__(self, url: str, *, connections: int) -> None:
        super().__init__(make_url(url).set(drivername="mariadb+pymysql"), connections=connections)

    def connect_arguments(self) -> dict[str, Any]:
        return {
            "connect_timeout": CONNECT_SECONDS,
            "read_timeout": STATEMENT_SECONDS + 5,
            "write_timeout": STATEMENT_SECONDS + 5,
            "charset": "utf8mb4",
            "collation": "utf8mb4_nopad_bin",
            "conv": {**conversions, FIELD_TYPE.DECIMAL: _number, FIELD_TYPE.NEWDECIMAL: _number},
            "init_command": (
                "SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION,ERROR_FOR_DIVISION_BY_ZERO', "
                f"tx_isolation = 'REPEATABLE-READ', innodb_lock_wait_timeout = {STATEMENT_SECONDS // 2}, "
                f"max_statement_time = {STATEMENT_SECONDS}"
            ),
        }

    def prepare(self, raw: Any) -> None:
        """All is said at the connect."""

    def why(self, wrong: DBAPIError) -> Why:
        code = wrong.orig.args[0] if wrong.orig is not None and wrong.orig.args else None
        if code in _WHY:
            return _WHY[code]
        if wrong.connection_invalidated or isinstance(wrong.orig, pymysql.err.InterfaceError):
            return Why.LOST
        if isinstance(wrong.orig, pymysql.err.DataError):
            return Why.VALUE
        return Why.AWAY if code in (2002, 2003) else Why.OTHER

    @contextmanager
    def alone(self, what: str) -> Iterator[None]:
        try:
            with self.engine.connect() as connection:
                connection.exec_driver_sql("SET SESSION max_statement_time = 0")
                asked = {"name": f"nephos:{what}", "seconds": STATEMENT_SECONDS}
                while not connection.execute(text("SELECT GET_LOCK(:name, :seconds)"), asked).scalar():
                    continue
                try:
                    yield
                finally:
                    connection.detach()  # closing it gives the lock back
        except DBAPIError as wrong:
            raise away(said(wrong)) from wrong


def _number(words: str) -> int | float:
    """Sums of whole numbers are whole numbers, as the columns are."""
    return float(words) if "." in words else int(words)
