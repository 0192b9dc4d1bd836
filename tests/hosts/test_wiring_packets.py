"""Real packets through the Linux wiring: pretend guests on two hosts, a router, and an internet.

Most tests share one town, built once; each uses guests of its own where it changes anything.
"""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import msgspec
import pytest

from nephos.wiring.base import Address, Group, Port, Route, Router, Rule, Subnet
from nephos.wiring.linux.system.names import link_local
from tests.hosts.lab import DNS, LARGE_NAME, OUTSIDE, OUTSIDE_NAME, Failed, Guest, Host, Lab, wait
from tests.hosts.wiring_lab import PING, PUBLIC_HOST, WEB, Cloud, HostWiring, new_id

pytestmark = pytest.mark.host


@dataclass
class Town:
    """Network 10.1.0.0/24 on two hosts with guests a, b (host 1) and x (host 2); another with the same addresses and
    guest twin; a router with floating IPs for a and b."""

    lab: Lab
    cloud: Cloud
    group: Group
    router: Router
    ports: dict[str, Port]
    guests: dict[str, Guest]
    floating: dict[str, str]
    leases: dict[str, dict[str, str]] = field(default_factory=dict)

    @property
    def host(self) -> Host:
        return self.lab.hosts[0]

    def guest(self, name: str) -> Guest:
        """The guest of that name with its address taken."""
        guest = self.guests[name]
        if name not in self.leases:
            self.leases[name] = guest.dhcp()
        return guest

    def add(self, name: str, port: Port, host: int = 0) -> Guest:
        self.ports[name] = port
        self.cloud.wire()
        self.guests[name] = self.cloud.wirings[host].guest(port)
        return self.guest(name)


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    with Lab(tmp_path_factory.mktemp("town"), hosts=2) as lab:
        cloud = Cloud([HostWiring(host) for host in lab.hosts])
        public, net, other = cloud.public(), cloud.network(), cloud.network()
        group = cloud.group(PING, WEB)
        ports = {
            "a": cloud.port(net, 11, group, name="a"),
            "b": cloud.port(net, 12, group, name="b"),
            "x": cloud.port(net, 13, group, host=1, name="x"),
            "twin": cloud.port(other, 11, group, name="twin"),
        }
        router = cloud.router(public, net)
        floating = {"a": cloud.float(router, 20, ports["a"]), "b": cloud.float(router, 21, ports["b"])}
        cloud.wire()
        guests = {name: cloud.wirings[1 if name == "x" else 0].guest(port) for name, port in ports.items()}
        for name, guest in guests.items():
            guest.serve(80, f"this is {name}\n")
            guest.serve(2222, "not for everyone\n")
        yield Town(lab, cloud, group, router, ports, guests, floating)


# ---- DHCP and DNS ---------------------------------------------------------------------------------------------------


def test_dhcp_gives_address_name_mtu_routes_and_dns(town: Town) -> None:
    town.guest("a")
    lease = town.leases["a"]
    assert lease["ip"] == "10.1.0.11"
    assert lease["hostname"] == "a"
    assert lease["mtu"] == "1450"
    assert lease["dns"] == "10.1.0.2"
    assert lease["staticroutes"].split() == ["169.254.169.254/32", "10.1.0.2", "0.0.0.0/0", "10.1.0.1"]
    assert int(lease["lease"]) >= 3600
    wait(
        lambda: any(
            (fact.kind, fact.port_id, fact.detail) == ("address_taken", town.ports["a"].id, "10.1.0.11")
            for fact in town.cloud.wirings[0].facts()
        ),
        5,
        "the address as a fact",
    )


