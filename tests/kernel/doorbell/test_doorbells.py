"""Every kind of doorbell passes this suite: `Bells.new()` is the doorbell of one more server of the same cloud."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import psycopg
import pytest

from nephos.kernel.doorbell import postgres
from nephos.kernel.doorbell.base import Doorbell
from nephos.kernel.doorbell.broker import BrokerDoorbell
from nephos.kernel.doorbell.memory import MemoryDoorbell
from nephos.kernel.doorbell.postgres import PostgresDoorbell
from nephos.kernel.doorbell.rabbitmq import EXCHANGE, RabbitDoorbell
from tests import engines
from tests.broker import Broker


class Bells(Protocol):
    def new(self) -> Doorbell: ...

    def close(self) -> None: ...


class OneProcess:
    """There is one server."""

    def __init__(self) -> None:
        self._bell = MemoryDoorbell()

    def new(self) -> Doorbell:
        return self._bell

    def close(self) -> None:
        """Nothing to do."""


class Remote(ABC):
    """Doorbells of one process each, of servers that are connected."""

    def __init__(self) -> None:
        self._made: list[BrokerDoorbell] = []

    @abstractmethod
    def _make(self) -> BrokerDoorbell: ...

    def new(self) -> BrokerDoorbell:
        bell = self._make()
        bell.listen(lambda topic: None)
        self._made.append(bell)
        eventually(lambda: bell.connected)
        return bell

    def close(self) -> None:
        for bell in self._made:
            bell.close()


class OverRabbit(Remote):
    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = url

    def _make(self) -> RabbitDoorbell:
        return RabbitDoorbell(self._url, ping_seconds=0.3)


class OverPostgres(Remote):
    """On a database of its own."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._ledger = engines.ledger("postgresql", path, tables=False)
        self.url = self._ledger.__enter__()

    def _make(self) -> PostgresDoorbell:
        return PostgresDoorbell(self.url, ping_seconds=0.3)

    def cut(self) -> None:
        """End every doorbell's connection."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )

    def close(self) -> None:
        super().close()
        self._ledger.__exit__(None, None, None)


def eventually(holds: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with Broker(tmp_path_factory.mktemp("broker")) as started:
        yield started


@pytest.fixture(params=["memory", "postgresql", pytest.param("rabbitmq", marks=pytest.mark.host)])
def bells(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bells]:
    made: Bells
    if request.param == "memory":
        made = OneProcess()
    elif request.param == "postgresql":
        made = OverPostgres(tmp_path)
    else:
        made = OverRabbit(request.getfixturevalue("broker").url)
    yield made
    made.close()


def test_every_listener_of_every_server_hears(bells: Bells) -> None:
    one, two = bells.new(), bells.new()
    here: list[str] = []
    also_here: list[str] = []
    there: list[str] = []
    one.listen(here.append)
    stop = one.listen(also_here.append)
    two.listen(there.append)
    one.ring("a")
    assert (here, also_here) == (["a"], ["a"]), "who listens in the ringing process need not wait"
    eventually(lambda: there == ["a"])
    stop()
    two.ring("b")
    eventually(lambda: "b" in here and "b" in there)
    assert also_here == ["a"]
    assert "" not in here + there, "servers' calls to themselves are no rings"


def test_own_rings_are_not_heard_twice(bells: Bells) -> None:
    one, two = bells.new(), bells.new()
    here: list[str] = []
    there: list[str] = []
    one.listen(here.append)
    two.listen(there.append)
    one.ring("a")
    eventually(lambda: there == ["a"])
    two.ring("b")
    eventually(lambda: "b" in here)
    assert here == ["a", "b"]


def test_a_listener_that_fails_keeps_nobody_from_hearing(bells: Bells) -> None:
    one, two = bells.new(), bells.new()
    heard: list[str] = []

    def fails(topic: str) -> None:
        raise RuntimeError(topic)

    two.listen(fails)
    two.listen(heard.append)
    one.ring("a")
    eventually(lambda: "a" in heard)
    one.ring("b")
    eventually(lambda: "b" in heard)


def test_of_many_topics_none_is_lost(bells: Bells) -> None:
    one, two = bells.new(), bells.new()
    heard: set[str] = set()
    two.listen(heard.add)
    wanted = {f"host-{number}" for number in range(500)}
    for topic in sorted(wanted):
        one.ring(topic)
    eventually(lambda: wanted <= heard)


def test_postgresql_rings_again_after_a_lost_connection_and_when_it_went_deaf(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bells = OverPostgres(tmp_path)
    try:
        one, two = bells.new(), bells.new()
        heard: list[str] = []
        two.listen(heard.append)
        bells.cut()
        eventually(lambda: not one.connected or not two.connected)
        one.ring("meanwhile")
        eventually(lambda: one.connected and two.connected)
        one.ring("again")
        eventually(lambda: "again" in heard)
        # the connections live and nothing arrives any more: what is sent goes where nobody listens
        monkeypatch.setattr(postgres, "CHANNEL", "another")
        eventually(lambda: not two.connected)
        eventually(lambda: one.connected and two.connected)
        one.ring("hears")
        eventually(lambda: "hears" in heard)
    finally:
        bells.close()


@pytest.mark.host
def test_rabbitmq_rings_again_after_the_broker_was_lost_and_when_it_went_deaf(broker: Broker) -> None:
    bells = OverRabbit(broker.url)
    try:
        one, two = bells.new(), bells.new()
        heard: list[str] = []
        two.listen(heard.append)
        broker.kill()
        began = time.monotonic()
        for _ in range(100):
            one.ring("lost")
        assert time.monotonic() - began < 1, "ringing waits for nothing"
        eventually(lambda: not one.connected and not two.connected)
        broker.start()
        eventually(lambda: one.connected and two.connected)
        one.ring("again")
        eventually(lambda: "again" in heard)
        # the connection lives and nothing arrives any more: a binding that is gone is not told to anybody
        source = f'{{resource,<<"/">>,exchange,<<"{EXCHANGE}">>}}'
        broker.ctl("eval", f'[rabbit_binding:remove(B, <<"test">>) || B <- rabbit_binding:list_for_source({source})].')
        one.ring("deaf")
        eventually(lambda: not two.connected)
        eventually(lambda: one.connected and two.connected)
        one.ring("hears")
        eventually(lambda: "hears" in heard)
    finally:
        bells.close()
