"""A database that is away is a 503 with its reason and a time to wait, in every service's own words; then it is there again."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import engines
from tests.harness import Client, Harness

WORDS = {
    "/v3/users": lambda body: body["error"]["message"],
    "/compute/v2.1/servers": lambda body: body["serviceUnavailable"]["message"],
    "/network/v2.0/networks": lambda body: body["NeutronError"]["message"],
    "/image/v2/images": lambda body: body["message"],
    "/placement/resource_providers": lambda body: body["errors"][0]["detail"],
}


@pytest.fixture(scope="module")
def postgres() -> Iterator[engines.Postgres]:
    server = engines.Postgres(most=20)
    yield server
    server.stop()


@pytest.fixture
def cloud(postgres: engines.Postgres, tmp_path: Path) -> Iterator[Harness]:
    with Harness(tmp_path, database=postgres.url(postgres.make(tables=True))) as harness:
        yield harness


def refusals(client: Client) -> dict[str, Any]:
    """What every service says while the database is away; each within seconds."""
    found = {}
    for path, words in WORDS.items():
        began = time.monotonic()
        reply = client.get(path)
        assert time.monotonic() - began < 15, path
        assert (reply.status, reply.headers.get("retry-after")) == (503, "2"), reply
        found[path] = words(reply.json)
    return found


def test_a_database_that_is_down(postgres: engines.Postgres, cloud: Harness) -> None:
    admin = cloud.login("admin", "admin")
    assert {path: admin.get(path).status for path in WORDS} == dict.fromkeys(WORDS, 200)
    postgres.kill()
    for said in refusals(admin).values():
        assert "The ledger cannot be used now" in said
    reply = admin.post("/network/v2.0/networks", {"network": {"name": "n"}})
    assert (reply.status, reply.headers.get("retry-after")) == (503, "2")
    postgres.start()
    assert {path: admin.get(path).status for path in WORDS} == dict.fromkeys(WORDS, 200)
    assert admin.post("/network/v2.0/networks", {"network": {"name": "n"}}).status == 201


def test_connections_used_up_by_others(postgres: engines.Postgres, cloud: Harness) -> None:
    import psycopg

    admin = cloud.login("admin", "admin")
    cloud.cloud.database.engine.dispose()
    held = []
    with pytest.raises(psycopg.OperationalError):
        while True:
            held.append(psycopg.connect(host=str(postgres.folder), user=engines.USER, dbname="postgres"))
    for said in refusals(admin).values():
        assert "too many clients" in said or "connection slots" in said
    for connection in held:
        connection.close()
    end = time.monotonic() + 10
    while admin.get("/v3/users").status != 200:
        assert time.monotonic() < end
    assert {path: admin.get(path).status for path in WORDS} == dict.fromkeys(WORDS, 200)