def test_dhcp_and_its_arp_stay_on_the_guests_own_host(town: Town) -> None:
    x, host = town.guest("x"), town.lab.hosts[1]
    vni = town.cloud.networks[town.ports["x"].network_id].segment
    capture = host.popen("tcpdump", "-lnei", f"vxlan-{vni}", "arp or port 67 or port 68")
    assert capture.stdout is not None
    while "listening on" not in capture.stdout.readline():
        pass
    x.run("ip neigh flush all")
    assert x.dhcp()["ip"] == "10.1.0.13"
    assert x.pings("10.1.0.2")
    assert x.pings("10.1.0.11")
    time.sleep(0.3)
    capture.send_signal(signal.SIGINT)
    seen = capture.communicate(timeout=10)[0]
    assert "who-has 10.1.0.11" in seen
    assert "10.1.0.2" not in seen
    assert ".67" not in seen
    assert str(town.cloud.networks[town.ports["x"].network_id].dhcp_mac) not in seen


def test_names_resolve_inside_the_network_and_outside(town: Town) -> None:
    a = town.guest("a")
    assert "10.1.0.13" in a.run("busybox", "nslookup", "x.cloud.test", check=False).stdout
    assert OUTSIDE in a.run("busybox", "nslookup", OUTSIDE_NAME, check=False).stdout
    # A server outside, asked directly: through the router and the host.
    assert OUTSIDE in a.run("busybox", "nslookup", OUTSIDE_NAME, DNS, check=False).stdout


def test_a_network_without_router_resolves_outside_names_too(town: Town) -> None:
    twin = town.guest("twin")
    assert OUTSIDE in twin.run("busybox", "nslookup", OUTSIDE_NAME, check=False).stdout
    assert twin.reaches(OUTSIDE, 80) is None


def test_an_answer_too_large_for_a_datagram_comes_by_tcp(town: Town) -> None:
    ask = (
        "import socket,struct\n"
        f"n=b''.join(bytes([len(w)])+w for w in {LARGE_NAME!r}.encode().split(b'.'))+bytes(1)\n"
        "q=struct.pack('!6H',77,0x100,1,0,0,0)+n+struct.pack('!2H',16,1)\n"
        "u=socket.socket(2,2); u.settimeout(3); u.sendto(q,('10.1.0.2',53)); d=u.recv(4096)\n"
        "print(bool(d[2]&2))\n"
        "t=socket.create_connection(('10.1.0.2',53),3); t.sendall(struct.pack('!H',len(q))+q); t.settimeout(3)\n"
        "b=b''\n"
        "while len(b)<2 or len(b)<2+struct.unpack('!H',b[:2])[0]:\n p=t.recv(4096)\n if not p: break\n b+=p\n"
        "print(len(b)>2000)\n"
    )
    assert town.guest("a").out("/usr/bin/python3", "-c", ask).split() == ["True", "True"]


def test_an_address_that_changes_hands_is_leased_to_its_new_owner(town: Town) -> None:
    cloud = town.cloud
    net = cloud.networks[town.ports["a"].network_id]
    first = cloud.port(net, 77)
    assert town.add("first", first).out("ip -4 -br address show eth0").split()[2] == "10.1.0.77/24"
    cloud.remove(first)
    town.guests["first"].kill()
    second = cloud.port(cloud.networks[net.id], 77)
    assert second.mac != first.mac
    assert town.add("second", second).out("ip -4 -br address show eth0").split()[2] == "10.1.0.77/24"


# ---- forwarding -----------------------------------------------------------------------------------------------------


def test_guests_of_one_network_meet_on_one_host_and_across_hosts(town: Town) -> None:
    a, b, x = town.guest("a"), town.guest("b"), town.guest("x")
    vni = town.cloud.networks[town.ports["a"].network_id].segment
    received = f"cat /sys/class/net/vxlan-{vni}/statistics/rx_packets"
    assert a.pings("10.1.0.12")
    before = int(town.host.out(received))
    assert a.pings("10.1.0.13") and x.pings("10.1.0.12")
    assert b.reaches("10.1.0.13", 80) == "this is x\n"
    assert int(town.host.out(received)) > before
    # The largest frame of the network fits, and one byte more does not.
    assert a.run("ping -c1 -W2 -M do -s 1422 10.1.0.13").returncode == 0
    with pytest.raises(Failed, match="message too long"):
        a.run("ping -c1 -W2 -M do -s 1423 10.1.0.13")


