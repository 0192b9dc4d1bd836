"""The doorbell of several servers over RabbitMQ: a fanout exchange, and a queue of its own for every server.

No replies, no confirms: a ring that is lost costs latency. A queue or binding that vanished without a word is found by
the pings.
"""

from __future__ import annotations

from contextlib import suppress
from typing import ClassVar

import pika
from pika.adapters.blocking_connection import BlockingChannel, BlockingConnection
from pika.spec import Basic, BasicProperties

from nephos.kernel import clock, rabbitmq
from nephos.kernel.doorbell.broker import MOST_KEPT, BrokerDoorbell

EXCHANGE = "nephos.doorbell"
PING, RING = "ping", "ring"


class RabbitDoorbell(BrokerDoorbell):
    """A server that does not keep up loses what was rung first."""

    name: ClassVar[str] = "RabbitMQ"

    def __init__(self, url: str, *, ping_seconds: float = 5.0) -> None:
        super().__init__(ping_seconds)
        self._choices = rabbitmq.parameters(url, "nephos doorbell")
        self._connection: BlockingConnection | None = None

    def _prod(self) -> None:
        connection = self._connection
        if connection is not None:
            # only ends the wait in `_serve`; a connection that is being lost sends what is kept when it is there again
            with suppress(Exception):
                connection.add_callback_threadsafe(lambda: None)

    def _serve(self) -> None:
        connection = rabbitmq.connect(self._choices)
        try:
            channel = connection.channel()
            channel.exchange_declare(EXCHANGE, "fanout")
            name = channel.queue_declare(
                "", exclusive=True, auto_delete=True, arguments={"x-max-length": MOST_KEPT}
            ).method.queue
            channel.queue_bind(name, EXCHANGE)
            channel.basic_consume(name, self._take, auto_ack=True)
            self._connection = connection
            began = next_ping = clock.monotonic()
            while not self._stop.is_set():
                now = clock.monotonic()
                if now >= next_ping:
                    self._publish(channel, PING, "")
                    next_ping = now + self._ping_seconds
                self._alive(began)
                for topic in self._taken():
                    self._publish(channel, RING, topic)
                connection.process_data_events(min(self._ping_seconds, 1.0))
        finally:
            self._connection = None
            with suppress(Exception):
                connection.close()

    def _take(self, channel: BlockingChannel, method: Basic.Deliver, properties: BasicProperties, body: bytes) -> None:
        if properties.type == PING:
            if properties.app_id == self._id:
                self._heard_at = clock.monotonic()
        elif properties.app_id != self._id:
            self._own.ring(body.decode("utf-8", "replace"))

    def _publish(self, channel: BlockingChannel, kind: str, topic: str) -> None:
        channel.basic_publish(
            EXCHANGE, "", topic.encode(), pika.BasicProperties(type=kind, app_id=self._id, delivery_mode=1)
        )
