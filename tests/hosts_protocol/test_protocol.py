"""Server and agent, over the real listener: who is let in, what is told, what is done once, what is answered."""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import func, select
from websockets.exceptions import ConnectionClosed, InvalidStatus

from nephos import errors
from nephos.agent import connection as agent_connection
from nephos.agent import moving
from nephos.agent.host import Host
from nephos.agent.main import Agent
from nephos.agent.moving import Elsewhere
from nephos.agent.tunnel import Entrance, Exit
from nephos.hosts import actions as hosts
from nephos.hosts import desired, reports, store, streams, wire
from nephos.hypervisor.base import Boot, Guest, Power
from nephos.kernel import clock
from tests.hosts_protocol.cluster import LINK, Cluster, Raw, network, until

A, B = "fake-0001", "fake-0002"


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    one = Cluster(tmp_path)
    yield one
    one.close()


def host_of(agent: Agent, name: str) -> Host:
    return agent._hosts[name]


def networks(agent: Agent, name: str) -> set[str]:
    return set(host_of(agent, name).state.wiring.networks)


def refused(raw: Raw, *hellos: Any) -> str:
    raw.send(wire.Hello(hellos, "0"))
    with pytest.raises(ConnectionClosed) as closed:
        raw.socket.recv(10)
    assert closed.value.rcvd is not None and closed.value.rcvd.code == 1008
    return closed.value.rcvd.reason


# --- who is let in -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tcp", [False, True])
def test_an_enrolled_agent_is_welcome_and_its_hosts_are_up(cluster: Cluster, tcp: bool) -> None:
    assert not hosts.up(cluster.row(A), cluster.row(A).created_at)
    cluster.agent(tcp=tcp)
    for name in (A, B):
        row = cluster.row(name)
        assert hosts.up(row, row.last_seen)
        assert (row.hypervisor_type, row.vcpus, row.ram_mb) == ("fake", 64, 512 * 1024)
    assert {(seen.kind, seen.value) for seen in cluster.seen} == {("host", A), ("host", B)}


def test_a_host_without_its_own_key_is_refused(cluster: Cluster) -> None:
    other = Ed25519PrivateKey.generate()
    raw = Raw(cluster)
    assert "does not prove" in refused(raw, raw.host(A, other))
    raw = Raw(cluster)
    assert "does not prove" in refused(raw, raw.host(A, cluster.key), raw.host(B, other))
    raw = Raw(cluster)
    assert "does not prove" in refused(raw, raw.host(A, cluster.key, nonce=b"0" * 32)), "a replayed signature"
    raw = Raw(cluster)
    assert "does not prove" in refused(raw, raw.host(B, cluster.key, over=A)), "another host's signature"
    raw = Raw(cluster)
    assert "not enrolled" in refused(raw, raw.host("stranger-é", cluster.key))
    raw = Raw(cluster)
    assert refused(raw, raw.host("漢" * 60, cluster.key)).startswith("Host 漢漢")
    raw = Raw(cluster)
    assert "at least one" in refused(raw)
    assert cluster.streams.connected() == set()
    with cluster.cloud.database.read() as tx:
        assert tx.scalar(select(func.count()).select_from(store.host).where(store.host.c.last_seen.is_not(None))) == 0


@pytest.mark.parametrize("first", [b"", b"\xc1\xff", b"\x00" * 1000, "text", wire.encode(wire.Pull(1, {A: 0}))])
def test_who_does_not_say_hello_first_is_refused(cluster: Cluster, first: bytes | str) -> None:
    raw = Raw(cluster)
    raw.socket.send(first)
    with pytest.raises(ConnectionClosed):
        raw.socket.recv(10)
    assert cluster.streams.connected() == set()


def test_nonsense_later_ends_that_connection_only(cluster: Cluster) -> None:
    good, bad = Raw(cluster), Raw(cluster)
    good.hello(good.host(A, cluster.key))
    bad.hello(bad.host(B, cluster.key))
    bad.socket.send(b"\xc1")
    with pytest.raises(ConnectionClosed):
        bad.socket.recv(10)
    assert good.pull(**{A: 0})[A].full
    until(lambda: cluster.streams.connected() == {cluster.ids[A]})
    good.close()


