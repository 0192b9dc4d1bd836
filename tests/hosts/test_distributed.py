"""Distributed routers with real packets: floating IPs on the hosts of their ports.

Host 1 has the router, hosts 2 and 3 are edges of it with guests; host 3 has Open vSwitch. All three have a card in the
external network, where the internet is the gateway 172.24.4.1.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from nephos.cli.trace import drawing
from nephos.wiring.base import Floating, Physical, Port, Router, RouterEdge, Rule, Subnet, WiringSettings
from nephos.wiring.linux.routers.edge import door
from tests.hosts.lab import OUTSIDE, Guest, Lab, Node, wait
from tests.hosts.lab_cloud import LabCloud
from tests.hosts.test_switches import settings_of
from tests.hosts.test_wiring_routers import Flow, Quarter
from tests.hosts.wiring_lab import PING, WEB, Cloud, HostWiring, new_id

pytestmark = pytest.mark.host
X, Y = "10.1.0.0/24", "10.2.0.0/24"
HELD = Rule(direction="ingress", version=4, protocol="tcp", port_min=9000, port_max=9000)


@pytest.fixture(scope="module")
def quarter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Quarter]:
    with Lab(tmp_path_factory.mktemp("spread"), hosts=3) as lab:
        for node in (*lab.hosts, lab.internet):
            node.cable("eth3", "ext")
        lab.internet.run("ip address add 172.24.4.1/24 dev eth3")
        wirings = []
        for host, switch in zip(lab.hosts, ("linux", "linux", "openvswitch"), strict=True):
            physical = {"public": Physical(bridge="br-ex", interface="eth3")}
            wirings.append(HostWiring(host, settings=msgspec.structs.replace(settings_of(host, switch), physical=physical)))
        cloud = Cloud(wirings)
        subnet = Subnet(id=new_id(), cidr="172.24.4.0/24", version=4, gateway="172.24.4.1", dhcp=False)
        public = cloud.network(
            kind="flat", physical="public", external=True, mtu=1500, subnets=(subnet,), dhcp_mac=None, segment=None,
            dhcp_port_id=None,
        )  # fmt: skip
        yield Quarter(lab, cloud, public, [{}, {}, {}])


def edge(quarter: Quarter, router: Router, host: int, floating: dict[str, Port]) -> Router:
    """What the server tells an edge; `floating` is address → port."""
    nets = {port.network_id for port in floating.values()}
    (gateway,) = router.gateways
    own = msgspec.structs.replace(
        gateway, mac=f"06:00:00:00:00:{host:02x}", addresses=(), nexthops=("172.24.4.1",), snat=False
    )
    pairs = [(address, port.addresses[0].address, port.id) for address, port in sorted(floating.items())]
    return Router(
        id=router.id,
        interfaces=tuple(leg for leg in router.interfaces if leg.network_id in nets),
        gateways=(own,),
        floating=tuple(Floating(address, fixed) for address, fixed, _ in pairs),
        edge=RouterEdge(
            outside=("172.24.4.0/24",), central=(X, Y), ports=tuple((fixed, port) for _, fixed, port in pairs)
        ),
    )


def hears(host: Node, device: str, what: str) -> subprocess.Popen[str]:
    """Begin to capture."""
    capture = host.popen("tcpdump", "--immediate-mode", "-lnnei", device, *what.split())
    assert capture.stdout is not None
    while "listening on" not in capture.stdout.readline():
        pass
    return capture


def heard(capture: subprocess.Popen[str]) -> str:
    time.sleep(0.3)
    capture.terminate()
    assert capture.stdout is not None
    return capture.stdout.read()


def seen_from(quarter: Quarter, guest: Guest) -> str:
    """The address that a guest has outside."""
    capture = hears(quarter.lab.internet, "eth3", "icmp[icmptype]=icmp-echo")
    assert guest.pings(OUTSIDE)
    found = re.search(r"(\S+) > \S+ ICMP echo request", heard(capture))
    assert found is not None
    return found[1]


def test_a_floating_ip_is_served_on_its_ports_own_host(quarter: Quarter) -> None:
    lab, cloud = quarter.lab, quarter.cloud
    x, y = cloud.network(X), cloud.network(Y)
    group = cloud.group(PING, WEB, HELD)
    ports = {
        "a": cloud.port(x, 11, group, host=1), "plain": cloud.port(x, 12, group, host=1),
        "d": cloud.port(y, 13, group, host=2), "own": cloud.port(x, 14, group, host=0),
    }  # fmt: skip
    legs = (quarter.leg(x, 0, "10.1.0.1/24"), quarter.leg(y, 0, "10.2.0.1/24"))
    router = Router(id=new_id(), interfaces=legs, gateways=(quarter.gateway(10),), floating=(Floating("172.24.4.22", "10.1.0.14"),))
    gateway = msgspec.structs.replace(router.gateways[0], addresses=router.gateways[0].addresses[:1], nexthops=("172.24.4.1",))
    router = msgspec.structs.replace(router, gateways=(gateway,))
    quarter.routers[0][router.id] = router
    quarter.routers[1][router.id] = edge(quarter, router, 1, {"172.24.4.20": ports["a"]})
    quarter.routers[2][router.id] = edge(quarter, router, 2, {"172.24.4.21": ports["d"]})
    for _ in range(3):
        quarter.wire()
    where = {"a": 1, "plain": 1, "d": 2, "own": 0}
    guests = {name: cloud.wirings[host].guest(ports[name]) for name, host in where.items()}
    for name, guest in guests.items():
        guest.dhcp()
        guest.serve(80, name)
        guest.serve(2222, "not for everyone")
    a, d, plain = guests["a"], guests["d"], guests["plain"]

    on_central, on_tunnels = hears(lab.hosts[0], "eth3", "net 172.24.4.20/31"), hears(lab.hosts[1], "eth1", "udp")
    assert lab.internet.reaches("172.24.4.20", 80, wait=5) == "a"
    assert seen_from(quarter, a) == "172.24.4.20"
    assert lab.internet.reaches("172.24.4.21", 80, wait=5) == "d", "on Open vSwitch"
    assert seen_from(quarter, d) == "172.24.4.21"
    assert lab.internet.reaches("172.24.4.20", 2222, wait=1) is None, "groups hold"
    assert "172.24.4.2" not in "".join(line for line in heard(on_central).splitlines() if "ARP" not in line), "not by the router's host"
    through = heard(on_tunnels)
    assert "10.1.0.11" not in through and "02:4e:52" not in through, "nor through a tunnel"
    assert seen_from(quarter, plain) == "172.24.4.10", "who has no floating IP is the router's"
    assert lab.internet.reaches("172.24.4.22", 80) == "own", "and so are those on its host"

    assert a.reaches("10.2.0.13", 80) == "d" and d.reaches("10.1.0.11", 80) == "a", "between the router's networks"
    assert a.reaches("172.24.4.21", 80) == "d" and d.reaches("172.24.4.20", 80) == "a", "by each other's floating IPs"
    assert a.reaches("172.24.4.20", 80) == "a", "its own"
    assert plain.reaches("172.24.4.20", 80) == "a" and a.reaches("172.24.4.22", 80) == "own"
    assert a.pings("10.1.0.1") and plain.pings("10.1.0.1")
    macs = {name: guest.out("ip", "neigh", "show", "10.1.0.1").split("lladdr ")[1].split()[0] for name, guest in guests.items() if name != "d"}
    assert set(macs.values()) == {legs[0].mac}, "one router, whoever answers"
    # Nobody goes through an edge's door by himself.
    plain.run(f"ip neigh replace 10.1.0.1 lladdr {door(legs[0])} dev eth0 nud permanent")
    assert not plain.pings(OUTSIDE, wait=1)
    plain.run("ip neigh del 10.1.0.1 dev eth0")
    assert [wiring.wire(quarter.desired(host))["changes"] for host, wiring in enumerate(cloud.wirings)] == [0, 0, 0]

    # The router's host is lost: floating IPs of others go on, also when a guest asks for its gateway anew.
    flow = Flow(a, lab.internet, "172.24.4.20", 9000)
    lab.hosts[0].run("sh", "-c", "ip link set eth1 down; ip link set eth3 down")
    a.run("ip neigh flush all")
    assert flow.says("still") == "still"
    assert lab.internet.reaches("172.24.4.20", 80) == "a" and seen_from(quarter, a) == "172.24.4.20"
    lab.hosts[0].run("sh", "-c", "ip link set eth1 up; ip link set eth3 up")

    # The floating IP moves to a port on another host, and is found there at once by who knew it here.
    assert lab.internet.reaches("172.24.4.20", 80) == "a"
    quarter.routers[1].pop(router.id)
    quarter.routers[2][router.id] = edge(quarter, router, 2, {"172.24.4.20": ports["d"]})
    quarter.wire()
    wait(lambda: lab.internet.reaches("172.24.4.20", 80, wait=1) == "d", 5, "the floating IP on its other host")
    assert f"qrouter-{router.id}" not in lab.hosts[1].out("ip", "netns", "list")
    assert seen_from(quarter, a) == "172.24.4.10", "by the router again"
    # A host that was an edge gets the whole router, and the other way round.
    quarter.routers[2][router.id], quarter.routers[0] = router, {}
    for leg in legs:
        quarter.place(leg, 2)
    quarter.wire()
    assert seen_from(quarter, a) == "172.24.4.10" and seen_from(quarter, d) == "172.24.4.10"
    quarter.routers[0] = {router.id: router}
    quarter.routers[2][router.id] = edge(quarter, router, 2, {"172.24.4.21": ports["d"]})
    for leg in legs:
        quarter.place(leg, 0)
    quarter.wire()
    assert seen_from(quarter, d) == "172.24.4.21" and seen_from(quarter, a) == "172.24.4.10"
    cloud.wirings[2].purge()
    assert "qrouter" not in lab.hosts[2].out("ip", "netns", "list")


@pytest.fixture
def folder() -> Iterator[Path]:
    """One that the server's user can enter."""
    found = Path(tempfile.mkdtemp(prefix="nephos-spread-", dir="/var/tmp"))
    found.chmod(0o755)
    yield found
    shutil.rmtree(found, ignore_errors=True)


