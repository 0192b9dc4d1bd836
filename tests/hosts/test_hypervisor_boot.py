"""A real guest under libvirt: it boots, reads its config drive, keeps its console log, and minds the power button."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nephos.hypervisor.base import Guest, Nic, Power
from nephos.hypervisor.libvirt import LibvirtHypervisor
from nephos.kernel import clock
from tests.hypervisor import private

pytestmark = pytest.mark.host

PORT = "0a1b2c3d-4e00-4000-8000-000000000000"
READY = b"guest: ready"
BOOT_SECONDS = 120.0
FILES = {
    "openstack/latest/meta_data.json": b'{"uuid": "a-uuid", "hostname": "web.nephos.local", "name": "web"}',
    "openstack/latest/user_data": b"#!/bin/sh\necho the script ran on $(hostname)\n",
}


@pytest.fixture(scope="module")
def host() -> Iterator[private.Host]:
    with private.host() as made:
        made.tap("tap0a1b2c3d-4e")
        yield made


def wait_for(driver: LibvirtHypervisor, guest_id: str, text: bytes, times: int = 1) -> bytes:
    until = time.monotonic() + BOOT_SECONDS
    while (log := driver.console_log(guest_id)).count(text) < times:
        assert time.monotonic() < until, log[-4000:].decode(errors="replace")
        time.sleep(0.1)
    return log


def cached_file_modes(folder: Path) -> dict[str, tuple[int, int]]:
    return {path.name: (path.stat().st_uid, path.stat().st_mode) for path in folder.iterdir() if path.is_file()}


def test_a_guest_boots_and_lives(host: private.Host) -> None:
    boot, image = private.small_guest()
    boot = type(boot)(root=boot.root, kernel=boot.kernel, ramdisk=boot.ramdisk, config_drive_files=FILES)
    guest = Guest(
        id=clock.uuid4(),
        name="instance-0000002a",
        vcpus=2,
        ram_mb=192,
        root_gb=1,
        nics=(Nic(port_id=PORT, mac="fa:16:3e:0a:1b:2c", mtu=1400),),
        config_drive=True,
        properties={"os_command_line": image.command_line.replace("quiet", "")},
        details={"name": "web <&> ünï\x01", "project_id": "p"},
    )
    before = cached_file_modes(private.IMAGE)
    driver = host.driver()
    marks: dict[str, float] = {}
    began = time.monotonic()
    driver.create(guest, boot, lambda mark: marks.__setitem__(mark, time.monotonic() - began))
    print({mark: round(seconds, 3) for mark, seconds in marks.items()})
    assert marks["running"] < 5  # 0.4 s on an idle machine

    log = wait_for(driver, guest.id, b"user data script ended: exit 0")
    assert b"Linux version" in log[:200]
    assert b"the script ran on web" in log
    assert b"DMI: Nephos Nephos" in log
    assert cached_file_modes(private.IMAGE) == before, "the image cache's files are root's alone"

    tap = host.virsh("domiflist", guest.name)
    assert "tap0a1b2c3d-4e" in tap and "fa:16:3e:0a:1b:2c" in tap
    with socket.socket(socket.AF_UNIX) as screen:
        screen.settimeout(10)
        screen.connect(str(driver.vnc_socket(guest.id)))
        assert screen.recv(3) == b"RFB"

    driver.stop(guest.id, timeout=60)
    assert driver.guests()[guest.id] is Power.SHUTDOWN
    log = driver.console_log(guest.id)
    assert re.search(rb"reboot: Power down", log), "the guest saw the button and shut down itself"

    driver.start(guest.id)
    log = wait_for(driver, guest.id, READY, times=2)
    assert log.count(b"Linux version") == 2, "the first boot's log is still there"
    assert log.count(b"the script ran") == 1, "the instance id is the same, so user data ran once"
    driver.reboot(guest.id, hard=False, timeout=60)
    assert driver.guests()[guest.id] is Power.RUNNING
    assert driver.console_log(guest.id).count(b"Power down") == 2
    assert len(driver.console_log(guest.id, limit=100)) == 100
    driver.destroy(guest.id)
    assert driver.guests() == {}
    assert list((host.folder / "state" / "instances").iterdir()) == []
    assert "tap0a1b2c3d-4e" in host.taps(), "the tap is the wiring's"