def test_networks_with_equal_addresses_do_not_meet(town: Town) -> None:
    a, twin = town.guest("a"), town.guest("twin")
    assert a.out("hostname -I").split() == twin.out("hostname -I").split() == ["10.1.0.11"]
    assert a.pings("10.1.0.12")
    assert not twin.pings("10.1.0.12", wait=1)
    assert not twin.pings("10.1.0.13", wait=1)


def test_forwarding_entries_are_set_for_the_guests_of_the_other_host(town: Town) -> None:
    vni = town.cloud.networks[town.ports["x"].network_id].segment
    entries = town.host.out(f"bridge fdb show dev vxlan-{vni}")
    assert f"{town.ports['x'].mac} dst 192.168.77.2 self permanent" in entries
    assert "00:00:00:00:00:00 dst 192.168.77.2 self permanent" in entries
    assert "nolearning" in town.host.out(f"ip -d link show vxlan-{vni}")


# ---- security groups ------------------------------------------------------------------------------------------------


def test_a_group_lets_in_what_it_allows_and_answers_to_what_went_out(town: Town) -> None:
    a, b, x = town.guest("a"), town.guest("b"), town.guest("x")
    for client in (b, x):
        assert client.reaches("10.1.0.11", 80) == "this is a\n"
        assert client.reaches("10.1.0.11", 2222, wait=1) is None
    closed = town.add("closed", town.cloud.port(town.cloud.networks[town.ports["a"].network_id], 30))
    assert closed.reaches("10.1.0.11", 80) is None, "a port without groups may send nothing"
    shut = town.cloud.group()
    quiet = town.add("quiet", town.cloud.port(town.cloud.networks[town.ports["a"].network_id], 31, shut))
    assert quiet.reaches("10.1.0.11", 80) == "this is a\n"
    assert quiet.reaches("10.1.0.13", 80) == "this is x\n"
    assert not a.pings("10.1.0.31", wait=1)
    assert not x.pings("10.1.0.31", wait=1)
    town.cloud.change(town.cloud.groups[shut.id], rules=(*shut.rules, PING))
    town.cloud.wire()
    assert a.pings("10.1.0.31") and x.pings("10.1.0.31")


def test_a_remote_group_lets_in_its_members_only(town: Town) -> None:
    cloud = town.cloud
    friends = cloud.group()
    rule = Rule(
        direction="ingress", version=4, protocol="tcp", port_min=2000, port_max=3000, remote_group_id=friends.id
    )
    guarded = cloud.group(rule)
    net = cloud.networks[town.ports["a"].network_id]
    server = town.add("server", cloud.port(net, 40, guarded))
    server.serve(2222, "hello friend\n")
    near = town.add("near", cloud.port(cloud.networks[net.id], 41, friends))
    far = town.add("far", cloud.port(cloud.networks[net.id], 42, friends, host=1), host=1)
    assert near.reaches("10.1.0.40", 2222) == "hello friend\n"
    assert far.reaches("10.1.0.40", 2222) == "hello friend\n"
    assert town.guest("b").reaches("10.1.0.40", 2222, wait=1) is None
    cloud.change(cloud.groups[friends.id], members=("10.1.0.41",))
    cloud.wire()
    assert near.reaches("10.1.0.40", 2222) == "hello friend\n"
    assert far.reaches("10.1.0.40", 2222, wait=1) is None


def test_a_removed_rule_cuts_what_it_let_in_and_nothing_else(town: Town) -> None:
    cloud = town.cloud
    chat = Rule(direction="ingress", version=4, protocol="tcp", port_min=7000, port_max=7001)
    group = cloud.group(chat)
    port = cloud.port(cloud.networks[town.ports["a"].network_id], 50, group)
    server, client = town.add("chat", port), town.guest("b")
    kept, cut = _Chat(server, client, 7001), _Chat(server, client, 7000)
    assert kept.works() and cut.works()
    only = Rule(direction="ingress", version=4, protocol="tcp", port_min=7001, port_max=7001)
    cloud.change(cloud.groups[group.id], rules=(*group.rules[:2], only))
    cloud.wire()
    assert kept.works(), "a connection that is still allowed goes on"
    assert not cut.works()
    kept.end()
    cut.end()


