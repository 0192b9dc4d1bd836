"""Routers with real packets: on two hosts with an election between them, IPv6, port forwarding, NDP proxy, metering.

One quarter is built once: hosts 1 and 2 carry routers, host 3 has guests; all three have a second card in an external
network, where the internet is the gateway 172.24.4.1 and 2001:db8:4::1, and a third in another, where it is 203.0.113.1.
"""

from __future__ import annotations

import ipaddress
import json
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from nephos.network.ways import Stop, Way
from nephos.wiring.base import (
    Address,
    Desired,
    Endpoint,
    Floating,
    Forwarding,
    Helper,
    Meter,
    Network,
    Physical,
    Port,
    Router,
    RouterGateway,
    RouterHa,
    RouterInterface,
    Rule,
    Subnet,
    WiringSettings,
)
from nephos.wiring.probe import At, Point
from tests.hosts.lab import DNS, OUTSIDE, Guest, Lab, Node, wait
from tests.hosts.wiring_lab import PING, PING6, Cloud, HostWiring, new_id, trace

pytestmark = pytest.mark.host
OUTSIDE6 = "2001:db8:ffff::80"
WEB6 = Rule(direction="ingress", version=6, protocol="tcp", port_min=80, port_max=80)


@dataclass
class Quarter:
    """The lab, and what each host is told: `routers` by host, beside what `cloud` says of networks and ports."""

    lab: Lab
    cloud: Cloud
    public: Network
    routers: list[dict[str, Router]]
    second: Network | None = None

    def desired(self, host: int) -> Desired:
        found = self.cloud.desired(host)
        needed = {leg.network_id for one in self.routers[host].values() for leg in one.legs}
        own = self.cloud.wirings[host].settings.tunnel_address
        for name in needed | set(found.networks):
            network = self.cloud.networks[name]
            peers = {each.settings.tunnel_address for each in self.cloud.wirings} - {own}
            endpoints = tuple(
                msgspec.structs.replace(one, tunnel=None if one.tunnel == own else one.tunnel)
                for one in network.endpoints
            )
            told = tuple(sorted(str(peer) for peer in peers)) if network.kind == "vxlan" else ()
            found.networks[name] = msgspec.structs.replace(network, endpoints=endpoints, peers=told)
        found.routers = self.routers[host]
        return found

    def wire(self, *hosts: int) -> None:
        for host in hosts or range(len(self.lab.hosts)):
            self.cloud.wirings[host].wire(self.desired(host))

    def leg(self, network: Network, host: int, *addresses: str) -> RouterInterface:
        """A leg with these addresses (with prefixes), which the other hosts believe on this one."""
        self.cloud._count += 1
        found = tuple(self._address(network, each) for each in addresses)
        mac = f"fa:16:3e:cc:{self.cloud._count:02x}:{host:02x}"
        leg = RouterInterface(port_id=new_id(), network_id=network.id, mac=mac, addresses=found)
        self.place(leg, host)
        return leg

    @staticmethod
    def _address(network: Network, text: str) -> Address:
        address, _, prefix = text.partition("/")
        version = 6 if ":" in address else 4
        subnet = next((one.id for one in network.subnets if one.version == version), "")
        return Address(address, int(prefix), subnet)

    def place(self, leg: RouterInterface, host: int) -> None:
        """Tell everybody that this leg is on this host: what the ledger does when a host reports that it is active."""
        network = self.cloud.networks[leg.network_id]
        others = tuple(one for one in network.endpoints if one.port_id != leg.port_id)
        tunnel = self.cloud.wirings[host].settings.tunnel_address
        endpoint = Endpoint(port_id=leg.port_id, mac=leg.mac, addresses=leg.addresses, tunnel=tunnel)
        self.cloud.change(network, endpoints=(*others, endpoint))

    def gateway(self, number: int) -> RouterGateway:
        addresses = (f"172.24.4.{number}/24", f"2001:db8:4::{number}/64")
        return RouterGateway(
            port_id=new_id(),
            network_id=self.public.id,
            mac=f"fa:16:3e:ee:00:{number:02x}",
            addresses=tuple(self._address(self.public, each) for each in addresses),
            nexthops=("172.24.4.1", "2001:db8:4::1"),
        )

    def other_gateway(self, number: int) -> RouterGateway:
        """In the second external network."""
        assert self.second is not None
        own = self._address(self.second, f"203.0.113.{number}/24")
        mac = f"fa:16:3e:ef:00:{number:02x}"
        return RouterGateway(
            port_id=new_id(), network_id=self.second.id, mac=mac, addresses=(own,), nexthops=("203.0.113.1",)
        )

    def elect(self, router: Router) -> None:
        """The router on hosts 1 and 2, which choose one of them over a network of their own."""
        net = self.cloud.network(
            "169.254.192.0/18", dhcp_mac=None, dhcp_port_id=None, subnets=(
                Subnet(id=new_id(), cidr="169.254.192.0/18", version=4, dhcp=False),
            ),
        )  # fmt: skip
        for host in (0, 1):
            leg = self.leg(net, host, f"169.254.192.{host + 5}/18")
            ha = RouterHa(leg=leg, number=1, virtual=Address("169.254.0.1", 24, ""))
            self.routers[host][router.id] = msgspec.structs.replace(router, ha=ha)
        self.wire()

    def guest(self, port: Port, host: int = 2) -> Guest:
        return self.cloud.wirings[host].guest(port)

    def states(self, host: int, router: Router) -> list[str]:
        facts = self.cloud.wirings[host].facts()
        return [one.detail for one in facts if one.kind == "router_state" and one.port_id == router.id]

    def inside(self, host: int, router: Router, *words: str) -> str:
        return self.lab.hosts[host].out("ip", "netns", "exec", f"qrouter-{router.id}", *words)


