"""What every hypervisor driver promises: one suite for the fake and for libvirt."""

from __future__ import annotations

import contextlib
import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol
from xml.etree import ElementTree

import msgspec
import pytest

from nephos.errors import HostFault
from nephos.hypervisor.base import Boot, Guest, Hypervisor, ImageFile, Nic, Part, Power
from nephos.hypervisor.fake import FakeHypervisor
from nephos.hypervisor.libvirt.domain import tap_name
from nephos.kernel import clock
from tests.hypervisor import private


class Kind(Protocol):
    """How a test gets a driver of a kind, and how a guest of it stops by itself."""

    boot: Boot

    def driver(self) -> Hypervisor: ...

    def dies(self, driver: Hypervisor, guest: Guest) -> None: ...

    def elsewhere(self) -> contextlib.AbstractContextManager[Hypervisor]:
        """A driver of another host."""
        ...

    def tap(self, port_id: str) -> None: ...

    def cards(self, driver: Hypervisor, guest: Guest) -> set[str]:
        """The ports of the cards that the guest has, by what holds it."""
        ...

    def definition(self, guest: Guest) -> object:
        """What the guest will be when it starts next, as far as it does not change by itself."""
        ...

    def rescued(self, guest: Guest, *, stable: bool) -> None:
        """The guest runs from the rescue disk: with `stable` that comes after its own disks, else before them."""
        ...

    def stands_alone(self, guest: Guest, format: str) -> None:
        """The snapshot is a whole disk of the format, without another below it."""
        ...

    def disks(self, guest: Guest) -> tuple[object, object]:
        """Which root disk and which ephemeral disk it has: others after each that was made anew."""
        ...


class Fake:
    boot = Boot()

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def driver(self) -> FakeHypervisor:
        return FakeHypervisor(state_dir=self._folder, cloud_id="cloud-a")

    def dies(self, driver: Hypervisor, guest: Guest) -> None:
        assert isinstance(driver, FakeHypervisor)
        driver.become(guest.id, Power.SHUTDOWN)

    @contextlib.contextmanager
    def elsewhere(self) -> Iterator[Hypervisor]:
        yield FakeHypervisor(state_dir=self._folder / "b", cloud_id="cloud-a")

    def tap(self, port_id: str) -> None:
        """A fake guest opens none."""

    def cards(self, driver: Hypervisor, guest: Guest) -> set[str]:
        return set(FakeHypervisor(state_dir=self._folder, cloud_id="cloud-a").cards(guest.id))

    def stands_alone(self, guest: Guest, format: str) -> None:
        assert format == "raw"

    def definition(self, guest: Guest) -> object:
        return None

    def rescued(self, guest: Guest, *, stable: bool) -> None:
        """A fake guest has no disks."""

    def disks(self, guest: Guest) -> tuple[object, object]:
        return FakeHypervisor(state_dir=self._folder, cloud_id="cloud-a").disks(guest.id)


