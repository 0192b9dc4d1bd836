"""The one metadata of the ledger, and the column types every table uses.

Ids are text, times are microseconds since the epoch (`kernel.clock`), and documents that only one noun reads are JSON
text. Tables live in their noun's `store.py`.

Text is compared and sorted by its bytes on every engine. MariaDB has no index on text without a length, so there a
column that stands in a key or an index is as long as the widest of them allows, and every other one is unlimited.
"""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.compiler import compiles

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

MOST_KEY_CHARACTERS = 3072 // 4
"""What MariaDB takes into one index, in characters of at most four bytes."""
_BINARY = "CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin"


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


@compiles(String, "postgresql")
@compiles(Text, "postgresql")
def _postgresql_text(kind: String, compiler: Any, *, type_expression: Any = None, **options: Any) -> str:
    words = f"VARCHAR({kind.length})" if kind.length else "TEXT" if isinstance(kind, Text) else "VARCHAR"
    return f'{words} COLLATE "C"' if isinstance(type_expression, Column) else words


@compiles(String, "mariadb")
@compiles(Text, "mariadb")
def _mariadb_text(kind: String, compiler: Any, *, type_expression: Any = None, **options: Any) -> str:
    if not isinstance(type_expression, Column):
        return str(getattr(compiler, f"visit_{'TEXT' if isinstance(kind, Text) else 'VARCHAR'}")(kind, **options))
    length = kind.length or key_length(type_expression)
    return f"{f'VARCHAR({length})' if length else 'LONGTEXT'} {_BINARY}"


@compiles(LargeBinary, "mariadb")
def _mariadb_blob(kind: LargeBinary, compiler: Any, **options: Any) -> str:
    return "LONGBLOB"


@compiles(Float, "mariadb")
def _mariadb_float(kind: Float[Any], compiler: Any, **options: Any) -> str:
    return "DOUBLE"


def key_length(column: Column[Any]) -> int | None:
    """How long a text column may be where it stands in a key or an index (characters); None where it stands in none.

    The declared table decides, so that a migration that names only the column makes the same.
    """
    declared = metadata.tables.get(column.table.name, column.table)
    if column.name not in declared.c:
        return 255
    column = declared.c[column.name]
    keys: list[Any] = [declared.primary_key.columns, *(index.columns for index in declared.indexes)]
    keys += [constraint.columns for constraint in declared.constraints if hasattr(constraint, "columns")]
    widest = max((sum(isinstance(each.type, String) for each in key) for key in keys if column.name in key), default=0)
    if not widest:
        return None
    return min(255, MOST_KEY_CHARACTERS // widest)


__all__ = ["Json", "Table", "blob", "boolean", "document", "integer", "key", "key_length", "metadata", "text", "when"]
