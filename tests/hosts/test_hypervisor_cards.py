"""A card that comes to a real guest while it runs, and goes again."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from nephos.hypervisor.base import Guest, Nic
from nephos.kernel import clock
from tests.hypervisor import private

pytestmark = pytest.mark.host
FIRST, SECOND = "0a1b2c3d-4e00-4000-8000-000000000000", "5f6a7b8c-9d00-4000-8000-000000000000"


@pytest.fixture(scope="module")
def host() -> Iterator[private.Host]:
    with private.host() as made:
        made.tap("tap0a1b2c3d-4e")
        made.tap("tap5f6a7b8c-9d")
        yield made


def test_a_running_guest_takes_a_card_and_lets_it_go(host: private.Host) -> None:
    boot, image = private.small_guest()
    guest = Guest(
        id=clock.uuid4(),
        name="instance-0000002b",
        vcpus=1,
        ram_mb=192,
        root_gb=1,
        nics=(Nic(port_id=FIRST, mac="fa:16:3e:0a:1b:2c"),),
        properties={"os_command_line": image.command_line},
    )
    driver = host.driver()
    driver.create(guest, boot, lambda mark: None)
    until = time.monotonic() + 120
    while b"guest: ready" not in driver.console_log(guest.id):
        assert time.monotonic() < until, driver.console_log(guest.id)[-3000:].decode(errors="replace")
        time.sleep(0.2)
    began = time.monotonic()
    driver.plug(guest.id, Nic(port_id=SECOND, mac="fa:16:3e:0a:1b:2d", mtu=1400))
    assert "tap5f6a7b8c-9d" in host.virsh("domiflist", guest.name)
    plugged = time.monotonic()
    driver.unplug(guest.id, SECOND)
    print({"plug": round(plugged - began, 3), "unplug": round(time.monotonic() - plugged, 3)})
    for inactive in ([], ["--inactive"]):
        cards = host.virsh("domiflist", *inactive, guest.name)
        assert "tap5f6a7b8c-9d" not in cards and "tap0a1b2c3d-4e" in cards
    assert "tap5f6a7b8c-9d" in host.taps(), "the wiring's tap is not the guest's to remove"
    driver.destroy(guest.id)
