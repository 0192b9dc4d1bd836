"""Alembic's environment: runs on the connection that `kernel.db.migrate` or `scripts/migration.py` hands in."""

from typing import Any, Literal

from alembic import context
from alembic.ddl.base import AddColumn, alter_table
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.schema import CreateIndex, CreateTable
from sqlalchemy.sql.elements import False_, True_

from nephos.kernel.db.schema import Json, metadata


def render(kind: str, item: Any, _: Any) -> str | Literal[False]:
    """Migrations name only what every engine knows, so that they stay what they are when the code moves on."""
    value = getattr(item, "arg", None)
    if kind == "server_default" and isinstance(value, False_ | True_):
        return f"sa.{'true' if isinstance(value, True_) else 'false'}()"
    return "sa.Text()" if kind == "type" and isinstance(item, Json) else False


@compiles(CreateTable, "mariadb")
def _create_table(element: CreateTable, compiler: Any, **options: Any) -> str:
    element.if_not_exists = True  # no transaction takes back what a cut-off upgrade has made
    return str(compiler.visit_create_table(element, **options))


@compiles(CreateIndex, "mariadb")
def _create_index(element: CreateIndex, compiler: Any, **options: Any) -> str:
    element.if_not_exists = True
    return str(compiler.visit_create_index(element, **options))


@compiles(AddColumn, "mariadb")
def _add_column(element: AddColumn, compiler: Any, **options: Any) -> str:
    table = alter_table(compiler, element.table_name, element.schema)
    return f"{table} ADD COLUMN IF NOT EXISTS {compiler.get_column_specification(element.column)}"


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    render_item=render,
    transactional_ddl=True,
    compare_type=False,
)
with context.begin_transaction():
    context.run_migrations()