def test_every_challenge_is_new(cluster: Cluster) -> None:
    raws = [Raw(cluster) for _ in range(5)]
    assert len({raw.nonce for raw in raws}) == 5
    for raw in raws:
        raw.close()


def test_a_new_key_replaces_the_old_one(cluster: Cluster) -> None:
    new = Ed25519PrivateKey.generate()
    assert cluster.enrol(A, new) == cluster.ids[A]
    raw = Raw(cluster)
    refused(raw, raw.host(A, cluster.key))
    raw = Raw(cluster)
    assert raw.hello(raw.host(A, new)).hosts == {A: cluster.ids[A]}
    raw.close()


# --- a host speaks and hears only for itself -----------------------------------------------------------------


def test_a_host_cannot_read_another_hosts_state(cluster: Cluster) -> None:
    cluster.put(B, "toy", "secret", {"user_data": "B's own"})
    cluster.guest(B)
    raw = Raw(cluster)
    raw.hello(raw.host(A, cluster.key))
    states = raw.pull(**{A: 0, B: 0, "nobody": 0})
    assert set(states) == {A}
    assert states[A].items == () and states[A].tasks == ()
    raw.send(wire.Pull(2, {cluster.ids[B]: 0}))
    assert raw.receive(wire.Changes).states == ()
    raw.send(wire.Report(3, (), (), {B: b"x", A: b"x"}))
    assert raw.receive(wire.Ack).stale == (A,)
    raw.close()


def test_a_host_cannot_report_for_another(cluster: Cluster) -> None:
    guest = cluster.guest(B)
    (task,) = until(cluster.tasks)
    raw = Raw(cluster)
    raw.hello(raw.host(A, cluster.key))
    cluster.seen.clear()
    raw.report(
        wire.Result(task.id, B, "forged"),
        wire.Result(task.id, A, "forged"),
        wire.Result(task.id, cluster.ids[B], "forged"),
        seen=(wire.Seen(B, "power", guest, "shutdown", 1), wire.Seen(A, "power", guest, "crashed", 1)),
    )
    assert cluster.state(guest) == "running"
    assert [row.id for row in cluster.tasks()] == [task.id]
    assert [(seen.host, seen.value) for seen in cluster.seen] == [(cluster.ids[A], "crashed")]
    raw.close()


# --- pulling -------------------------------------------------------------------------------------------------


def test_a_pull_tells_what_changed_and_what_is_gone(cluster: Cluster) -> None:
    cluster.put(A, "toy", "one", {"v": 1})
    cluster.put(A, "toy", "two", {"v": 2})
    raw = Raw(cluster)
    raw.hello(raw.host(A, cluster.key))
    state = raw.pull(**{A: 0})[A]
    assert state.full
    assert sorted(item.id for item in state.items) == ["one", "two"]
    again = raw.pull(**{A: state.revision})[A]
    assert (again.full, again.items, again.revision) == (False, (), state.revision)
    cluster.put(A, "toy", "one", None)
    cluster.put(A, "toy", "three", {"v": 3})
    cluster.put(B, "toy", "four", {"v": 4})
    assert raw.receive(wire.Bell).hosts == (A,)
    change = raw.pull(**{A: state.revision})[A]
    assert not change.full
    assert {item.id: item.body is None for item in change.items} == {"one": True, "three": False}
    from_another_life = raw.pull(**{A: change.revision + 1000})[A]
    assert from_another_life.full
    assert {item.id for item in from_another_life.items} == {"two", "three"}
    raw.close()


