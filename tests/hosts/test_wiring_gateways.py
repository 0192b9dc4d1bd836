"""Gateways of routers with real packets: how fast, by which of several, and how much crossed them.

One host with a guest, and two external networks: 172.24.4.0/24 is the main gateway's, 203.0.113.0/24 another's. The
internet is the gateway .1 of both, and 198.51.100.80 beyond them.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec
import pytest

from nephos.wiring.base import (
    Address,
    Floating,
    Forwarding,
    Limits,
    Meter,
    Network,
    Physical,
    Port,
    Router,
    RouterGateway,
    RouterInterface,
    Rule,
    Subnet,
    WiringSettings,
)
from tests.hosts.lab import DNS, OUTSIDE, Guest, Lab, Node, wait
from tests.hosts.test_wiring_routers import Flow, sources
from tests.hosts.wiring_lab import Cloud, HostWiring, new_id

pytestmark = pytest.mark.host
RANGES = {"public": "172.24.4", "second": "203.0.113"}


@dataclass
class Site:
    """The lab with one guest at 10.1.0.11 behind a router that each test makes its own."""

    lab: Lab
    cloud: Cloud
    outer: dict[str, Network]
    inner: RouterInterface
    port: Port
    guest: Guest

    def gateway(self, name: str, number: int = 10) -> RouterGateway:
        base, network = RANGES[name], self.outer[name]
        return RouterGateway(
            port_id=new_id(), network_id=network.id, mac=f"fa:16:3e:ee:{len(name):02x}:{number:02x}",
            addresses=(Address(f"{base}.{number}", 24, network.subnets[0].id),), nexthops=(f"{base}.1",),
        )  # fmt: skip

    def router(self, *gateways: RouterGateway, **more: object) -> Router:
        router = Router(id=new_id(), interfaces=(self.inner,), gateways=gateways, **more)  # type: ignore[arg-type]
        self.cloud.routers = {router.id: router}
        self.cloud.wire()
        return router

    def change(self, router: Router, **values: object) -> Router:
        found: Router = self.cloud.change(router, **values)
        self.cloud.wire()
        return found

    def inside(self, router: Router, *words: str) -> str:
        return self.lab.hosts[0].out("ip", "netns", "exec", f"qrouter-{router.id}", *words)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with Lab(tmp_path_factory.mktemp("gateways"), hosts=1) as lab:
        for number, base in enumerate(RANGES.values(), 1):
            lab.switch.run("sh", "-ec", f"ip link add ext{number} type bridge; ip link set ext{number} up")
            for node in (lab.hosts[0], lab.internet):
                end = f"{node.name[:6]}{number}"
                make = f"ip link add {end} type veth peer name eth{number} netns {node.pid}; ip link set {end} master ext{number} up"
                subprocess.run(["nsenter", "-t", str(lab.switch.pid), "-n", "--", "sh", "-ec", make], check=True)
                node.run(f"ip link set eth{number} up")
            lab.internet.run(f"ip address add {base}.1/24 dev eth{number}")
        physical = {name: Physical(bridge=f"br-{name}", interface=f"eth{at}") for at, name in enumerate(RANGES, 1)}
        settings = WiringSettings(tunnel_address=lab.hosts[0].address, physical=physical, meter_seconds=1, bandwidths={"public": 8000})
        cloud = Cloud([HostWiring(lab.hosts[0], settings=settings)])
        outer = {
            name: cloud.network(
                kind="flat", physical=name, external=True, mtu=1500, dhcp_mac=None, segment=None, dhcp_port_id=None,
                subnets=(Subnet(id=new_id(), cidr=f"{base}.0/24", version=4, gateway=f"{base}.1", dhcp=False),),
            )
            for name, base in RANGES.items()
        }  # fmt: skip
        net = cloud.network("10.1.0.0/24")
        port = cloud.port(net, 11, cloud.group(Rule(direction="ingress", version=4)))
        inner = RouterInterface(
            port_id=new_id(), network_id=net.id, mac="fa:16:3e:cc:00:01",
            addresses=(Address("10.1.0.1", 24, net.subnets[0].id),),
        )  # fmt: skip
        cloud.wire()
        guest = cloud.wirings[0].guest(port)
        guest.dhcp()
        yield Site(lab, cloud, outer, inner, port, guest)


TAKE = """
import socket, time
s = socket.create_server(('0.0.0.0', {port}))
print('ready', flush=True)
c, _ = s.accept()
got, begin = 0, time.monotonic()
while data := c.recv(1 << 16):
    got += len(data)