@pytest.fixture(scope="module")
def quarter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Quarter]:
    with Lab(tmp_path_factory.mktemp("quarter"), hosts=3) as lab:
        lab.switch.run("sh", "-ec", "ip link add ext type bridge; ip link set ext up")
        enter = ["nsenter", "-t", str(lab.switch.pid), "-n", "--", "sh", "-ec"]
        for number, node in enumerate((*lab.hosts, lab.internet)):
            make = (
                f"ip link add e{number} type veth peer name eth1 netns {node.pid}; ip link set e{number} master ext up"
            )
            subprocess.run([*enter, make], check=True)
            node.run("ip link set eth1 up")
        lab.internet.run("ip address add 172.24.4.1/24 dev eth1")
        lab.internet.run("ip address add 2001:db8:4::1/64 dev eth1 nodad")
        lab.internet.run(f"ip address add {OUTSIDE6}/128 dev lo")
        lab.internet.run("sysctl -qw net.ipv6.conf.all.forwarding=1")
        for node in (*lab.hosts, lab.internet):
            node.cable("eth2", "ext2")
        lab.internet.run("ip address add 203.0.113.1/24 dev eth2")
        ways = {"public": ("br-ex", "eth1"), "second": ("br-ex2", "eth2")}
        physical = {name: Physical(bridge=bridge, interface=interface) for name, (bridge, interface) in ways.items()}
        settings = [WiringSettings(tunnel_address=host.address, physical=physical) for host in lab.hosts]
        cloud = Cloud([HostWiring(host, settings=each) for host, each in zip(lab.hosts, settings, strict=True)])
        subnets = (
            Subnet(id=new_id(), cidr="172.24.4.0/24", version=4, gateway="172.24.4.1", dhcp=False),
            Subnet(id=new_id(), cidr="2001:db8:4::/64", version=6, gateway="2001:db8:4::1", dhcp=False),
        )
        public = cloud.network(
            kind="flat", physical="public", external=True, mtu=1500, subnets=subnets, dhcp_mac=None, segment=None,
            dhcp_port_id=None,
        )  # fmt: skip
        subnet = Subnet(id=new_id(), cidr="203.0.113.0/24", version=4, gateway="203.0.113.1", dhcp=False)
        second = cloud.network(
            kind="flat", physical="second", external=True, mtu=1500, subnets=(subnet,), dhcp_mac=None, segment=None,
            dhcp_port_id=None,
        )  # fmt: skip
        yield Quarter(lab, cloud, public, [{}, {}, {}], second)


LISTEN = "import socket\ns=socket.socket(type=socket.SOCK_DGRAM)\ns.bind(('',9)); s.settimeout(20)\nprint('ready',flush=True)\n"
LISTEN += "while True:\n data,who=s.recvfrom(99); print(data.decode(),who[0],flush=True)\n"
SEND = "import socket\ns=socket.socket(type=socket.SOCK_DGRAM)\ns.bind(('{source}',0))\nfor _ in range(3): s.sendto(b'{says}',('172.24.4.1',9))\n"


