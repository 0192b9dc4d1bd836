"""Notifications on RabbitMQ, as oslo.messaging's listeners expect them.

A topic exchange a service (nova, neutron, keystone, glance), the topic and the priority as routing key, and the
message in oslo.messaging's envelope of version 2.0. The queue of that name is declared like oslo.messaging's own
notifier does, so that what is told before a listener comes is kept for it. The broker confirms every message: one that
it does not take, because a queue is full or the broker short of memory, stays in the outbox.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pika
from pika.adapters.blocking_connection import BlockingChannel, BlockingConnection
from pika.exceptions import ChannelClosedByBroker, UnroutableError

from nephos.kernel import rabbitmq
from nephos.kernel.notifications.outbox import Waiting

NOT_FOUND = 404


class RabbitSink:
    """`durable` is what missing exchanges and queues are made as (oslo.messaging's `amqp_durable_queues`); those that
    are there are used as they are. Without `queues` none is made, and only who listens already gets anything."""

    def __init__(self, name: str, url: str, *, durable: bool = False, queues: bool = True) -> None:
        self.name = name
        self._choices = rabbitmq.parameters(url, "nephos notifications")
        self._durable, self._queues = durable, queues
        self._connection: BlockingConnection | None = None
        self._channel: BlockingChannel | None = None
        self._declared: set[tuple[str, str]] = set()

    def send(self, one: Waiting) -> None:
        try:
            channel = self._open()
            try:
                self._publish(channel, one)
            except UnroutableError:
                # the queue went, with a broker that was started again or by somebody's hand
                self._declared.clear()
                self._publish(channel, one)
        except BaseException:
            self.close()
            raise

    def _publish(self, channel: BlockingChannel, one: Waiting) -> None:
        if (one.service, one.topic) not in self._declared:
            self._declare(one.service, one.topic)
        channel.basic_publish(
            one.service,
            one.topic,
            msgspec.json.encode({"oslo.version": "2.0", "oslo.message": one.message}),
            pika.BasicProperties(
                content_type="application/json", content_encoding="utf-8", delivery_mode=2, priority=0
            ),
            mandatory=self._queues,
        )

    def _declare(self, service: str, topic: str) -> None:
        self._unless_there(
            lambda channel: channel.exchange_declare(service, passive=True),
            lambda channel: channel.exchange_declare(service, "topic", durable=self._durable),
        )
        if self._queues:
            self._unless_there(
                lambda channel: channel.queue_declare(topic, passive=True),
                lambda channel: channel.queue_declare(topic, durable=self._durable),
            )
            self._open().queue_bind(topic, service, topic)
        self._declared.add((service, topic))

    def _unless_there(
        self, look: Callable[[BlockingChannel], object], make: Callable[[BlockingChannel], object]
    ) -> None:
        """The broker closes a channel that asked for what is not there, so each question has one of its own."""
        assert self._connection is not None
        channel = self._connection.channel()
        try:
            look(channel)
            channel.close()
        except ChannelClosedByBroker as no:
            if no.reply_code != NOT_FOUND:
                raise
            make(self._open())

    def _open(self) -> BlockingChannel:
        if self._channel is None or not self._channel.is_open:
            self.close()
            self._connection = rabbitmq.connect(self._choices)
            self._channel = self._connection.channel()
            self._channel.confirm_delivery()
        return self._channel

    def idle(self) -> None:
        """Answer the broker's heartbeats; a connection that is lost is made again with the next notification."""
        if self._connection is None:
            return
        try:
            self._connection.process_data_events(0)
        except Exception:
            self.close()

    def close(self) -> None:
        connection, self._connection, self._channel = self._connection, None, None
        self._declared.clear()
        if connection is not None and connection.is_open:
            try:
                connection.close()
            except Exception:
                # it was lost meanwhile, which is as good
                return
