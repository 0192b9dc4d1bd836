"""Images over a real socket, as in production: Granian's threads, chunked uploads, clients that vanish or are slow."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness import PASSWORDS

THREADS = 64


class Server:
    def __init__(self, port: int) -> None:
        self.port = port
        self.token = ""

    def request(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        raw = json.dumps(body) if isinstance(body, dict) else body
        kind = {} if any(name.lower() == "content-type" for name in headers) else {"Content-Type": "application/json"}
        chunked = hasattr(raw, "__next__")
        connection.request(method, path, raw, {"X-Auth-Token": self.token, **kind, **headers}, encode_chunked=chunked)
        reply = connection.getresponse()
        data = reply.read()
        connection.close()
        return reply.status, {name.lower(): value for name, value in reply.getheaders()}, data

    def new_image(self, **values: Any) -> str:
        status, _, data = self.request(
            "POST", "/image/v2/images", {"name": "i", "disk_format": "raw", "container_format": "bare", **values}
        )
        assert status == 201, data
        return str(json.loads(data)["id"])

    def show(self, image_id: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.request("GET", f"/image/v2/images/{image_id}")[2])
        return found

    def begin(self, method: str, path: str, *headers: str) -> socket.socket:
        """Send a request's head, and keep the connection."""
        raw = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        lines = [f"{method} {path} HTTP/1.1", "Host: x", f"X-Auth-Token: {self.token}", *headers, "", ""]
        raw.sendall("\r\n".join(lines).encode())
        return raw


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    state = tmp_path_factory.mktemp("served")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    root = Path(__file__).parents[2]
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "granian", "--interface", "wsgi", "--factory", "tests.image.served:application"),
            *("--host", "127.0.0.1", "--port", str(port), "--workers", "1", "--blocking-threads", str(THREADS)),
            *("--no-access-log", "--log-level", "error"),
        ],
        cwd=root,
        env={**os.environ, "NEPHOS_TEST_STATE": str(state), "PYTHONPATH": f"{root}:{root / 'src'}"},
    )
    found = Server(port)
    try:
        _login(found, process)
        yield found
    finally:
        process.terminate()
        process.wait(timeout=20)


