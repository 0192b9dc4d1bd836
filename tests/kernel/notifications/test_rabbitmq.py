"""Notifications over a real RabbitMQ, heard by oslo.messaging's own listener."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import oslo_messaging
import pytest
from oslo_config import cfg

from nephos import app
from nephos.kernel import rabbitmq
from nephos.kernel.notifications import outbox
from nephos.kernel.notifications.delivery import Delivery
from nephos.kernel.notifications.outbox import Notice
from nephos.settings import Settings
from tests.broker import Broker
from tests.harness import Harness

pytestmark = pytest.mark.host


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with Broker(tmp_path_factory.mktemp("broker"), tls=True) as started:
        yield started


@pytest.fixture(autouse=True)
def no_queue(broker: Broker) -> None:
    """Each test finds or makes the queue as it needs it."""
    connection = rabbitmq.connect(rabbitmq.parameters(broker.url, "test"))
    connection.channel().queue_delete("notifications.info")
    connection.close()


class Heard:
    """An endpoint as Ceilometer, Designate and their like have them."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    def _note(self, priority: str) -> Callable[..., None]:
        def take(ctxt: Any, publisher_id: str, event_type: str, payload: Any, metadata: Any) -> None:
            self.events.append(
                {
                    "priority": priority,
                    "context": ctxt,
                    "publisher": publisher_id,
                    "event": event_type,
                    "payload": payload,
                    "metadata": metadata,
                }
            )

        return take

    def __getattr__(self, name: str) -> Any:
        if name in ("info", "error"):
            return self._note(name)
        raise AttributeError(name)

    def of(self, event: str) -> list[dict[str, Any]]:
        return [each for each in self.events if each["event"] == event]


class Listening:
    def __init__(self, broker: Broker, **targets: str) -> None:
        """`targets` are topics by exchange."""
        url = f"rabbit://guest:guest@127.0.0.1:{broker.port}//"
        self.heard = Heard()
        self._transport = oslo_messaging.get_notification_transport(cfg.ConfigOpts(), url=url)
        self._listener = oslo_messaging.get_notification_listener(
            self._transport,
            [oslo_messaging.Target(exchange=name, topic=topic) for name, topic in targets.items()],
            [self.heard],
            executor="threading",
        )

    def __enter__(self) -> Heard:
        self._listener.start()
        return self.heard

    def __exit__(self, *_: object) -> None:
        self._listener.stop()
        self._listener.wait()
        self._transport.cleanup()


