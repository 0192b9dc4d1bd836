"""The front behind the real HTTP server: what only shows on a socket."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[3]
SERVE = """
import sys
from granian import Granian
from granian.constants import Interfaces
Granian("tests.kernel.http.toyfront:front", factory=True, address="127.0.0.1", port=int(sys.argv[1]),
        interface=Interfaces.WSGI, workers=1, blocking_threads=4, log_access=False).serve()
"""


class Got(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


class Wire:
    """One connection, spoken by hand."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.buffer = b""

    def send(self, raw: bytes) -> None:
        self.socket.sendall(raw)

    def _until(self, mark: bytes) -> bytes:
        while mark not in self.buffer:
            more = self.socket.recv(65536)
            assert more, f"closed after {self.buffer!r}"
            self.buffer += more
        head, _, self.buffer = self.buffer.partition(mark)
        return head

    def receive(self, *, body: bool = True) -> Got:
        head = self._until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
        length = int(headers.get("content-length", 0)) if body else 0
        while len(self.buffer) < length:
            more = self.socket.recv(65536)
            assert more, "closed inside a body"
            self.buffer += more
        content, self.buffer = self.buffer[:length], self.buffer[length:]
        return Got(int(head[0].split()[1]), headers, content)

    def ask(self, method: str, path: str, headers: str = "", raw: bytes = b"") -> Got:
        length = f"Content-Length: {len(raw)}\r\n" if raw else ""
        self.send(
            f"{method} {path} HTTP/1.1\r\nHost: h\r\nX-Auth-Token: reader\r\n{length}{headers}\r\n".encode() + raw
        )
        return self.receive(body=method != "HEAD")


def start() -> tuple[subprocess.Popen[bytes], int]:
    """A server on a port that was free a moment ago, which another process may take first."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number: int = probe.getsockname()[1]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    return subprocess.Popen([sys.executable, "-c", SERVE, str(number)], env=environment, cwd=ROOT), number


def stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(10)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    process, number = start()
    end = time.monotonic() + 90
    try:
        while True:
            try:
                Wire(number).ask("GET", "/compute/public")
                break
            except (OSError, AssertionError):
                assert time.monotonic() < end, "the server does not answer"
                if process.poll() is not None:
                    process, number = start()
                time.sleep(0.1)
        yield number
    finally:
        stop(process)


@pytest.fixture
def wire(port: int) -> Iterator[Wire]:
    one = Wire(port)
    yield one
    one.socket.close()


def test_a_connection_serves_many_requests_whatever_they_are(wire: Wire) -> None:
    assert wire.ask("GET", "/compute/things/a").status == 200
    assert wire.ask("GET", "/compute/nothing").status == 404
    assert wire.ask("POST", "/compute/things", raw=b"{").status == 400
    assert wire.ask("HEAD", "/compute/things/a").status == 200
    assert wire.ask("PUT", "/compute/things/a", raw=b"unread").status == 405
    assert wire.ask("GET", "/compute/things/a").status == 200


def test_a_body_that_is_too_large_is_refused_by_its_length(wire: Wire) -> None:
    wire.send(b"POST /compute/things HTTP/1.1\r\nHost: h\r\nX-Auth-Token: reader\r\nContent-Length: 99999999\r\n\r\n{")
    got = wire.receive()
    assert (got.status, json.loads(got.body)["overLimit"]["code"]) == (413, 413)


def test_a_chunked_body_is_read_and_bounded(port: int) -> None:
    head = b"POST /compute/things HTTP/1.1\r\nHost: h\r\nX-Auth-Token: reader\r\nTransfer-Encoding: chunked\r\n\r\n"
    good = Wire(port)
    good.send(head + b'c\r\n{"thing": {"\r\nc\r\nname": "a"}}\n\r\n0\r\n\r\n')
    got = good.receive()
    assert (got.status, json.loads(got.body)) == (201, {"thing": {"name": "a", "size": 0}})
    endless = Wire(port)
    endless.send(head)
    chunk = b"400\r\n" + b" " * 1024 + b"\r\n"
    with contextlib.suppress(ConnectionError):  # the server may answer and close before the last chunk
        for _ in range(8):
            endless.send(chunk)
    got = endless.receive()
    assert (got.status, json.loads(got.body)["overLimit"]["code"]) == (413, 413)
    for each in (good, endless):
        each.socket.close()


def test_paths_are_percent_decoded_once(wire: Wire) -> None:
    assert json.loads(wire.ask("GET", "/network/things/%C3%A9").body)["id"] == "é"
    assert json.loads(wire.ask("GET", "/network/things/%2541").body)["id"] == "%41"
    assert wire.ask("GET", "/network/things/a%2Fb").status == 404
    for bad in ("%00", "%ff", "%c3%28"):
        got = wire.ask("GET", f"/network/things/{bad}")
        assert (got.status, "NeutronError" in json.loads(got.body)) == (400, True)
    assert wire.ask("GET", "/network/things/x%").status in (200, 400)


def test_headers_that_are_not_text_are_no_error(wire: Wire) -> None:
    wire.send(
        b"GET /compute/things/a HTTP/1.1\r\nHost: h\r\nX-Auth-Token: \xc3\xa9\r\nX-OpenStack-Request-ID: \xff\r\n\r\n"
    )
    assert wire.receive().status == 401
    got = wire.ask("GET", "/compute/things/a", "X-OpenStack-Request-ID: req-" + "a" * 5000 + "\r\n")
    assert got.status == 200


def test_a_query_string_of_any_length_is_answered(wire: Wire) -> None:
    got = wire.ask("GET", "/compute/things/a?name=" + "x" * 20_000)
    assert got.status == 200
    got = wire.ask("GET", "/compute/things/a?" + "a=1&" * 2000)
    assert (got.status, json.loads(got.body)["badRequest"]["code"]) == (400, 400)


def test_an_error_inside_shows_no_trace_on_the_socket(wire: Wire) -> None:
    got = wire.ask("POST", "/compute/things", raw=b'{"thing": {"name": "a", "size": -99}}')
    assert got.status == 500
    assert b"Zero" not in got.body and b"Traceback" not in got.body
    assert wire.ask("GET", "/compute/things/a").status == 200
