"""Tasks on a host: in order for one guest, side by side for several, once, and never an older attempt."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from nephos.agent import guestdata, patience
from nephos.agent import tasks as agent_tasks
from nephos.agent.connection import Dial
from nephos.agent.host import Host
from nephos.agent.tasks import Tasks
from nephos.hosts import wire
from nephos.hosts.guest import CreateGuest, DestroyGuest, GuestItem, SetPower
from nephos.hypervisor.base import Boot, Guest, HypervisorAway, Nic, Power
from nephos.hypervisor.fake import FakeHypervisor
from nephos.wiring.base import Network, Port
from nephos.wiring.fake import FakeWiring

encode = msgspec.msgpack.encode


class Bench:
    """One fake host and its tasks; results are kept in the order in which they came."""

    def __init__(self, path: Path) -> None:
        self.results: list[wire.Result] = []
        self.sightings: list[wire.Seen] = []
        self.hypervisor = FakeHypervisor(state_dir=path / "hypervisor", cloud_id="c")
        self.host = Host("h", path, self.hypervisor, FakeWiring(), None, self.sightings.append)
        self.tasks = Tasks(lambda path, offset, length: b"", self.results.append, Dial("/nowhere"))

    def know(self, *ids: str, power: str = "running", ports: tuple[str, ...] = ()) -> None:
        """The server says that these guests are here."""
        items = []
        for guest_id in ids:
            data = guestdata.GuestData(uuid=guest_id, name=guest_id, hostname=guest_id, project_id="p")
            item = GuestItem(id=guest_id, power=power, data=msgspec.Raw(encode(data)), ports=ports)
            items.append(wire.Item("guest", guest_id, encode(item)))
        self.host.take(wire.HostState("h", 1, False, tuple(items)))

    def do(self, task_id: str, kind: str, body: Any) -> None:
        self.tasks.take(self.host, wire.Task(task_id, kind, msgspec.Raw(encode(body))))

    def create(self, task_id: str, guest_id: str, *, nics: tuple[Nic, ...] = (), name: str = "") -> None:
        guest = Guest(id=guest_id, name=name or guest_id, vcpus=1, ram_mb=64, root_gb=0, nics=nics)
        self.do(task_id, "guest.create", CreateGuest(guest=guest))

    def wait(self, count: int) -> list[wire.Result]:
        until(lambda: len(self.results) >= count)
        return self.results


def until(happened: Callable[[], Any], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.005)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    one = Bench(tmp_path)
    yield one
    one.tasks.close()


def test_a_guest_is_made_started_stopped_and_destroyed_in_order(bench: Bench) -> None:
    bench.know("g")
    bench.create("o1:spawn:0", "g")
    bench.do("o2:power:0", "guest.power", SetPower(id="g", action="stop"))
    bench.do("o3:power:0", "guest.power", SetPower(id="g", action="start"))
    bench.do("o4:power:0", "guest.power", SetPower(id="g", action="reboot"))
    bench.do("o5:power:0", "guest.power", SetPower(id="g", action="dance"))
    bench.do("o6:destroy:0", "guest.destroy", DestroyGuest(id="g"))
    results = bench.wait(6)
    assert [result.task[:2] for result in results] == ["o1", "o2", "o3", "o4", "o5", "o6"]
    assert [result.error for result in results] == [
        None,
        None,
        None,
        None,
        "This agent does not know the power action 'dance'.",
        None,
    ]
    assert [mark.name for mark in results[0].marks] == ["image cached", "plugged", "disk", "domain", "running"]
    assert all(mark.started <= mark.finished for result in results for mark in result.marks)
    assert bench.hypervisor.guests() == {}


def test_a_task_waits_for_a_hypervisor_that_is_restarted(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    away, asked = [3], []
    create = bench.hypervisor.create

    def broken(guest: Guest, boot: Boot, note: Callable[[str], None]) -> None:
        asked.append(guest.id)
        if away[0]:
            away[0] -= 1
            note("disk")
            raise HypervisorAway("cannot create it: libvirtd is not there")
        create(guest, boot, note)

    monkeypatch.setattr(bench.hypervisor, "create", broken)
    monkeypatch.setattr(patience, "_AGAIN_SECONDS", 0.01)
    bench.know("g")
    bench.create("o1:spawn:0", "g")
    assert bench.wait(1)[0].error is None and asked == ["g"] * 4
    names = [mark.name for mark in bench.results[0].marks]
    assert names == ["image cached", "plugged", "disk", "domain", "running"], "each mark once"
    monkeypatch.setattr(patience, "AWAY_SECONDS", 0.05)
    away[0] = 1000
    bench.create("o2:spawn:0", "g")
    assert bench.wait(2)[1].error == "cannot create it: libvirtd is not there"


def test_guests_do_not_wait_for_each_other(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    running: list[str] = []
    at_once: list[int] = []

    def stop(guest_id: str, *, timeout: float) -> None:
        running.append(guest_id)
        at_once.append(running.count(guest_id))
        assert release.wait(10)
        running.remove(guest_id)

    monkeypatch.setattr(bench.hypervisor, "stop", stop)
    for number in range(3):
        for guest in "abcd":
            bench.do(f"o{guest}{number}:power:0", "guest.power", SetPower(id=guest, action="stop"))
    until(lambda: sorted(running) == list("abcd"))
    release.set()
    results = bench.wait(12)
    assert max(at_once) == 1, "never two tasks of one guest"
    for guest in "abcd":
        mine = [result.task for result in results if result.task.startswith(f"o{guest}")]
        assert mine == sorted(mine)


def test_a_task_that_comes_again_is_done_once_and_answered_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    calls: list[str] = []

    def reboot(guest_id: str, *, hard: bool, timeout: float = 60) -> None:
        calls.append(guest_id)
        assert release.wait(10)

    monkeypatch.setattr(bench.hypervisor, "reboot", reboot)
    for _ in range(3):
        bench.do("o:reboot:0", "guest.power", SetPower(id="g", action="reset"))
    release.set()
    bench.wait(1)
    for _ in range(2):
        bench.do("o:reboot:0", "guest.power", SetPower(id="g", action="reset"))
    assert bench.wait(3) == [bench.results[0]] * 3
    assert calls == ["g"]
    bench.do("o:reboot:1", "guest.power", SetPower(id="g", action="reset"))
    bench.wait(4)
    assert calls == ["g", "g"]


def test_an_attempt_older_than_one_that_was_seen_is_refused(bench: Bench) -> None:
    bench.know("g")
    bench.create("o:spawn:2", "g")
    bench.create("o:spawn:1", "g")
    bench.do("o:spawn:0:undo", "guest.destroy", DestroyGuest(id="g"))
    bench.create("other:spawn:0", "g")
    bench.do("tombstone", "guest.destroy", DestroyGuest(id="g"))
    results = bench.wait(5)
    assert [result.error for result in results] == [
        None,
        "Attempt 1 is older than one that this host has seen.",
        None,
        None,
        None,
    ]


def test_what_cannot_be_done_is_answered_with_its_whole_reason(bench: Bench) -> None:
    bench.know("bad", "plugless")
    bench.create("o1:spawn:0", "unheard")
    bench.create("o2:spawn:0", "bad", name="fake-fail-disk")
    bench.create("o3:spawn:0", "plugless", nics=(Nic(port_id="p", mac="fa:16:3e:00:00:01"),))
    bench.do("o4:x:0", "guest.teleport", {"id": "g"})
    bench.do("o5:x:0", "guest.create", {"guest": {"id": "g"}})
    bench.do("o6:x:0", "guest.create", ["nonsense"])
    bench.do("o7:x:0", "guest.power", SetPower(id="nobody", action="stop"))
    bench.tasks.take(bench.host, wire.Task("o8:x:0", "guest.create", msgspec.Raw(b"\xc1")))
    errors_of = {result.task[:2]: result.error or "" for result in bench.wait(8)}
    assert "did not come with its task" in errors_of["o1"]
    assert "fake-fail-disk" in errors_of["o2"]
    assert errors_of["o3"] == "Port p is not known on this host."
    assert errors_of["o4"] == "This agent does not know the task 'guest.teleport'."
    assert "missing required field" in errors_of["o5"]
    assert errors_of["o6"] and errors_of["o8"]
    assert errors_of["o7"] == "guest nobody is not on this host"
    bench.know("g")
    bench.create("o9:spawn:0", "g")
    assert bench.wait(9)[-1].error is None


def test_memory_of_what_was_done_is_bounded(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_tasks, "REMEMBERED", 10)
    for number in range(30):
        bench.do(f"o{number}:destroy:0", "guest.destroy", DestroyGuest(id=f"g{number}"))
    bench.wait(30)
    assert len(bench.tasks._answers) == len(bench.tasks._attempts) == 10
    assert bench.tasks._present == set()


def test_a_guest_waits_for_its_wiring(bench: Bench) -> None:
    bench.know("g")
    port = Port(id="p", network_id="n", index=1, mac="fa:16:3e:00:00:01")
    bench.host.take(
        wire.HostState(
            "h",
            2,
            False,
            (
                wire.Item("network", "n", encode(Network(id="n", kind="vxlan", segment=1))),
                wire.Item("port", "p", encode(port)),
            ),
        )
    )
    bench.create("o:spawn:0", "g", nics=(Nic(port_id="p", mac="fa:16:3e:00:00:01"),))
    time.sleep(0.1)
    assert bench.results == []
    bench.host.apply()
    assert bench.wait(1)[0].error is None
    assert bench.hypervisor.guests() == {"g": Power.RUNNING}


def test_a_port_whose_wiring_fails_fails_its_guest(bench: Bench) -> None:
    bench.know("g")
    port = Port(id="p", network_id="missing", index=1, mac="fa:16:3e:00:00:01")
    bench.host.take(wire.HostState("h", 2, False, (wire.Item("port", "p", encode(port)),)))
    bench.host.apply()
    bench.create("o:spawn:0", "g", nics=(Nic(port_id="p", mac="fa:16:3e:00:00:01"),))
    why = bench.wait(1)[0].error
    assert why is not None and why.startswith("Wiring of port p failed:")
