"""The libvirt driver when things go wrong: kills, restarts, strangers, and what libvirt refuses."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest

from nephos.agent.patience import patiently
from nephos.errors import HostFault
from nephos.hypervisor import daemon
from nephos.hypervisor.base import Boot, Guest, HypervisorAway, ImageFile, Nic, Power
from nephos.hypervisor.libvirt import LibvirtHypervisor
from nephos.kernel import clock
from tests.hypervisor import private

pytestmark = pytest.mark.host

KILLED_AT = """
import os, signal, sys
from pathlib import Path
import msgspec
from nephos.hypervisor.base import Boot, Guest
from nephos.hypervisor.libvirt import LibvirtHypervisor

socket, state, mark, guest, boot = sys.argv[1:]

def note(passed):
    if passed == mark:
        os.kill(os.getpid(), signal.SIGKILL)

driver = LibvirtHypervisor(Path(socket), state_dir=Path(state), cloud_id="cloud-a", acceleration="tcg")
driver.create(msgspec.json.decode(guest, type=Guest), msgspec.json.decode(boot, type=Boot, dec_hook=lambda t, v: t(v)), note)
"""


@pytest.fixture(scope="module")
def host() -> Iterator[private.Host]:
    with private.host() as made:
        image = made.folder / "image.qcow2"
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(image), "8M"], check=True)
        yield made


@pytest.fixture
def boot(host: private.Host) -> Boot:
    return Boot(root=ImageFile(id="image", path=host.folder / "image.qcow2", format="qcow2"))


@pytest.fixture
def driver(host: private.Host) -> Iterator[LibvirtHypervisor]:
    made = host.driver()
    yield made
    made.purge()
    made.close()


def guest(number: int = 1, **values: Any) -> Guest:
    given = {"id": clock.uuid4(), "name": f"instance-{number:08x}", "vcpus": 1, "ram_mb": 64, "root_gb": 1, **values}
    return Guest(**given)


def ignore(mark: str) -> None:
    pass


def eventually(true: Callable[[], bool], seconds: float = 15) -> None:
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until
        time.sleep(0.05)


def qemu_pids(guest_id: str) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if words[0].endswith(b"qemu-system-x86_64") and guest_id.encode() in words:
            found.append(int(path.parent.name))
    return found


@pytest.mark.parametrize("mark", ["disk", "config drive", "domain", "running"])
def test_a_create_that_was_killed_is_finished_by_the_next(
    host: private.Host, driver: LibvirtHypervisor, boot: Boot, mark: str
) -> None:
    made = guest(config_drive=True)
    encode = msgspec.json.Encoder(enc_hook=str).encode
    words = [str(host.daemon.socket), str(host.folder / "state"), mark, encode(made).decode(), encode(boot).decode()]
    killed = subprocess.run([sys.executable, "-c", KILLED_AT, *words], check=False, timeout=60, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    driver.create(made, boot, ignore)
    assert driver.guests() == {made.id: Power.RUNNING}
    assert len(qemu_pids(made.id)) == 1
    assert driver.leftovers({made.id}) == []
    driver.destroy(made.id)
    assert driver.leftovers(set()) == []
    eventually(lambda: qemu_pids(made.id) == [])


def test_libvirts_words_come_whole_and_the_half_made_guest_can_be_finished(
    host: private.Host, driver: LibvirtHypervisor, boot: Boot
) -> None:
    made = guest(nics=(Nic(port_id="ffffffff-ff00-4000-8000-000000000000", mac="fa:16:3e:00:00:01"),))
    with pytest.raises(HostFault, match=rf"cannot create guest {made.id} \(its taps: tapffffffff-ff\): .*dev doesn't exist"):
        driver.create(made, boot, ignore)
    host.tap("tapffffffff-ff")
    driver.create(made, boot, ignore)
    assert driver.guests() == {made.id: Power.RUNNING}


def destroyed(host: private.Host, name: str) -> bool:
    try:
        host.virsh("destroy", name)
    except subprocess.CalledProcessError:
        return False
    return True


def test_guests_go_on_and_the_driver_comes_back_when_libvirtd_restarts(
    host: private.Host, driver: LibvirtHypervisor, boot: Boot
) -> None:
    made = guest()
    driver.create(made, boot, ignore)
    seen: list[Power] = []
    off = threading.Event()

    def changed(guest_id: str, power: Power) -> None:
        seen.append(power)
        if power is Power.SHUTDOWN:
            off.set()

    driver.watch(changed)
    before = qemu_pids(made.id)
    daemon.stop(host.daemon)
    with pytest.raises(HypervisorAway, match="cannot list guests"):
        driver.guests()
    # what is asked of it meanwhile is done when it is back
    with ThreadPoolExecutor() as threads:
        paused = threads.submit(patiently, lambda: driver.pause(made.id), threading.Event())
        assert qemu_pids(made.id) == before
        assert host.start().said.startswith("started a libvirtd")
        paused.result()
    driver.start(made.id)
    assert qemu_pids(made.id) == before
    assert driver.guests() == {made.id: Power.RUNNING}
    assert host.start().said.startswith("using this cloud's own libvirtd")
    pid = int((host.folder / "libvirt" / "libvirtd.pid").read_text())
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text())
    host.start()
    assert driver.guests() == {made.id: Power.RUNNING}
    assert qemu_pids(made.id) == before
    # The event comes over the connection that was opened meanwhile, without any call having asked for it.
    # libvirt refuses while it is still taking its guests over again.
    eventually(lambda: destroyed(host, made.name))
    assert off.wait(15)
    assert seen == [Power.PAUSED, Power.RUNNING, Power.SHUTDOWN]


def test_what_happened_while_libvirtd_was_away_is_reported_after(
    host: private.Host, driver: LibvirtHypervisor, boot: Boot
) -> None:
    made = guest()
    driver.create(made, boot, ignore)
    gone = threading.Event()
    driver.watch(lambda guest_id, power: gone.set() if power is not Power.RUNNING else None)
    daemon.stop(host.daemon)
    (pid,) = qemu_pids(made.id)
    os.kill(pid, signal.SIGKILL)
    host.start()
    assert gone.wait(15)
    assert driver.guests()[made.id] in (Power.CRASHED, Power.SHUTDOWN)


def test_another_clouds_guests_do_not_exist(host: private.Host, driver: LibvirtHypervisor, boot: Boot) -> None:
    other = host.driver(cloud_id="cloud-b", state="other")
    theirs = guest(7)
    other.create(theirs, boot, ignore)
    stranger = clock.uuid4()
    host.virsh("define", str(plain_domain(host.folder, stranger)))
    try:
        assert driver.guests() == {}
        assert driver.leftovers(set()) == []
        driver.destroy(theirs.id)
        driver.destroy(stranger)
        driver.purge()
        assert other.guests() == {theirs.id: Power.RUNNING}
        with pytest.raises(HostFault, match="is not on this host"):
            driver.stop(theirs.id, timeout=0)
        for taken in (guest(7), guest(id=theirs.id), guest(id=stranger)):
            with pytest.raises(HostFault, match="exists and is not this guest"):
                driver.create(taken, boot, ignore)
        assert other.guests() == {theirs.id: Power.RUNNING}
        assert stranger in host.virsh("list", "--all", "--uuid")
    finally:
        other.purge()
        host.virsh("undefine", stranger)


def plain_domain(folder: Path, uuid: str) -> Path:
    path = folder / "stranger.xml"
    path.write_text(
        f"<domain type='qemu'><name>stranger</name><uuid>{uuid}</uuid><memory unit='MiB'>64</memory>"
        "<os><type arch='x86_64'>hvm</type></os></domain>"
    )
    return path


def test_leftover_files_are_named(driver: LibvirtHypervisor, host: private.Host) -> None:
    stray = host.folder / "state" / "instances" / clock.uuid4()
    stray.mkdir()
    assert driver.leftovers(set()) == [("file", str(stray), f"guest {stray.name} is not known to the cloud")]
    driver.destroy(stray.name)
    assert not stray.exists()


def test_a_guest_with_every_kind_of_disk_starts(driver: LibvirtHypervisor, boot: Boot) -> None:
    made = guest(ephemeral_gb=1, swap_mb=64, config_drive=True, properties={"hw_disk_bus": "scsi"})
    driver.create(made, boot, ignore)
    other = guest(2, config_drive=True, properties={"hw_machine_type": "pc", "hw_cdrom_bus": "virtio"})
    driver.create(other, boot, ignore)
    assert set(driver.guests().values()) == {Power.RUNNING}
