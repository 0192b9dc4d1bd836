"""One TLS connection, read by one thread while another writes."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from nephos.kernel.tls import contexts
from nephos.kernel.tls.authority import SERVER_NAME, Authority
from nephos.kernel.tls.sockets import SharedSocket

WORDS = 200


@pytest.fixture
def ends(tmp_path: Path) -> Iterator[tuple[ssl.SSLSocket, ssl.SSLSocket]]:
    """The client's and the server's: the server sends session tickets, which come when nobody reads yet."""
    authority = Authority.ensure(tmp_path, "cloud-1", 9)
    own = tmp_path / "server.pem"
    own.write_bytes(authority.server([SERVER_NAME], 9))
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    theirs.load_cert_chain(own)
    left, right = socket.socketpair()
    accepted: list[ssl.SSLSocket] = []
    accepting = threading.Thread(target=lambda: accepted.append(theirs.wrap_socket(right, server_side=True)))
    accepting.start()
    client = contexts.dialling(tmp_path / "ca.pem", None).wrap_socket(left, server_hostname=SERVER_NAME)
    accepting.join()
    with client, accepted[0] as server:
        yield client, server


def test_a_read_that_waits_lets_others_write(ends: tuple[ssl.SSLSocket, ssl.SSLSocket]) -> None:
    client, server = ends
    assert isinstance(client, SharedSocket)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(client.recv(100)))
    reader.start()
    for number in range(WORDS):
        client.sendall(b"%04d" % number)
        assert server.recv(4) == b"%04d" % number
    assert reader.is_alive() and not read
    server.sendall(b"done")
    reader.join(10)
    assert read == [b"done"]


def test_more_than_fits_is_sent_while_the_other_end_sends_too(ends: tuple[ssl.SSLSocket, ssl.SSLSocket]) -> None:
    client, server = ends
    big = bytes(range(256)) * 20_000
    received = bytearray()

    def read() -> None:
        while len(received) < len(big):
            received.extend(client.recv(65_536))

    def answer() -> None:
        """Send all, then take all: until then the client's buffers are full."""
        server.sendall(big)
        left = len(big)
        while left:
            left -= len(server.recv(65_536))

    threads = [threading.Thread(target=call, daemon=True) for call in (read, answer)]
    for each in threads:
        each.start()
    client.sendall(big)
    for each in threads:
        each.join(30)
    assert received == big and not any(each.is_alive() for each in threads)


def test_timeouts_and_the_end(ends: tuple[ssl.SSLSocket, ssl.SSLSocket]) -> None:
    client, server = ends
    client.settimeout(0.05)
    assert client.gettimeout() == 0.05
    with pytest.raises(TimeoutError):
        client.recv(1)
    with client.makefile("rb") as file:
        server.sendall(b"a line\n")
        client.settimeout(10)
        assert file.readline() == b"a line\n"
    server.close()
    assert client.recv(1) == b""
