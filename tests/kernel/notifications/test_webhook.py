"""Webhooks against a real HTTP server: what arrives, what is signed, what is tried again and where nothing is sent."""

from __future__ import annotations

import hashlib
import hmac
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from nephos.errors import SettingsError
from nephos.kernel.notifications import webhook
from nephos.kernel.notifications.outbox import Waiting
from nephos.kernel.notifications.sinks import Refused
from nephos.kernel.notifications.webhook import WebhookSink
from tests.broker import certificate

SECRET = "shared"
ONE = Waiting(1, "nova", "t", "instance.create.end", json.dumps({"message_id": "m-1", "payload": {"ü": 1}}), 0)


class Receiver:
    """Answers with the statuses given, then 204; keeps connections open unless `closes`."""

    def __init__(self, *statuses: int, closes: bool = False) -> None:
        receiver = self
        self.left = list(statuses)
        self.got: list[tuple[str, dict[str, str], bytes]] = []
        self.connections = 0

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                receiver.connections += 1
                super().setup()

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.got.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
                status = receiver.left.pop(0) if receiver.left else 204
                self.send_response(status)
                if status // 100 == 3:
                    self.send_header("Location", "http://127.0.0.1:1/")
                self.send_header("Content-Length", "0")
                self.end_headers()
                self.close_connection = closes

            def log_message(self, format: str, *args: Any) -> None:
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_port

    @contextmanager
    def serving(self) -> Iterator[Receiver]:
        thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield self
        finally:
            self.server.shutdown()
            thread.join()
            self.server.server_close()

    def sink(self, path: str = "/hook?x=1", **more: Any) -> WebhookSink:
        return WebhookSink("webhook:test", f"http://127.0.0.1:{self.port}{path}", SECRET, **more)


def test_the_receiver_can_tell_that_it_is_ours() -> None:
    with Receiver().serving() as receiver:
        sink = receiver.sink()
        sink.send(ONE)
        sink.send(ONE)
        sink.close()
    path, headers, body = receiver.got[0]
    assert (path, body) == ("/hook?x=1", ONE.message.encode())
    assert headers["content-type"] == "application/json"
    assert (headers["x-nephos-event"], headers["x-nephos-delivery"]) == ("instance.create.end", "m-1")
    stamp = headers["x-nephos-timestamp"]
    wanted = hmac.new(SECRET.encode(), f"{stamp}.".encode() + body, hashlib.sha256).hexdigest()
    assert headers["x-nephos-signature"] == f"sha256={wanted}"
    assert receiver.connections == 1, "one connection for both"


@pytest.mark.parametrize("status", [400, 410, 413, 415, 422])
def test_a_notification_that_is_refused_is_not_sent_again(status: int) -> None:
    with Receiver(status).serving() as receiver, pytest.raises(Refused, match=str(status)):
        receiver.sink().send(ONE)


@pytest.mark.parametrize("status", [301, 302, 307, 401, 403, 404, 408, 429, 500, 503])
def test_other_failures_pass_and_no_redirect_is_followed(status: int) -> None:
    with Receiver(status).serving() as receiver:
        sink = receiver.sink()
        with pytest.raises(OSError, match=str(status)):
            sink.send(ONE)
        sink.send(ONE)
        sink.close()
        assert len(receiver.got) == 2


def test_a_connection_that_the_receiver_closed_is_made_again() -> None:
    with Receiver(closes=True).serving() as receiver:
        sink = receiver.sink()
        for _ in range(3):
            sink.send(ONE)
        sink.close()
    assert (len(receiver.got), receiver.connections) == (3, 3)


def test_a_receiver_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "TIMEOUT", 0.2)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        sink = WebhookSink("webhook:test", f"http://127.0.0.1:{silent.getsockname()[1]}/", SECRET)
        with pytest.raises(OSError, match="timed out"):
            sink.send(ONE)


@pytest.mark.parametrize("peer", ["169.254.169.254", "fe80::1%2", "::ffff:169.254.169.254", "fd00:ec2::254"])
def test_metadata_services_hear_nothing(peer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What counts is the address at the other end, not the name that led there."""
    sent: list[bytes] = []
    connect = socket.create_connection

    class Peer:
        def __init__(self, inner: socket.socket) -> None:
            self._inner = inner

        def getpeername(self) -> tuple[str, int]:
            return peer, 80

        def sendall(self, data: bytes) -> None:
            sent.append(data)
            self._inner.sendall(data)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._inner, name)

    monkeypatch.setattr(socket, "create_connection", lambda *words: Peer(connect(*words)))
    with Receiver().serving() as receiver:
        with pytest.raises(OSError, match="metadata"):
            receiver.sink().send(ONE)
        assert (sent, receiver.got) == ([], [])
        allowed = receiver.sink(link_local=True)
        allowed.send(ONE)
        allowed.close()
        assert len(receiver.got) == 1


def test_https_is_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate(tmp_path / "ca.pem", tmp_path / "key.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "ca.pem", tmp_path / "key.pem")
    receiver = Receiver()
    receiver.server.socket = context.wrap_socket(receiver.server.socket, server_side=True)
    url = f"https://127.0.0.1:{receiver.port}/"
    with receiver.serving():
        with pytest.raises(OSError, match="CERTIFICATE_VERIFY_FAILED"):
            WebhookSink("webhook:test", url, SECRET).send(ONE)
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        trusting = WebhookSink("webhook:test", url, SECRET)
        trusting.send(ONE)
        trusting.close()
    assert len(receiver.got) == 1


@pytest.mark.parametrize(
    "make",
    [
        lambda: WebhookSink("w", "ftp://127.0.0.1/", SECRET),
        lambda: WebhookSink("w", "http:///path", SECRET),
        lambda: WebhookSink("w", "http://user:pass@127.0.0.1/", SECRET),
        lambda: WebhookSink("w", "http://127.0.0.1/", ""),
    ],
)
def test_addresses_that_cannot_be(make: Callable[[], WebhookSink]) -> None:
    with pytest.raises(SettingsError):
        make()