class _Chat:
    """An open TCP connection from a client to an echo server."""

    def __init__(self, server: Guest, client: Guest, port: int) -> None:
        echo = f"import socket\ns=socket.create_server(('0.0.0.0',{port}))\nprint('ready',flush=True)\nc,_=s.accept()\n"
        echo += "while d:=c.recv(99): c.sendall(d)\n"
        self._server = server.popen("/usr/bin/python3", "-c", echo)
        assert self._server.stdout is not None and self._server.stdout.readline() == "ready\n"
        talk = f"import socket,sys\nc=socket.create_connection(('10.1.0.50',{port}),3)\nc.settimeout(1.5)\n"
        talk += "for l in sys.stdin:\n try: c.sendall(l.encode()); print(c.recv(99).decode().strip(),flush=True)\n"
        talk += " except OSError: print('nothing',flush=True)\n"
        self._client = client.popen("/usr/bin/python3", "-c", talk, stdin=-1)

    def works(self) -> bool:
        assert self._client.stdin is not None and self._client.stdout is not None
        self._client.stdin.write("hi\n")
        self._client.stdin.flush()
        return self._client.stdout.readline() == "hi\n"

    def end(self) -> None:
        for process in (self._client, self._server):
            process.kill()
            process.communicate()


def test_a_guest_of_the_external_network_is_guarded_from_the_host_too(town: Town) -> None:
    cloud = town.cloud
    public = next(net for net in cloud.networks.values() if net.external)
    group = cloud.group(PING)
    port = cloud.port(public, 60, group)
    town.ports["outer"] = port
    cloud.wire()
    guest = cloud.wirings[0].guest(port, mtu=1500)
    guest.run("ip address add 172.24.4.60/24 dev eth0")
    guest.run(f"ip route add default via {PUBLIC_HOST}")
    guest.serve(80, "outer\n")
    assert town.host.pings("172.24.4.60")
    assert town.host.reaches("172.24.4.60", 80, wait=1) is None
    assert guest.reaches(OUTSIDE, 80) == "outside\n"
    cloud.change(cloud.groups[group.id], rules=(*group.rules, WEB))
    cloud.wire()
    assert town.host.reaches("172.24.4.60", 80) == "outer\n"


def test_a_networks_bridge_is_no_door_to_the_host(town: Town) -> None:
    thief = town.add("knocker", town.cloud.port(town.cloud.networks[town.ports["a"].network_id], 61, town.group))
    bridge = f"brq{town.ports['a'].network_id[:11]}"
    mac = town.host.out(f"cat /sys/class/net/{bridge}/address")
    town.host.serve(8081, "the host's own\n")
    assert town.host.reaches("192.168.77.1", 8081) == "the host's own\n"
    thief.run(f"ip neigh replace 10.1.0.1 lladdr {mac} dev eth0 nud permanent")
    assert thief.reaches("192.168.77.1", 8081, wait=1) is None
    assert thief.reaches(OUTSIDE, 80, wait=1) is None
    answers = thief.run("busybox", "arping", "-c2", "-w2", "-I", "eth0", "192.168.77.1", check=False).stdout
    assert "reply" not in answers.lower() or "Received 0" in answers


def test_a_port_that_is_switched_off_is_off(town: Town) -> None:
    cloud, a = town.cloud, town.guest("a")
    port = cloud.port(cloud.networks[town.ports["a"].network_id], 62, cloud.group(PING))
    town.add("off", port)
    assert a.pings("10.1.0.62")
    cloud.ports[port.id] = (0, msgspec.structs.replace(port, admin_up=False))
    cloud.wire()
    assert not a.pings("10.1.0.62", wait=1)
    cloud.ports[port.id] = (0, port)
    cloud.wire()
    wait(lambda: a.pings("10.1.0.62", wait=1), 5, "the port to be up again")


