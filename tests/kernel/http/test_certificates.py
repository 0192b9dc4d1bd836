"""HTTPS by the real server: a new certificate while clients are at it."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from nephos.kernel.tls import authority as ca
from nephos.kernel.tls.authority import Authority
from nephos.kernel.tls.keeper import Keeper

ROOT = Path(__file__).parents[3]
SERVE = """
import sys
from pathlib import Path
from nephos.kernel.http import serving
from nephos.kernel.tls.keeper import Files
serving.IDLE_SECONDS = 2.0
pem = Path(sys.argv[2])
serving.serve("tests.kernel.http.renewing:front", "127.0.0.1", int(sys.argv[1]), Files(pem, pem))
"""


class Served(NamedTuple):
    port: int
    keeper: Keeper
    process: subprocess.Popen[bytes]

    def context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.keeper.authority.pem))

    def connection(self) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection("127.0.0.1", self.port, context=self.context(), timeout=20)

    def serial(self) -> int:
        with (
            socket.create_connection(("127.0.0.1", self.port), timeout=10) as plain,
            self.context().wrap_socket(plain, server_hostname="127.0.0.1") as connection,
        ):
            return int(str(connection.getpeercert()["serialNumber"]), 16)  # type: ignore[index]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    path = tmp_path_factory.mktemp("tls")
    keeper = Keeper(Authority.ensure(path, "cloud", 9), ["127.0.0.1"], 9)
    keeper.ensure()
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "TEST_PEM": str(keeper.own.certificate)}
    port = free_port()
    words = [sys.executable, "-c", SERVE, str(port), str(keeper.own.certificate)]
    process = subprocess.Popen(words, env=environment, cwd=ROOT)
    one = Served(port, keeper, process)
    end = time.monotonic() + 90
    try:
        while True:
            try:
                one.serial()
                break
            except OSError:
                assert process.poll() is None and time.monotonic() < end, "the server does not answer"
                time.sleep(0.1)
        yield one
    finally:
        process.terminate()
        assert process.wait(30) == 0


def ask(connection: http.client.HTTPSConnection, method: str = "GET", body: bytes | None = None) -> tuple[int, bool]:
    connection.request(
        method, "/compute/things/a" if body is None else "/compute/things", body, {"X-Auth-Token": "reader"}
    )
    answer = connection.getresponse()
    answer.read()
    return answer.status, answer.will_close


def test_no_request_is_lost_while_certificates_change(served: Served) -> None:
    """Busy clients that keep their connection, and clients that open one for each request, meet two changes."""
    stop, counted = threading.Event(), Counter[str]()

    def client(keep: bool) -> None:
        connection = served.connection()
        while not stop.is_set():
            try:
                status, closes = ask(connection)
                counted[str(status)] += 1
                counted["announced"] += closes and keep
            except (OSError, http.client.HTTPException) as wrong:
                counted[f"lost: {wrong!r}"] += 1
                closes = True
            if closes or not keep:
                connection.close()
                connection = served.connection()
        connection.close()

    clients = [threading.Thread(target=client, args=(keep,)) for keep in (True, True, False, False)]
    for each in clients:
        each.start()
    try:
        serials = [served.serial()]
        for _ in range(2):
            served.keeper.renew()
            end = time.monotonic() + 30
            while served.serial() == serials[-1]:
                assert time.monotonic() < end, "the new certificate is not served"
                time.sleep(0.1)
            serials.append(served.serial())
            time.sleep(3.5)
    finally:
        stop.set()
        for each in clients:
            each.join(30)
    assert serials[-1] == ca.load(served.keeper.own.certificate).serial_number and len(set(serials)) == 3
    assert set(counted) == {"200", "announced"}, counted
    assert counted["200"] > 100 and counted["announced"] >= 4, counted


def test_an_upload_outlives_the_certificate_that_it_began_with(served: Served) -> None:
    connection, body = served.connection(), b'{"thing": {"name": "slow"}}'
    connection.putrequest("POST", "/compute/things")
    for name, value in (("X-Auth-Token", "reader"), ("Content-Length", str(len(body)))):
        connection.putheader(name, value)
    connection.endheaders(body[:10])
    before = served.serial()
    served.keeper.renew()
    end = time.monotonic() + 30
    while served.serial() == before:
        assert time.monotonic() < end, "the new certificate is not served"
        time.sleep(0.1)
    time.sleep(4)
    connection.send(body[10:])
    assert connection.getresponse().status == 201
    connection.close()


def test_a_worker_that_dies_is_replaced_with_the_new_certificate(served: Served) -> None:
    children = Path(f"/proc/{served.process.pid}/task/{served.process.pid}/children").read_text().split()
    before = served.serial()
    served.keeper.renew()
    for each in children:
        os.kill(int(each), signal.SIGKILL)
    end = time.monotonic() + 60
    while True:
        try:
            assert served.serial() != before
            break
        except OSError:
            assert time.monotonic() < end, "no worker came back"
            time.sleep(0.1)
    assert ask(served.connection())[0] == 200
