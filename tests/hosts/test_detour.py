"""VXLAN is blocked between two hosts: their networks take the way round that is set, and come back.

Once whole, with server and agents, between two hosts with Open vSwitch, where the ends of the network are the legs of two
routers: what the hosts prove, the ledger decides, nobody is asked, and both sides take the same way. And once on each
switch that this kernel can, beside a third host that VXLAN reaches all the while.
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

from nephos.network.ways import Stop, Way
from nephos.wiring.base import Fallback, Port
from nephos.wiring.probe import At, Point
from tests.hosts.lab import SLOW, Guest, Host, Lab, Space, wait
from tests.hosts.lab_cloud import LabCloud
from tests.hosts.test_switches import KERNEL, OPEN, kernel_makes, settings_of
from tests.hosts.wiring_lab import PING, Cloud, HostWiring, trace

pytestmark = pytest.mark.host
SECONDS = 40
"""Three rounds of the proof that are not answered, five to seven seconds apart, and the pass after them."""


def block(switch: Space, *addresses: str) -> None:
    """Drop VXLAN for these on its way between the hosts."""
    switch.run("nft add table bridge t")
    switch.run("nft add chain bridge t f { type filter hook forward priority 0; }")
    for address in addresses:
        switch.run(f"nft add rule bridge t f ether type ip ip daddr {address} udp dport 4789 drop")


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


def tunnels(cloud: LabCloud) -> set[tuple[str, bool, str | None, int | None]]:
    """(host, whether VXLAN passes, what carries the networks instead, frames of how many bytes) of every path."""
    hosts = cloud.get("/nephos/v1/hosts")["hosts"]
    return {
        (host["name"], one["up"], one["fallback"], one.get("fallback_mtu")) for host in hosts for one in host["tunnels"]
    }


WELL = {("host1", True, None, None), ("host2", True, None, None)}


@pytest.mark.skipif(SLOW > 1, reason="its times are those of a real machine")
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
    wait(lambda: tunnels(cloud) == WELL, 30, "the proofs")

    block(cloud.lab.switch, "192.168.78.2")
    began = time.monotonic()
    assert not passes()
    wait(passes, SECONDS, f"the way round: {tunnels(cloud)}")
    took = time.monotonic() - began
    print(f"went round after {took:.1f} s")
    by = "geneve:6082"
    around = {("host1", False, by, 1450), ("host2", False, by, 1450)}
    wait(lambda: tunnels(cloud) == around, 40, "what the operator is told")
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

    cloud.lab.switch.run("nft delete table bridge t")
    began, lost = time.monotonic(), 0
    while tunnels(cloud) != WELL:
        lost += not passes()
        assert time.monotonic() - began < 2 * SECONDS
    assert passes()
    assert lost == 0, "the way back is taken without a packet lost"
    assert cloud.audit() == []


@pytest.mark.parametrize(
    ("switches", "kind"),
    [((OPEN, OPEN, KERNEL), "gre"), ((KERNEL, KERNEL, OPEN), "geneve"), ((KERNEL, OPEN, KERNEL), "gre"), ((OPEN, KERNEL, KERNEL), "geneve")],
)  # fmt: skip
def test_the_way_round_on_each_switch(tmp_path: Path, switches: tuple[str, str, str], kind: str) -> None:
    """Between hosts 1 and 2; a network of type Geneve or GRE with the same number is another one still."""
    with Lab(tmp_path, hosts=3) as lab:
        if KERNEL in switches[:2] and not kernel_makes(lab.hosts[0], kind):
            pytest.skip(f"this kernel has no {kind}")
        wirings = []
        for host, switch in zip(lab.hosts, switches, strict=True):
            # Only the pair has it: the third host's kernel may lack it, and need not know of it.
            fallback = Fallback(kind=kind) if host.number < 3 else None  # type: ignore[arg-type]
            settings = msgspec.structs.replace(settings_of(host, switch), tunnel_fallback=fallback)
            wirings.append(HostWiring(host, settings=settings))
            assert wirings[-1].check() == ""
        cloud = Cloud(wirings)
        group = cloud.group(PING)
        network, same = cloud.network(segment=77), cloud.network("10.2.0.0/24", kind=kind, segment=77)
        ports = [cloud.port(network, 11 + host, group, host=host) for host in range(3)]
        others = [cloud.port(same, 11 + host, group, host=host) for host in range(2)]

        def passes() -> None:
            for _ in range(2):
                for host, wiring in enumerate(wirings):
                    wiring.wire(cloud.desired(host))

        passes()
        guests = [wiring.guest(port) for wiring, port in zip(wirings, ports, strict=True)]
        strangers = [wiring.guest(port) for wiring, port in zip(wirings, others, strict=False)]
        for guest in (*guests, *strangers):
            guest.dhcp()

        def meet(*pairs: tuple[int, int]) -> None:
            for here, there in pairs:
                far = ports[there].addresses[0].address
                guests[here].run("ip neigh flush all")
                wait(lambda here=here, far=far: guests[here].pings(far), 10, f"{here + 1} reaches {there + 1}")  # type: ignore[misc]
                said = guests[here].run("ping", "-c", "3", "-i", "0.2", "-W", "2", far).stdout
                assert "DUP" not in said, said

        every = [(here, there) for here in range(3) for there in range(3) if here != there]
        meet(*every)
        block(lab.switch, "192.168.78.1 ip saddr 192.168.78.2", "192.168.78.2 ip saddr 192.168.78.1")
        far = ports[1].addresses[0].address
        assert not guests[0].pings(far, wait=1)
        cloud.blocked = ((0, 1),)
        for host, wiring in enumerate(wirings):
            wiring.wire(cloud.desired(host))
        assert guests[0].pings(far), "at once, though the guest there said nothing since"
        meet(*every)
        wait(lambda: strangers[0].pings(others[1].addresses[0].address), 10, "the network of the fall-back's own type")
        assert _alone(strangers[0], guests)
        # A trace names what carries the packets, also when it carries them no more.
        by = "Geneve, UDP port 6082" if kind == "geneve" else "GRE, IP protocol 47"
        found = trace(wirings, _way(wirings, ports, 0, 1))
        devices = [hop.device for hop in found.hops if hop.at == At.UPLINK]
        assert found.ok and [hop.transport for hop in found.hops if hop.at == At.UPLINK] == [by] * 2, found
        assert [each[:3] for each in devices] == ["qvb" if each == OPEN else "det" for each in switches[:2]]
        assert {hop.transport for hop in trace(wirings, _way(wirings, ports, 0, 2)).hops} == {"", "VXLAN, UDP port 4789"}
        other = "ip protocol gre" if kind == "gre" else "udp dport 6082"
        lab.switch.run(f"nft add rule bridge t f ether type ip ip saddr 192.168.78.1 {other} drop")
        found = trace(wirings, _way(wirings, ports, 0, 1))
        assert f"on eth1 of host2: the tunnel's packets ({by}) are lost between the hosts" in found.verdict, found
        lab.switch.run("nft flush chain bridge t f")
        # On Open vSwitch the device that proves the way round comes with a second pass, and is used from the third.
        passes()
        for host, wiring in enumerate(wirings):
            answer = wiring.apply(cloud.desired(host))
            assert (answer["errors"], answer["changes"]) == ({}, 0)
            assert wiring.leftovers(cloud.desired(host)) == []
        lab.switch.run("nft delete table bridge t")
        cloud.blocked = ()
        passes()
        assert not any("det-" in host.out("ip -br link") for host in lab.hosts)
        meet(*every)


def _way(wirings: list[HostWiring], ports: list[Port], here: int, there: int) -> Way:
    """From guest to guest, as the ledger has it."""
    one, other = ports[here], ports[there]
    ends = {each: wirings[each].settings.tunnel_address or "" for each in (here, there)}
    stops = (
        Stop(str(here), Point(at=At.TAP, id=one.id)),
        Stop(str(here), Point(at=At.UPLINK, id=one.network_id, peer=ends[there])),
        Stop(str(here), Point(at=At.UNDERLAY)),
        Stop(str(there), Point(at=At.UNDERLAY)),
        Stop(str(there), Point(at=At.UPLINK, id=one.network_id, peer=ends[here])),
        Stop(str(there), Point(at=At.TAP, id=other.id)),
    )
    far = other.addresses[0].address
    return Way(one.id, one.mac, one.addresses[0].address, 1400, "address", far, far, other.mac, stops, far)


def _alone(stranger: Guest, guests: list[Guest]) -> bool:
    """Whether a guest of another network reaches none of these by their own addresses."""
    stranger.run("ip address add 10.1.0.99/24 dev eth0")
    met = [guest for number, guest in enumerate(guests) if stranger.pings(f"10.1.0.{11 + number}", wait=1)]
    stranger.run("ip address del 10.1.0.99/24 dev eth0")
    return not met