def test_a_stateless_group_lets_in_only_what_a_rule_names(town: Town) -> None:
    cloud, b = town.cloud, town.guest("b")
    group = cloud.group()
    cloud.change(cloud.groups[group.id], stateful=False)
    port = cloud.port(cloud.networks[town.ports["a"].network_id], 63, cloud.groups[group.id])
    guest = town.add("stateless", port)
    assert guest.reaches("10.1.0.11", 80, wait=1) is None, "the answer needs a rule of its own"
    answers = Rule(direction="ingress", version=4, protocol="tcp")
    cloud.change(cloud.groups[group.id], rules=(*group.rules, answers))
    cloud.wire()
    assert guest.reaches("10.1.0.11", 80) == "this is a\n"
    assert not b.pings("10.1.0.63", wait=1)
    assert guest.http("http://169.254.169.254/x")[0] == 200


def test_ipv6_within_a_network(town: Town) -> None:
    cloud = town.cloud
    network = cloud.network("10.6.0.0/24")
    six = Subnet(
        id=new_id(), cidr="fd00:6::/64", version=6, gateway="fd00:6::1", dhcp_address="fd00:6::2",
        ra_mode="dhcpv6-stateful", address_mode="dhcpv6-stateful",
    )  # fmt: skip
    cloud.change(network, subnets=(*network.subnets, six))
    group = cloud.group(Rule(direction="ingress", version=6, protocol="ipv6-icmp"))
    guests = []
    for number in (5, 6):
        port = cloud.port(cloud.networks[network.id], number, group)
        both = (*port.addresses, Address(address=f"fd00:6::{number}", prefix=64, subnet_id=six.id))
        cloud.ports[port.id] = (0, msgspec.structs.replace(port, addresses=both))
        guest = town.add(f"six{number}", cloud.ports[port.id][1])
        guest.run(f"ip address add fd00:6::{number}/64 dev eth0 nodad")
        guest.serve(80, "six\n")
        guests.append(guest)
    one = guests[0]
    assert one.pings("fd00:6::6")
    assert one.pings("fd00:6::2"), "the DHCP port"
    assert one.run("curl -s -m1 http://[fd00:6::6]/", check=False).returncode != 0
    one.run("ip address add fd00:6::99/64 dev eth0 nodad")
    assert one.run("ping -c1 -W1 -I fd00:6::99 fd00:6::6", check=False).returncode != 0


# ---- spoofing -------------------------------------------------------------------------------------------------------


def test_a_guest_cannot_borrow_an_address_or_a_mac(town: Town) -> None:
    cloud, b = town.cloud, town.guest("b")
    open_group = cloud.group(PING, WEB)
    net = cloud.networks[town.ports["a"].network_id]
    thief = town.add("thief", cloud.port(net, 70, open_group))
    assert thief.pings("10.1.0.12")
    thief.run("ip address add 10.1.0.13/24 dev eth0")
    b.run("ip neigh flush all")
    assert thief.run("ping -c1 -W1 -I 10.1.0.13 10.1.0.12", check=False).returncode != 0
    thief.run("busybox arping -c2 -U -s 10.1.0.13 -I eth0 10.1.0.12", check=False)
    b.pings("10.1.0.13")
    assert town.ports["thief"].mac not in b.out("ip neigh show 10.1.0.13")
    assert town.ports["x"].mac in b.out("ip neigh show 10.1.0.13")
    thief.run("ip address del 10.1.0.13/24 dev eth0")
    # Nor in the middle of a connection that groups have let pass.
    borrowed = town.ports["x"].mac
    capture = b.popen("tcpdump", "-lni", "eth0", f"icmp and src host 10.1.0.70 and ether src {borrowed}")
    going = thief.popen("ping", "-i", "0.2", "10.1.0.12")
    assert capture.stdout is not None and going.stdout is not None
    while "listening on" not in capture.stdout.readline():
        pass
    while "bytes from" not in going.stdout.readline():
        pass
    thief.run(f"ip link set eth0 address {borrowed}")
    assert not thief.pings("10.1.0.12", wait=1)
    for process in (going, capture):
        process.send_signal(signal.SIGINT)
    sent, received = map(int, re.findall(r"(\d+) (?:packets transmitted|received)", going.communicate(timeout=10)[0]))
    assert sent - received > 3, "it went on sending"
    assert "\n0 packets captured" in capture.communicate(timeout=10)[0]


