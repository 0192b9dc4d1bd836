"""This release serves the ledger of the release before it, with its data."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import create_engine, inspect, text

from nephos.kernel.db import migrate
from tests.harness import PASSWORDS, Harness

CHECKOUT = Path(__file__).resolve().parents[2]
MAKE = """
import sys
from pathlib import Path
from nephos import app
from nephos.kernel.db import migrate
from nephos.settings import Settings

state = Path(sys.argv[1])
(state / "server").mkdir(parents=True)
settings = Settings(state=state, hypervisor="fake")
settings.tokens.bcrypt_rounds = 4
cloud = app.compose(settings)
migrate.upgrade(cloud.database.engine)
app.seed(cloud, {"admin": "admin-secret", "demo": "demo-secret"})
cloud.database.close()
"""


def git(*words: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["git", "-C", str(CHECKOUT), *words], capture_output=True, check=False)


def previous_source(folder: Path) -> Path:
    """The package as the commit before the newest migration has it: what the migration is for."""
    newest = max((migrate.HERE / "versions").glob("[0-9]*.py"))
    added = git("log", "--diff-filter=A", "--format=%h", "-1", "--", str(newest)).stdout.decode().strip()
    archive = git("archive", f"{added}~1" if added and newest.name[:4] != "0001" else "HEAD", "src")
    if archive.returncode:
        pytest.skip("this checkout has no history to take the previous release from")
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive.stdout, check=True)
    return folder / "src"


def test_the_previous_releases_ledger_is_upgraded_with_its_data(tmp_path: Path) -> None:
    source = previous_source(tmp_path)
    state = tmp_path / "state"
    environment = {"PYTHONPATH": str(source), "PATH": "/usr/bin:/bin"}
    made = subprocess.run([sys.executable, "-c", MAKE, str(state)], env=environment, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    url = f"sqlite:///{state / 'server' / 'ledger.db'}"
    before = counts(url)
    assert before["identity_user"] >= 2

    migrate.upgrade(create_engine(url))

    after = counts(url)
    assert {table: after.get(table) for table in before} == before
    with Harness(state) as cloud:
        demo = cloud.login("demo", "demo", password=PASSWORDS["demo"])
        names = {network["name"] for network in demo.get("/network/v2.0/networks").json["networks"]}
        assert {"private", "public"} <= names


def counts(url: str) -> dict[str, int]:
    engine = create_engine(url)
    with engine.connect() as connection:
        tables = [name for name in inspect(connection).get_table_names() if name != "alembic_version"]
        return {name: int(connection.execute(text(f'SELECT count(*) FROM "{name}"')).scalar() or 0) for name in tables}
