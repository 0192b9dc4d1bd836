"""What the fake hypervisor promises beyond what every driver does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nephos.errors import HostFault
from nephos.hypervisor import fake
from nephos.hypervisor.base import Boot, Capacity, Guest, Power
from nephos.hypervisor.fake import FakeHypervisor
from nephos.kernel import clock

MARKS = ["disk", "config drive", "domain", "running"]


def guest(**details: str) -> Guest:
    return Guest(
        id=clock.uuid4(), name="instance-00000001", vcpus=1, ram_mb=64, root_gb=1, config_drive=True, details=details
    )


def ignore(mark: str) -> None:
    pass


@pytest.fixture
def driver(tmp_path: Path) -> FakeHypervisor:
    return FakeHypervisor(state_dir=tmp_path, cloud_id="cloud-a")


@pytest.mark.parametrize("mark", MARKS)
def test_a_guest_can_ask_to_fail_at_a_mark(driver: FakeHypervisor, mark: str) -> None:
    asking = guest(name=f"please fake-fail-{mark}")
    passed: list[str] = []
    with pytest.raises(HostFault, match=f"{asking.id}: {mark}: "):
        driver.create(asking, Boot(), passed.append)
    assert passed == MARKS[: MARKS.index(mark)]
    assert driver.guests() == {}


def test_a_guest_can_ask_to_stay(driver: FakeHypervisor, tmp_path: Path) -> None:
    staying = guest(name="fake-fail-destroy")
    driver.create(staying, Boot(), ignore)
    again = FakeHypervisor(state_dir=tmp_path, cloud_id="cloud-a")
    with pytest.raises(HostFault, match=staying.id):
        again.destroy(staying.id)
    assert again.guests() == {staying.id: Power.RUNNING}


def test_delays(tmp_path: Path) -> None:
    slow = FakeHypervisor(state_dir=tmp_path, cloud_id="cloud-a", delays={"domain": 0.2, "destroy": 0.1})
    made = guest()
    times: dict[str, float] = {}
    began = time.monotonic()
    slow.create(made, Boot(), lambda mark: times.__setitem__(mark, time.monotonic() - began))
    assert times["config drive"] < 0.2 <= times["domain"]
    began = time.monotonic()
    slow.destroy(made.id)
    assert time.monotonic() - began >= 0.1


def test_a_capacity_can_be_given(tmp_path: Path, driver: FakeHypervisor) -> None:
    assert driver.capacity() == fake.DEFAULT_CAPACITY
    small = Capacity(vcpus=1, ram_mb=2, disk_gb=3, hypervisor_type="fake", hypervisor_version=1)
    assert FakeHypervisor(state_dir=tmp_path / "small", cloud_id="cloud-a", capacity=small).capacity() == small


def test_guests_outlive_a_kill(tmp_path: Path) -> None:
    script = """
import os, signal, sys
from pathlib import Path
from nephos.hypervisor.base import Boot, Guest
from nephos.hypervisor.fake import FakeHypervisor
driver = FakeHypervisor(state_dir=Path(sys.argv[1]), cloud_id="cloud-a")
for number in range(100):
    driver.create(Guest(id=str(number), name="n", vcpus=1, ram_mb=1, root_gb=1), Boot(), lambda mark: None)
driver.destroy("7")
os.kill(os.getpid(), signal.SIGKILL)
"""
    killed = subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False, timeout=60)
    assert killed.returncode == -signal.SIGKILL
    log = tmp_path / "guests.log"
    with log.open("ab") as handle:
        handle.write(b'{"id":"torn","pow')
    driver = FakeHypervisor(state_dir=tmp_path, cloud_id="cloud-a")
    assert driver.guests().keys() == {str(number) for number in range(100)} - {"7"}
    last = guest()
    driver.create(last, Boot(), ignore)
    assert last.id in FakeHypervisor(state_dir=tmp_path, cloud_id="cloud-a").guests()


def test_the_log_does_not_grow_with_changes(driver: FakeHypervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fake, "_COMPACT_ABOVE", 10)
    made = guest()
    driver.create(made, Boot(), ignore)
    for _ in range(50):
        driver.stop(made.id, timeout=0)
        driver.become(made.id, Power.CRASHED)
    assert len((tmp_path / "guests.log").read_bytes().splitlines()) <= 12
    assert FakeHypervisor(state_dir=tmp_path, cloud_id="cloud-a").guests() == {made.id: Power.CRASHED}


def test_it_holds_no_file_open_and_is_fast(driver: FakeHypervisor) -> None:
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    guests = [guest() for _ in range(500)]
    began = time.process_time()
    for made in guests:
        driver.create(made, Boot(), ignore)
    spent = (time.process_time() - began) / len(guests)
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
    assert spent < 0.0005, f"a create took {spent * 1e6:.0f} µs of processor time; 10 µs on an idle machine"