def test_a_guest_cannot_speak_to_the_tunnels_of_hosts(town: Town) -> None:
    """Its packets come from its host's own address, once they are masqueraded."""
    a, x = town.guest("a"), town.guest("x")
    number = town.cloud.networks[town.ports["x"].network_id].segment
    second = "192.168.77.102"
    town.lab.hosts[1].run(f"ip address add {second}/24 dev eth0")
    forge = (
        "import socket,struct,sys\n"
        "inner=b'\\xff'*6+bytes.fromhex('fa163e000001')+b'\\x88\\xb5'+b'forged by '+sys.argv[2].encode()+bytes(40)\n"
        f"s=socket.socket(2,2)\ns.sendto(struct.pack('!II',8<<24,{number}<<8)+inner,(sys.argv[1],4789))\n"
    )
    capture = x.popen("tcpdump", "-lnXi", "eth0", "ether proto 0x88b5")
    assert capture.stdout is not None
    while "listening on" not in capture.stdout.readline():
        pass
    for address in ("192.168.77.1", "192.168.77.2", second, PUBLIC_HOST):
        a.run("/usr/bin/python3", "-c", forge, address, "guest")
    for sender, address in ((town.lab.switch, "192.168.77.2"), (town.host, second)):
        if sender is town.lab.switch:
            sender.run("ip address add 192.168.77.250/24 dev phys")
        sender.run("/usr/bin/python3", "-c", forge, address, "other")
    town.lab.switch.run("ip address del 192.168.77.250/24 dev phys")
    town.host.run("/usr/bin/python3", "-c", forge, "192.168.77.2", "peer!")
    time.sleep(0.5)
    capture.send_signal(signal.SIGINT)
    seen = capture.communicate(timeout=10)[0]
    town.lab.hosts[1].run(f"ip address del {second}/24 dev eth0")
    assert "peer!" in seen, "a host that shares the network is heard"
    assert seen.count("ethertype Unknown") == 1


def test_an_allowed_address_pair_may_be_used(town: Town) -> None:
    cloud, a = town.cloud, town.guest("a")
    net = cloud.networks[town.ports["a"].network_id]
    pairs = (("10.1.0.96/28", None), ("10.1.0.99", "fa:16:3e:99:99:99"))
    keeper = town.add("keeper", cloud.port(net, 71, cloud.group(PING), pairs=pairs))
    keeper.run("ip address add 10.1.0.100/24 dev eth0")
    assert a.pings("10.1.0.100")
    keeper.run("ip address add 10.1.0.120/24 dev eth0")
    assert not a.pings("10.1.0.120", wait=1)
    keeper.run("ip address add 10.1.0.99/24 dev eth0")
    keeper.run("ip link set eth0 address fa:16:3e:99:99:99")
    a.run("ip neigh flush all")
    assert a.run("ping -c1 -W2 10.1.0.99", check=False).returncode == 0


def test_a_guest_cannot_be_a_dhcp_server(town: Town) -> None:
    cloud = town.cloud
    group = cloud.group(PING, Rule(direction="ingress", version=4, protocol="udp"))
    net = cloud.networks[town.ports["a"].network_id]
    rogue = town.add("rogue", cloud.port(net, 72, group))
    asking = cloud.port(cloud.networks[net.id], 73, group)
    loose = cloud.port(cloud.networks[net.id], 74, group, port_security=False)
    for name in ("rogue", "loose"):
        _offer(rogue if name == "rogue" else town.add("loose", loose))
    guest = town.add("asking", asking)
    assert town.leases["asking"]["serverid"] == "10.1.0.2"
    assert guest.pings("10.1.0.1")


