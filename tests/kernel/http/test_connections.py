"""Which of a process's connections lost its client, told by what the kernel knows of its sockets."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator

import pytest

from nephos.kernel.http import connections


class Pair:
    """A client that sent ten bytes, and the server's end of its connection."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            self.port = int(listening.getsockname()[1])
            self.client = socket.create_connection(("127.0.0.1", self.port))
            self.server, _ = listening.accept()
        self.client.sendall(b"0123456789")
        assert self.server.recv(10) == b"0123456789"

    def close(self) -> None:
        self.client.close()
        self.server.close()


@pytest.fixture
def pair(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pair]:
    monkeypatch.setattr(connections, "WAIT_SECONDS", 0.0)
    made = Pair()
    yield made
    made.close()


@pytest.mark.parametrize("how", ["closed", "cut", "sends no more"])
def test_a_client_that_left_is_found_by_its_port_and_its_bytes(pair: Pair, how: str) -> None:
    assert not connections.broke_off(pair.port, 10), "it is there"
    if how == "sends no more":
        pair.client.shutdown(socket.SHUT_WR)
    else:
        if how == "cut":
            pair.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        pair.client.close()
    end = time.monotonic() + 10
    while not connections.broke_off(pair.port, 10):
        assert time.monotonic() < end
    assert not connections.broke_off(pair.port, 12), "another, that sent less (the end itself counts as one)"
    assert not connections.broke_off(pair.port ^ 1, 10), "a connection of something else, a database's"


def test_another_that_ends_by_itself_is_waited_for(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "WAIT_SECONDS", 20.0)
    pair.client.close()
    ending = threading.Timer(0.2, pair.server.close)
    ending.start()
    assert not connections.broke_off(pair.port, 10)
    ending.join()