print(got * 8 / (time.monotonic() - begin) / 1000, flush=True)
"""
GIVE = """
import socket, time
c = socket.create_connection(('{address}', {port}), 5)
end = time.monotonic() + {seconds}
while time.monotonic() < end:
    c.sendall(b'x' * 20000)
c.close()
"""


def kbits(giver: Node, taker: Node, address: str, port: int, seconds: float = 1.5) -> float:
    """How many kbit/s of TCP get from one to the other."""
    server = taker.popen("/usr/bin/python3", "-c", TAKE.format(port=port))
    assert server.stdout is not None and server.stdout.readline() == "ready\n"
    giver.run("/usr/bin/python3", "-c", GIVE.format(address=address, port=port, seconds=seconds))
    return float(server.stdout.readline())


def test_floating_ips_and_gateways_are_as_fast_as_they_may_be(site: Site) -> None:
    lab, guest, floating = site.lab, site.guest, "172.24.4.20"
    slow = Limits(to_kbits=4000, to_burst=200, sent_kbits=8000, sent_burst=400)
    way = Floating(address=floating, fixed="10.1.0.11", limits=slow)
    router = site.router(site.gateway("public"), floating=(way,))
    coming, going = kbits(lab.internet, guest, floating, 7001), kbits(guest, lab.internet, OUTSIDE, 7002)
    assert 2000 < coming < 4800, "4 Mbit/s to the floating IP"
    assert 4000 < going < 9600, "8 Mbit/s from it"
    assert site.cloud.wirings[0].wire(site.cloud.desired())["changes"] == 0
    print(f"limited to 4000 and 8000 kbit/s: {coming:.0f} and {going:.0f}")
    # Somebody takes it away: the next pass brings it back.
    device = f"qg-{router.gateways[0].port_id[:11]}"
    site.inside(router, "tc", "qdisc", "delete", "dev", device, "root")
    site.inside(router, "ip", "link", "delete", f"ifb{router.gateways[0].port_id[:11]}")
    site.cloud.wire()
    assert kbits(guest, lab.internet, OUTSIDE, 7003) < 9600
    assert kbits(lab.internet, guest, floating, 7004) < 4800
    # Another limit; and with none it is fast.
    faster = msgspec.structs.replace(way, limits=Limits(to_kbits=20000, to_burst=500))
    site.change(router, floating=(faster,))
    assert 8000 < kbits(lab.internet, guest, floating, 7005) < 24000
    assert kbits(guest, lab.internet, OUTSIDE, 7006) > 40000
    site.change(router, floating=(msgspec.structs.replace(way, limits=None),))
    assert kbits(lab.internet, guest, floating, 7007) > 40000
    assert site.inside(router, "tc", "qdisc", "show", "dev", device).startswith("qdisc noqueue")
    # A gateway's limits are those of what it translates, and not of floating IPs.
    gateway = msgspec.structs.replace(router.gateways[0], limits=slow)
    site.change(router, gateways=(gateway,), floating=())
    translated = kbits(guest, lab.internet, OUTSIDE, 7008)
    assert 4000 < translated < 9600
    site.change(router, gateways=(gateway,), floating=(msgspec.structs.replace(way, limits=None),))
    assert kbits(guest, lab.internet, OUTSIDE, 7009) > 40000
    site.change(router, gateways=(site.gateway("public", 11),), floating=())
    assert "ifb" not in site.inside(router, "ip", "link")


# ---- several gateways -----------------------------------------------------------------------------------------------


def test_answers_leave_by_the_gateway_that_the_question_came_by(site: Site) -> None:
    lab, guest = site.lab, site.guest
    main, other = site.gateway("public"), site.gateway("second")
    far = Floating(address="203.0.113.20", fixed="10.1.0.11")
    router = site.router(main, other)
    assert sources(lab.internet, guest, 4) == ["172.24.4.10"] * 4, "the main gateway is the way out"
    # The internet takes answers only where it asked: strict reverse paths, and another way to each network.
    lab.internet.run("sh", "-c", "for a in all eth1 eth2; do sysctl -qw net.ipv4.conf.$a.rp_filter=1; done")
    client = "198.51.100.99"
    lab.internet.run(f"ip address add {client}/32 dev lo")
    router = site.change(router, floating=(far,))
    guest.serve(80, "by the other\n")
    assert site.cloud.wirings[0].wire(site.cloud.desired())["changes"] == 0
    before = _received(site, "eth2")
    answer = lab.internet.reaches("203.0.113.20", 80, source=client)
    assert answer == "by the other\n"
    assert _received(site, "eth2") > before
    assert lab.internet.pings("203.0.113.10")
    out = lab.internet.run("ping", "-c1", "-W2", "-I", client, "203.0.113.10", check=False)
    assert out.returncode == 0, "the router answers by the gateway that it was asked at"
    # What a guest begins leaves by the gateway that has its floating IP, and is told so.
    assert sources(lab.internet, guest, 3) == ["203.0.113.20"] * 3
    assert guest.pings("172.24.4.1") and guest.pings("203.0.113.1"), "nearer networks are reached as they are"
    # Port forwarding of the main gateway beside it is answered there.
    web = Forwarding(protocol="tcp", address="172.24.4.30", outside=(8080, 8080), fixed="10.1.0.11", inside=(80, 80))
    site.change(router, forwardings=(web,))
    assert lab.internet.reaches("172.24.4.30", 8080, source=client) == "by the other\n"
    assert lab.internet.reaches("203.0.113.20", 80, source=client) == "by the other\n"
    # Without its floating IP again by the main one, and with ECMP by both; an open connection stays on its way.
    site.change(router, floating=(), forwardings=())
    assert set(sources(lab.internet, guest, 4)) == {"172.24.4.10"}
    router = site.change(router, floating=(), forwardings=(), ecmp=True)
    assert site.cloud.wirings[0].wire(site.cloud.desired())["changes"] == 0
    assert set(sources(lab.internet, guest, 40)) == {"172.24.4.10", "203.0.113.10"}
    flow = Flow(lab.internet, guest, OUTSIDE, 9000)
    assert flow.says("one") == "one"
    for gateways in ((other, main), (main, other)):
        site.change(router, gateways=gateways, ecmp=False)
        assert flow.says("again") == "again", "an open connection keeps its gateway"
    # One gateway alone: nothing of all this is left.
    site.change(router, gateways=(main,), ecmp=False)
    assert set(sources(lab.internet, guest, 3)) == {"172.24.4.10"}
    assert "lookup 10" not in site.inside(router, "ip", "rule")
    site.inside(router, "sh", "-c", "test -z \"$(ip route show table all proto 78 | grep -v '^default')\"")
    lab.internet.run("sh", "-c", "for a in all eth1 eth2; do sysctl -qw net.ipv4.conf.$a.rp_filter=0; done")


def _received(site: Site, device: str) -> int:
    return int(site.lab.internet.out("cat", f"/sys/class/net/{device}/statistics/rx_packets"))


# ---- metering -------------------------------------------------------------------------------------------------------


def test_what_crosses_the_gateways_is_counted_and_told(site: Site) -> None:
    lab, guest, wiring = site.lab, site.guest, site.cloud.wirings[0]
    out, back = new_id(), new_id()
    meters = (
        Meter(id=out, rules=(("egress", True, None, "172.24.4.0/24"), ("egress", False, "10.1.0.0/24", f"{DNS}/32"))),
        Meter(id=back, rules=(("ingress", False, f"{DNS}/32", None),)),
    )
    router = site.router(site.gateway("public"), meters=meters)
    wiring.restart()
    told: dict[str, list[int]] = {out: [0, 0], back: [0, 0]}
    before = len(wiring.facts())

    def counted(label: str, packets: int) -> bool:
        nonlocal before
        site.cloud.wire()
        found = wiring.facts()
        for fact in found[before:]:
            if fact.kind == "meter":
                of, number, octets, seconds = json.loads(fact.detail)
                assert of == router.id and 1 <= seconds <= 60
                told[fact.port_id][0] += number
                told[fact.port_id][1] += octets
        before = len(found)
        return told[label][0] >= packets

    assert guest.pings(DNS, count=4) and guest.pings("172.24.4.1", count=3)
    wait(lambda: counted(back, 4), 20, "the first report")
    assert told == {out: [4, 4 * 84], back: [4, 4 * 84]}
    # The next report holds only what is new, also from an agent that was started again.
    wiring.restart()
    before = len(wiring.facts())
    assert guest.pings(DNS, count=2)
    wait(lambda: counted(back, 6), 20, "the second report")
    assert told == {out: [6, 6 * 84], back: [6, 6 * 84]}
    assert lab.internet.pings("172.24.4.10")


# ---- minimum bandwidth ----------------------------------------------------------------------------------------------

FLOOD = """
import socket, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
print('ready', flush=True)
end = time.monotonic() + 30
while time.monotonic() < end:
    s.sendto(b'x' * 1200, ('172.24.4.1', 9))
