"""Bring a ledger to the newest schema. Alembic is imported only when there is something to do.

Migrations are additive, so that releases N and N-1 can serve together; each is a file `versions/NNNN_words.py` whose
revision is NNNN.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, Engine, inspect, text

from nephos.errors import SettingsError

HERE = Path(__file__).parent / "migrations"


def newest() -> str:
    """The newest revision that this release knows."""
    return max(path.name[:4] for path in (HERE / "versions").glob("[0-9][0-9][0-9][0-9]_*.py"))


def current(connection: Connection) -> str | None:
    """The revision of a ledger, None for an empty one."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    revision: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return revision


def upgrade(engine: Engine) -> bool:
    """Migrate to the newest revision; answers whether anything was done. For several servers: under `Database.alone`.

    All is one transaction; MariaDB has none for tables, so there every statement says "if not there yet", and an
    upgrade that was cut off goes on when it is run again. Raises SettingsError when the ledger is newer than this
    release, or keeps text in another encoding than UTF-8.
    """
    with engine.connect() as connection:
        now = current(connection)
        _check_encoding(connection)
    if now == newest():
        return False
    if now is not None and now > newest():
        raise SettingsError(f"The ledger has schema {now}, newer than this release's {newest()}: install that release.")
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(HERE))
    with engine.connect() as connection:
        config.attributes["connection"] = connection
        if engine.dialect.name != "mariadb":
            connection.exec_driver_sql("BEGIN")
        command.upgrade(config, "head")
        if engine.dialect.name != "mariadb":
            connection.exec_driver_sql("COMMIT")
    return True


def _check_encoding(connection: Connection) -> None:
    if connection.dialect.name != "postgresql":
        return
    encoding = connection.execute(text("SELECT current_setting('server_encoding')")).scalar()
    if encoding != "UTF8":
        raise SettingsError(f"The database keeps text in {encoding}: create it with ENCODING 'UTF8'.")