def eventually(holds: Callable[[], Any], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


class Cloud:
    """A whole server without sockets, and its deliveries in threads of their own."""

    def __init__(self, path: Path, url: str, **more: Any) -> None:
        def change(settings: Settings) -> None:
            settings.notifications.rabbitmq = url
            for name, value in more.items():
                setattr(settings.notifications, name, value)

        self.harness = Harness(path, change)
        self.deliveries = app.deliveries(self.harness.cloud)

    def __enter__(self) -> Cloud:
        for each in self.deliveries:
            each.start()
        return self

    def __exit__(self, *_: object) -> None:
        for each in self.deliveries:
            each.stop()
        self.harness.__exit__()

    def tell(self, event: str, service: str = "neutron") -> None:
        notice = Notice(service=service, publisher="network.test", event=event, payload={"n": event}, resource="x/1")
        box = self.harness.cloud.database.outbox
        assert box is not None
        self.harness.cloud.database.write(lambda tx: box.put(tx, notice))

    def waiting(self) -> int:
        with self.harness.cloud.database.read() as tx:
            return sum(each.waiting for each in outbox.backlogs(tx, ("rabbitmq",)))

    def error(self) -> str | None:
        with self.harness.cloud.database.read() as tx:
            return outbox.backlogs(tx, ("rabbitmq",))[0].error


def test_an_unmodified_listener_hears_every_service(broker: Broker, tmp_path: Path) -> None:
    with Cloud(tmp_path, broker.url) as cloud:
        admin = cloud.harness.login("admin", "admin")
        user = admin.post("/v3/users", {"user": {"name": "bob", "password": "not for others"}}).json["user"]
        network = admin.post("/network/v2.0/networks", {"network": {"name": "blue"}}).json["network"]
        image = admin.post("/image/v2/images", {"name": "small"}).json
        key = admin.post("/compute/v2.1/os-keypairs", {"keypair": {"name": "mine"}}).json["keypair"]
        eventually(lambda: cloud.waiting() == 0)
        # only now does anybody listen: what was told before is kept for the first who comes
        topics = dict.fromkeys(("neutron", "keystone", "glance"), "notifications")
        with Listening(broker, nova="versioned_notifications", **topics) as heard:
            eventually(lambda: heard.of("keypair.create.end") and heard.of("image.create"))
            admin.delete(f"/network/v2.0/networks/{network['id']}")
            eventually(lambda: heard.of("network.delete.end"))
    created = heard.of("identity.user.created")
    bob = next(each for each in created if each["payload"]["resource_info"] == user["id"])
    assert bob["priority"] == "info"
    assert bob["publisher"].startswith("identity.")
    assert bob["payload"]["initiator"]["username"] == "admin"
    ends = heard.of("network.create.end")
    assert [each["payload"]["network"]["name"] for each in ends] == ["blue"]
    context = ends[0]["context"]
    assert context["user_id"] == bob["payload"]["initiator"]["user_id"]
    assert context["request_id"].startswith("req-")
    assert ends[0]["metadata"].keys() == {"message_id", "timestamp"}
    mine = heard.of("keypair.create.end")[0]["payload"]
    assert mine["nova_object.name"] == "KeypairPayload"
    assert mine["nova_object.data"]["public_key"] == key["public_key"]
    assert heard.of("image.create")[0]["payload"]["id"] == image["id"]
    order = [each["event"] for each in heard.events if each["event"].startswith("network.")]
    assert order == ["network.create.start", "network.create.end", "network.delete.start", "network.delete.end"]
    assert "not for others" not in str(heard.events)
    assert key["private_key"] not in str(heard.events)


def test_nothing_is_lost_when_the_broker_dies(broker: Broker, tmp_path: Path) -> None:
    with Cloud(tmp_path, broker.url, durable=True) as cloud:
        cloud.tell("it.1", "durable-service")
        eventually(lambda: cloud.waiting() == 0)
        broker.kill()
        for number in range(2, 6):
            cloud.tell(f"it.{number}", "durable-service")
        eventually(lambda: "no connection to RabbitMQ" in str(cloud.error()))
        assert cloud.waiting() == 4
        assert broker.url not in str(cloud.error()), "the address holds a password"
        broker.start()
        eventually(lambda: cloud.waiting() == 0)
        assert cloud.error() is None
    with Queue(broker) as queue:
        eventually(lambda: queue.look() and len(set(queue.events)) == 5)
        first = [queue.events.index(f"it.{number}") for number in range(1, 6)]
        assert first == sorted(first), "in the order in which it happened"


class Queue:
    """What arrives in `notifications.info`, read without oslo.messaging."""

    def __init__(self, broker: Broker) -> None:
        self._connection = rabbitmq.connect(rabbitmq.parameters(broker.url, "test"))
        self._channel = self._connection.channel()
        self.events: list[str] = []

    def __enter__(self) -> Queue:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def look(self) -> bool:
        while True:
            method, _, body = self._channel.basic_get("notifications.info", auto_ack=True)
            if method is None:
                return True
            event = json.loads(json.loads(body)["oslo.message"])["event_type"]
            if event.startswith("it."):
                self.events.append(event)


def test_a_full_queue_keeps_the_rest_in_the_outbox(broker: Broker, tmp_path: Path) -> None:
    rule = '{"max-length":2,"overflow":"reject-publish"}'
    with Queue(broker) as queue:
        broker.ctl("set_policy", "small", "^notifications.info$", rule, "--apply-to", "queues")
        try:
            with Cloud(tmp_path, broker.url) as cloud:
                cloud.harness.cloud.database.write(lambda tx: outbox.delivered(tx, _all(tx)))
                for number in range(5):
                    cloud.tell(f"it.{number}")
                eventually(cloud.error)
                assert cloud.waiting() == 3, "what the broker did not take waits here"
                eventually(lambda: queue.look() and cloud.waiting() == 0)
                queue.look()
        finally:
            broker.ctl("clear_policy", "small")
        assert queue.events == [f"it.{number}" for number in range(5)]


def _all(tx: Any) -> list[int]:
    return [each.id for each in outbox.waiting(tx, "rabbitmq", 1000)]


def test_exchanges_that_are_there_are_used_as_they_are_and_tls_is_checked(broker: Broker, tmp_path: Path) -> None:
    connection = rabbitmq.connect(rabbitmq.parameters(broker.url, "test"))
    channel = connection.channel()
    channel.exchange_declare("made-before", "topic", durable=True)
    channel.queue_declare("mine", exclusive=True)
    channel.queue_bind("mine", "made-before", "notifications.info")
    with Cloud(tmp_path, broker.tls_url, queues=False) as cloud:
        cloud.tell("it.came", "made-before")
        eventually(lambda: cloud.waiting() == 0)
    eventually(lambda: channel.basic_get("mine", auto_ack=True)[0] is not None)
    connection.close()
    unknown = broker.tls_url.partition("?")[0]
    with pytest.raises(ConnectionError, match="CERTIFICATE_VERIFY_FAILED"):
        rabbitmq.connect(rabbitmq.parameters(unknown, "test"))


def test_two_servers_deliver_each_once_and_in_order(broker: Broker, tmp_path: Path) -> None:
    """The lease: one of them sends, and the other goes on when that one stops."""
    with Queue(broker) as queue, Cloud(tmp_path, broker.url) as cloud:
        base = cloud.harness.cloud
        other = Delivery(base.database, base.doorbell, app.sinks(base.settings)[0], max_age=3600)
        other.start()
        try:
            for number in range(200):
                cloud.tell(f"it.{number:03}")
                if number == 100:
                    cloud.deliveries[0].stop()
            eventually(lambda: cloud.waiting() == 0)
        finally:
            other.stop()
        queue.look()
        assert queue.events == [f"it.{number:03}" for number in range(200)]


def test_unroutable_is_declared_again(broker: Broker, tmp_path: Path) -> None:
    """Somebody deletes the queue while the connection stands."""
    connection = rabbitmq.connect(rabbitmq.parameters(broker.url, "test"))
    channel = connection.channel()
    with Cloud(tmp_path, broker.url) as cloud, Queue(broker) as queue:
        cloud.tell("it.1")
        eventually(lambda: cloud.waiting() == 0)
        queue.look()
        channel.queue_delete("notifications.info")
        cloud.tell("it.2")
        eventually(lambda: cloud.waiting() == 0)
        queue.look()
        assert queue.events == ["it.1", "it.2"]
    connection.close()