def test_without_source_nat_nobody_speaks_with_an_address_of_the_wire(quarter: Quarter) -> None:
    """Not with a host's, which tunnels believe, and not with a neighbour's; with the project's own a guest does."""
    lab, cloud = quarter.lab, quarter.cloud
    hosts, plain = cloud.network("192.168.77.0/24"), cloud.network("10.7.0.0/24")
    ports = [cloud.port(net, number, host=2, port_security=False) for net, number in ((hosts, 77), (plain, 9))]
    legs = (quarter.leg(hosts, 0, "192.168.77.222/24"), quarter.leg(plain, 0, "10.7.0.1/24"))
    gateway = msgspec.structs.replace(quarter.gateway(31), snat=False)
    floating = (Floating("172.24.4.32", "10.7.0.10"),)
    router = Router(id=new_id(), interfaces=legs, gateways=(gateway,), floating=floating)
    quarter.routers[0][router.id] = router
    quarter.wire()
    lab.internet.run("sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.eth1.rp_filter=0")
    listener = lab.internet.popen("/usr/bin/python3", "-c", LISTEN)
    assert listener.stdout is not None and listener.stdout.readline() == "ready\n"
    for port, leg, sources in zip(
        ports, legs, (["192.168.77.77"], ["172.24.4.99", "10.7.0.10", "10.7.0.9"]), strict=True
    ):
        guest = quarter.guest(port)
        for each in sources:
            guest.run(f"ip address add {each}/24 dev eth0")
        guest.run(f"ip route replace 172.24.4.1/32 via {leg.addresses[0].address} dev eth0 onlink")
        for each in sources:
            guest.run("/usr/bin/python3", "-c", SEND.format(source=each, says=f"from-{each}"))
    heard = [listener.stdout.readline().split() for _ in range(6)]
    listener.kill()
    assert heard == [["from-10.7.0.10", "172.24.4.32"]] * 3 + [["from-10.7.0.9", "10.7.0.9"]] * 3
    quarter.routers[0].clear()
    quarter.wire(0)


# ---- high availability ----------------------------------------------------------------------------------------------


ECHO = "import socket\ns=socket.create_server(('0.0.0.0',{port}))\nprint('ready',flush=True)\nc,_=s.accept()\n"
ECHO += "while d:=c.recv(99): c.sendall(d)\n"
TALK = "import socket,sys\nc=socket.create_connection(('{address}',{port}),3)\nc.settimeout(20)\nprint('ready',flush=True)\n"
TALK += "for l in sys.stdin:\n try: c.sendall(l.encode()); print(c.recv(99).decode().strip(),flush=True)\n"
TALK += " except OSError as e: print(e,flush=True)\n"


class Flow:
    """A TCP connection from one node to another that is held open."""

    def __init__(self, server: Any, client: Any, address: str, port: int) -> None:
        self._server = server.popen("/usr/bin/python3", "-c", ECHO.format(port=port))
        assert self._server.stdout.readline() == "ready\n"
        self._client = client.popen("/usr/bin/python3", "-c", TALK.format(address=address, port=port), stdin=-1)
        assert self._client.stdout.readline() == "ready\n"

    def says(self, word: str) -> str:
        """What comes back for a word."""
        self._client.stdin.write(word + "\n")
        self._client.stdin.flush()
        return str(self._client.stdout.readline()).strip()


COUNT = """
import socket, sys
s = socket.create_server(('0.0.0.0', 7100), reuse_port=True)
print('ready', flush=True)
while True:
    c, (who, _) = s.accept()
    c.sendall(who.encode())
    c.close()
"""
ASK = """
import socket, sys
for _ in range({times}):
    c = socket.create_connection(('{address}', 7100), 5)
    print(c.recv(99).decode())
    c.close()
"""


def sources(outside: Node, guest: Guest, times: int) -> list[str]:
    """As whom the guest's connections arrive outside."""
    server = outside.popen("/usr/bin/python3", "-c", COUNT)
    assert server.stdout is not None and server.stdout.readline() == "ready\n"
    found = guest.out("/usr/bin/python3", "-c", ASK.format(times=times, address=OUTSIDE)).split()
    server.kill()
    return found


def elected(quarter: Quarter, router: Router, leg: RouterInterface) -> int:
    """The host that is active, when one is and the other stands by; all hosts believe the leg there, as the ledger tells
    them when a host says so."""

    def one() -> bool:
        quarter.wire(0, 1)
        return sorted(quarter.states(host, router)[-1:] for host in (0, 1)) == [["active"], ["standby"]]

    wait(one, 30, "one active host")
    active = [quarter.states(host, router)[-1] for host in (0, 1)].index("active")
    quarter.place(leg, active)
    quarter.wire()
    return active