class Libvirt:
    def __init__(self, host: private.Host) -> None:
        self._host = host
        image = host.folder / "image.qcow2"
        if not image.exists():
            subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(image), "8M"], check=True)
        # Nothing in it: the firmware finds no system and waits, which is all that these tests need of a guest.
        self.boot = Boot(root=ImageFile(id="image", path=image, format="qcow2"))

    def driver(self) -> Hypervisor:
        return self._host.driver()

    def dies(self, driver: Hypervisor, guest: Guest) -> None:
        self._host.virsh("destroy", guest.name)

    @contextlib.contextmanager
    def elsewhere(self) -> Iterator[Hypervisor]:
        with private.host("elsewhere") as host:
            yield host.driver()

    def tap(self, port_id: str) -> None:
        self._ports = {tap_name(port_id): port_id}
        self._host.tap(tap_name(port_id))

    def cards(self, driver: Hypervisor, guest: Guest) -> set[str]:
        taps = {line.split()[0] for line in self._host.virsh("domiflist", guest.name).splitlines() if line.strip()}
        kept = {line.split()[0] for line in self._host.virsh("domiflist", "--inactive", guest.name).splitlines() if line.strip()}
        assert len(taps) == len(kept)
        xml = self._host.virsh("dumpxml", "--inactive", guest.name)
        return {port_id for tap, port_id in self._ports.items() if tap in xml}

    def definition(self, guest: Guest) -> object:
        return self._host.virsh("dumpxml", "--inactive", guest.name)

    def rescued(self, guest: Guest, *, stable: bool) -> None:
        xml = ElementTree.fromstring(self._host.virsh("dumpxml", guest.name))
        found = []
        for each in xml.iterfind("devices/disk"):
            source, target = each.find("source"), each.find("target")
            assert source is not None and target is not None
            path = Path(source.get("file", ""))
            booted = each.find("boot") is not None
            found.append((target.get("dev"), "/".join(path.parts[path.parts.index(guest.id) + 1 :]), booted))
        own = ["disk", "disk.eph0"]
        if stable:
            expected = [("vda", own[0], False), ("vdb", own[1], False), ("sda", "rescue/disk.config", False)]
            expected.append(("sdb", "rescue/disk", True))
        else:
            expected = [("vda", "rescue/disk", True), ("vdb", own[0], False), ("vdc", own[1], False)]
            expected.append(("sda", "rescue/disk.config", False))
        assert found == expected

    def stands_alone(self, guest: Guest, format: str) -> None:
        path = self._host.folder / "state" / "instances" / guest.id / "snapshot"
        said = subprocess.run(["qemu-img", "info", "--output=json", str(path)], capture_output=True, check=True).stdout
        found = json.loads(said)
        assert (found["format"], found["virtual-size"]) == (format, 1 << 30) and "backing-filename" not in found
        done = subprocess.run(["qemu-img", "check", "-q", str(path)], capture_output=True, check=False)
        assert done.returncode == 0, done.stderr

    def disks(self, guest: Guest) -> tuple[object, object]:
        home = self._host.folder / "state" / "instances" / guest.id
        root, ephemeral = ((home / name).stat() for name in ("disk", "disk.eph0"))
        return (root.st_ino, root.st_ctime_ns), ephemeral.st_ino


@pytest.fixture(scope="module")
def libvirt_host() -> Iterator[private.Host]:
    with private.host() as host:
        yield host


@pytest.fixture(params=["fake", pytest.param("libvirt", marks=pytest.mark.host)])
def kind(request: pytest.FixtureRequest, tmp_path: Path) -> Kind:
    if request.param == "fake":
        return Fake(tmp_path)
    return Libvirt(request.getfixturevalue("libvirt_host"))


@pytest.fixture
def driver(kind: Kind) -> Iterator[Hypervisor]:
    made = kind.driver()
    yield made
    made.close()
    last = kind.driver()
    last.purge()
    assert last.guests() == {}
    last.close()


@pytest.fixture
def new_guest() -> Callable[..., Guest]:
    count = iter(range(1, 1000))

    def make(**values: object) -> Guest:
        given = {"vcpus": 1, "ram_mb": 64, "root_gb": 1, "name": f"instance-{next(count):08x}", **values}
        return Guest(id=clock.uuid4(), **given)  # type: ignore[arg-type]

    return make


def ignore(mark: str) -> None:
    pass


def test_a_create_passes_its_marks_and_ends_running(
    driver: Hypervisor, kind: Kind, new_guest: Callable[..., Guest]
) -> None:
    plain, with_drive = new_guest(), new_guest(config_drive=True)
    for guest, expected in (
        (plain, ["disk", "domain", "running"]),
        (with_drive, ["disk", "config drive", "domain", "running"]),
    ):
        marks: list[str] = []
        driver.create(guest, kind.boot, marks.append)
        assert marks == expected
    assert driver.guests() == {plain.id: Power.RUNNING, with_drive.id: Power.RUNNING}


def test_a_create_again_does_nothing_more(driver: Hypervisor, kind: Kind, new_guest: Callable[..., Guest]) -> None:
    guest = new_guest()
    driver.create(guest, kind.boot, ignore)
    marks: list[str] = []
    driver.create(guest, kind.boot, marks.append)
    assert marks == ["running"]
    assert driver.guests() == {guest.id: Power.RUNNING}


