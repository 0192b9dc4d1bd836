"""The doorbell of several servers over PostgreSQL's LISTEN and NOTIFY, on a connection of its own.

NOTIFY takes a lock of the whole database at its commit, so it is never part of a unit of work: one thread sends what
was rung meanwhile, each topic once, many to a statement. It calls itself now and then, and when it does not hear that
the connection is made anew: a pooler between that lost the LISTEN is found like this. While there is no connection
rings go to the listeners of this process only; the others look by themselves.
"""

from __future__ import annotations

import logging
import os
import select
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import psycopg
from sqlalchemy import make_url

from nephos.kernel import clock
from nephos.kernel.doorbell.memory import MemoryDoorbell

log = logging.getLogger(__name__)
CHANNEL = "nephos_doorbell"
MOST_KEPT = 10_000
MOST_AT_ONCE = 500


class PostgresDoorbell:
    """Rings inside the process are heard at once. `ping_seconds` is how often it calls itself; deaf is who missed three."""

    def __init__(self, url: str, *, ping_seconds: float = 5.0) -> None:
        parts = make_url(url).set(drivername="postgresql")
        self._url = parts.render_as_string(hide_password=False)
        self._ping_seconds = ping_seconds
        self._own = MemoryDoorbell()
        self._id = clock.hex_id()
        self._lock = threading.Lock()
        self._kept: dict[str, None] = {}
        self._wake, self._waker = os.pipe()
        os.set_blocking(self._wake, False)
        os.set_blocking(self._waker, False)
        self._heard_at = 0.0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def ring(self, topic: str) -> None:
        self._own.ring(topic)
        with self._lock:
            first = not self._kept
            if len(self._kept) < MOST_KEPT:
                self._kept[topic] = None
        if first:
            self._prod()

    def listen(self, heard: Callable[[str], None]) -> Callable[[], None]:
        """The first listener starts the thread."""
        with self._lock:
            if self._thread is None and not self._stop.is_set():
                self._thread = threading.Thread(target=self._loop, name="doorbell", daemon=True)
                self._thread.start()
        return self._own.listen(heard)

    def close(self) -> None:
        self._stop.set()
        self._prod()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout=5)

    @property
    def connected(self) -> bool:
        """Whether a ping came back over the present connection."""
        return self._heard_at > 0

    def _prod(self) -> None:
        with suppress(OSError):  # a full pipe wakes too
            os.write(self._waker, b"x")

    def _loop(self) -> None:
        pause = 0.5
        while not self._stop.is_set():
            try:
                self._serve()
            except Exception as wrong:
                if self._heard_at:
                    pause = 0.5
                log.warning("the doorbell on PostgreSQL is made anew in %.1f s: %s", pause, str(wrong).split("\n")[0])
            self._heard_at = 0.0
            self._stop.wait(pause * (0.5 + clock.jitter()))
            pause = min(pause * 2, 30.0)

    def _serve(self) -> None:
        options: dict[str, Any] = {"autocommit": True, "connect_timeout": 5, "application_name": "nephos doorbell"}
        with psycopg.connect(self._url, keepalives_idle=10, tcp_user_timeout=15_000, **options) as connection:
            connection.execute(f"LISTEN {CHANNEL}")
            began = clock.monotonic()
            next_ping = began
            while not self._stop.is_set():
                now = clock.monotonic()
                if now >= next_ping:
                    self._notify(connection, [self._id + ":"])
                    next_ping = now + self._ping_seconds
                if now - max(began, self._heard_at) > 3 * self._ping_seconds:
                    raise ConnectionError("its own pings do not come back")
                self._send(connection)
                # also what came in while something was sent: the socket is not readable for that any more
                for notify in connection.notifies(timeout=0):
                    self._take(notify)
                ready, _, _ = select.select([connection.fileno(), self._wake], [], [], max(0.0, next_ping - now))
                if self._wake in ready:
                    with suppress(BlockingIOError):
                        os.read(self._wake, 4096)

    def _take(self, notify: psycopg.Notify) -> None:
        sender, _, topic = notify.payload.partition(":")
        if topic and sender != self._id:
            self._own.ring(topic)
        elif not topic and sender == self._id:
            self._heard_at = clock.monotonic()

    def _send(self, connection: psycopg.Connection[Any]) -> None:
        """Everything that was rung since the last time, each topic once."""
        while True:
            with self._lock:
                topics = list(self._kept)[:MOST_AT_ONCE]
                for topic in topics:
                    del self._kept[topic]
            if not topics:
                return
            self._notify(connection, [f"{self._id}:{topic}" for topic in topics])

    @staticmethod
    def _notify(connection: psycopg.Connection[Any], payloads: list[str]) -> None:
        connection.execute("SELECT pg_notify(%s, payload) FROM unnest(%s::text[]) AS payload", [CHANNEL, payloads])
