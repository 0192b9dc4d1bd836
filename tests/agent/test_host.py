"""One host of an agent: wiring that fails is tried again, guests come back after a reboot, and a key is the host's own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from nephos import errors
from nephos.agent import guestdata
from nephos.agent import host as agent_host
from nephos.agent import main as agent_main
from nephos.agent.host import Host
from nephos.agent.main import Agent, host_names, key_of
from nephos.hosts import wire
from nephos.hosts.guest import GuestItem
from nephos.hypervisor.base import Boot, Guest, Power
from nephos.hypervisor.fake import FakeHypervisor
from nephos.settings import Settings
from nephos.wiring.base import Desired, Fact, Key, Kind, Network, Port
from nephos.wiring.fake import FakeWiring

encode = msgspec.msgpack.encode


def until(happened: Callable[[], Any], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.005)


class Stubborn(FakeWiring):
    """Wiring that fails as often as it is told."""

    def __init__(self, failures: int) -> None:
        super().__init__()
        self.failures = failures
        self.asked: list[frozenset[Key] | None] = []

    def apply(self, desired: Desired, changed: frozenset[Key] | None = None) -> dict[Key, str]:
        self.asked.append(changed)
        if self.failures:
            self.failures -= 1
            raise RuntimeError("netlink does not answer")
        return super().apply(desired, changed)


def make(path: Path, wiring: FakeWiring | None = None) -> tuple[Host, FakeHypervisor, list[wire.Seen]]:
    seen: list[wire.Seen] = []
    hypervisor = FakeHypervisor(state_dir=path / "hypervisor", cloud_id="c")
    return Host("h", path, hypervisor, wiring or FakeWiring(), None, seen.append), hypervisor, seen


def items(*ids: str, power: str = "running") -> tuple[wire.Item, ...]:
    made = []
    for each in ids:
        data = guestdata.GuestData(uuid=each, name=each, hostname=each, project_id="p")
        item = GuestItem(id=each, power=power, data=msgspec.Raw(encode(data)), ports=(f"port-{each}",))
        made.append(wire.Item("guest", each, encode(item)))
        made.append(
            wire.Item(
                "port", f"port-{each}", encode(Port(id=f"port-{each}", network_id="n", index=1, mac="fa:16:3e:0:0:1"))
            )
        )
    return (wire.Item("network", "n", encode(Network(id="n", kind="vxlan", segment=1))), *made)


def boot(hypervisor: FakeHypervisor, *ids: str) -> None:
    for each in ids:
        hypervisor.create(Guest(id=each, name=each, vcpus=1, ram_mb=1, root_gb=0), Boot(), lambda mark: None)


def test_nothing_is_wired_before_somebody_said_what(tmp_path: Path) -> None:
    wiring = Stubborn(0)
    host, _, _ = make(tmp_path, wiring)
    host.apply(everything=True)
    assert wiring.asked == []
    host.take(wire.HostState("h", 1, True))
    host.apply()
    assert wiring.asked == [None]


def test_only_what_changed_is_wired(tmp_path: Path) -> None:
    wiring = Stubborn(0)
    host, _, _ = make(tmp_path, wiring)
    host.take(wire.HostState("h", 1, True))
    host.apply()
    host.take(wire.HostState("h", 2, False, items("a")))
    host.take(wire.HostState("h", 3, False, items("b")))
    assert host.dirty()
    host.apply()
    assert not host.dirty()
    keys = {Key(Kind.NETWORK, "n"), Key(Kind.PORT, "port-a"), Key(Kind.PORT, "port-b")}
    assert wiring.asked[1:] == [frozenset(keys)]


def test_wiring_that_breaks_is_wired_whole_the_next_time(tmp_path: Path) -> None:
    wiring = Stubborn(1)
    host, _, _ = make(tmp_path, wiring)
    host.take(wire.HostState("h", 1, False, items("a")))
    with pytest.raises(RuntimeError):
        host.apply()
    assert host.dirty()
    host.apply()
    assert not host.dirty()
    assert wiring.asked[1] is None
    host.wait_wired(["port-a"])
    assert (tmp_path / "desired").exists()


def test_waiting_for_wiring_ends_with_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_host, "APPLY_SECONDS", 0.05)
    host, _, _ = make(tmp_path)
    host.take(wire.HostState("h", 1, False, items("a")))
    with pytest.raises(errors.HostFault, match=r"within 0\.05 seconds"):
        host.wait_wired(["port-a"])
    host.apply()
    host.wait_wired(["port-a"])
    with pytest.raises(errors.HostFault, match="Port nobody is not known"):
        host.wait_wired(["nobody"])


def test_metadata_is_the_guests_behind_the_port(tmp_path: Path) -> None:
    host, _, _ = make(tmp_path)
    host.take(wire.HostState("h", 1, False, items("a", "b")))
    assert b'"uuid":"a"' in (host.metadata("port-a", "/openstack/latest/meta_data.json") or b"")
    assert b'"uuid":"b"' in (host.metadata("port-b", "/openstack/latest/meta_data.json") or b"")
    assert host.metadata("port-c", "/openstack/latest/meta_data.json") is None
    assert host.metadata("port-a", "/nothing") is None


def test_what_happens_on_the_host_is_seen(tmp_path: Path) -> None:
    host, hypervisor, seen = make(tmp_path)
    boot(hypervisor, "a")
    hypervisor.become("a", Power.CRASHED)
    host._fact(Fact(kind="address_taken", port_id="p", detail="10.0.0.3"))
    assert [(each.host, each.kind, each.id, each.value) for each in seen] == [
        ("h", "power", "a", "running"),
        ("h", "power", "a", "crashed"),
        ("h", "address_taken", "p", "10.0.0.3"),
    ]


# --- reboots -------------------------------------------------------------------------------------------------


@pytest.fixture
def boot_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "boot_id"
    path.write_text("first\n")
    monkeypatch.setattr(agent_host, "_BOOT_ID", path)
    return path


def test_guests_that_ran_come_back_after_a_reboot_of_the_host(tmp_path: Path, boot_id: Path) -> None:
    host, hypervisor, _ = make(tmp_path / "h")
    host.wake()
    host.take(wire.HostState("h", 1, True, items("a", "b") + items("off", power="shutdown")))
    host.apply()
    boot(hypervisor, "a", "b", "off")
    for each in ("a", "b", "off"):
        hypervisor.become(each, Power.SHUTDOWN)
    boot_id.write_text("second\n")
    host, hypervisor, seen = make(tmp_path / "h")
    host.wake()
    host.connected()
    assert [(each.id, each.value) for each in seen] == [("off", "shutdown")], "the others are about to run"
    thread = threading.Thread(target=host.resume_guests)
    thread.start()
    host.take(wire.HostState("h", 2, False, items("b", power="shutdown")))
    host.apply(everything=True)
    thread.join(10)
    assert hypervisor.guests()["a"] is Power.RUNNING
    assert hypervisor.guests()["off"] is Power.SHUTDOWN
    assert ("a", "running") in {(each.id, each.value) for each in seen}
    seen.clear()
    host.connected()
    assert {each.id for each in seen} == {"a", "b", "off"}


def test_an_agents_restart_starts_no_guest(tmp_path: Path, boot_id: Path) -> None:
    host, hypervisor, _ = make(tmp_path / "h")
    host.wake()
    host.take(wire.HostState("h", 1, True, items("a")))
    host.apply()
    boot(hypervisor, "a")
    hypervisor.become("a", Power.SHUTDOWN)
    host, hypervisor, seen = make(tmp_path / "h")
    host.wake()
    host.resume_guests()
    assert hypervisor.guests() == {"a": Power.SHUTDOWN}
    host.connected()
    assert [(each.id, each.value) for each in seen] == [("a", "shutdown")]


def test_a_guest_that_does_not_come_back_is_told(
    tmp_path: Path, boot_id: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host, hypervisor, _ = make(tmp_path / "h")
    host.wake()
    host.take(wire.HostState("h", 1, True, items("a")))
    boot(hypervisor, "a")
    hypervisor.become("a", Power.SHUTDOWN)
    host.save()
    boot_id.write_text("second\n")
    host, hypervisor, seen = make(tmp_path / "h")
    monkeypatch.setattr(agent_host, "APPLY_SECONDS", 0.05)
    host.take(wire.HostState("h", 2, False, (wire.Item("network", "m", encode(Network(id="m", kind="local"))),)))
    host.wake()
    host.resume_guests()
    assert [(each.id, each.value) for each in seen] == [("a", "shutdown")]


# --- the agent -----------------------------------------------------------------------------------------------


def test_a_guest_posts_its_password_once_and_hears_whether_the_ledger_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent_host, "POST_SECONDS", 0.1)
    wiring = FakeWiring()
    host, _, seen = make(tmp_path, wiring)
    host.take(wire.HostState("h", 1, True, items("a")))
    host.apply()
    url = "/openstack/latest/password"
    for port, path, body, status in (
        ("port-b", url, b"x", 404),
        ("port-a", "/openstack/latest/user_data", b"x", 405),
        ("port-a", url, b"\xff", 400),
        ("port-a", url, b"x" * 1021, 400),
        ("port-a", url, b"", 200),
    ):
        assert wiring.guest_posts(port, path, body) == status
    assert seen == []
    assert wiring.guest_posts("port-a", url, b"lost") == 503, "the server says nothing"
    assert [(each.kind, each.id, each.value) for each in seen] == [("password", "a", "lost")]

    def ledger(each: wire.Seen) -> None:
        """The server takes what it sees, if there is nothing yet."""
        data = guestdata.GuestData(uuid="a", name="a", hostname="a", project_id="p", password="first")
        item = GuestItem(id="a", power="running", data=msgspec.Raw(encode(data)), ports=("port-a",))
        threading.Timer(0.02, host.take, [wire.HostState("h", 2, False, (wire.Item("guest", "a", encode(item)),))]).start()

    monkeypatch.setattr(agent_host, "POST_SECONDS", 10)
    monkeypatch.setattr(host, "_see", ledger)
    assert wiring.guest_posts("port-a", url, b"second") == 409, "another was quicker"
    assert host.metadata("port-a", url) == b"first"
    assert wiring.guest_posts("port-a", url, b"first") == 409, "there is one"


def test_a_key_is_made_once_and_is_the_owners_alone(tmp_path: Path) -> None:
    directory = tmp_path / "agent"
    first = key_of(directory)
    assert (directory / "key").stat().st_mode & 0o777 == 0o600
    assert key_of(directory).private_bytes_raw() == first.private_bytes_raw()
    assert [path.name for path in directory.iterdir()] == ["key"]
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "key.part").write_bytes(b"half")
    assert len(key_of(tmp_path / "torn").private_bytes_raw()) == 32


def test_wiring_of_a_fake_host_that_breaks_is_tried_again_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent_main, "RETRY_SECONDS", 0.05)
    settings = Settings(state=tmp_path, hypervisor="fake", fake_hosts=2, cloud_id="c")
    assert host_names(settings) == ["fake-0001", "fake-0002"]
    agent = Agent(settings, str(tmp_path / "no-server"))
    host = agent._hosts["fake-0001"]
    wiring = host.wiring = Stubborn(3)
    agent.start()
    try:
        agent._changes([wire.HostState("fake-0001", 1, True, items("a")), wire.HostState("stranger", 1, True)])
        until(lambda: not host.dirty())
        assert wiring.failures == 0
    finally:
        agent.stop()
    assert not agent._wiring.is_alive()
    assert not [thread for thread in agent._connection._threads if thread.is_alive()]
