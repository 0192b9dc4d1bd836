"""The outbox and its delivery: written with the change, delivered after it, in order, at least once, never for ever."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from nephos import app
from nephos.errors import Conflict
from nephos.kernel import clock
from nephos.kernel.cloud import Finding
from nephos.kernel.db.engine import Tx
from nephos.kernel.notifications import delivery, outbox, store
from nephos.kernel.notifications.delivery import Delivery
from nephos.kernel.notifications.outbox import Notice, Waiting
from nephos.kernel.notifications.sinks import LogSink, Refused
from nephos.settings import Settings
from tests.harness import Harness

NAME = "webhook:test"


def logged(settings: Settings) -> None:
    settings.notifications.log = True


class Fussy:
    """A sink that takes, refuses or fails as it is told."""

    name = "log"

    def __init__(self) -> None:
        self.took: list[str] = []
        self.down = False
        self.refuses: set[str] = set()
        self.takes_most = 1 << 30

    def send(self, one: Waiting) -> None:
        if self.down or len(self.took) >= self.takes_most:
            raise OSError("out of paper")
        if one.event in self.refuses:
            raise Refused("not this one")
        self.took.append(one.event)

    def idle(self) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Nothing to do."""


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[Harness]:
    with Harness(tmp_path, logged) as made:
        made.cloud.database.write(lambda tx: outbox.delivered(tx, [one.id for one in outbox.waiting(tx, "log", 1000)]))
        yield made


def to(harness: Harness, sink: Any, max_age: float = 3600) -> Delivery:
    return Delivery(harness.cloud.database, harness.cloud.doorbell, sink, max_age=max_age)


def tell(tx: Tx, *events: str, payload: Any = None) -> None:
    assert tx.outbox is not None
    notices = (
        Notice(service="nova", publisher="test", event=event, payload=payload, resource="server/1") for event in events
    )
    tx.outbox.put(tx, *notices)


def waiting(harness: Harness) -> list[str]:
    with harness.cloud.database.read() as tx:
        return [one.event for one in outbox.waiting(tx, "log", 1000)]


def later(harness: Harness, seconds: int) -> None:
    """As if so much time had gone by."""
    micro = seconds * 1_000_000

    def work(tx: Tx) -> None:
        tx.execute(update(store.notification).values(created_at=store.notification.c.created_at - micro))
        tx.execute(update(store.sink).values(lease_until=store.sink.c.lease_until - micro))

    harness.cloud.database.write(work)


def found(harness: Harness) -> list[Finding]:
    with harness.cloud.database.read() as tx:
        return list(delivery.check(("log",))(tx))


def test_where_nobody_listens_nothing_is_written(cloud: Harness) -> None:
    admin = cloud.login("admin", "admin")
    assert admin.post("/network/v2.0/networks", {"network": {"name": "quiet"}}).status == 201
    assert cloud.cloud.database.outbox is None
    with cloud.cloud.database.read() as tx:
        assert outbox.backlogs(tx, ()) == []


def test_only_what_was_done_is_told(harness: Harness) -> None:
    database = harness.cloud.database

    def fails(tx: Tx) -> None:
        tell(tx, "a")
        raise Conflict("no")

    with pytest.raises(Conflict):
        database.write(fails)

    def half(tx: Tx) -> None:
        tell(tx, "b")
        with pytest.raises(Conflict), tx.savepoint():
            tell(tx, "c")
            raise Conflict("no")
        tell(tx, "d")

    database.write(half)
    assert waiting(harness) == ["b", "d"]
    refused = harness.login("admin", "admin").post("/network/v2.0/subnets", {"subnet": {"network_id": "none"}})
    assert refused.status in (400, 404)
    assert waiting(harness) == ["b", "d"]


def test_delivered_is_struck_off_and_what_failed_waits_in_its_place(harness: Harness) -> None:
    sink = Fussy()
    carrier = to(harness, sink)
    harness.cloud.database.write(lambda tx: tell(tx, "a", "b", "c", "d"))
    sink.refuses, sink.takes_most = {"b"}, 2
    assert carrier.turn()
    assert sink.took == ["a", "c"]
    assert waiting(harness) == ["d"], "what fails holds back what is behind it, what is refused does not"
    assert [each.why for each in found(harness)] == ["1 dead letters, which are kept for 7 days: OSError: out of paper"]
    sink.takes_most = 10
    assert carrier.turn()
    assert (sink.took, waiting(harness)) == (["a", "c", "d"], [])
    assert not carrier.turn()
    assert [each.why for each in found(harness)] == ["1 dead letters, which are kept for 7 days"]