def test_a_rebuild_gives_up_the_old_disk_and_keeps_the_guest(
    driver: Hypervisor, kind: Kind, new_guest: Callable[..., Guest]
) -> None:
    guest = new_guest(ephemeral_gb=1)
    driver.create(guest, kind.boot, ignore)
    first = kind.disks(guest)
    marks: list[str] = []
    driver.rebuild(guest, kind.boot, marks.append, keep_ephemeral=True, start=True)
    assert marks == ["disk removed", "disk", "domain", "running"]
    second = kind.disks(guest)
    assert second[0] != first[0] and second[1] == first[1]
    assert driver.guests() == {guest.id: Power.RUNNING}
    driver.stop(guest.id, timeout=0)
    for again in (1, 2):
        marks.clear()
        driver.rebuild(guest, kind.boot, marks.append, keep_ephemeral=False, start=False)
        assert marks == ["disk removed", "disk", "domain"], again
        assert driver.guests() == {guest.id: Power.SHUTDOWN}
    driver.start(guest.id)
    driver.destroy(guest.id)
    driver.rebuild(guest, kind.boot, ignore, keep_ephemeral=False, start=True)
    assert driver.guests() == {guest.id: Power.RUNNING}


@pytest.mark.parametrize("properties", [{}, {"hw_rescue_device": "disk", "hw_rescue_bus": "scsi"}])
def test_a_guest_in_rescue_has_its_own_disks_beside(
    driver: Hypervisor, kind: Kind, new_guest: Callable[..., Guest], properties: dict[str, str]
) -> None:
    guest = new_guest(ephemeral_gb=1, config_drive=True)
    driver.create(guest, kind.boot, ignore)
    before = kind.definition(guest)
    for first in (True, False):
        marks: list[str] = []
        driver.rescue(guest, kind.boot, marks.append, properties=properties, timeout=0.1)
        assert marks == (["disk", "domain", "running"] if first else ["running"])
        assert driver.guests() == {guest.id: Power.RUNNING}
    kind.rescued(guest, stable=bool(properties))
    driver.stop(guest.id, timeout=0)
    driver.rescue(guest, kind.boot, ignore, properties=properties, timeout=0.1)
    assert driver.guests() == {guest.id: Power.RUNNING}
    for _ in range(2):
        driver.unrescue(guest.id, start=False)
        assert driver.guests() == {guest.id: Power.SHUTDOWN}
    assert kind.definition(guest) == before
    driver.rescue(guest, kind.boot, ignore, properties=properties, timeout=0.1)
    for _ in range(2):
        driver.unrescue(guest.id, start=True)
        assert driver.guests() == {guest.id: Power.RUNNING}
    driver.rescue(guest, kind.boot, ignore, properties=properties, timeout=0.1)
    driver.destroy(guest.id)
    assert driver.leftovers(set()) == []
    with pytest.raises(HostFault, match=guest.id):
        driver.rescue(guest, kind.boot, ignore, properties=properties, timeout=0.1)


def test_a_guest_without_an_agent_takes_no_password_but_an_interrupt(
    driver: Hypervisor, kind: Kind, new_guest: Callable[..., Guest]
) -> None:
    guest = new_guest()
    driver.create(guest, kind.boot, ignore)
    with pytest.raises(HostFault, match="agent"):
        driver.set_password(guest.id, "root", "secret")
    driver.interrupt(guest.id)
    assert driver.guests() == {guest.id: Power.RUNNING}
    driver.stop(guest.id, timeout=0)
    with pytest.raises(HostFault, match=guest.id):
        driver.interrupt(guest.id)


def test_a_snapshot_stands_alone_and_the_guest_goes_on(
    driver: Hypervisor, kind: Kind, new_guest: Callable[..., Guest]
) -> None:
    guest = new_guest(ephemeral_gb=1)
    driver.create(guest, kind.boot, ignore)
    for power, change in ((Power.RUNNING, None), (Power.PAUSED, driver.pause), (Power.SUSPENDED, driver.suspend)):
        if change is not None:
            driver.start(guest.id)
            change(guest.id)
        for _ in range(2):
            part = driver.snapshot(guest.id)
            whole = driver.piece(guest.id, part.name, 0, part.size)
            assert len(whole) == part.size and driver.guests() == {guest.id: power}
            kind.stands_alone(guest, part.format)
            assert driver.piece(guest.id, part.name, 2, 4) == whole[2:6]
    driver.start(guest.id)
    driver.stop(guest.id, timeout=0)
    driver.snapshot(guest.id)
    assert driver.guests() == {guest.id: Power.SHUTDOWN}
    for _ in range(2):
        driver.drop_snapshot(guest.id)
    driver.start(guest.id)
    driver.snapshot(guest.id)
    driver.destroy(guest.id)
    driver.drop_snapshot(guest.id)
    assert driver.leftovers(set()) == []
    with pytest.raises(HostFault, match=guest.id):
        driver.snapshot(guest.id)


