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
    """Migrate to the newest revision; answers whether anything was done.

    Raises SettingsError when the ledger is newer than this release.
    """
    with engine.connect() as connection:
        now = current(connection)
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
        command.upgrade(config, "head")
    return True
