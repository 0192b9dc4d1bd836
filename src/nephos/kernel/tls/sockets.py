"""A TLS socket that one thread reads while another writes, as an agent's connection is used.

OpenSSL allows no two threads in one connection at the same time, and Python before 3.13 lets them in: a read that
waits lets go of the interpreter's lock, not of the connection. Then, now and then, what the other thread writes never
leaves; already the session tickets that a server sends after the handshake are enough. So here reads and writes are
one at a time and never wait inside; the waiting is done outside.
"""

from __future__ import annotations

import select
import ssl
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from nephos.kernel import clock

T = TypeVar("T")


class SharedSocket(ssl.SSLSocket):
    """To be a context's `sslsocket_class`. One reader, and one writer at a time."""

    _patience: float | None
    _lock: threading.Lock | None = None
    """There from the handshake's end on."""

    def do_handshake(self, block: bool = False) -> None:
        super().do_handshake(block)
        if self._lock is None:
            self._patience = super().gettimeout()
            super().settimeout(0)
            self._lock = threading.Lock()

    def settimeout(self, value: float | None) -> None:
        if self._lock is None:
            super().settimeout(value)
        else:
            self._patience = value

    def gettimeout(self) -> float | None:
        return super().gettimeout() if self._lock is None else self._patience

    def read(self, len: int = 1024, buffer: Any = None) -> Any:
        return self._alone(lambda: super(SharedSocket, self).read(len, buffer))

    def send(self, data: Any, flags: int = 0) -> int:
        return self._alone(lambda: super(SharedSocket, self).send(data, flags))

    def _alone(self, call: Callable[[], T]) -> T:
        """Raises TimeoutError when the network lets it wait longer than the socket's timeout."""
        if self._lock is None:
            return call()
        end = None if self._patience is None else clock.monotonic() + self._patience
        while True:
            try:
                with self._lock:
                    return call()
            except ssl.SSLWantWriteError:
                self._wait(select.POLLOUT, end)
            except (ssl.SSLWantReadError, BlockingIOError):
                self._wait(select.POLLIN, end)

    def _wait(self, event: int, end: float | None) -> None:
        poll = select.poll()
        poll.register(self, event)
        if not poll.poll(None if end is None else max(0.0, end - clock.monotonic()) * 1000):
            raise TimeoutError("timed out")