def test_power_goes_off_and_on(driver: Hypervisor, kind: Kind, new_guest: Callable[..., Guest]) -> None:
    guest = new_guest()
    driver.create(guest, kind.boot, ignore)
    for _ in range(2):
        driver.stop(guest.id, timeout=0)
        assert driver.guests() == {guest.id: Power.SHUTDOWN}
    for _ in range(2):
        driver.start(guest.id)
        assert driver.guests() == {guest.id: Power.RUNNING}
    driver.reboot(guest.id, hard=True)
    assert driver.guests() == {guest.id: Power.RUNNING}
    driver.stop(guest.id, timeout=0)
    driver.reboot(guest.id, hard=True)
    assert driver.guests() == {guest.id: Power.RUNNING}


def test_a_guest_is_paused_and_suspended_and_goes_on(
    driver: Hypervisor, kind: Kind, new_guest: Callable[..., Guest]
) -> None:
    guest = new_guest()
    driver.create(guest, kind.boot, ignore)
    for change, power in ((driver.pause, Power.PAUSED), (driver.suspend, Power.SUSPENDED)):
        for _ in range(2):
            change(guest.id)
            assert driver.guests() == {guest.id: power}
        driver.start(guest.id)
        assert driver.guests() == {guest.id: Power.RUNNING}
    driver.suspend(guest.id)
    driver.reboot(guest.id, hard=True)
    assert driver.guests() == {guest.id: Power.RUNNING}
    driver.stop(guest.id, timeout=0)
    with pytest.raises(HostFault, match=guest.id):
        driver.pause(guest.id)


def test_a_card_is_plugged_while_the_guest_runs_and_stays_plugged(
    driver: Hypervisor, kind: Kind, new_guest: Callable[..., Guest]
) -> None:
    guest = new_guest()
    driver.create(guest, kind.boot, ignore)
    nic = Nic(port_id=clock.uuid4(), mac="fa:16:3e:12:34:56", mtu=1450)
    kind.tap(nic.port_id)
    for _ in range(2):
        driver.plug(guest.id, nic)
        assert kind.cards(driver, guest) == {nic.port_id}
    driver.reboot(guest.id, hard=True)
    assert kind.cards(driver, guest) == {nic.port_id}
    driver.stop(guest.id, timeout=0)
    for _ in range(2):
        driver.unplug(guest.id, nic.port_id)
        assert kind.cards(driver, guest) == set()
    driver.plug(guest.id, nic)
    driver.start(guest.id)
    assert kind.cards(driver, guest) == {nic.port_id}


def test_a_stop_that_the_guest_ignores_pulls_the_plug(
    driver: Hypervisor, kind: Kind, new_guest: Callable[..., Guest]
) -> None:
    guest = new_guest()
    driver.create(guest, kind.boot, ignore)
    driver.stop(guest.id, timeout=0.3)
    assert driver.guests() == {guest.id: Power.SHUTDOWN}


class Source:
    """The parts of a guest that is set aside by a driver, counted."""

    def __init__(self, driver: Hypervisor, guest_id: str) -> None:
        self._driver, self._guest_id = driver, guest_id
        self.asked: list[str] = []

    def parts(self) -> tuple[Part, ...]:
        return self._driver.parts(self._guest_id)

    def piece(self, name: str, offset: int, length: int) -> bytes:
        self.asked.append(name)
        return self._driver.piece(self._guest_id, name, offset, length)


