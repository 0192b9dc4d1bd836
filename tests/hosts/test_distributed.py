"""Distributed routers with real packets: floating IPs on the hosts of their ports.

Host 1 has the router, hosts 2 and 3 are edges of it with guests; host 3 has Open vSwitch. All three have a card in the
external network, where the internet is the gateway 172.24.4.1.
"""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator

import msgspec
import pytest

from nephos.wiring.base import Floating, Physical, Port, Router, RouterEdge, Rule, Subnet
from tests.hosts.lab import OUTSIDE, Guest, Lab, Node, wait
from tests.hosts.test_switches import settings_of
from tests.hosts.test_wiring_routers import Flow, Quarter
from tests.hosts.wiring_lab import Cloud, HostWiring, new_id

pytestmark = pytest.mark.host
ANY = Rule(direction="ingress", version=4)
X, Y = "10.1.0.0/24", "10.2.0.0/24"


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
    group = cloud.group(ANY)
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
    a, d, plain = guests["a"], guests["d"], guests["plain"]

    on_central, on_tunnels = hears(lab.hosts[0], "eth3", "net 172.24.4.20/31"), hears(lab.hosts[1], "eth1", "udp")
    assert lab.internet.reaches("172.24.4.20", 80, wait=5) == "a"
    assert seen_from(quarter, a) == "172.24.4.20"
    assert lab.internet.reaches("172.24.4.21", 80, wait=5) == "d", "on Open vSwitch"
    assert seen_from(quarter, d) == "172.24.4.21"
    assert "172.24.4.2" not in "".join(line for line in heard(on_central).splitlines() if "ARP" not in line), "not by the router's host"
    assert "10.1.0.11" not in heard(on_tunnels), "nor through a tunnel"
    assert seen_from(quarter, plain) == "172.24.4.10", "who has no floating IP is the router's"
    assert lab.internet.reaches("172.24.4.22", 80) == "own", "and so are those on its host"

    assert a.reaches("10.2.0.13", 80) == "d" and d.reaches("10.1.0.11", 80) == "a", "between the router's networks"
    assert a.reaches("172.24.4.21", 80) == "d" and d.reaches("172.24.4.20", 80) == "a", "by each other's floating IPs"
    assert a.reaches("172.24.4.20", 80) == "a", "its own"
    assert plain.reaches("172.24.4.20", 80) == "a" and a.reaches("172.24.4.22", 80) == "own"
    assert a.pings("10.1.0.1") and plain.pings("10.1.0.1")
    macs = {name: guest.out("ip", "neigh", "show", "10.1.0.1").split("lladdr ")[1].split()[0] for name, guest in guests.items() if name != "d"}
    assert set(macs.values()) == {legs[0].mac}, "one router, whoever answers"
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
