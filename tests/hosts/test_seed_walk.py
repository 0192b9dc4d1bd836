"""The walk that most readers try first, typed: a GRE network, a router, the outside, and a guest (S2-34).

On two hosts, whose three networks are apart (S3-10), and with a real guest: the router is on the first, the guest on the
second, and between them GRE: Open vSwitch's, and the kernel's where it has it.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from nephos import guestimage
from nephos.cli.demo import _images
from tests.commands.table import Typed, play
from tests.hosts.lab import DNS, OUTSIDE, SLOW, Failed, Lab, wait
from tests.hosts.lab_cloud import LabCloud
from tests.hosts.test_switches import KERNEL, OPEN, kernel_makes, settings_of

pytestmark = pytest.mark.host

CLEAR = (
    Typed("router remove subnet router1 private-subnet", user="demo"),
    Typed("router delete router1", user="demo"),
    Typed("network delete private", user="demo"),
    Typed("network delete public"),
)
"""A new cloud has an external network and a private one; the walk makes its own."""

WALK = (
    Typed("project show demo", keep={"tenant": "id"}),
    Typed(
        "network create --project {tenant} --provider-network-type gre --provider-segment 1 tenant-net",
        shows={"provider:network_type": "gre", "provider:segmentation_id": 1, "mtu": 1458, "project_id": "{tenant}"},
    ),
    Typed(
        "subnet create --project {tenant} --ip-version 4 --network tenant-net --subnet-range 10.10.10.0/24"
        f" --gateway 10.10.10.1 --dns-nameserver {DNS} tenant-subnet",
        shows={"gateway_ip": "10.10.10.1", "dns_nameservers": [DNS]},
    ),
    Typed("router create --project {tenant} tenant-router", shows={"project_id": "{tenant}"}),
    Typed("router add subnet tenant-router tenant-subnet"),
    Typed("network create --external public", shows={"router:external": True, "provider:network_type": "flat"}),
    Typed(
        "subnet create --network public --subnet-range 172.24.4.0/24 --allocation-pool start=172.24.4.10,end=172.24.4.99"
        " --no-dhcp --gateway 172.24.4.1 public-subnet",
        shows={"enable_dhcp": False, "allocation_pools": [{"start": "172.24.4.10", "end": "172.24.4.99"}]},
    ),
    Typed("router set --external-gateway public tenant-router"),
)


AGENTS = {OPEN: "Open vSwitch agent", KERNEL: "Linux bridge agent"}


@pytest.fixture(scope="module", params=[OPEN, KERNEL])
def cloud(request: pytest.FixtureRequest) -> Iterator[LabCloud]:
    folder = Path(tempfile.mkdtemp(prefix="nephos-walk-", dir="/var/tmp"))
    folder.chmod(0o755)
    try:
        with Lab(folder, hosts=2) as lab:
            if request.param == KERNEL and not kernel_makes(lab.hosts[0], "gre"):
                pytest.skip("this kernel has no GRE")
            wiring = {
                host.name: msgspec.structs.replace(settings_of(host, request.param), physical={}) for host in lab.hosts
            }
            with LabCloud(lab, wiring=wiring) as cloud:
                yield cloud
    finally:
        shutil.rmtree(folder)


def test_the_walk_and_a_guest_on_it(cloud: LabCloud, request: pytest.FixtureRequest) -> None:
    agent = AGENTS[request.node.callspec.params["cloud"]]
    kept: dict[str, str] = {}
    play(cloud, CLEAR, kept)
    play(cloud, WALK, kept)
    agents = json.loads(cloud.openstack("network", "agent", "list", "-f", "json", user="admin"))
    assert [each["Host"] for each in agents if each["Agent Type"] == agent] == ["host1", "host2"]
    with cloud.network():
        image = _images(cloud.connect("admin"), guestimage.build(Path("/var/cache/nephos/guest")))
    key = cloud.lab.folder / "id"
    key.touch(mode=0o600)
    key.write_text(cloud.openstack("keypair", "create", "walker"))
    guest = (
        Typed("compute service set --disable host1 nova-compute"),
        Typed("security group create ways", user="demo"),
        Typed("security group rule create --protocol icmp ways", user="demo"),
        Typed("security group rule create --protocol tcp --dst-port 22 ways", user="demo"),
        Typed("port create --network tenant-net --security-group ways door", user="demo", keep={"port": "id"}),
        Typed("floating ip create --port {port} public", user="demo", keep={"floating": "floating_ip_address"}),
        Typed(
            f"server create --flavor m1.nano --image {image.id} --port {{port}} --key-name walker guest",
            user="demo",
            keep={"server": "id"},
        ),
    )
    play(cloud, guest, kept)
    if SLOW > 1:
        _as_the_guest(cloud, kept)
    else:
        _inside_the_guest(cloud, kept, key)
    assert cloud.audit() == []


def _as_the_guest(cloud: LabCloud, kept: dict[str, str]) -> None:
    """Where a guest takes an hour to come up, its packets are sent in its place, from its own tap."""
    shown: dict[str, str] = {}

    def runs() -> bool:
        shown["status"] = json.loads(cloud.openstack("server", "show", "-f", "json", kept["server"]))["status"]
        assert shown["status"] != "ERROR", cloud.said()
        return shown["status"] == "ACTIVE"

    wait(runs, 120, lambda: f"the guest: {shown}")
    seen = cloud.lab.hosts[1].popen("tcpdump", "-lnei", "eth1", "proto", "gre")
    assert seen.stdout is not None
    while "listening on" not in seen.stdout.readline():
        pass

    found: dict[str, Any] = {}

    def arrives(target: str) -> bool:
        found.update(cloud.get(f"/nephos/v1/ports/{kept['port']}/trace?to={target}")["trace"])
        return bool(found["ok"])

    for target in ("dhcp", "metadata", "gateway", "internet"):
        # The first packet to a host may be lost while its switch finds out that one's MAC; a guest asks again.
        wait(lambda target=target: arrives(target), 30, lambda target=target: f"the guest's packets to {target}: {found}")  # type: ignore[misc]
    assert "key=0x1," in seen.stdout.readline()
    seen.kill()
    seen.communicate()


def _inside_the_guest(cloud: LabCloud, kept: dict[str, str], key: Path) -> None:
    host1, host2 = cloud.lab.hosts
    words = ["ssh", "-i", str(key), "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]
    words += ["-o", "LogLevel=ERROR", "-o", "ConnectTimeout=5", "-o", "BatchMode=yes", f"root@{kept['floating']}"]

    def inside(command: str) -> str:
        return host1.run(*words, command).stdout

    def answers() -> bool:
        try:
            return bool(inside("hostname"))
        except Failed:
            return False

    wait(answers, 120, f"log-in through the floating IP: {cloud.said()}")
    assert " 0% packet loss" in inside("ping -c 3 -W 5 10.10.10.1"), "its gateway, on the other host"
    assert " 0% packet loss" in inside(f"ping -c 3 -W 5 {OUTSIDE}"), "the outside"
    assert "mtu 1458" in inside("ip link show eth0")
    seen = host2.popen("tcpdump", "-lnei", "eth1", "proto", "gre")
    assert seen.stdout is not None
    while "listening on" not in seen.stdout.readline():
        pass
    inside("ping -c 1 -W 5 10.10.10.1")
    assert "key=0x1," in seen.stdout.readline()
    seen.kill()
    seen.communicate()