def test_a_guest_is_set_aside_received_larger_and_comes_back(
    driver: Hypervisor, kind: Kind, new_guest: Callable[..., Guest]
) -> None:
    guest = new_guest(config_drive=True, ephemeral_gb=1)
    driver.create(guest, kind.boot, ignore)
    for _ in range(2):
        driver.leave(guest.id, timeout=0)
        assert driver.guests() == {}
        assert driver.leftovers(set(), {guest.id}) == [] and driver.leftovers({guest.id})
    before = {part.name: part for part in driver.parts(guest.id)}
    assert all(part.size >= sum(length for _, length in part.extents) for part in before.values())
    larger = msgspec.structs.replace(guest, root_gb=2, ephemeral_gb=2, ram_mb=96)
    marks: list[str] = []
    driver.receive(larger, Boot(), Source(driver, guest.id), marks.append, start=True)
    assert marks == ["disk", "domain", "running"] and driver.guests() == {guest.id: Power.RUNNING}
    again = Source(driver, guest.id)
    driver.receive(larger, Boot(), again, ignore, start=True)
    assert not again.asked and driver.guests() == {guest.id: Power.RUNNING}
    with pytest.raises(HostFault, match="already"):
        driver.leave(guest.id, timeout=0)
    assert driver.guests() == {guest.id: Power.RUNNING}
    with pytest.raises(HostFault, match=guest.id):
        driver.come_back(guest.id, start=True)
    driver.destroy(guest.id)
    assert {part.name: part for part in driver.parts(guest.id)} == before
    for _ in range(2):
        driver.come_back(guest.id, start=True)
        assert driver.guests() == {guest.id: Power.RUNNING}
    assert not {part.name for part in driver.parts(guest.id)} & {"disk", "disk.eph0", "guest"}, "what changes stays"
    driver.leave(guest.id, timeout=0)
    for _ in range(2):
        driver.forget(guest.id)
        assert driver.leftovers(set()) == []
    with pytest.raises(HostFault, match=guest.id):
        driver.leave(guest.id, timeout=0)


def test_a_guest_that_was_off_is_received_and_stays_off(
    driver: Hypervisor, kind: Kind, new_guest: Callable[..., Guest]
) -> None:
    guest = new_guest()
    driver.create(guest, kind.boot, ignore)
    driver.stop(guest.id, timeout=0)
    driver.leave(guest.id, timeout=0)
    driver.receive(guest, kind.boot, Source(driver, guest.id), ignore, start=False)
    assert driver.guests() == {guest.id: Power.SHUTDOWN}
    driver.start(guest.id)
    assert driver.guests() == {guest.id: Power.RUNNING}


def test_a_guest_moves_while_it_runs(driver: Hypervisor, kind: Kind, new_guest: Callable[..., Guest]) -> None:
    guest = new_guest(config_drive=True, ephemeral_gb=1, swap_mb=8)
    driver.create(guest, kind.boot, ignore)
    with kind.elsewhere() as other:
        for boot in (kind.boot, Boot()):
            expected = other.expect(guest, boot, Source(driver, guest.id))
            with pytest.raises(HostFault, match=guest.id):
                driver.send(guest.id, expected.home, lambda progress: None)
            assert driver.guests() == {guest.id: Power.RUNNING}
            other.destroy(guest.id)
            assert other.guests() == {} and other.leftovers(set()) == []
        expected = other.expect(guest, kind.boot, Source(driver, guest.id))
        for name, door in driver.doors(guest.id).items():
            door.symlink_to(expected.channels[name])
        for _ in range(2):
            driver.send(guest.id, expected.home, lambda progress: None)
            assert driver.guests() == {} and other.guests() == {guest.id: Power.RUNNING}
        driver.destroy(guest.id)
        assert driver.leftovers(set()) == []
        other.reboot(guest.id, hard=True)
        assert other.guests() == {guest.id: Power.RUNNING}
        with pytest.raises(HostFault, match=guest.id):
            driver.hurry(guest.id)
        driver.abort(guest.id)
        other.pause(guest.id)
        back = driver.expect(guest, Boot(), Source(other, guest.id))
        for name, door in other.doors(guest.id).items():
            door.symlink_to(back.channels[name])
        other.send(guest.id, back.home, lambda progress: None)
        assert driver.guests() == {guest.id: Power.PAUSED} and other.guests() == {}
        driver.start(guest.id)
        assert driver.guests() == {guest.id: Power.RUNNING}
        other.destroy(guest.id)
        assert other.leftovers(set()) == []


def test_destroy_leaves_nothing_and_may_be_repeated(
    driver: Hypervisor, kind: Kind, new_guest: Callable[..., Guest]
) -> None:
    guest = new_guest(config_drive=True)
    driver.create(guest, kind.boot, ignore)
    driver.destroy(guest.id)
    assert driver.guests() == {}
    assert driver.leftovers(set()) == []
    driver.destroy(guest.id)
    driver.destroy(clock.uuid4())


