"""Write the migration that brings the newest schema to the tables that the code declares: for developers.

    .venv/bin/python scripts/migration.py WORDS   # e.g. add_volumes → versions/0002_add_volumes.py

Read what it wrote before you commit it: it must be additive.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine

import nephos.app  # noqa: F401  (declares every table)
from nephos.kernel.db import migrate


def main() -> None:
    words = "_".join(sys.argv[1:]) or sys.exit(__doc__)
    known = [path.name[:4] for path in (migrate.HERE / "versions").glob("[0-9][0-9][0-9][0-9]_*.py")]
    revision = f"{int(max(known, default='0000')) + 1:04d}"
    config = Config()
    config.set_main_option("script_location", str(migrate.HERE))
    config.set_main_option("file_template", "%%(rev)s_%%(slug)s")
    with tempfile.TemporaryDirectory() as folder:
        engine = create_engine(f"sqlite:///{Path(folder) / 'empty.db'}")
        with engine.connect() as connection:
            config.attributes["connection"] = connection
            if known:
                command.upgrade(config, "head")
            command.revision(config, message=words.replace("_", " "), autogenerate=True, rev_id=revision)


main()