"""


def test_a_guest_keeps_its_minimum_whatever_others_send(site: Site) -> None:
    lab, cloud, public = site.lab, site.cloud, site.outer["public"]
    group = cloud.group(Rule(direction="ingress", version=4))
    guests, ports = [], []
    for number in (51, 52):
        ports.append(cloud.port(public, number, group))
        cloud.wire()
        guests.append(cloud.wirings[0].guest(ports[-1], mtu=1500))
        guests[-1].run("sh", "-c", f"ip address add 172.24.4.{number}/24 dev eth0; ip link set eth0 up")
    kept, loud = guests
    uplink = lambda: lab.hosts[0].out("tc", "qdisc", "show", "dev", "eth1")  # noqa: E731
    assert "htb" not in uplink(), "without a minimum the uplink is as it was"
    least = msgspec.structs.replace(ports[0], limits=Limits(least_sent_kbits=6000))
    cloud.ports[least.id] = (0, least)
    cloud.wire()
    assert cloud.wirings[0].wire(cloud.desired())["changes"] == 0
    flood = loud.popen("/usr/bin/python3", "-c", FLOOD)
    assert flood.stdout is not None and flood.stdout.readline() == "ready\n"
    rate = kbits(kept, lab.internet, "172.24.4.1", 7201, 4)
    other = msgspec.structs.replace(ports[1], limits=Limits(least_sent_kbits=6500))
    cloud.ports.update({least.id: (0, ports[0]), other.id: (0, other)})
    cloud.wire()
    without = kbits(kept, lab.internet, "172.24.4.1", 7202, 3)
    print(f"of 8000 kbit/s beside a flood: {rate:.0f} with a minimum of 6000, {without:.0f} without")
    assert 3500 < rate < 8500 and without < 2500
    cloud.ports.update({least.id: (0, least), other.id: (0, ports[1])})
    cloud.wire()
    lab.hosts[0].run("tc qdisc delete dev eth1 root")
    cloud.wire()
    assert "htb" in uplink()
    # A discipline of somebody else's is let be, and the port says that it has no guarantee.
    lab.hosts[0].run("tc qdisc replace dev eth1 root handle 7: tbf rate 1gbit burst 100k latency 50ms")
    errors = cloud.wirings[0].apply(cloud.desired())["errors"]
    assert list(errors) == [f"port {least.id}"] and "somebody else's (tbf 7:)" in errors[f"port {least.id}"]
    lab.hosts[0].run("tc qdisc delete dev eth1 root")
    cloud.wire()
    cloud.ports[least.id] = (0, ports[0])
    cloud.wire()
    assert "htb" not in uplink()
    flood.kill()
    for port in ports:
        cloud.remove(port)
    cloud.wire()