def test_an_agent_follows_what_its_hosts_should_have(cluster: Cluster) -> None:
    cluster.put(A, "network", "net-1", network(1))
    agent = cluster.agent()
    until(lambda: networks(agent, A) == {"net-1"})
    cluster.put(A, "network", "net-2", network(2))
    cluster.put(B, "network", "net-3", network(3))
    until(lambda: networks(agent, A) == {"net-1", "net-2"} and networks(agent, B) == {"net-3"})
    cluster.put(A, "network", "net-1", None)
    until(lambda: networks(agent, A) == {"net-2"})
    until(lambda: not host_of(agent, A).dirty())
    assert host_of(agent, A).wiring._networks.keys() == {"net-2"}  # type: ignore[attr-defined]


def test_lost_bells_cost_time_and_nothing_else(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_connection, "PULL_EVERY", 0.2)
    agent = cluster.agent()
    ring = cluster.cloud.doorbell.ring
    monkeypatch.setattr(cluster.cloud.doorbell, "ring", lambda topic: None)
    cluster.put(A, "network", "net-1", network(1))
    until(lambda: networks(agent, A) == {"net-1"})
    stop = threading.Event()

    def noise() -> None:
        while not stop.wait(0.02):
            ring(cluster.ids[B])

    thread = threading.Thread(target=noise)
    thread.start()
    cluster.put(A, "network", "net-2", network(2))
    until(lambda: networks(agent, A) == {"net-1", "net-2"})
    stop.set()
    thread.join()


def test_a_copy_that_differs_is_fetched_anew(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_connection, "DIGEST_EVERY", 0.3)
    cluster.put(A, "network", "net-1", network(1))
    agent = cluster.agent()
    until(lambda: networks(agent, A) == {"net-1"})
    with cluster.cloud.database.read() as tx:
        digest = desired.digest_of(tx, cluster.cloud.hosts, cluster.ids[A])
    assert digest == host_of(agent, A).state.digest()
    cluster.items["network"][cluster.ids[A]]["net-2"] = network(2)  # changed, and nobody was told
    until(lambda: networks(agent, A) == {"net-1", "net-2"})
    del cluster.items["network"][cluster.ids[A]]["net-1"]
    until(lambda: networks(agent, A) == {"net-2"})


def test_an_item_that_cannot_be_read_keeps_nothing_else_back(cluster: Cluster) -> None:
    cluster.put(A, "network", "bad", {"id": 7})
    agent = cluster.agent()
    cluster.put(A, "network", "net-1", network(1))
    cluster.put(B, "network", "net-2", network(2))
    until(lambda: networks(agent, A) == {"net-1"} and networks(agent, B) == {"net-2"})
    guest = cluster.guest(A)
    until(lambda: cluster.state(guest) == "done")


def test_changes_that_everybody_has_are_forgotten(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "ALIVE_EVERY", 0.1)
    monkeypatch.setattr(agent_connection, "PULL_EVERY", 0.1)
    cluster.streams.stop()
    cluster.serve()
    agent = cluster.agent()
    for number in range(20):
        cluster.put(A, "network", "net-1", network(number + 1))
        cluster.put(A, "toy", f"gone-{number}", {})
        cluster.put(A, "toy", f"gone-{number}", None)

    def left() -> int:
        with cluster.cloud.database.read() as tx:
            return int(tx.scalar(select(func.count()).select_from(store.change)))

    until(lambda: left() == 0)
    assert networks(agent, A) == {"net-1"}
    cluster.put(A, "network", "net-2", network(2))
    until(lambda: networks(agent, A) == {"net-1", "net-2"})


# --- tasks and results ---------------------------------------------------------------------------------------


def test_tasks_are_done_once_and_their_results_go_on(cluster: Cluster) -> None:
    agent = cluster.agent()
    guests = [cluster.guest(name) for name in (A, B, A, A, B)]
    until(lambda: all(cluster.state(guest) == "done" for guest in guests))
    assert sorted(cluster.results) == sorted(guests)
    assert cluster.tasks() == []
    for name, mine in ((A, {guests[0], guests[2], guests[3]}), (B, {guests[1], guests[4]})):
        assert host_of(agent, name).hypervisor.guests() == dict.fromkeys(mine, Power.RUNNING)
    until(
        lambda: {(seen.host, seen.id) for seen in cluster.seen if seen.kind == "power"} >= {(cluster.ids[A], guests[0])}
    )