def test_a_highly_available_router_goes_on_when_its_host_is_lost(quarter: Quarter) -> None:
    lab, cloud = quarter.lab, quarter.cloud
    net = cloud.network("10.1.0.0/24")
    everything = Rule(direction="ingress", version=4)
    port = cloud.port(net, 11, cloud.group(everything), host=2)
    inner, floating = quarter.leg(net, 0, "10.1.0.1/24"), "172.24.4.20"
    way = Floating(floating, "10.1.0.11")
    router = Router(id=new_id(), interfaces=(inner,), gateways=(quarter.gateway(10),), floating=(way,))
    quarter.elect(router)
    active = elected(quarter, router, inner)
    other = 1 - active
    assert "10.1.0.1" not in quarter.inside(other, router, "ip", "address")
    assert quarter.inside(other, router, "ip", "route", "show", "default") == ""
    assert "fe80" not in quarter.inside(other, router, "ip", "-6", "address", "show", "dev", f"qr-{inner.port_id[:11]}")
    guest = quarter.guest(port)
    guest.dhcp()
    guest.serve(80, "still here\n")
    assert guest.pings(OUTSIDE) and lab.internet.reaches(floating, 80) == "still here\n"
    out, come_in = Flow(lab.internet, guest, OUTSIDE, 9000), Flow(guest, lab.internet, floating, 9001)
    assert (out.says("one"), come_in.says("two")) == ("one", "two")
    # The present pass of the standby changes nothing, and a second one of the active neither.
    assert [cloud.wirings[host].wire(quarter.desired(host))["changes"] for host in (active, other)] == [0, 0]
    # An address that somebody takes away comes back.
    quarter.inside(active, router, "ip", "address", "delete", "10.1.0.1/24", "dev", f"qr-{inner.port_id[:11]}")
    wait(lambda: cloud.wirings[active].wire(quarter.desired(active)) and guest.pings(OUTSIDE), 15, "repair")
    # The host is lost: its cards are out, and its keepalived dies with it.
    lost = time.monotonic()
    lab.hosts[active].run("sh", "-c", "ip link set eth0 down; ip link set eth1 down")
    wait(lambda: quarter.states(other, router)[-1] == "active", 20, "the other host to become active")
    took = time.monotonic() - lost
    quarter.place(inner, other)
    quarter.wire(other, 2)
    assert (out.says("three"), come_in.says("four")) == ("three", "four"), "open connections go on"
    assert guest.pings(OUTSIDE) and lab.internet.reaches(floating, 80) == "still here\n"
    assert took < 10, f"failover took {took:.1f} s"
    print(f"failover after {took:.1f} s")
    # Back again, one of the two stands by, and the connection goes on.
    back = "ip link set eth0 up; ip link set eth1 up; ip route replace default via 192.168.77.254"
    lab.hosts[active].run("sh", "-c", back)
    active = elected(quarter, router, inner)
    assert out.says("five") == "five"
    # Nobody believes the router's MAC on the host that stands by: not the active one, which so would send nothing to
    # itself, and not the other, whose own guests it serves.
    tap, tunnel = f"tap{inner.port_id[:11]}", f"vxlan-{net.segment}"
    learned = {host: lab.hosts[host].out("sh", "-c", f"bridge fdb show | grep '{inner.mac}.* master'") for host in (0, 1)}
    assert tap in learned[active] and tunnel not in learned[active], learned
    assert tap not in learned[1 - active], learned
    # The other one is preferred from now on, and takes over at once from one that is active.
    for host in (0, 1):
        known = quarter.routers[host][router.id]
        assert known.ha is not None
        ranked = msgspec.structs.replace(known.ha, rank=2 if host != active else 1)
        quarter.routers[host][router.id] = msgspec.structs.replace(known, ha=ranked)
    quarter.wire(0, 1)
    wait(lambda: quarter.states(1 - active, router)[-1] == "active", 20, "the preferred host to become active")
    active = elected(quarter, router, inner)
    assert out.says("six") == "six"
    # keepalived that is killed is back by the next pass; away from the desired state all of it goes.
    noted = cloud.wirings[active].state_dir / "vrrp" / router.id / "pid"
    pid = int(noted.read_text())
    lab.hosts[active].run(f"kill -9 {pid}")

    def again() -> bool:
        quarter.wire(active)
        return noted.exists() and int(noted.read_text()) != pid

    wait(again, 10, "another keepalived")
    elected(quarter, router, inner)
    wait(lambda: lab.internet.reaches(floating, 80) == "still here\n", 10, "the floating IP")
    for host in (0, 1):
        quarter.routers[host].clear()
    quarter.wire()
    for host in (0, 1):
        assert "keepalived" not in lab.hosts[host].out("ps ax")
        assert f"qrouter-{router.id}" not in lab.hosts[host].out("ip netns list")
    lost = cloud.wirings[0].state_dir / "vrrp" / new_id()
    lost.mkdir()
    assert str(lost) in {one.name for one in cloud.wirings[0].leftovers(quarter.desired(0))}
    quarter.wire(0)
    assert not lost.exists()


