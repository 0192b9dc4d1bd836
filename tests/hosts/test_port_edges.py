"""What a port's edge does with real packets: limits, marks, changes of rules under traffic, and what is told of it.

One host with three pretend guests; every rate is measured by what arrives, with room for a slow machine.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import msgspec
import pytest

from nephos.wiring.base import Group, Limits, Network, Port, Rule
from tests.hosts.lab import Guest, Lab
from tests.hosts.wiring_lab import PING, Cloud, HostWiring

pytestmark = pytest.mark.host

OPENED = Rule(direction="ingress", version=4, protocol="udp")
TCP = Rule(direction="ingress", version=4, protocol="tcp", port_min=5000, port_max=5999)

_RECEIVE = """
import socket,sys,time
s=socket.create_server(('0.0.0.0',int(sys.argv[1])))
print('ready',flush=True)
c,_=s.accept()
n,t=0,time.monotonic()
while d:=c.recv(1<<16): n+=len(d)
print(n,time.monotonic()-t,flush=True)
"""
_SEND = """
import socket,sys
c=socket.create_connection((sys.argv[1],int(sys.argv[2])),5)
c.sendall(b'x'*int(sys.argv[3]))
"""
_COUNT = """
import socket,sys,time
s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM)
s.bind(('0.0.0.0',int(sys.argv[1])))
s.setsockopt(socket.SOL_SOCKET,socket.SO_RCVBUF,1<<22)
print('ready',flush=True)
n=0
while s.recv(99)!=b'end': n+=1
print(n,flush=True)
"""
_DATAGRAMS = """
import socket,sys,time
s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM)
a=(sys.argv[1],int(sys.argv[2]))
n,t,d=int(sys.argv[3]),time.monotonic(),float(sys.argv[4])
for i in range(n):
    s.sendto(b'%d'%i,a)
    time.sleep(max(0,t+(i+1)*d-time.monotonic()))
time.sleep(.3)
for _ in range(20):
    s.sendto(b'end',a)
    time.sleep(.05)
