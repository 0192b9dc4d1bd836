"""What a migration refuses. That migrations make what the code declares is held on every engine in `test_engines`."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import create_engine, text

from nephos.kernel.db import migrate


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