def test_a_highly_available_router_keeps_its_gateways_when_its_host_is_lost(quarter: Quarter) -> None:
    """Which gateway what takes, floating IPs of both, shared connections, and what a trace says of it: before and after."""
    lab, cloud = quarter.lab, quarter.cloud
    net = cloud.network("10.40.0.0/24")
    group = cloud.group(Rule(direction="ingress", version=4))
    ports = {name: cloud.port(net, number, group, host=2) for name, number in (("main", 11), ("other", 12), ("none", 13))}
    inner, main, other = quarter.leg(net, 0, "10.40.0.1/24"), quarter.gateway(40), quarter.other_gateway(40)
    floating = {"main": "172.24.4.45", "other": "203.0.113.45"}
    ways = tuple(Floating(floating[name], ports[name].addresses[0].address) for name in floating)
    router = Router(id=new_id(), interfaces=(inner,), gateways=(main, other), floating=ways)
    quarter.elect(router)
    active = elected(quarter, router, inner)
    guests = {name: quarter.guest(port) for name, port in ports.items()}
    for name, guest in guests.items():
        guest.dhcp()
        guest.serve(80, f"{name}\n")
    # Whoever is outside takes answers only where it asked, and is on neither network.
    client = "198.51.100.99"
    lab.internet.run(f"ip address add {client}/32 dev lo")
    lab.internet.run("sh", "-c", "for a in all eth1 eth2; do sysctl -qw net.ipv4.conf.$a.rp_filter=1; done")

    def keeps_to_its_gateways(active: int) -> None:
        for name, address in floating.items():
            wait(lambda a=address: lab.internet.reaches(a, 80, source=client), 15, f"{name}'s floating IP")  # type: ignore[misc]
            assert lab.internet.reaches(address, 80, source=client) == f"{name}\n"
            assert sources(lab.internet, guests[name], 2) == [address] * 2
            assert guests[name].pings("172.24.4.1") and guests[name].pings("203.0.113.1")
        assert sources(lab.internet, guests["none"], 3) == ["172.24.4.40"] * 3
        assert cloud.wirings[active].wire(quarter.desired(active))["changes"] == 0
        assert traced("other", other)[-1] == "eth2", "the uplink of its gateway, and no other"
        assert traced("none", main)[-1] == "eth1"

    def traced(name: str, *gateways: RouterGateway) -> tuple[str, ...]:
        """The devices that a trace to the outside names; every packet of it is seen on all of them, and answered."""
        host = str(active)
        names = {main.network_id: "public", other.network_id: "second"}
        port = ports[name]
        ends = [cloud.wirings[each].settings.tunnel_address or "" for each in (2, active)]
        tunnel = [
            Stop("2", Point(at=At.UPLINK, id=net.id, peer=ends[1])), Stop("2", Point(at=At.UNDERLAY)),
            Stop(host, Point(at=At.UNDERLAY)), Stop(host, Point(at=At.UPLINK, id=net.id, peer=ends[0])),
        ]  # fmt: skip
        endings = [
            (
                Stop(host, Point(at=At.LEG, id=each.port_id, router_id=router.id), gateway=True),
                Stop(host, Point(at=At.UPLINK, id=each.network_id)),
                Stop(host, Point(at=At.PHYSICAL, id=names[each.network_id])),
            )
            for each in gateways
        ]
        leg = Stop(host, Point(at=At.LEG, id=inner.port_id, router_id=router.id))
        stops = (Stop("2", Point(at=At.TAP, id=port.id)), *tunnel, leg, *endings[0])
        found = trace(
            cloud.wirings,
            Way(port.id, port.mac, port.addresses[0].address, 1450, "address", OUTSIDE, "10.40.0.1", inner.mac, stops, OUTSIDE,
                others=tuple(endings[1:])),
        )  # fmt: skip
        assert found.ok and found.also == (), found
        return tuple(hop.device for hop in found.hops)

    keeps_to_its_gateways(active)
    opened = {name: Flow(guests[name], lab.internet, address, 9100) for name, address in floating.items()}
    lab.hosts[active].run("sh", "-c", "for a in eth0 eth1 eth2; do ip link set $a down; done")
    lost, active = active, 1 - active
    wait(lambda: quarter.states(active, router)[-1] == "active", 20, "the other host to become active")
    quarter.place(inner, active)
    quarter.wire(active, 2)
    for name, flow in opened.items():
        assert flow.says("go on") == "go on", f"{name}'s connection by its floating IP"
    keeps_to_its_gateways(active)
    # Shared among all gateways, with one host away: the trace names the one that was taken.
    quarter.routers[active][router.id] = msgspec.structs.replace(quarter.routers[active][router.id], ecmp=True)
    quarter.wire(active)

    def shared() -> bool:
        return set(sources(lab.internet, guests["none"], 40)) == {"172.24.4.40", "203.0.113.40"}

    wait(shared, 15, "connections by both gateways")
    assert sources(lab.internet, guests["other"], 2) == [floating["other"]] * 2
    assert traced("none", main, other)[-1] in ("eth1", "eth2")
    assert traced("none", other, main)[-1] in ("eth1", "eth2")
    assert traced("other", other)[-1] == "eth2"
    lab.internet.run("sh", "-c", "for a in all eth1 eth2; do sysctl -qw net.ipv4.conf.$a.rp_filter=0; done")
    lab.internet.run(f"ip address del {client}/32 dev lo")
    back = "for a in eth0 eth1 eth2; do ip link set $a up; done; ip route replace default via 192.168.77.254"
    lab.hosts[lost].run("sh", "-c", back)
    for host in (0, 1):
        quarter.routers[host].clear()
    quarter.wire()