def _login(server: Server, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while True:
        assert process.poll() is None and time.monotonic() < deadline, "the server did not start"
        try:
            server.request("GET", "/healthcheck")
            break
        except OSError:
            time.sleep(0.1)
    domain = {"id": "default"}
    password = {"user": {"name": "demo", "domain": domain, "password": PASSWORDS["demo"]}}
    auth = {
        "identity": {"methods": ["password"], "password": password},
        "scope": {"project": {"name": "demo", "domain": domain}},
    }
    status, headers, data = server.request("POST", "/v3/auth/tokens", {"auth": auth})
    assert status == 201, data
    server.token = headers["x-subject-token"]


OCTETS = {"Content-Type": "application/octet-stream"}


def test_a_chunked_upload_comes_back_whole(server: Server) -> None:
    data = os.urandom(3 << 20)
    image_id = server.new_image()
    chunks = iter([data[: 1 << 20], data[1 << 20 : (1 << 20) + 7], data[(1 << 20) + 7 :]])
    status, _, body = server.request("PUT", f"/image/v2/images/{image_id}/file", chunks, **OCTETS)
    assert status == 204, body
    image = server.show(image_id)
    assert image["size"] == len(data) and image["os_hash_value"] == hashlib.sha512(data).hexdigest()
    status, headers, body = server.request("GET", f"/image/v2/images/{image_id}/file")
    assert status == 200 and body == data
    assert headers["content-md5"] == hashlib.md5(data).hexdigest() and headers["content-length"] == str(len(data))
    status, _, body = server.request("GET", f"/image/v2/images/{image_id}/file", Range="bytes=1000000-1999999")
    assert status == 206 and body == data[1000000:2000000]


def test_a_refused_upload_is_answered_though_its_body_was_not_read(server: Server) -> None:
    image_id = server.new_image(disk_format=None)
    status, _, body = server.request("PUT", f"/image/v2/images/{image_id}/file", bytes(4 << 20), **OCTETS)
    assert status == 400 and b"disk_format" in body


@pytest.mark.parametrize("head", ["Content-Length: 1000000", "Transfer-Encoding: chunked"])
def test_a_client_that_vanishes_leaves_no_image(server: Server, head: str) -> None:
    image_id = server.new_image()
    raw = server.begin(
        "PUT",
        f"/image/v2/images/{image_id}/file",
        "Content-Type: application/octet-stream",
        "X-OpenStack-Image-Size: 1000000",
        head,
    )
    raw.sendall((b"3e8\r\n" if "chunked" in head else b"") + b"x" * 1000 + b"\r\n")
    _until(lambda: server.show(image_id)["status"] == "saving")
    raw.close()
    _until(lambda: server.show(image_id)["status"] == "queued")
    assert server.request("PUT", f"/image/v2/images/{image_id}/file", b"whole", **OCTETS)[0] == 204


def cut(raw: socket.socket) -> None:
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    raw.close()


@pytest.mark.parametrize(
    ("noun", "leave", "rest"),
    [
        ("file", socket.socket.close, b""),
        ("file", cut, b"3e8\r\nhalf of it"),
        ("stage", lambda raw: raw.shutdown(socket.SHUT_WR), b""),
    ],
    ids=["closes", "is cut", "sends no more"],
)
def test_a_chunked_upload_without_a_size_that_breaks_off_leaves_no_image(
    server: Server, noun: str, leave: Callable[[socket.socket], None], rest: bytes
) -> None:
    image_id = server.new_image()
    path = f"/image/v2/images/{image_id}/{noun}"
    raw = server.begin("PUT", path, "Content-Type: application/octet-stream", "Transfer-Encoding: chunked")
    idle = server.begin("GET", "/healthcheck")
    raw.sendall(b"3e8\r\n" + b"x" * 1000 + b"\r\n" + rest)
    _until(lambda: server.show(image_id)["status"] in ("saving", "uploading"))
    leave(raw)
    _until(lambda: server.show(image_id)["status"] == "queued")
    assert idle.recv(12) == b"HTTP/1.1 200", "another's connection is no sign of life"
    raw.close()
    idle.close()
    status, _, body = server.request("PUT", f"/image/v2/images/{image_id}/file", iter([b"whole"]), **OCTETS)
    assert status == 204, body
    assert server.show(image_id)["size"] == 5


def test_slow_transfers_never_take_all_threads(server: Server) -> None:
    """Of forty slow uploads those beyond the limit are told to come again, and everybody else is served at once."""
    ids = [server.new_image() for _ in range(40)]
    kept = [
        server.begin(
            "PUT",
            f"/image/v2/images/{image_id}/file",
            "Content-Type: application/octet-stream",
            "Content-Length: 5",
        )
        for image_id in ids
    ]
    try:
        _until(lambda: [server.show(each)["status"] for each in ids].count("saving") == 32)
        times = []
        for _ in range(20):
            began = time.monotonic()
            assert server.request("GET", "/image/v2/images?limit=1")[0] == 200
            times.append(time.monotonic() - began)
        assert sorted(times)[10] < 0.5, times
        for raw in kept:
            raw.sendall(b"hello")
        answers = [raw.recv(4096) for raw in kept]
    finally:
        for raw in kept:
            raw.close()
    codes = [answer[9:12] for answer in answers]
    assert codes.count(b"204") == 32 and codes.count(b"503") == 8
    assert all(b"retry-after: 10" in answer.lower() for answer in answers if answer[9:12] == b"503")
    assert [server.show(each)["status"] for each in ids].count("active") == 32


def test_downloads_that_nobody_reads_give_their_places_back(server: Server) -> None:
    data = bytes(8 << 20)
    image_id = server.new_image()
    assert server.request("PUT", f"/image/v2/images/{image_id}/file", data, **OCTETS)[0] == 204
    kept = [server.begin("GET", f"/image/v2/images/{image_id}/file") for _ in range(40)]
    codes = [raw.recv(12)[9:12] for raw in kept]
    assert codes.count(b"200") == 32 and codes.count(b"503") == 8
    assert server.request("GET", "/image/v2/images?limit=1")[0] == 200
    for raw in kept:
        raw.close()
    _until(lambda: server.request("GET", f"/image/v2/images/{image_id}/file", Range="bytes=0-0")[0] == 206)


def _until(true: Any) -> None:
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)