def test_what_waited_too_long_is_a_dead_letter_and_dead_letters_go(harness: Harness) -> None:
    sink = Fussy()
    sink.down = True
    carrier = to(harness, sink, max_age=600)
    harness.cloud.database.write(lambda tx: tell(tx, "old"))
    later(harness, 601)
    harness.cloud.database.write(lambda tx: tell(tx, "new"))
    assert found(harness)[0].why == "2 wait, the oldest for 10 minutes"
    assert carrier.turn()
    assert waiting(harness) == ["new"]
    assert found(harness)[0].why.startswith("1 dead letters")
    later(harness, 8 * 86_400)
    sink.down = False
    assert carrier.turn()
    assert (sink.took, found(harness)) == (["new"], [])


def test_one_server_delivers_and_another_takes_over(harness: Harness) -> None:
    one, two = Fussy(), Fussy()
    first, second = to(harness, one), to(harness, two)
    write = harness.cloud.database.write
    write(lambda tx: tell(tx, "a"))
    assert first.turn()
    write(lambda tx: tell(tx, "b"))
    assert not second.turn(), "the first one has the lease"
    assert first.turn()
    write(lambda tx: tell(tx, "c"))
    one.down = True
    assert first.turn(), "it fails, and lets go"
    assert second.turn()
    assert (one.took, two.took) == (["a", "b"], ["c"])
    # the second is lost without a word: its lease ends by itself
    write(lambda tx: tell(tx, "d"))
    one.down = False
    assert not first.turn()
    later(harness, int(delivery.LEASE_SECONDS) + 1)
    assert first.turn()
    assert one.took == ["a", "b", "d"]


def test_a_thread_delivers_as_soon_as_it_is_told(harness: Harness) -> None:
    path = harness.cloud.settings.notifications_log
    carriers = app.deliveries(harness.cloud)
    for each in carriers:
        each.start()
    try:
        harness.cloud.database.write(lambda tx: tell(tx, "a", payload={"password": "x", "deep": [{"admin_pass": "y"}]}))
        end = clock.monotonic() + 20
        while not path.exists() or not path.read_text():
            assert clock.monotonic() < end
            clock.sleep(0.005)
    finally:
        for each in carriers:
            each.stop()
    line = json.loads(path.read_text())
    assert line["event_type"] == "a"
    assert line["payload"] == {"deep": [{}]}, "no secret gets out, whoever put it in"
    assert path.stat().st_mode & 0o007 == 0


def test_the_log_is_turned_over_and_bounded(tmp_path: Path) -> None:
    sink = LogSink(tmp_path / "notifications.log", most_bytes=4096, files=2)
    for number in range(100):
        text = json.dumps({"event_type": str(number), "filling": "x" * 200})
        sink.send(Waiting(number, "nova", "notifications.info", str(number), text, 0))
    sink.close()
    files = sorted(tmp_path.iterdir())
    assert [path.name for path in files] == ["notifications.log", "notifications.log.1", "notifications.log.2"]
    assert all(path.stat().st_size <= 4096 for path in files)
    assert json.loads(files[0].read_text().splitlines()[-1])["event_type"] == "99"


def test_a_log_that_cannot_be_written_delivers_nothing(harness: Harness, tmp_path: Path) -> None:
    path = tmp_path / "full"
    path.symlink_to("/dev/full")
    harness.cloud.database.write(lambda tx: tell(tx, "a"))
    assert to(harness, LogSink(path, most_bytes=1 << 20, files=1)).turn()
    assert waiting(harness) == ["a"]
    assert "No space left" in str(found_error(harness))


def found_error(harness: Harness) -> str | None:
    with harness.cloud.database.read() as tx:
        return outbox.backlogs(tx, ("log",))[0].error


def test_a_sink_that_is_set_no_more_is_named_and_forgotten(harness: Harness) -> None:
    harness.cloud.database.write(lambda tx: tell(tx, "a"))
    with harness.cloud.database.read() as tx:
        assert [each.why for each in delivery.check(())(tx)] == ["1 wait for a sink that is not set"]
    harness.cloud.settings.notifications.log = False
    app.deliveries(harness.cloud)
    assert waiting(harness) == ["a"], "another server may still have it set"
    later(harness, 86_401)
    app.deliveries(harness.cloud)
    assert waiting(harness) == []
