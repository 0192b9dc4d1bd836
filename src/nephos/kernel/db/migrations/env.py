"""Alembic's environment: runs on the connection that `kernel.db.migrate` or `scripts/migration.py` hands in."""

from alembic import context

from nephos.kernel.db.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    transactional_ddl=True,
    compare_type=False,
)
with context.begin_transaction():
    context.run_migrations()
