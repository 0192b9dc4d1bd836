"""The doorbell of several servers over RabbitMQ: a fanout exchange, and a queue of its own for every server.

No replies, no confirms: a ring that is lost costs latency. One thread owns the connection. It sends itself a ping
through the exchange now and then, and when it does not hear it the connection is made anew, whatever the client
library believes: a queue or binding that vanished without a word is found like this.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import suppress

import pika
from pika.adapters.blocking_connection import BlockingChannel, BlockingConnection
from pika.spec import Basic, BasicProperties

from nephos.kernel import clock, rabbitmq
from nephos.kernel.doorbell.memory import MemoryDoorbell

log = logging.getLogger(__name__)
EXCHANGE = "nephos.doorbell"
PING, RING = "ping", "ring"
MOST_KEPT = 10_000
"""Rings that a server which does not keep up has waiting: older ones are lost."""


class RabbitDoorbell:
    """Rings inside the process are heard at once, as with the memory's; others' when the broker brings them.

    `ping_seconds` is how often it calls itself; deaf is who missed three calls.
    """

    def __init__(self, url: str, *, ping_seconds: float = 5.0) -> None:
        self._choices = rabbitmq.parameters(url, "nephos doorbell")
        self._ping_seconds = ping_seconds
        self._own = MemoryDoorbell()
        self._id = clock.hex_id()
        self._lock = threading.Lock()
        self._kept: dict[str, None] = {}
        self._connection: BlockingConnection | None = None
        self._channel: BlockingChannel | None = None
        self._heard_at = 0.0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def ring(self, topic: str) -> None:
        self._own.ring(topic)
        with self._lock:
            first = not self._kept
            if len(self._kept) < MOST_KEPT:
                self._kept[topic] = None
            connection = self._connection
        if first and connection is not None:
            # a connection that is being lost sends what is kept when it is there again
            with suppress(Exception):
                connection.add_callback_threadsafe(self._send)

    def listen(self, heard: Callable[[str], None]) -> Callable[[], None]:
        """The first listener starts the thread."""
        with self._lock:
            if self._thread is None and not self._stop.is_set():
                self._thread = threading.Thread(target=self._loop, name="doorbell", daemon=True)
                self._thread.start()
        return self._own.listen(heard)

    def close(self) -> None:
        self._stop.set()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout=5)

    @property
    def connected(self) -> bool:
        """Whether a ping came back over the present connection."""
        return self._connection is not None and self._heard_at > 0

    def _loop(self) -> None:
        pause = 0.5
        while not self._stop.is_set():
            try:
                self._serve()
            except Exception as wrong:
                if self._heard_at:
                    pause = 0.5
                log.warning("the doorbell on RabbitMQ is made anew in %.1f s: %s", pause, _words(wrong))
            self._stop.wait(pause * (0.5 + clock.jitter()))
            pause = min(pause * 2, 30.0)

    def _serve(self) -> None:
        self._heard_at = 0.0
        connection = rabbitmq.connect(self._choices)
        try:
            channel = connection.channel()
            channel.exchange_declare(EXCHANGE, "fanout")
            name = channel.queue_declare(
                "", exclusive=True, auto_delete=True, arguments={"x-max-length": MOST_KEPT}
            ).method.queue
            channel.queue_bind(name, EXCHANGE)
            channel.basic_consume(name, self._take, auto_ack=True)
            with self._lock:
                self._connection, self._channel = connection, channel
            self._send()
            began = clock.monotonic()
            next_ping = began
            while not self._stop.is_set():
                now = clock.monotonic()
                if now >= next_ping:
                    self._publish(channel, PING, "")
                    next_ping = now + self._ping_seconds
                if now - max(began, self._heard_at) > 3 * self._ping_seconds:
                    raise ConnectionError("its own pings do not come back")
                connection.process_data_events(min(self._ping_seconds, 1.0))
        finally:
            with self._lock:
                self._connection = self._channel = None
            with suppress(Exception):
                connection.close()

    def _take(self, channel: BlockingChannel, method: Basic.Deliver, properties: BasicProperties, body: bytes) -> None:
        if properties.type == PING:
            if properties.app_id == self._id:
                self._heard_at = clock.monotonic()
        elif properties.app_id != self._id:
            self._own.ring(body.decode("utf-8", "replace"))

    def _send(self) -> None:
        """Everything that was rung since the last time, each topic once."""
        with self._lock:
            topics, channel = list(self._kept), self._channel
            if channel is None:
                return
            self._kept.clear()
        for topic in topics:
            self._publish(channel, RING, topic)

    def _publish(self, channel: BlockingChannel, kind: str, topic: str) -> None:
        channel.basic_publish(
            EXCHANGE, "", topic.encode(), pika.BasicProperties(type=kind, app_id=self._id, delivery_mode=1)
        )


def _words(wrong: Exception) -> str:
    """Some of the library's errors say what is wrong only in their repr."""
    return str(wrong) or repr(wrong)