"""
_FRAME = """
import socket,sys
s=socket.socket(socket.AF_PACKET,socket.SOCK_RAW)
s.bind(('eth0',0))
for frame in sys.argv[1:]: s.send(bytes.fromhex(frame))
"""


@dataclass
class Street:
    """Guests a, b and c with addresses 10.1.0.11 to 13, in one group that lets datagrams and ports 5000-5999 in."""

    lab: Lab
    cloud: Cloud
    group: Group
    network: Network
    ports: dict[str, Port]
    guests: dict[str, Guest]

    def change(self, name: str, **values: object) -> None:
        self.ports[name] = port = msgspec.structs.replace(self.ports[name], **values)
        self.cloud.ports[port.id] = (0, port)
        self.cloud.wire()

    def transfer(self, sender: str, receiver: str, size: int, port: int) -> float:
        """Seconds that so many bytes take by TCP."""
        target = self.guests[receiver].popen("/usr/bin/python3", "-c", _RECEIVE, str(port))
        assert target.stdout is not None and target.stdout.readline() == "ready\n"
        address = self.ports[receiver].addresses[0].address
        self.guests[sender].run("/usr/bin/python3", "-c", _SEND, address, str(port), str(size), timeout=60)
        count, seconds = target.stdout.readline().split()
        target.communicate()
        assert int(count) == size
        return float(seconds)

    def datagrams(
        self,
        sender: str,
        receiver: str,
        count: int,
        gap: float,
        port: int,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> int:
        """How many of so many datagrams, so many seconds apart, arrive, while something else is done."""
        target = self.guests[receiver].popen("/usr/bin/python3", "-c", _COUNT, str(port))
        assert target.stdout is not None and target.stdout.readline() == "ready\n"
        words = (self.ports[receiver].addresses[0].address, str(port), str(count), str(gap))
        source = self.guests[sender].popen("/usr/bin/python3", "-c", _DATAGRAMS, *words)
        meanwhile()
        source.communicate(timeout=60)
        arrived = int(target.stdout.readline())
        target.communicate()
        return arrived


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Street]:
    with Lab(tmp_path_factory.mktemp("street"), hosts=1) as lab:
        cloud = Cloud([HostWiring(lab.hosts[0])])
        network, group = cloud.network(kind="local"), cloud.group(PING, OPENED, TCP)
        ports = {name: cloud.port(network, 11 + place, group, name=name) for place, name in enumerate("abc")}
        cloud.wire()
        guests = {name: cloud.wirings[0].guest(port) for name, port in ports.items()}
        for guest in guests.values():
            guest.dhcp()
        yield Street(lab, cloud, group, network, ports, guests)


def test_bandwidth_is_limited_in_each_direction_and_then_no_more(street: Street) -> None:
    def free(sender: str, receiver: str, port: int) -> bool:
        """Whether 1 MB takes less than it would at the limit, however busy the machine is."""
        return any(street.transfer(sender, receiver, 1_000_000, port + again) < 1.5 for again in range(3))

    street.change("b", limits=Limits(to_kbits=4000, to_burst=400))
    assert 1.5 < street.transfer("a", "b", 1_000_000, 5002) < 8, "1 MB at 4 Mbit/s takes 2 s"
    assert free("b", "a", 5011), "what it sends is not limited"
    street.change("b", limits=Limits(sent_kbits=4000, sent_burst=400))
    assert 1.5 < street.transfer("b", "a", 1_000_000, 5004) < 8
    assert free("a", "b", 5021)
    assert street.cloud.wirings[0].apply(street.cloud.desired())["changes"] == 0, "an equal host is left alone"
    street.lab.hosts[0].run(f"tc qdisc del dev tap{street.ports['b'].id[:11]} ingress")
    street.cloud.wire()
    assert street.transfer("b", "a", 500_000, 5006) > 0.7, "what somebody else took away is there again"
    street.change("b", limits=None)
    assert free("b", "a", 5031)
    assert "ifb" not in street.lab.hosts[0].out("ip -br link")


def test_packets_are_limited_and_marked(street: Street) -> None:
    street.change("c", limits=Limits(sent_packets=100, sent_packets_burst=10, dscp=26))
    tap = f"tap{street.ports['a'].id[:11]}"
    capture = street.lab.hosts[0].popen("tcpdump", "-c1", "-lnvi", tap, "udp port 6001")
    assert capture.stdout is not None
    while "listening on" not in capture.stdout.readline():
        pass
    arrived = street.datagrams("c", "a", 1000, 0.001, 6001)
    # 1,000 in a second and more, of which 100 a second and 10 at once may pass; the end marks pass too.
    assert 80 <= arrived <= 400, arrived
    said, _ = capture.communicate(timeout=20)
    assert "tos 0x68" in said, said
    street.change("c", limits=None)
    assert street.datagrams("c", "a", 500, 0.001, 6002) == 500


def test_no_packet_of_others_is_lost_while_rules_change(street: Street) -> None:
    cloud = street.cloud
    before = cloud.groups[street.group.id]

    def change() -> None:
        for number in range(20):
            more = tuple(
                Rule(direction="ingress", version=4, protocol="tcp", port_min=7000 + each, port_max=7000 + each)
                for each in range(number + 1)
            )
            cloud.change(before, rules=(*before.rules, *more))
            cloud.wire()
        port = cloud.port(cloud.networks[street.network.id], 99, cloud.groups[before.id])
        cloud.wire()
        cloud.remove(port)
        cloud.change(before, rules=before.rules)
        cloud.wire()

    assert street.datagrams("a", "b", 3000, 0.001, 6003, change) == 3000


def test_an_address_group_lets_its_ranges_in(street: Street) -> None:
    cloud = street.cloud
    offices = cloud.group(members=("10.1.0.13/32", "192.0.2.0/24"))
    cloud.change(offices, rules=())
    only = Rule(direction="ingress", version=4, protocol="tcp", port_min=80, port_max=80, remote_group_id=offices.id)
    guarded = cloud.group(only)
    street.guests["b"].serve(80, "for offices\n")
    street.change("b", groups=(guarded.id, street.group.id))
    assert street.guests["c"].reaches("10.1.0.12", 80) == "for offices\n"
    assert street.guests["a"].reaches("10.1.0.12", 80, wait=1) is None
    cloud.change(cloud.groups[offices.id], members=("10.1.0.0/27",))
    cloud.wire()
    assert street.guests["a"].reaches("10.1.0.12", 80) == "for offices\n"
    cloud.change(cloud.groups[offices.id], members=("10.1.0.13/32",))
    cloud.wire()
    assert street.guests["a"].reaches("10.1.0.12", 80, wait=1) is None


def test_what_is_seen_behind_a_port_and_blocked_there_is_told(street: Street) -> None:
    behind = "fa:16:3e:cc:00:01"
    street.change("a", pairs=(("10.1.0.77", behind),))
    own = street.ports["a"].mac
    offer = _offer(own, "10.1.0.11")
    claim, alien = _claim(behind, "10.1.0.77"), _claim("fa:16:3e:cc:00:02", "10.1.0.78")
    advert = _advert(own)
    street.guests["a"].run("/usr/bin/python3", "-c", _FRAME, claim, alien, offer, offer, advert)
    wiring = street.cloud.wirings[0]
    wiring.restart()
    wiring.wire(street.cloud.desired())
    mine = [fact for fact in wiring.facts() if fact.port_id == street.ports["a"].id]
    told = {fact.kind: json.loads(fact.detail) for fact in mine if fact.kind in ("learned", "rogue")}
    assert [behind, "10.1.0.77"] in told["learned"]
    assert all(mac != "fa:16:3e:cc:00:02" and mac != own for mac, _ in told["learned"]), told["learned"]
    seen = {what: (mac, frames) for what, mac, _, frames in told["rogue"]}
    assert seen == {"DHCP": (own, 2), "router advertisement": (own, 1)}, told["rogue"]


def _ip_sum(header: bytes) -> bytes:
    total = sum(int.from_bytes(header[at : at + 2], "big") for at in range(0, len(header), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return (0xFFFF - total).to_bytes(2, "big")


def _address(text: str) -> bytes:
    return bytes(int(part) for part in text.split("."))


def _claim(mac: str, address: str) -> str:
    """A gratuitous ARP request."""
    source = bytes.fromhex(mac.replace(":", ""))
    arp = b"\0\1\x08\0\x06\x04\0\1" + source + _address(address) + bytes(6) + _address(address)
    return (b"\xff" * 6 + source + b"\x08\x06" + arp).hex()


def _offer(mac: str, address: str) -> str:
    """What a DHCP server broadcasts (RFC 2131), as far as a filter looks."""
    source, payload = bytes.fromhex(mac.replace(":", "")), b"\2\1\6\0" + bytes(296)
    udp = (67).to_bytes(2, "big") + (68).to_bytes(2, "big") + (8 + len(payload)).to_bytes(2, "big") + b"\0\0" + payload
    start = b"\x45\0" + (20 + len(udp)).to_bytes(2, "big") + b"\0\0\0\0\x40\x11"
    ends = _address(address) + b"\xff" * 4
    header = start + _ip_sum(start + b"\0\0" + ends) + ends
    return (b"\xff" * 6 + source + b"\x08\0" + header + udp).hex()


def _advert(mac: str) -> str:
    """A router advertisement (RFC 4861) from the MAC's link-local address."""
    source = bytes.fromhex(mac.replace(":", ""))
    local = b"\xfe\x80" + bytes(6) + bytes([source[0] ^ 2]) + source[1:3] + b"\xff\xfe" + source[3:]
    everyone = b"\xff\x02" + bytes(13) + b"\1"
    body = b"\x86\0\0\0\x40\0\x07\x08" + bytes(8)
    pseudo = local + everyone + len(body).to_bytes(4, "big") + b"\0\0\0\x3a"
    body = body[:2] + _ip_sum(pseudo + body) + body[4:]
    header = b"\x60\0\0\0" + len(body).to_bytes(2, "big") + b"\x3a\xff" + local + everyone
    return (b"\x33\x33\0\0\0\1" + source + b"\x86\xdd" + header + body).hex()


def test_a_trunks_tag_is_carried_or_refused_with_the_reason(street: Street) -> None:
    cloud, host = street.cloud, street.lab.hosts[0]
    inner = cloud.network("10.9.0.0/24", kind="local")
    port = cloud.port(inner, 20, street.group, trunk=street.ports["c"].id, tag=42)
    answer = cloud.wirings[0].apply(cloud.desired())
    tagged = host.run("ip link add link lo name probe42 type vlan id 42", check=False).returncode == 0
    if tagged:
        host.run("ip link delete probe42")
        assert answer["errors"] == {}
        inside = street.guests["c"]
        inside.run("ip link add link eth0 name eth0.42 type vlan id 42")
        inside.run(f"ip link set eth0.42 address {port.mac} up")
        inside.run("ip address add 10.9.0.20/24 dev eth0.42")
        assert inside.pings("10.9.0.2")
    else:
        why = answer["errors"][f"port {port.id}"]
        assert "VLAN 42" in why and "802.1Q (8021q)" in why, answer["errors"]
        assert set(answer["errors"]) == {f"port {port.id}"}, "no other port suffers"
    cloud.remove(port)
    del cloud.networks[inner.id]
    cloud.wire()