# ---- IPv6 -----------------------------------------------------------------------------------------------------------


SOLICIT = """
import os, socket, struct, sys
mac = bytes.fromhex(sys.argv[1].replace(':', ''))
kind = int(sys.argv[2])
option = lambda code, data: struct.pack('!HH', code, len(data)) + data
ask = option(1, struct.pack('!HH', 3, 1) + mac) + option(6, struct.pack('!3H', 23, 24, 59)) + option(8, b'\\0\\0')
if kind == 1:
    ask += option(3, struct.pack('!III', 1, 0, 0)) + option(14, b'')
link = socket.if_nametoindex('eth0')
s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(('::', 546, 0, link))
s.settimeout(1)
for _ in range(8):
    s.sendto(bytes([kind]) + b'abc' + ask, ('ff02::1:2', 547, 0, link))
    try:
        data = s.recv(4096)
        break
    except TimeoutError:
        pass
else:
    sys.exit('nobody answers')
def read(data):
    while data:
        code, size = struct.unpack('!HH', data[:4])
        yield code, data[4:4 + size]
        data = data[4 + size:]
for code, value in read(data[4:]):
    if code == 3:
        for inner, what in read(value[12:]):
            if inner == 5:
                print('address', socket.inet_ntop(socket.AF_INET6, what[:16]))
    if code == 23:
        print('dns', socket.inet_ntop(socket.AF_INET6, value[:16]))
    if code == 59:
        print('option59', value.decode())
"""


def dhcp6(guest: Guest, *, information: bool = False) -> dict[str, str]:
    """What DHCPv6 answers: to a rapid-commit solicitation, or to a question for options only (RFC 8415)."""
    said = guest.out("/usr/bin/python3", "-c", SOLICIT, guest.mac, "11" if information else "1")
    return dict(line.split(" ", 1) for line in said.splitlines())


def eui64(prefix: str, mac: str) -> str:
    octets = bytes.fromhex(mac.replace(":", ""))
    body = bytes([octets[0] ^ 2]) + octets[1:3] + b"\xff\xfe" + octets[3:]
    groups = [body[at : at + 2].hex().lstrip("0") or "0" for at in range(0, 8, 2)]
    return str(ipaddress.ip_address(prefix + ":".join(groups)))


def six(mode: str | None, letter: str) -> Subnet:
    return Subnet(
        id=new_id(), cidr=f"2001:db8:{letter}::/64", version=6, gateway=f"2001:db8:{letter}::1",
        dhcp_address=f"2001:db8:{letter}::2", dns=(f"2001:db8:{letter}::53",), ra_mode=mode, address_mode=mode,
    )  # fmt: skip


