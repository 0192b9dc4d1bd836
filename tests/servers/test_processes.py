"""Two server processes on one PostgreSQL, as `nephos up --database … --servers 2` makes them; one is killed."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import requests

from tests import engines
from tests.cloud import RunningCloud, wait_for

pytestmark = pytest.mark.host
PASSWORD = "correct-horse-battery"


class Two:
    """The cloud of the test, and its client: every request dials anew, so the kernel gives it to any of the servers."""

    def __init__(self, cloud: RunningCloud) -> None:
        self.cloud = cloud
        auth = {
            "identity": {
                "methods": ["password"],
                "password": {
                    "user": {"name": "demo", "domain": {"id": "default"}, "password": cloud.exports("demo")["OS_PASSWORD"]}
                },
            },
            "scope": {"project": {"name": "demo", "domain": {"id": "default"}}},
        }
        self.token = self.ask("POST", "/v3/auth/tokens", {"auth": auth}).headers["X-Subject-Token"]
        images = self.ask("GET", "/image/v2/images").json()["images"]
        self.image = images[0]["id"] if images else self._image()

    def _image(self) -> str:
        made = self.ask(
            "POST", "/image/v2/images", {"name": "i", "disk_format": "raw", "container_format": "bare"}
        ).json()["id"]
        answer = requests.put(
            f"{self.cloud.url}/image/v2/images/{made}/file",
            data=b"x" * 1024,
            headers={"X-Auth-Token": self.token, "Content-Type": "application/octet-stream"},
            timeout=30,
        )
        assert answer.status_code == 204, answer.text
        return str(made)

    def ask(self, method: str, path: str, body: Any = None) -> requests.Response:
        """A request that was cut off by the death of its server is made again, as any client's would."""
        headers = {"OpenStack-API-Version": "compute 2.90"} | ({"X-Auth-Token": self.token} if hasattr(self, "token") else {})
        for _ in range(20):
            with suppress(requests.ConnectionError), requests.Session() as session:
                session.trust_env = False
                answer = session.request(method, self.cloud.url + path, json=body, headers=headers, timeout=30)
                if answer.status_code != 503:
                    assert answer.status_code < 300, answer.text
                    return answer
            time.sleep(0.1)
        raise AssertionError(f"{method} {path}: nobody answers")

    def boot(self, count: int, name: str) -> float:
        """Make servers that come to run; answers the seconds that the slowest took."""
        body = {"name": name, "flavorRef": "1", "imageRef": self.image, "networks": "none"}
        ids, began = [], time.monotonic()
        for _ in range(count):
            ids.append(self.ask("POST", "/compute/v2.1/servers", {"server": body}).json()["server"]["id"])
        left = set(ids)
        while left:
            assert time.monotonic() - began < 120, f"{len(left)} of {count} servers do not come to run"
            for each in list(left):
                status = self.ask("GET", f"/compute/v2.1/servers/{each}").json()["server"]["status"]
                assert status in ("BUILD", "ACTIVE"), status
                if status == "ACTIVE":
                    left.discard(each)
            time.sleep(0.05)
        for each in ids:
            self.ask("DELETE", f"/compute/v2.1/servers/{each}")
        return time.monotonic() - began

    def pids(self, role: str) -> list[int]:
        return [each["pid"] for each in self.cloud.status_processes() if each["role"] == role]

    @contextmanager
    def down(self, role: str, lock: str) -> Iterator[None]:
        """Kill a server and keep the supervisor's next one from starting: its lock is held by somebody else."""
        for pid in self.pids(role):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with (self.cloud.state / "server" / lock).open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Two]:
    path = tmp_path_factory.mktemp("two")
    with engines.ledger("postgresql", path, tables=False) as url:
        engines.server("postgresql").folder.chmod(0o755)  # the server's user goes through it to the socket
        secret = path / "url"
        secret.write_text(url.replace("@", f":{PASSWORD}@", 1))
        secret.chmod(0o600)
        with RunningCloud(hosts=2, options=("--database", f"file:{secret}", "--servers", "2")) as cloud:
            cloud.hosts_up(2, 60)
            yield Two(cloud)


def test_the_databases_password_is_nowhere_to_be_seen(two: Two) -> None:
    state = two.cloud.state
    shown = json.loads(two.cloud.nephos("status", "--json"))
    assert "***" in shown["database"]
    assert sorted(each["role"] for each in shown["processes"]) == [
        "agent", "server", "server", "server-2", "server-2", "supervisor",
    ]  # fmt: skip
    for process in shown["processes"]:
        assert PASSWORD not in Path(f"/proc/{process['pid']}/cmdline").read_text()
    assert PASSWORD not in json.dumps(shown)
    holding = [path for path in state.rglob("*") if path.is_file() and PASSWORD.encode() in path.read_bytes()]
    assert holding == [state / "server" / "database"]
    assert holding[0].stat().st_mode & 0o777 == 0o600


def test_work_given_to_either_reaches_the_agent_at_once(two: Two) -> None:
    """The agent is connected to one of them; half of the requests go to the other."""
    quickest = min(two.boot(3, f"s{turn}") for turn in range(4))
    assert quickest < 8, "an agent that was not rung for looks only every ten seconds"


def test_a_live_question_reaches_the_agent_by_the_server_that_has_it(two: Two) -> None:
    body = {"name": "console", "flavorRef": "1", "imageRef": two.image, "networks": "none"}
    server = two.ask("POST", "/compute/v2.1/servers", {"server": body}).json()["server"]["id"]
    path = f"/compute/v2.1/servers/{server}"
    wait_for(lambda: two.ask("GET", path).json()["server"]["status"] == "ACTIVE", 60, "the server runs")
    began = time.monotonic()
    outputs = [two.ask("POST", f"{path}/action", {"os-getConsoleOutput": {}}).json()["output"] for _ in range(12)]
    assert len(set(outputs)) == 1
    assert outputs[0]
    assert time.monotonic() - began < 10
    two.ask("DELETE", path)


@pytest.mark.parametrize(("role", "lock"), [("server", "lock"), ("server-2", "lock-2")])
def test_when_one_dies_the_other_goes_on(two: Two, role: str, lock: str) -> None:
    body = {"name": "under way", "flavorRef": "1", "imageRef": two.image, "networks": "none"}
    under_way = [
        two.ask("POST", "/compute/v2.1/servers", {"server": body}).json()["server"]["id"] for _ in range(4)
    ]
    with two.down(role, lock):
        for each in under_way:
            wait_for(
                lambda each=each: two.ask("GET", f"/compute/v2.1/servers/{each}").json()["server"]["status"] == "ACTIVE",
                90,
                "what was under way comes to its end",
            )
            two.ask("DELETE", f"/compute/v2.1/servers/{each}")
        two.boot(3, "alone")
        two.cloud.hosts_up(2, 60)
    wait_for(lambda: len(two.pids(role)) == 2, 60, f"{role} is there again")
    two.boot(3, "together")