def _offer(guest: Guest) -> None:
    """Answer DHCP as 10.1.0.66-69, quicker than the network does, as long as the lab is there."""
    address = guest.out("hostname -I").split()[0]
    pid = guest.folder / "rogue.pid"
    guest.popen(
        "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--user=root", "--interface=eth0",
        "--bind-interfaces", "--dhcp-range=10.1.0.66,10.1.0.69", "--dhcp-authoritative", "--no-ping",
        f"--pid-file={pid}", f"--dhcp-leasefile={guest.folder}/rogue.leases", f"--dhcp-option=3,{address}",
    )  # fmt: skip
    wait(pid.exists, 5, "the rogue server")


# ---- metadata -------------------------------------------------------------------------------------------------------


def test_metadata_knows_the_guest_where_addresses_are_equal(town: Town) -> None:
    for name in ("a", "twin", "x"):
        status, body = town.guest(name).http("http://169.254.169.254/openstack/latest/meta_data.json")
        assert (status, body) == (200, f"{town.ports[name].id} /openstack/latest/meta_data.json")
        town.guest(name).run(f"ip address replace {link_local(town.ports[name].mac)}/64 dev eth0 nodad")
        assert town.guest(name).http("http://[fe80::a9fe:a9fe%25eth0]/six") == (200, f"{town.ports[name].id} /six")
    assert town.guest("a").http("http://169.254.169.254/nothing")[0] == 404
    port = town.ports["a"].id
    post = ("-X", "POST", "-d")
    for url, status in (("/", 405), ("/password", 200)):
        assert town.guest("a").http(f"http://169.254.169.254{url}", *post, port)[0] == status
    assert town.guest("twin").http("http://169.254.169.254/password", *post, port) == (409, "409 Conflict\n")
    for url, more, status in (
        ("/password", (*post, "x" * 9000), 413),
        ("/password", ("-X", "POST", "-H", "Transfer-Encoding: chunked", "-d", "x"), 411),
        ("/", ("-X", "PUT", "-d", "x"), 405),
    ):
        assert town.guest("a").http(f"http://169.254.169.254{url}", *more)[0] == status
    kinds = [(fact.kind, fact.port_id) for fact in town.cloud.wirings[0].facts()]
    assert kinds.count(("metadata_served", port)) == 1


def test_metadata_knows_a_guest_that_borrows_anothers_address(town: Town) -> None:
    cloud = town.cloud
    net = cloud.networks[town.ports["b"].network_id]
    port = cloud.port(net, 75, cloud.group(PING), port_security=False)
    liar = town.add("liar", port)
    town.guest("b")
    liar.run("ip address add 10.1.0.12/24 dev eth0")
    for _ in range(3):
        status, body = liar.http("http://169.254.169.254/x", "--interface", "10.1.0.12")
        assert (status, body) == (200, f"{port.id} /x")
        assert town.guest("b").http("http://169.254.169.254/x") == (200, f"{town.ports['b'].id} /x")
    # Also with the other's MAC on top.
    liar.run(f"ip link set eth0 address {town.ports['b'].mac}")
    liar.run("ip route replace 169.254.169.254 via 10.1.0.2")
    body = liar.http("http://169.254.169.254/x", "-m", "2")[1]
    assert body in ("", f"{port.id} /x")
    # And with the MAC that stands for the other's index on the way to the service.
    index = town.ports["b"].index
    liar.run(f"ip link set eth0 address 02:4e:50:00:{index >> 8:02x}:{index & 255:02x}")
    assert liar.http("http://169.254.169.254/x", "-m", "2")[1] == ""
    liar.kill()
    assert town.guest("b").http("http://169.254.169.254/x") == (200, f"{town.ports['b'].id} /x")