def test_ipv6_by_advertisement_and_by_dhcp_and_the_way_out(quarter: Quarter) -> None:
    cloud, lab = quarter.cloud, quarter.lab
    group = cloud.group(PING, PING6, WEB6)
    nets, ports, legs = {}, {}, []
    for place, (letter, mode) in enumerate((("a", "slaac"), ("b", "dhcpv6-stateful"), ("c", "dhcpv6-stateless"))):
        net = cloud.network(f"10.{20 + place}.0.0/24")
        net = cloud.change(net, subnets=(*net.subnets, six(mode, letter)))
        mac = f"fa:16:3e:06:00:0{place}"
        subnet = net.subnets[1]
        address = f"2001:db8:{letter}::77" if mode == "dhcpv6-stateful" else eui64(f"2001:db8:{letter}::", mac)
        four = Address(f"10.{20 + place}.0.11", 24, net.subnets[0].id)
        ports[letter] = cloud.port(
            net, 11, group, host=2, name=f"six{letter}", mac=mac, addresses=(four, Address(address, 64, subnet.id))
        )
        net = cloud.networks[net.id]
        (endpoint,) = [one for one in net.endpoints if one.port_id == ports[letter].id]
        rest = tuple(one for one in net.endpoints if one is not endpoint)
        options = (("59", "http://boot.test/six"),)
        cloud.change(net, endpoints=(*rest, msgspec.structs.replace(endpoint, dhcp6_options=options)))
        nets[letter] = cloud.networks[net.id]
        legs.append(quarter.leg(nets[letter], 0, f"2001:db8:{letter}::1/64"))
    router = Router(id=new_id(), interfaces=tuple(legs), gateways=(quarter.gateway(11),))
    quarter.routers[0][router.id] = router
    quarter.wire()
    for letter in "abc":
        lab.internet.run(f"ip route replace 2001:db8:{letter}::/64 via 2001:db8:4::11")
    guests = {letter: quarter.guest(port) for letter, port in ports.items()}

    def has(letter: str, address: str) -> bool:
        return f" {address}/" in guests[letter].out("ip -6 address show dev eth0 scope global")

    # The address is the one that the ledger allotted: the guest makes it of its MAC and the prefix.
    for letter in "ac":
        own = ports[letter].addresses[1].address
        wait(lambda letter=letter, own=own: has(letter, own), 30, f"address {own} by advertisement")
        assert guests[letter].out("cat /proc/sys/net/ipv6/conf/eth0/mtu") == "1450", "the MTU is advertised too"
    wait(lambda: "default" in guests["b"].out("ip -6 route"), 30, "a default route by advertisement")
    assert guests["b"].out("ip -6 address show dev eth0 scope global") == "", (
        "nothing autonomous where DHCPv6 is stateful"
    )
    lease = dhcp6(guests["b"])
    assert lease == {"address": "2001:db8:b::77", "dns": "2001:db8:b::53", "option59": "http://boot.test/six"}
    guests["b"].run("ip address add 2001:db8:b::77/64 dev eth0 nodad")
    assert dhcp6(guests["c"], information=True)["dns"] == "2001:db8:c::53"
    with pytest.raises(AssertionError):
        dhcp6(guests["a"])
    # Out, in, and between its networks; no address is translated.
    for letter, guest in guests.items():
        own = ports[letter].addresses[1].address
        wait(lambda guest=guest: guest.pings(OUTSIDE6), 10, f"a way out of {letter}")
        assert lab.internet.pings(own)
    assert guests["a"].pings(ports["b"].addresses[1].address)
    # radvd that is killed is back by the next pass.
    pid = (cloud.wirings[0].state_dir / "radvd" / router.id / "pid").read_text().strip()
    lab.hosts[0].run(f"kill -9 {pid}")
    assert cloud.wirings[0].wire(quarter.desired(0))["changes"] > 0
    assert cloud.wirings[0].wire(quarter.desired(0))["changes"] == 0
    # NDP proxy: the outside believes the range on its own wire, and the router answers for one guest only.
    lab.internet.run("ip route replace 2001:db8:a::/64 dev eth1")
    proxied = ports["a"].addresses[1].address
    quarter.routers[0][router.id] = msgspec.structs.replace(router, proxied=(proxied,))
    quarter.wire(0)
    wait(lambda: lab.internet.pings(proxied), 10, "a proxied address")
    assert guests["a"].pings(OUTSIDE6)
    lab.internet.run("ip route replace 2001:db8:b::/64 via 2001:db8:4::11")
    assert not lab.internet.pings("2001:db8:b::77", wait=1), "what is not proxied is not reached from outside"
    assert cloud.wirings[0].wire(quarter.desired(0))["changes"] == 0
    quarter.routers[0][router.id] = msgspec.structs.replace(router, proxied=())
    quarter.wire(0)
    lab.internet.run("ip -6 neigh flush dev eth1")
    assert not lab.internet.pings(proxied, wait=1)
    del quarter.routers[0][router.id]
    quarter.wire(0)
    assert "radvd" not in lab.hosts[0].out("ps ax")


# ---- what routers translate and count -------------------------------------------------------------------------------


