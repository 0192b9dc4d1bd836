"""The doorbell of several servers over PostgreSQL's LISTEN and NOTIFY, on a connection of its own.

NOTIFY takes a lock of the whole database at its commit, so it is never part of a unit of work: one thread sends what
was rung meanwhile, each topic once, many to a statement. A pooler between that lost the LISTEN is found by the pings.
"""

from __future__ import annotations

import os
import select
from contextlib import suppress
from typing import Any, ClassVar

import psycopg
from sqlalchemy import make_url

from nephos.kernel import clock
from nephos.kernel.doorbell.broker import BrokerDoorbell

CHANNEL = "nephos_doorbell"
MOST_AT_ONCE = 500


class PostgresDoorbell(BrokerDoorbell):
    name: ClassVar[str] = "PostgreSQL"

    def __init__(self, url: str, *, ping_seconds: float = 5.0) -> None:
        super().__init__(ping_seconds)
        parts = make_url(url).set(drivername="postgresql")
        self._url = parts.render_as_string(hide_password=False)
        self._wake, self._waker = os.pipe()
        os.set_blocking(self._wake, False)
        os.set_blocking(self._waker, False)

    def _prod(self) -> None:
        with suppress(OSError):  # a full pipe wakes too
            os.write(self._waker, b"x")

    def _serve(self) -> None:
        options: dict[str, Any] = {"autocommit": True, "connect_timeout": 5, "application_name": "nephos doorbell"}
        with psycopg.connect(self._url, keepalives_idle=10, tcp_user_timeout=15_000, **options) as connection:
            connection.execute(f"LISTEN {CHANNEL}")
            began = next_ping = clock.monotonic()
            while not self._stop.is_set():
                now = clock.monotonic()
                if now >= next_ping:
                    self._notify(connection, [self._id + ":"])
                    next_ping = now + self._ping_seconds
                self._alive(began)
                while topics := self._taken(MOST_AT_ONCE):
                    self._notify(connection, [f"{self._id}:{topic}" for topic in topics])
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

    @staticmethod
    def _notify(connection: psycopg.Connection[Any], payloads: list[str]) -> None:
        connection.execute("SELECT pg_notify(%s, payload) FROM unnest(%s::text[]) AS payload", [CHANNEL, payloads])