def test_slow_and_large_requests_harm_no_other_guest(town: Town) -> None:
    a, b = town.guest("a"), town.guest("b")
    hold = "import socket,time\nc=[socket.create_connection(('169.254.169.254',80),3) for _ in range(40)]\n"
    hold += "print('ready',flush=True)\ntime.sleep(60)\n"
    slow = b.popen("/usr/bin/python3", "-c", hold)
    assert slow.stdout is not None
    slow.stdout.readline()
    assert a.http("http://169.254.169.254/x")[0] == 200
    slow.kill()
    slow.communicate()
    assert a.http("http://169.254.169.254/x", "-H", "X: " + "y" * 20000)[0] in (0, 431)
    wait(lambda: b.http("http://169.254.169.254/x")[0] == 200, 5, "an answer after the flood")


# ---- routers --------------------------------------------------------------------------------------------------------


def test_floating_ip_in_and_source_nat_out(town: Town) -> None:
    a, x = town.guest("a"), town.guest("x")
    assert town.host.pings(town.floating["a"])
    assert town.host.reaches(town.floating["a"], 80) == "this is a\n"
    assert town.host.reaches(town.floating["a"], 2222, wait=1) is None
    assert town.host.pings("172.24.4.10")
    for guest in (a, x):
        assert guest.pings(OUTSIDE)
        assert guest.reaches(OUTSIDE, 80) == "outside\n"
    seen = town.host.popen("tcpdump", "-lni", "br-ex", "-c", "2", "icmp[icmptype] == icmp-echo")
    assert seen.stdout is not None
    while "listening on" not in seen.stdout.readline():
        pass
    a.pings(OUTSIDE)
    x.pings(OUTSIDE)
    text = seen.communicate(timeout=10)[0]
    assert f"IP {town.floating['a']} > {OUTSIDE}" in text
    assert f"IP 172.24.4.10 > {OUTSIDE}" in text


def test_a_neighbours_floating_ip_works_from_inside(town: Town) -> None:
    a, x = town.guest("a"), town.guest("x")
    assert a.reaches(town.floating["b"], 80) == "this is b\n" if town.guest("b") else None
    assert x.reaches(town.floating["a"], 80) == "this is a\n"
    assert a.reaches(town.floating["a"], 80) == "this is a\n"


def test_router_joins_networks_and_obeys_its_switch(town: Town) -> None:
    cloud = town.cloud
    left, right = cloud.network("10.8.0.0/24"), cloud.network("10.9.0.0/24")
    group = cloud.group(PING)
    one = cloud.port(left, 5, group)
    two = cloud.port(right, 5, group)
    router = cloud.router(None, left, right)
    first, second = town.add("left", one), town.add("right", two)
    assert first.pings("10.9.0.5") and second.pings("10.8.0.5")
    cloud.change(cloud.routers[router.id], admin_up=False)
    cloud.wire()
    assert not first.pings("10.9.0.5", wait=1)
    assert f"qrouter-{router.id}" not in town.host.out("ip netns list")
    cloud.change(cloud.routers[router.id], admin_up=True)
    cloud.wire()
    assert first.pings("10.9.0.5")
    assert first.pings("10.8.0.1")


def test_a_router_has_its_extra_routes_and_loses_them(town: Town) -> None:
    cloud, net = town.cloud, town.cloud.networks[town.ports["a"].network_id]
    group = cloud.group(PING)
    behind = cloud.port(net, 90, group, pairs=(("10.50.0.0/24", None),))
    guest = town.add("behind", behind)
    guest.run("ip address add 10.50.0.1/24 dev lo")
    own = cloud.routers[town.router.id]
    cloud.change(own, routes=(Route(destination="10.50.0.0/24", nexthop="10.1.0.90"),))
    cloud.wire()
    enter = f"ip netns exec qrouter-{own.id} ping -c1 -W1 10.50.0.1"
    town.host.run(enter)
    cloud.change(cloud.routers[own.id], routes=())
    cloud.wire()
    assert town.host.run(enter, check=False).returncode != 0


def test_lo_is_up_in_every_namespace(town: Town) -> None:
    names = [line.split()[0] for line in town.host.out("ip netns list").splitlines()]
    assert any(name.startswith("qdhcp-") for name in names) and any(name.startswith("qrouter-") for name in names)
    for name in names:
        town.host.run(f"ip netns exec {name} ping -c1 -W1 127.0.0.1")