def test_guests_outlive_the_driver(driver: Hypervisor, kind: Kind, new_guest: Callable[..., Guest]) -> None:
    running, off = new_guest(), new_guest()
    for guest in (running, off):
        driver.create(guest, kind.boot, ignore)
    driver.stop(off.id, timeout=0)
    log = driver.console_log(running.id)
    driver.close()
    again = kind.driver()
    try:
        assert again.guests() == {running.id: Power.RUNNING, off.id: Power.SHUTDOWN}
        assert again.console_log(running.id).startswith(log)
        again.destroy(running.id)
        assert again.guests() == {off.id: Power.SHUTDOWN}
    finally:
        again.close()


def test_what_the_cloud_does_not_know_is_left_over(
    driver: Hypervisor, kind: Kind, new_guest: Callable[..., Guest]
) -> None:
    known, stray = new_guest(), new_guest()
    for guest in (known, stray):
        driver.create(guest, kind.boot, ignore)
    found = driver.leftovers({known.id})
    assert ("domain", stray.name) in [(kind, name) for kind, name, _ in found]
    assert all(stray.id in why for _, _, why in found)
    assert driver.leftovers({known.id, stray.id}) == []


def test_a_guest_that_is_not_there_is_a_fault_that_names_it(driver: Hypervisor) -> None:
    guest_id = clock.uuid4()
    calls: list[Callable[[], object]] = [
        lambda: driver.start(guest_id),
        lambda: driver.stop(guest_id, timeout=1),
        lambda: driver.reboot(guest_id, hard=False),
        lambda: driver.pause(guest_id),
        lambda: driver.suspend(guest_id),
        lambda: driver.console_log(guest_id),
        lambda: driver.set_password(guest_id, "root", "secret"),
        lambda: driver.interrupt(guest_id),
    ]
    for call in calls:
        with pytest.raises(HostFault, match=guest_id):
            call()


def test_a_guest_that_stops_by_itself_is_reported(
    driver: Hypervisor, kind: Kind, new_guest: Callable[..., Guest]
) -> None:
    seen: list[tuple[str, Power]] = []
    came = threading.Event()

    def changed(guest_id: str, power: Power) -> None:
        seen.append((guest_id, power))
        if power is Power.SHUTDOWN:
            came.set()

    driver.watch(changed)
    guest = new_guest()
    driver.create(guest, kind.boot, ignore)
    kind.dies(driver, guest)
    assert came.wait(10)
    assert seen == [(guest.id, Power.RUNNING), (guest.id, Power.SHUTDOWN)]


def test_a_reboot_reports_no_state_on_its_way(driver: Hypervisor, kind: Kind, new_guest: Callable[..., Guest]) -> None:
    guest = new_guest()
    driver.create(guest, kind.boot, ignore)
    seen: list[Power] = []
    driver.watch(lambda _, power: seen.append(power))
    driver.reboot(guest.id, hard=True)
    driver.reboot(guest.id, hard=False, timeout=0.3)
    time.sleep(0.3)
    assert set(seen) <= {Power.RUNNING}


def test_many_guests_at_once(driver: Hypervisor, kind: Kind, new_guest: Callable[..., Guest]) -> None:
    guests = [new_guest() for _ in range(4)]
    threads = [threading.Thread(target=driver.create, args=(guest, kind.boot, ignore)) for guest in guests]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert driver.guests() == {guest.id: Power.RUNNING for guest in guests}


def test_capacity_is_what_the_host_has(driver: Hypervisor) -> None:
    capacity = driver.capacity()
    assert capacity.vcpus >= 1
    assert capacity.ram_mb >= 512
    assert capacity.disk_gb >= 1
    assert capacity.hypervisor_type
    assert capacity.hypervisor_version > 0
    assert capacity.cpu_info["arch"] == "x86_64"


def test_the_consoles_last_bytes(driver: Hypervisor, kind: Kind, new_guest: Callable[..., Guest]) -> None:
    guest = new_guest()
    driver.create(guest, kind.boot, ignore)
    if isinstance(driver, FakeHypervisor):
        whole = driver.console_log(guest.id)
        assert len(whole.splitlines()) >= 10
        assert driver.console_log(guest.id, limit=20) == whole[-20:]
        driver.reboot(guest.id, hard=True)
        assert driver.console_log(guest.id).startswith(whole)
    assert driver.console_log(guest.id, limit=0) == b""
