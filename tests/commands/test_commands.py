"""The commands that users type, as they type them, against a cloud of simulated hosts (rows of the command list)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cloud import RunningCloud, wait_for

pytestmark = pytest.mark.host


@pytest.fixture(scope="module")
def cloud() -> Iterator[RunningCloud]:
    with RunningCloud(hypervisor="fake", hosts=2) as running:
        running.hosts_up(2)
        yield running


@pytest.fixture(scope="module")
def image(cloud: RunningCloud, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Row 5: an image made from a file, public."""
    path = tmp_path_factory.mktemp("image") / "disk.qcow2"
    make_qcow2(path)
    words = [
        "image",
        "create",
        "cirros",
        "--file",
        str(path),
        "--disk-format",
        "qcow2",
        "--container-format",
        "bare",
        "--public",
    ]
    made = rows(cloud, *words, user="admin")
    assert made["status"] == "active"
    return str(made["id"])


def make_qcow2(path: Path) -> None:
    import subprocess

    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(path), "16M"], check=True)


def rows(cloud: RunningCloud, *words: str, user: str = "demo") -> Any:
    """A command's answer, as its own JSON."""
    return json.loads(cloud.openstack(*words, "-f", "json", user=user))


def names(listed: Any, column: str = "Name") -> set[str]:
    return {row[column] for row in listed}


def test_row_1_versions(cloud: RunningCloud) -> None:
    found = rows(cloud, "versions", "show", user="admin")
    assert {"identity", "compute", "image", "network", "placement"} <= {row["Service Type"] for row in found}


def test_rows_4_and_5_images(cloud: RunningCloud, image: str) -> None:
    assert "cirros" in names(rows(cloud, "image", "list"))


def test_rows_6_to_9_flavors(cloud: RunningCloud) -> None:
    stock = {"m1.tiny", "m1.small", "m1.medium", "m1.large", "m1.xlarge", "m1.nano", "m1.micro", "cirros256"}
    assert stock <= names(rows(cloud, "flavor", "list"))
    words = ["flavor", "create", "--id", "6", "--ram", "8192", "--disk", "80", "--vcpus", "4", "ssd.large"]
    assert rows(cloud, *words, user="admin")["id"] == "6"
    cloud.openstack("flavor", "set", "--property", "ssd=true", "ssd.large", user="admin")
    assert rows(cloud, "flavor", "show", "ssd.large", user="admin")["properties"] == {"ssd": "true"}


def test_rows_10_16_and_18_servers(cloud: RunningCloud, image: str) -> None:
    cloud.openstack(
        "server", "create", "--flavor", "1", "--image", image, "--network", "private", "--wait", "devstack_instance_1"
    )
    assert "devstack_instance_1" in names(rows(cloud, "server", "list"))
    assert names(rows(cloud, "server", "list", "--all-projects", user="admin")) >= {"devstack_instance_1"}
    listed = rows(cloud, "server", "event", "list", "devstack_instance_1")
    assert [row["Action"] for row in listed] == ["create"]
    shown = rows(cloud, "server", "event", "show", "devstack_instance_1", listed[0]["Request ID"])
    assert {"filters", "claim", "port", "address"} <= {event["event"] for event in shown["events"]}


def test_row_14_security_group_and_nic(cloud: RunningCloud, image: str) -> None:
    network = rows(cloud, "network", "show", "private")["id"]
    cloud.openstack("security", "group", "create", "web")
    words = [
        "server",
        "create",
        "--image",
        image,
        "--flavor",
        "m1.nano",
        "--security-group",
        "web",
        "--nic",
        f"net-id={network}",
        "--wait",
        "web",
    ]
    cloud.openstack(*words)
    assert [group["name"] for group in rows(cloud, "server", "show", "web")["security_groups"]] == ["web"]
    cloud.openstack("server", "delete", "--wait", "web")


def test_row_13_zone_host_node(cloud: RunningCloud, image: str) -> None:
    network = rows(cloud, "network", "show", "private")["id"]
    words = ["server", "create", "--flavor", "m1.nano", "--image", image, "--nic", f"net-id={network}"]
    cloud.openstack(*words, "--availability-zone", "nova:fake-0002:fake-0002", "--wait", "placed", user="admin")
    assert rows(cloud, "server", "show", "placed", user="admin")["OS-EXT-SRV-ATTR:host"] == "fake-0002"
    cloud.openstack("server", "delete", "--wait", "placed", user="admin")


