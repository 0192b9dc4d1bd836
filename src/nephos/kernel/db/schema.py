"""The one metadata of the ledger, and the column types every table uses.

Ids are text, times are microseconds since the epoch (`kernel.clock`), booleans are integers to the engine, and
documents that only one noun reads are JSON text. Tables live in their noun's `store.py`.
"""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import BigInteger, Boolean, Column, Integer, LargeBinary, MetaData, Table, Text, TypeDecorator
from sqlalchemy.engine import Dialect

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class Json(TypeDecorator[Any]):
    """A JSON document as text; None stays NULL."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        return None if value is None else msgspec.json.encode(value).decode()

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        return None if value is None else msgspec.json.decode(value)


def key(name: str = "id") -> Column[str]:
    """A text primary key."""
    return Column(name, Text, primary_key=True)


def text(name: str, *, null: bool = False, index: bool = False, default: str | None = None) -> Column[Any]:
    return Column(name, Text, nullable=null, index=index, default=default)


def integer(name: str, *, null: bool = False, default: int | None = None, index: bool = False) -> Column[Any]:
    return Column(name, BigInteger().with_variant(Integer, "sqlite"), nullable=null, default=default, index=index)


def boolean(name: str, *, default: bool = False) -> Column[Any]:
    return Column(name, Boolean, nullable=False, default=default)


def when(name: str, *, null: bool = False, index: bool = False) -> Column[Any]:
    """A moment, in microseconds since the epoch."""
    return integer(name, null=null, index=index)


def document(name: str, *, null: bool = True) -> Column[Any]:
    return Column(name, Json, nullable=null)


def blob(name: str, *, null: bool = True) -> Column[Any]:
    return Column(name, LargeBinary, nullable=null)


__all__ = ["Json", "Table", "blob", "boolean", "document", "integer", "key", "metadata", "text", "when"]