def test_port_forwarding_helpers_and_metering(quarter: Quarter) -> None:
    cloud, lab = quarter.cloud, quarter.lab
    net = cloud.network("10.30.0.0/24")
    port = cloud.port(net, 11, cloud.group(Rule(direction="ingress", version=4)), host=2)
    leg = quarter.leg(net, 0, "10.30.0.1/24")
    fixed, outside = "10.30.0.11", "172.24.4.30"
    forwardings = (
        Forwarding(protocol="tcp", address=outside, outside=(2222, 2222), fixed=fixed, inside=(80, 80)),
        Forwarding(protocol="tcp", address=outside, outside=(3000, 3002), fixed=fixed, inside=(4000, 4002)),
        Forwarding(protocol="tcp", address=outside, outside=(5000, 5009), fixed=fixed, inside=(81, 81)),
        Forwarding(protocol="udp", address=outside, outside=(6000, 6001), fixed=fixed, inside=(6000, 6001)),
    )
    helpers = tuple(
        Helper(helper=name, protocol=protocol, port=1000 + place)
        for place, (name, protocol) in enumerate(
            (("ftp", "tcp"), ("tftp", "udp"), ("sip", "udp"), ("sip", "tcp"), ("irc", "tcp"), ("amanda", "udp"),
             ("netbios-ns", "udp"), ("pptp", "tcp"), ("sane", "tcp"), ("snmp", "udp"), ("h323", "tcp"), ("h323", "udp"))
        )
    )  # fmt: skip
    label = new_id()
    meters = (Meter(id=label, rules=(("egress", True, None, f"{DNS}/32"), ("egress", False, None, "198.51.100.0/24"))),)
    router = Router(
        id=new_id(), interfaces=(leg,), gateways=(quarter.gateway(12),), forwardings=forwardings, helpers=helpers,
        meters=meters,
    )  # fmt: skip
    quarter.routers[0][router.id] = router
    quarter.wire()
    guest = quarter.guest(port)
    guest.dhcp()
    for number in (80, 81, 4000, 4001, 4002):
        guest.serve(number, f"port {number}\n")
    expected = {2222: 80, 3000: 4000, 3001: 4001, 3002: 4002, 5000: 81, 5009: 81}
    assert {at: lab.internet.reaches(outside, at) for at in expected} == {
        at: f"port {inner}\n" for at, inner in expected.items()
    }
    assert lab.internet.reaches(outside, 2223, wait=1) is None
    assert guest.reaches(outside, 2222) == "port 80\n", "from inside as well"

    def counted() -> tuple[int, int]:
        listing = quarter.inside(0, router, "nft", "-j", "list", "counters", "table", "inet", "nephos_meters")
        (found,) = [each["counter"] for each in json.loads(listing)["nftables"] if "counter" in each]
        assert found["name"] == f"meter_{label.replace('-', '_')}"
        return found["packets"], found["bytes"]

    before = counted()
    assert guest.pings(OUTSIDE, count=5) and guest.pings(DNS, count=3)
    after = counted()
    assert (after[0] - before[0], after[1] - before[1]) == (5, 5 * 84), "what an excluded rule matches is not counted"
    quarter.routers[0][router.id] = msgspec.structs.replace(router, forwardings=forwardings[:1], helpers=())
    quarter.wire(0)
    assert counted() == after, "counters go on when something else changes"
    assert lab.internet.reaches(outside, 3000, wait=1) is None
    assert lab.internet.reaches(outside, 2222) == "port 80\n"
    quarter.inside(0, router, "nft", "flush", "ruleset")
    quarter.wire(0)
    assert lab.internet.reaches(outside, 2222) == "port 80\n"
    assert counted() == (0, 0)
    # A gateway that is not there is told, and again when it is.
    gateway = quarter.gateway(12)
    wrong = msgspec.structs.replace(gateway, nexthops=("172.24.4.250",), port_id=router.gateways[0].port_id)
    quarter.routers[0][router.id] = msgspec.structs.replace(router, gateways=(wrong,))

    def said() -> list[tuple[str, str]]:
        quarter.wire(0)
        facts = cloud.wirings[0].facts()
        return [(one.kind, one.detail) for one in facts if one.port_id == wrong.port_id]

    wait(lambda: ("gateway_silent", "172.24.4.250") in said(), 15, "the missing gateway")
    assert ("gateway_answers", "172.24.4.1") in said()
    assert ("gateway_silent", "172.24.4.1") not in said()
    lab.internet.run("ip address add 172.24.4.250/24 dev eth1")
    wait(lambda: said()[-1] == ("gateway_answers", "172.24.4.250"), 15, "the gateway that is there now")
    lab.internet.run("ip address delete 172.24.4.250/24 dev eth1")
    del quarter.routers[0][router.id]
    quarter.wire(0)
