"""Request bodies: whole, of bounded size, and never so many slow ones that nobody else is served."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from nephos import errors
from nephos.kernel.http.proxies import client_of

MOST_WAITING = 48
"""Threads that wait for clients to send, of the server's 64: a body that never comes holds one for ever, because the
server offers no way to stop waiting. The others go on to serve what needs no body."""
MOST_OF_ONE = 16
"""Of them, those that wait for clients of one address."""


class Bodies:
    """`most` is the longest body, in bytes."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._waiting: Counter[str] = Counter()
        self._lock = threading.Lock()

    def read(self, environ: dict[str, Any]) -> bytes:
        """The whole body. Raises TooLarge, BadRequest for one that broke off, Unavailable with too many slow ones."""
        most = self._most
        length = environ.get("CONTENT_LENGTH") or ""
        known = length.isascii() and length.isdigit()
        if known and (len(length) > 18 or int(length) > most):
            raise errors.TooLarge(f"The request body is larger than {most} bytes.")
        wanted = int(length) if known else most + 1
        if not wanted:
            return b""
        with self._turn(client_of(environ)):
            body: bytes = environ["wsgi.input"].read(wanted)
        if len(body) > most:
            raise errors.TooLarge(f"The request body is larger than {most} bytes.")
        if known and len(body) < wanted:
            raise errors.BadRequest(f"The request body broke off: {wanted - len(body)} of {wanted} bytes are missing.")
        return body

    @contextmanager
    def _turn(self, client: str) -> Iterator[None]:
        with self._lock:
            if self._waiting.total() >= MOST_WAITING or self._waiting[client] >= MOST_OF_ONE:
                raise errors.Unavailable("Too many requests wait for their bodies to arrive.", retry_after=5)
            self._waiting[client] += 1
        try:
            yield
        finally:
            with self._lock:
                self._waiting[client] -= 1
                if not self._waiting[client]:
                    del self._waiting[client]
