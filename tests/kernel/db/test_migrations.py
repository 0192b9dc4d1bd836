"""The ledger's schema comes from migrations only, and they say what the code declares."""

from __future__ import annotations

from pathlib import Path

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, text

import nephos.app  # noqa: F401  (declares every table)
from nephos.kernel.db import migrate
from nephos.kernel.db.schema import metadata


def test_migrations_make_what_the_code_declares(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'ledger.db'}")
    assert migrate.upgrade(engine)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": False})
        assert compare_metadata(context, metadata) == []
    assert not migrate.upgrade(engine), "again there is nothing to do"


def test_a_newer_ledger_is_refused(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'ledger.db'}")
    migrate.upgrade(engine)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    try:
        migrate.upgrade(engine)
    except Exception as refused:
        assert "newer than this release" in str(refused)
    else:
        raise AssertionError("a ledger of a later release was taken")