def test_a_hosts_reason_is_the_operations(cluster: Cluster) -> None:
    cluster.agent()
    bad = cluster.guest(A, called="fake-fail-disk")
    strange = cluster.guest(A, task="guest.teleport")
    until(lambda: cluster.state(bad) == "failed" and cluster.state(strange) == "failed")
    assert any("fake-fail-disk" in why for why in cluster.failed)
    assert any("does not know the task 'guest.teleport'" in why for why in cluster.failed)


def test_a_result_whose_acknowledgement_is_lost_counts_once(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    take = reports.take

    def lossy(cloud: Any, report: wire.Report, ids: dict[str, str]) -> None:
        take(cloud, report, ids)
        if report.results:
            taken.append(report.number)
            if len(taken) <= 2:
                raise errors.Unavailable("the connection is lost before the acknowledgement")

    monkeypatch.setattr(reports, "take", lossy)
    agent = cluster.agent()
    guest = cluster.guest(A)
    until(lambda: len(taken) >= 3)
    assert cluster.results == [guest]
    until(lambda: cluster.streams.connected() == set(cluster.ids.values()))
    other = cluster.guest(A)
    until(lambda: cluster.state(other) == "done")
    assert cluster.results == [guest, other]
    assert len(host_of(agent, A).hypervisor._guests[guest].boots) == 1  # type: ignore[attr-defined]


def test_a_result_sent_twice_or_late_counts_once(cluster: Cluster) -> None:
    guest = cluster.guest(A)
    (task,) = until(cluster.tasks)
    raw = Raw(cluster)
    raw.hello(raw.host(A, cluster.key))
    assert [each.id for each in raw.pull(**{A: 0})[A].tasks] == [task.id]
    result = wire.Result(task.id, A, None, None, (wire.MarkMade("running", 1, 2),))
    raw.report(result, result, number=7)
    raw.report(wire.Result(task.id, A, "late"), number=8)
    assert cluster.results == [guest]
    assert cluster.state(guest) == "done"
    assert raw.pull(**{A: 0})[A].tasks == ()
    raw.close()


def test_a_result_that_the_server_stumbles_over_fails_its_own_operation_only(cluster: Cluster) -> None:
    def take(operation: Any, result: Any) -> None:
        if operation.data["name"] == "poison":
            raise ZeroDivisionError("bug")

    cluster.take = take
    cluster.agent()
    poison = cluster.guest(A, called="poison")
    good = [cluster.guest(name) for name in (A, B)]
    until(lambda: cluster.state(poison) == "failed" and all(cluster.state(guest) == "done" for guest in good))
    assert cluster.failed == ["The server could not take the host's result: ZeroDivisionError: bug"]
    assert cluster.tasks() == []
    assert cluster.streams.connected() == set(cluster.ids.values())


def test_a_task_that_is_told_again_is_answered_and_not_done_again(cluster: Cluster) -> None:
    agent = cluster.agent()
    guest = cluster.guest(A)
    until(lambda: cluster.state(guest) == "done")
    host = host_of(agent, A)
    host.hypervisor.destroy(guest)

    def tell_again(tx: Any) -> None:
        values = {"id": task_id, "host_id": cluster.ids[A], "kind": "guest.create", "body": {}, "created_at": tx.now}
        revision = tx.scalar(select(store.host.c.revision).where(store.host.c.id == cluster.ids[A])) + 1
        tx.execute(store.host.update().where(store.host.c.id == cluster.ids[A]).values(revision=revision))
        tx.insert(store.task, {**values, "revision": revision})
        tx.after_commit(lambda: cluster.cloud.doorbell.ring(cluster.ids[A]))

    (task_id,) = agent._tasks._answers
    cluster.cloud.database.write(tell_again)
    until(lambda: cluster.tasks() == [])
    assert host.hypervisor.guests() == {}


def test_a_task_for_a_host_that_was_removed_fails(cluster: Cluster) -> None:
    cluster.cloud.database.write(lambda tx: hosts.forget(tx, cluster.ids[B]))
    guest = cluster.guest(B)
    until(lambda: cluster.state(guest) == "failed")
    assert "not part of this cloud" in cluster.failed[0]


# --- questions -----------------------------------------------------------------------------------------------


def test_live_questions(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    ask = cluster.cloud.hosts.ask
    with pytest.raises(errors.Unavailable, match="not connected"):
        ask(cluster.ids[A], "guests")
    agent = cluster.agent()
    guest = cluster.guest(A)
    until(lambda: cluster.state(guest) == "done")
    assert ask(cluster.ids[A], "guests") == {guest: "running"}
    assert ask(cluster.ids[B], "guests") == {}
    assert b"login:" in ask(cluster.ids[A], "console", guest)
    assert len(ask(cluster.ids[A], "console", guest, 10)) == 10
    with pytest.raises(errors.HostFault, match="guest nobody is not on this host"):
        ask(cluster.ids[A], "console", "nobody")
    with pytest.raises(errors.HostFault, match="does not know how to answer 'weather'"):
        ask(cluster.ids[A], "weather")
    monkeypatch.setattr(host_of(agent, A), "asked", lambda question: 1 // 0)
    with pytest.raises(errors.HostFault, match="ZeroDivisionError"):
        ask(cluster.ids[A], "guests")
    monkeypatch.setattr(streams, "ASK_SECONDS", 0.3)
    monkeypatch.setattr(host_of(agent, A), "asked", lambda question: time.sleep(1))
    began = time.monotonic()
    with pytest.raises(errors.Unavailable, match=r"within 0\.3 seconds"):
        ask(cluster.ids[A], "guests")
    assert time.monotonic() - began < 1
    assert ask(cluster.ids[B], "guests") == {}
    time.sleep(1)
    (connection,) = set(cluster.streams._by_host.values())
    assert connection.answers == {}


def test_a_question_to_an_agent_that_goes_away_is_answered(cluster: Cluster) -> None:
    raw = Raw(cluster)
    raw.hello(raw.host(A, cluster.key))
    until(lambda: cluster.streams.connected())
    wrong: list[Exception] = []

    def ask() -> None:
        try:
            cluster.cloud.hosts.ask(cluster.ids[A], "guests")
        except errors.Unavailable as away:
            wrong.append(away)

    thread = threading.Thread(target=ask)
    thread.start()
    raw.receive(wire.Ask)
    raw.close()
    thread.join(5)
    assert len(wrong) == 1 and "went away" in str(wrong[0])


# --- coming and going ----------------------------------------------------------------------------------------


def test_a_server_that_restarts_finds_its_agents_again(cluster: Cluster) -> None:
    agent = cluster.agent()
    first = cluster.guest(A)
    until(lambda: cluster.state(first) == "done")
    for _ in range(2):
        cluster.streams.stop()
        until(lambda: agent._connection._socket is None)
        with pytest.raises(errors.Unavailable):
            cluster.cloud.hosts.ask(cluster.ids[A], "guests")
        cluster.put(A, "network", "net-1", network(1))
        cluster.put(A, "network", "net-2", None)
        while_away = cluster.guest(B)
        cluster.serve()
        until(lambda: cluster.state(while_away) == "done")  # noqa: B023
        until(lambda: networks(agent, A) == {"net-1"})
        cluster.put(A, "network", "net-2", network(2))
        until(lambda: networks(agent, A) == {"net-1", "net-2"})
    assert sorted(cluster.results) == sorted({*cluster.results})


def test_results_outlive_a_server_that_is_away(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = cluster.agent()
    started, go_on = threading.Event(), threading.Event()
    hypervisor = host_of(agent, A).hypervisor
    create = hypervisor.create

    def slow(*arguments: Any) -> None:
        started.set()
        assert go_on.wait(10)
        create(*arguments)

    monkeypatch.setattr(hypervisor, "create", slow)
    guest = cluster.guest(A)
    assert started.wait(10)
    cluster.streams.stop()
    go_on.set()
    until(lambda: agent._connection._results or agent._connection._report)
    cluster.serve()
    until(lambda: cluster.state(guest) == "done")
    assert cluster.results == [guest]


def test_a_listener_whose_port_is_taken_says_so(cluster: Cluster) -> None:
    agent = cluster.agent()
    with pytest.raises(errors.SettingsError, match="cannot start"):
        streams.Streams(
            cluster.cloud,
            host="127.0.0.1",
            port=cluster.port,
            socket=cluster.settings.streams_socket,
            open_image=cluster._open_image,
            open_disks=cluster._open_disks,
            open_tunnel=cluster._open_tunnel,
        ).start()
    cluster.put(A, "network", "net-1", network(1))
    until(lambda: networks(agent, A) == {"net-1"})
    assert cluster.settings.streams_socket.stat().st_mode & 0o777 == 0o600
    cluster.stop(agent)
    cluster.agent()


def test_a_restarted_agent_knows_its_host_while_the_server_is_away(cluster: Cluster) -> None:
    agent = cluster.agent()
    cluster.put(A, "network", "net-1", network(1))
    guest = cluster.guest(A)
    until(lambda: cluster.state(guest) == "done" and networks(agent, A) == {"net-1"})
    path = cluster.settings.agent_dir / "hosts" / A / "desired"
    until(lambda: path.exists() and not host_of(agent, A).state._dirty)
    assert path.stat().st_mode & 0o777 == 0o600
    cluster.stop(agent)
    cluster.streams.stop()
    agent = cluster.agent(connected=False)
    assert networks(agent, A) == {"net-1"}
    until(lambda: host_of(agent, A).wiring._networks.keys() == {"net-1"})  # type: ignore[attr-defined]
    data = host_of(agent, A).data_of(guest)
    assert data is not None and data.uuid == guest
    assert host_of(agent, A).hypervisor.guests() == {guest: Power.RUNNING}
    cluster.seen.clear()
    cluster.serve()
    until(lambda: (guest, "running") in {(seen.id, seen.value) for seen in cluster.seen})
    cluster.put(A, "network", "net-2", network(2))
    until(lambda: networks(agent, A) == {"net-1", "net-2"})


def test_the_newest_connection_of_a_host_counts(cluster: Cluster) -> None:
    old, new = Raw(cluster), Raw(cluster)
    old.hello(old.host(A, cluster.key))
    new.hello(new.host(A, cluster.key))
    time.sleep(0.1)
    cluster.put(A, "toy", "one", {})
    assert new.receive(wire.Bell).hosts == (A,)
    old.close()
    time.sleep(0.1)
    assert cluster.streams.connected() == {cluster.ids[A]}
    cluster.put(A, "toy", "two", {})
    assert new.receive(wire.Bell).hosts == (A,)
    new.close()
    until(lambda: cluster.streams.connected() == set())


def test_a_silent_connection_does_not_count_as_alive(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "ALIVE_EVERY", 0.05)
    monkeypatch.setattr(streams, "HEARD_SECONDS", 0.3)
    cluster.streams.stop()
    cluster.serve()
    raw = Raw(cluster)
    raw.hello(raw.host(A, cluster.key))
    first = cluster.row(A).last_seen
    until(lambda: cluster.row(A).last_seen > first)
    time.sleep(0.5)
    silent = cluster.row(A).last_seen
    time.sleep(0.3)
    assert cluster.row(A).last_seen == silent
    raw.pull(**{A: 0})
    until(lambda: cluster.row(A).last_seen > silent)
    raw.close()


def test_fifty_hosts_in_one_agent(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, 50)
    try:
        agent = cluster.agent()
        for number, name in enumerate(cluster.names):
            cluster.put(name, "network", f"net-{number}", network(number + 1))
        guests = {name: [cluster.guest(name) for _ in range(2)] for name in cluster.names}
        until(lambda: all(cluster.state(guest) == "done" for mine in guests.values() for guest in mine), 60)
        for number, name in enumerate(cluster.names):
            assert networks(agent, name) == {f"net-{number}"}
            assert set(host_of(agent, name).hypervisor.guests()) == set(guests[name])
        assert len(cluster.results) == 100
        assert cluster.tasks() == []
    finally:
        cluster.close()


# --- image bytes ---------------------------------------------------------------------------------------------


@pytest.fixture(params=["tcp", "socket"])
def fetch(cluster: Cluster, request: pytest.FixtureRequest) -> Callable[..., tuple[int, dict[str, str], bytes]]:
    def get(link: str = LINK, range_: str | None = None, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", cluster.port, timeout=10)
        if request.param == "socket":
            connection.sock = socket.socket(socket.AF_UNIX)
            connection.sock.connect(str(cluster.settings.streams_socket))
        connection.request(method, f"/images/{link}", headers={"Range": range_} if range_ is not None else {})
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, body

    return get


def test_ranges_of_an_image(cluster: Cluster, fetch: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    data = cluster.image.read_bytes()
    size = len(data)
    for range_, first, last in (
        ("bytes=0-99", 0, 99),
        ("bytes=100-199", 100, 199),
        (f"bytes={size - 1}-", size - 1, size - 1),
        ("bytes=0-999999999999", 0, size - 1),
        (None, 0, size - 1),
    ):
        status, headers, body = fetch(range_=range_)
        assert (status, headers["content-range"]) == (206, f"bytes {first}-{last}/{size}")
        assert body == data[first : last + 1]
    monkeypatch.setattr(streams, "MOST_BYTES", 1000)
    status, headers, body = fetch(range_="bytes=5000-9999")
    assert (status, headers["content-range"], body) == (206, f"bytes 5000-5999/{size}", data[5000:6000])


@pytest.mark.parametrize(
    "range_",
    [
        "bytes=10240-",
        "bytes=999999-",
        "bytes=9-5",
        "bytes=-500",
        "bytes=a-b",
        "lines=0-9",
        "bytes=0-1,4-5",
        "bytes=²-3",
        "",
    ],
)
def test_ranges_that_are_none(cluster: Cluster, fetch: Callable[..., Any], range_: str) -> None:
    if not range_.isascii():
        range_ = range_.encode().decode("latin-1")
    status, headers, body = fetch(range_=range_)
    if range_ == "":
        assert status == 206
    else:
        assert (status, body) == (416, b"")
        assert headers["content-range"] == f"bytes */{cluster.image.stat().st_size}"


def test_only_a_link_opens_an_image(cluster: Cluster, fetch: Callable[..., Any]) -> None:
    for link in ("forged", "", "..%2f..%2fetc%2fpasswd", "../../../etc/passwd", LINK + "x"):
        status, _, body = fetch(link=link)
        assert (status, b"no image link" in body) == (403, True), link
    assert fetch(link="../agent")[0] == 403
    cluster.image.rename(cluster.path / "elsewhere")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cluster.streams, "_open_image", lambda link: (cluster.image, 100))
        assert fetch()[0] == 503


def test_nothing_else_is_served(cluster: Cluster) -> None:
    for method, path, status in (("GET", "/", 404), ("GET", "/images", 404), ("POST", f"/images/{LINK}", 405)):
        connection = http.client.HTTPConnection("127.0.0.1", cluster.port, timeout=10)
        try:
            connection.request(method, path)
            assert connection.getresponse().status in (status, 400)
        except http.client.HTTPException:
            assert method == "POST"
        finally:
            connection.close()


def test_a_host_receives_what_another_set_aside(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = cluster.agent()
    until(lambda: cluster.streams.connected() == set(cluster.ids.values()))
    first, second = (agent._hosts[name].hypervisor for name in cluster.names[:2])
    guest = Guest(id=clock.uuid4(), name="instance-1", vcpus=1, ram_mb=64, root_gb=1)
    first.create(guest, Boot(), lambda mark: None)
    link = f"{LINK}.{cluster.names[0]}.{guest.id}"
    with pytest.raises(errors.HostFault, match="is not set aside"):
        Elsewhere(agent._get, f"{LINK}.{cluster.names[0]}.{clock.uuid4()}").parts()
    assert Elsewhere(agent._get, link).parts() == ()
    first.leave(guest.id, timeout=0)
    source = Elsewhere(agent._get, link)
    second.receive(guest, Boot(), source, lambda mark: None, start=True)
    assert second.guests() == {guest.id: Power.RUNNING} and second.console_log(guest.id).count(b"Linux version") == 2
    for wrong in ("forged", f"forged.{cluster.names[0]}.{guest.id}"):
        with pytest.raises(errors.HostFault, match="403 This is no link"):
            Elsewhere(agent._get, wrong).parts()
    (part,) = source.parts()
    with pytest.raises(errors.HostFault, match="was damaged"):
        Elsewhere(lambda path, offset, length: agent._get(path, offset, length)[:-1], link).piece("guest", 0, part.size)
    cluster.stop(agent)
    until(lambda: cluster.streams.connected() == set())
    monkeypatch.setattr(moving, "PATIENCE", 0.0)
    with pytest.raises(errors.HostFault, match="cannot be asked"):
        source.parts()


class Mirror:
    """Listens on a socket and says back what it hears, each time when the other has said all, and then `over`."""

    def __init__(self, path: Path) -> None:
        self._door = socket.socket(socket.AF_UNIX)
        self._door.bind(str(path))
        self._door.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            here, _ = self._door.accept()
            with here, here.makefile("rwb") as file:
                file.write(file.read())
                file.write(b"over")


def said_through(door: Path, data: bytes) -> bytes:
    """What comes back through a door; nothing when it is shut in the face."""

    def say() -> None:
        with contextlib.suppress(OSError):
            here.sendall(data)
            here.shutdown(socket.SHUT_WR)

    with socket.socket(socket.AF_UNIX) as here:
        here.settimeout(20)
        here.connect(str(door))
        sending = threading.Thread(target=say)
        sending.start()
        heard = b""
        with contextlib.suppress(ConnectionResetError):
            while more := here.recv(65536):
                heard += more
        sending.join()
        return heard


@pytest.mark.parametrize("tcp", [False, True], ids=["socket", "tcp"])
def test_streams_go_from_host_to_host(cluster: Cluster, tmp_path: Path, tcp: bool) -> None:
    agent = cluster.agent(tcp=tcp)
    until(lambda: cluster.streams.connected() == set(cluster.ids.values()))
    dial = partial(agent._dial.to, agent._dial.target)
    Mirror(tmp_path / "m")
    doors = {name: tmp_path / f"{name}.door" for name in ("mirror", "nothing", "unheard of")}
    with Entrance(dial, LINK, doors):
        assert said_through(doors["mirror"], b"x") == b"", "the other host is not there yet"
        way = Exit(dial, LINK, {"mirror": tmp_path / "m", "nothing": tmp_path / "none"})
        until(lambda: said_through(doors["mirror"], b"") == b"over")
        data = bytes(range(256)) * 20_000
        with ThreadPoolExecutor(4) as pool:
            assert set(pool.map(lambda _: said_through(doors["mirror"], data), range(4))) == {data + b"over"}
        assert said_through(doors["nothing"], b"x") == said_through(doors["unheard of"], b"x") == b""
        way.close()
        until(lambda: said_through(doors["mirror"], b"x") == b"")
    assert not any(door.exists() for door in doors.values())
    with pytest.raises(InvalidStatus, match="403"):
        dial("/tunnels/forged/target")


def test_an_agent_reads_image_bytes(cluster: Cluster) -> None:
    for tcp in (False, True):
        agent = cluster.agent(tcp=tcp)
        assert agent._get(f"/images/{LINK}", 256, 512) == cluster.image.read_bytes()[256:768]
        with pytest.raises(errors.HostFault, match="403 This is no image link"):
            agent._get("/images/forged", 0, 10)
        cluster.stop(agent)
        until(lambda: cluster.streams.connected() == set())
    cluster.streams.stop()
    with pytest.raises(errors.Unavailable, match="does not answer"):
        agent._get(f"/images/{LINK}", 0, 10)