def test_rows_19_to_22_hosts(cloud: RunningCloud) -> None:
    assert {"fake-0001", "fake-0002"} <= names(rows(cloud, "host", "list", user="admin"), "Host Name")
    assert {"fake-0001", "fake-0002"} == names(rows(cloud, "hypervisor", "list", user="admin"), "Hypervisor Hostname")
    services = rows(cloud, "compute", "service", "list", user="admin")
    assert {row["State"] for row in services if row["Binary"] == "nova-compute"} == {"up"}
    assert {"nova"} <= names(rows(cloud, "availability", "zone", "list", "--compute"), "Zone Name")
    assert names(rows(cloud, "availability", "zone", "list", "--network"), "Zone Name")


def test_rows_31_to_38_identity(cloud: RunningCloud) -> None:
    assert {"admin", "demo", "service"} <= names(rows(cloud, "project", "list", user="admin"))
    types = {row["Type"] for row in rows(cloud, "service", "list", user="admin")}
    assert {"identity", "compute", "image", "network", "placement"} <= types
    assert rows(cloud, "endpoint", "list", user="admin")
    assert {row["Type"] for row in rows(cloud, "catalog", "list")} == types
    assert "Default" in names(rows(cloud, "domain", "list", user="admin"))
    shown = cloud.openstack("project", "show", "admin", "-f", "value", "-c", "id", user="admin").strip()
    assert rows(cloud, "project", "show", shown, user="admin")["name"] == "admin"


def test_rows_39_to_47_network_walk_and_a_server_on_it(cloud: RunningCloud, image: str) -> None:
    """The walk that most readers try first, as admin for project demo (a VXLAN network stands for row 39's GRE)."""
    project = rows(cloud, "project", "show", "demo", user="admin")["id"]
    admin = {"user": "admin"}
    words = [
        "network",
        "create",
        "--project",
        project,
        "--provider-network-type",
        "vxlan",
        "--provider-segment",
        "4242",
        "walk",
    ]
    assert rows(cloud, *words, **admin)["provider:segmentation_id"] == 4242
    words = [
        "subnet",
        "create",
        "--project",
        project,
        "--ip-version",
        "4",
        "--network",
        "walk",
        "--subnet-range",
        "10.42.0.0/24",
    ]
    cloud.openstack(*words, "--gateway", "10.42.0.1", "--dns-nameserver", "8.8.8.8", "walk-subnet", **admin)
    cloud.openstack("router", "create", "--project", project, "walk-router", **admin)
    cloud.openstack("router", "add", "subnet", "walk-router", "walk-subnet", **admin)
    cloud.openstack("network", "create", "--external", "public2", **admin)
    words = [
        "subnet",
        "create",
        "--network",
        "public2",
        "--subnet-range",
        "203.0.113.0/24",
        "--no-dhcp",
        "--gateway",
        "203.0.113.1",
    ]
    cloud.openstack(*words, "--allocation-pool", "start=203.0.113.10,end=203.0.113.20", "public2-subnet", **admin)
    cloud.openstack("router", "set", "--external-gateway", "public2", "walk-router", **admin)
    cloud.openstack(
        "server", "create", "--flavor", "m1.nano", "--image", image, "--network", "walk", "--wait", "walker"
    )
    address = rows(cloud, "floating", "ip", "create", "public2")["floating_ip_address"]
    cloud.openstack("server", "add", "floating", "ip", "walker", address)
    assert address in rows(cloud, "server", "show", "walker")["addresses"]["walk"]
    assert {"DHCP agent", "L3 agent"} <= names(rows(cloud, "network", "agent", "list", **admin), "Agent Type")
    assert {"walk", "private", "public"} <= names(rows(cloud, "network", "list"))
    cloud.openstack("server", "delete", "--wait", "walker")
    wait_for(lambda: cloud.audit() == [], 20, "an audit without findings")


def test_non_ascii_names_work_everywhere(cloud: RunningCloud, image: str) -> None:
    """S3-56."""
    name = "Grüße-北京-🌩"
    cloud.openstack("network", "create", name)
    assert name in names(rows(cloud, "network", "list"))
    cloud.openstack("network", "delete", name)
    cloud.openstack("server", "create", "--flavor", "m1.nano", "--image", image, "--network", "private", "--wait", name)
    assert rows(cloud, "server", "show", name)["status"] == "ACTIVE"
    cloud.openstack("server", "delete", "--wait", name)
