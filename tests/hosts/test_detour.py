"""VXLAN is blocked between two hosts: their networks take the way round that is set, and come back.

Two hosts with Open vSwitch, whole with server and agents; the ends of the network are the legs of two routers, one on
each host. What the hosts prove, the ledger decides: nobody is asked, and both sides take the same way.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from nephos.wiring.base import Fallback
from tests.hosts.lab import Host, Lab, wait
from tests.hosts.lab_cloud import LabCloud
from tests.hosts.test_switches import OPEN, settings_of

pytestmark = pytest.mark.host
SECONDS = 40
"""Three rounds of the proof that are not answered, five to seven seconds apart, and the pass after them."""


@pytest.fixture
def cloud() -> Iterator[LabCloud]:
    folder = Path(tempfile.mkdtemp(prefix="nephos-detour-", dir="/var/tmp"))
    folder.chmod(0o755)
    try:
        with Lab(folder, hosts=2) as lab:
            wiring = {
                host.name: msgspec.structs.replace(
                    settings_of(host, OPEN), physical={}, tunnel_fallback=Fallback(kind="geneve")
                )
                for host in lab.hosts
            }
            with LabCloud(lab, wiring=wiring) as cloud:
                yield cloud
    finally:
        shutil.rmtree(folder)


def tunnels(cloud: LabCloud) -> set[tuple[str, bool, str | None]]:
    """(host, whether VXLAN passes, what carries the networks instead) of every path."""
    hosts = cloud.get("/nephos/v1/hosts")["hosts"]
    return {(host["name"], one["up"], one["fallback"]) for host in hosts for one in host["tunnels"]}


def test_a_blocked_path_is_gone_round_and_taken_again(cloud: LabCloud) -> None:
    make = ("network create far", "subnet create --network far --subnet-range 10.40.0.0/24 --gateway none far")
    for line in make:
        cloud.openstack(*line.split())
    homes: dict[str, tuple[Host, str]] = {}
    for number in (1, 2):
        name = f"end{number}"
        router = json.loads(cloud.openstack("router", "create", "-f", "json", name))["id"]
        address = f"10.40.0.{10 + number}"
        cloud.openstack("port", "create", "--network", "far", "--fixed-ip", f"ip-address={address}", name)
        cloud.openstack("router", "add", "port", name, name)
        agents = json.loads(cloud.openstack("network", "agent", "list", "--router", name, "-f", "json", user="admin"))
        homes[address] = (cloud.hosts[agents[0]["Host"]], f"qrouter-{router}")
    assert {host.name for host, _ in homes.values()} == {"host1", "host2"}

    def passes() -> bool:
        host, namespace = homes["10.40.0.11"]
        words = f"ip netns exec {namespace} ping -q -c 1 -W 1 10.40.0.12"
        return host.run(words, check=False).returncode == 0

    wait(passes, 30, "the routers' legs reach each other")
    wait(lambda: tunnels(cloud) == {("host1", True, None), ("host2", True, None)}, 30, "the proofs")

    switch = cloud.lab.switch
    switch.run("nft add table bridge t")
    switch.run("nft add chain bridge t f { type filter hook forward priority 0; }")
    switch.run("nft add rule bridge t f ether type ip ip daddr 192.168.78.2 udp dport 4789 drop")
    began = time.monotonic()
    assert not passes()
    wait(passes, SECONDS, f"the way round: {tunnels(cloud)}")
    took = time.monotonic() - began
    print(f"went round after {took:.1f} s")
    by = "geneve:6082"
    wait(lambda: tunnels(cloud) == {("host1", False, by), ("host2", False, by)}, 20, "what the operator is told")
    said = {each["name"]: each["why"] for each in cloud.audit()}
    assert said.keys() == {"host1 → host2", "host2 → host1"}
    assert all("blocked on the way" in why and f"go by {by} meanwhile" in why for why in said.values()), said
    seen = cloud.lab.hosts[1].popen("tcpdump", "-lni", "eth1", "udp", "port", "6082")
    assert seen.stdout is not None
    while "listening on" not in seen.stdout.readline():
        pass
    assert passes()
    assert seen.stdout.readline(), "the capture shows the way round"
    seen.kill()
    seen.communicate()

    switch.run("nft delete table bridge t")
    began, lost = time.monotonic(), 0
    while tunnels(cloud) != {("host1", True, None), ("host2", True, None)}:
        lost += not passes()
        assert time.monotonic() - began < 2 * SECONDS
    assert passes()
    assert lost == 0, "the way back is taken without a packet lost"
    assert cloud.audit() == []