def test_a_cloud_serves_and_follows_them_and_they_move_with_their_ports(folder: Path) -> None:
    """From the API to the wire: made, traced over the port's own host alone, and found again on another within seconds."""
    with Lab(folder, hosts=2) as lab:
        for node in (*lab.hosts, lab.internet):
            node.cable("eth3", "ext")
        lab.internet.run("ip address add 172.24.4.1/24 dev eth3")
        physical = {"public": Physical(bridge="br-ex", interface="eth3")}
        wiring = {host.name: WiringSettings(tunnel_address=host.address, physical=physical) for host in lab.hosts}
        with LabCloud(lab, outside=(), wiring=wiring) as cloud:
            with cloud.network():
                api = cloud.connect("admin").network
                public = api.find_network("public")
                net = api.create_network(name="spread")
                sub = api.create_subnet(network_id=net.id, ip_version=4, cidr="10.31.0.0/24")
                way = api.create_router(
                    name="spread", is_distributed=True, external_gateway_info={"network_id": public.id}
                )
                api.add_interface_to_router(way, subnet_id=sub.id)
                group = api.create_security_group(name="open")
                api.create_security_group_rule(security_group_id=group.id, direction="ingress", ethertype="IPv4")
                own = {agent.host for agent in api.routers_hosting_l3_agents(way)}
                here, there = sorted(lab.hosts, key=lambda host: host.name in own)
                port = api.create_port(network_id=net.id, security_groups=[group.id], binding_host_id=here.name)
                floating = api.create_ip(floating_network_id=public.id, port_id=port.id)
            address = floating.floating_ip_address
            tap = f"tap{port.id[:11]}"
            wait(lambda: here.run("ip", "link", "show", tap, check=False).returncode == 0, 20, "the tap")
            guest = Guest(here, tap, port.mac_address)
            guest.dhcp()
            guest.serve(80, "here")
            wait(lambda: lab.internet.reaches(address, 80, wait=1) == "here", 20, "the floating IP")
            assert f"qrouter-{way.id}" in here.out("ip", "netns", "list")
            assert address in here.out("ip", "netns", "exec", f"qrouter-{way.id}", "ip", "address")
            assert address not in there.out("ip", "netns", "exec", f"qrouter-{way.id}", "ip", "address")
            for to, passed in (("internet", {here.name}), ("gateway", {here.name, there.name}), (address, {here.name})):
                found = cloud.get(f"/nephos/v1/ports/{port.id}/trace?to={to}")["trace"]
                assert found["ok"], drawing(port.to_dict(original_names=True), to, found)
                assert {hop["host"] for hop in found["hops"]} == passed, found
            # So are packets for a local IP, which end at a port of the same host.
            with cloud.network():
                near = api.create_port(network_id=net.id, security_groups=[group.id], binding_host_id=here.name)
                local = api.create_local_ip(network_id=net.id)
                api.create_local_ip_association(local.id, fixed_port_id=near.id)
            other = f"tap{near.id[:11]}"
            wait(lambda: here.run("ip", "link", "show", other, check=False).returncode == 0, 20, "the tap")
            second = Guest(here, other, near.mac_address)
            second.dhcp()
            second.serve(80, "near")
            wait(lambda: guest.reaches(local.local_ip_address, 80, wait=1) == "near", 10, "the local IP")
            found = cloud.get(f"/nephos/v1/ports/{port.id}/trace?to={local.local_ip_address}")["trace"]
            assert found["ok"], drawing(port.to_dict(original_names=True), "local", found)
            assert cloud.audit() == []

            # The port moves, as with a migration: the same MAC and addresses behind a tap of the other host.
            guest.kill()
            with cloud.network():
                api.update_port(port.id, binding_host_id=there.name)
            wait(lambda: there.run("ip", "link", "show", tap, check=False).returncode == 0, 20, "the tap")
            guest = Guest(there, tap, port.mac_address)
            guest.dhcp()
            guest.serve(80, "there")
            wait(lambda: lab.internet.reaches(address, 80, wait=1) == "there", 10, "the floating IP on its other host")
            wait(lambda: f"qrouter-{way.id}" not in here.out("ip", "netns", "list"), 10, "the edge to go")
