"""Alembic's environment: runs on the connection that `kernel.db.migrate` or `scripts/migration.py` hands in."""

from typing import Any, Literal

from alembic import context

from nephos.kernel.db.schema import Json, metadata


def render(kind: str, item: Any, _: Any) -> str | Literal[False]:
    """Migrations name only what the engine knows, so that they stay what they are when the code moves on."""
    return "sa.Text()" if kind == "type" and isinstance(item, Json) else False


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
