"""The whole product on one machine: `nephos up`, then the demo to a log-in, with a real guest (issue: first light)."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator

import pytest

from tests.cloud import RunningCloud, wait_for

pytestmark = pytest.mark.host


@pytest.fixture(scope="module")
def cloud() -> Iterator[RunningCloud]:
    with RunningCloud(hypervisor="libvirt") as running:
        yield running


@pytest.fixture(scope="module")
def demo(cloud: RunningCloud) -> dict[str, object]:
    """What `nephos demo` says when it succeeded: exit 0 only after a log-in through the floating IP."""
    result: dict[str, object] = json.loads(cloud.nephos("demo", "--json", "--listen", f"127.0.0.1:{cloud.port}"))
    return result


def test_demo_logs_in_through_the_floating_ip(demo: dict[str, object]) -> None:
    said = str(demo["said"])
    assert said.splitlines()[0] == "demo"
    assert "load average" in said
    assert str(demo["address"]).startswith("172.24.4.")


def test_timeline_names_every_step(demo: dict[str, object], cloud: RunningCloud) -> None:
    connection = cloud.connect("demo")

    def events() -> set[str]:
        action = next(
            each for each in connection.compute.server_actions(str(demo["server"])) if each.action == "create"
        )
        shown = connection.compute.get_server_action(action.request_id, str(demo["server"]))
        return {event.event for event in shown.events}

    wanted = {
        "filters",
        "claim",
        "port",
        "address",
        "image cached",
        "disk",
        "domain",
        "plugged",
        "running",
        "address taken",
        "metadata served",
    }
    wait_for(lambda: wanted <= events(), 20, f"events {wanted - events()}")


def test_server_is_not_root_and_agent_is(cloud: RunningCloud) -> None:
    uids = {process["role"]: process["uid"] for process in cloud.status()["processes"]}
    assert uids["server"] != 0
    assert uids["agent"] == 0


def test_nothing_is_left_over(demo: dict[str, object], cloud: RunningCloud) -> None:
    assert cloud.audit() == []


def test_console_log_from_the_first_byte(demo: dict[str, object], cloud: RunningCloud) -> None:
    log = cloud.openstack("console", "log", "show", "demo")
    assert log.lstrip().startswith("guest: ready"), "the kernel is quiet, so the guest's own first line is the first"


def test_address_in_the_ledger_and_address_taken_agree(demo: dict[str, object], cloud: RunningCloud) -> None:
    connection = cloud.connect("demo")
    port = next(iter(connection.network.ports(device_id=str(demo["server"]))))
    server = connection.compute.get_server(str(demo["server"]))
    fixed = [each["addr"] for each in server.addresses["private"] if each["OS-EXT-IPS:type"] == "fixed"]
    assert fixed == [port.fixed_ips[0]["ip_address"]]


def test_guest_survives_down_and_up(demo: dict[str, object], cloud: RunningCloud) -> None:
    namespace = cloud.namespace
    before = guest_uptime(cloud, demo)
    cloud.nephos("down")
    ping = subprocess.run(["ip", "netns", "exec", namespace, "ping", "-c1", "-W5", str(demo["address"])], check=False)
    assert ping.returncode == 0, "the guest must answer while server and agent are away"
    cloud.up()
    cloud.hosts_up(1)
    assert guest_uptime(cloud, demo) > before
    assert cloud.connect("demo").compute.get_server(str(demo["server"])).status == "ACTIVE"


def test_stop_start_reboot(demo: dict[str, object], cloud: RunningCloud) -> None:
    connection = cloud.connect("demo")
    server = connection.compute.get_server(str(demo["server"]))
    connection.compute.stop_server(server)
    connection.compute.wait_for_server(server, status="SHUTOFF", wait=90, interval=0.2)
    connection.compute.start_server(server)
    connection.compute.wait_for_server(server, status="ACTIVE", wait=60, interval=0.2)
    wait_for(lambda: answers(cloud, demo), 90, "log-in after a start")
    connection.compute.reboot_server(server, "HARD")
    connection.compute.wait_for_server(server, status="ACTIVE", wait=60, interval=0.2)
    wait_for(lambda: answers(cloud, demo), 90, "log-in after a reboot")


def test_what_the_disk_holds_goes_along(demo: dict[str, object], cloud: RunningCloud) -> None:
    """Into an image, through a rescue and onto a shelf; it is there again in a rebuild of that image, and only in that."""
    connection = cloud.connect("demo")
    compute, server = connection.compute, str(demo["server"])

    def reach(status: str) -> None:
        compute.wait_for_server(compute.get_server(server), status=status, failures=["ERROR"], wait=120, interval=0.2)

    def kept() -> str:
        wait_for(lambda: answers(cloud, demo), 120, "log-in")
        return in_guest(cloud, demo, "cat kept || true").strip()

    first = compute.get_server(server).image.id
    in_guest(cloud, demo, "echo whole > kept; sync")
    image = connection.compute.create_server_image(server, "kept", wait=True, timeout=120)
    assert compute.get_server(server).status == "ACTIVE" and image.status == "active" and image.disk_format == "qcow2"
    compute.rescue_server(server)
    reach("RESCUE")
    assert kept() == "" and "vdb" in in_guest(cloud, demo, "cat /proc/partitions")
    compute.unrescue_server(server)
    reach("ACTIVE")
    assert kept() == "whole"
    compute.shelve_server(server)
    reach("SHELVED_OFFLOADED")
    assert not (cloud.state / "agent" / "instances" / server).exists()
    compute.unshelve_server(server)
    reach("ACTIVE")
    assert kept() == "whole"
    for wanted, holds in ((image.id, "whole"), (first, "")):
        compute.rebuild_server(server, image=wanted)
        reach("ACTIVE")
        assert kept() == holds
    connection.image.delete_image(image.id)
    assert [each.name for each in connection.image.images(owner=connection.current_project_id)] == []


def test_delete_leaves_nothing(demo: dict[str, object], cloud: RunningCloud) -> None:
    connection = cloud.connect("demo")
    connection.compute.delete_server(str(demo["server"]))
    wait_for(lambda: not list(connection.compute.servers()), 30, "the server gone")
    wait_for(lambda: cloud.audit() == [], 20, "an audit without findings")
    assert ":port:" not in cloud.inside("ip", "-o", "link"), "no guest's tap, by its owner's mark"
    assert not list((cloud.state / "agent" / "instances").iterdir())


def guest_uptime(cloud: RunningCloud, demo: dict[str, object]) -> float:
    return float(in_guest(cloud, demo, "cut -d' ' -f1 /proc/uptime"))


def answers(cloud: RunningCloud, demo: dict[str, object]) -> bool:
    try:
        return in_guest(cloud, demo, "hostname").strip() == "demo"
    except AssertionError:
        return False


def in_guest(cloud: RunningCloud, demo: dict[str, object], command: str) -> str:
    options = [
        "-o",
        "StrictHostKeyChecking=no",
        "-o",
        "UserKnownHostsFile=/dev/null",
        "-o",
        "LogLevel=ERROR",
        "-o",
        "ConnectTimeout=3",
    ]
    return cloud.inside("ssh", "-i", str(cloud.state / "demo" / "id"), *options, f"cirros@{demo['address']}", command)
