"""The Linux wiring is level-triggered: it repairs what somebody broke, survives its own death, and leaves nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from nephos.wiring.base import Desired, Key, Kind, Network, Physical, Port, Router, WiringSettings
from tests.hosts.lab import OUTSIDE, OUTSIDE_NAME, Guest, Host, Lab, wait
from tests.hosts.wiring_lab import CLOUD, PING, WEB, Cloud, HostWiring, new_id

pytestmark = pytest.mark.host


@dataclass
class House:
    """One host with a guest on a network behind a router with a floating IP; and a peer host that is only an address."""

    lab: Lab
    cloud: Cloud
    network: Network
    port: Port
    router: Router
    floating: str
    guest: Guest

    @property
    def host(self) -> Host:
        return self.lab.hosts[0]

    @property
    def wiring(self) -> HostWiring:
        return self.cloud.wirings[0]

    @property
    def bridge(self) -> str:
        return f"brq{self.network.id[:11]}"

    @property
    def tap(self) -> str:
        return f"tap{self.port.id[:11]}"

    def dnsmasq_pid(self) -> int:
        """0 while none has said its own."""
        noted = self.wiring.state_dir / "dhcp" / self.network.id / "pid"
        return int(noted.read_text() or 0) if noted.exists() else 0

    def works(self) -> None:
        """Everything that a guest of the house relies on."""
        assert self.guest.dhcp()["ip"] == "10.1.0.11"
        assert self.guest.reaches(OUTSIDE, 80) == "outside\n"
        assert OUTSIDE in self.guest.run("busybox", "nslookup", OUTSIDE_NAME, check=False).stdout
        assert self.guest.http("http://169.254.169.254/x") == (200, f"{self.port.id} /x")
        assert self.host.reaches(self.floating, 80) == "hello\n"
        assert self.host.reaches(self.floating, 2222, wait=0.3) is None


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with Lab(tmp_path_factory.mktemp("house")) as lab:
        lab.hosts[0].run("sysctl -qw net.bridge.bridge-nf-call-iptables=0")
        cloud = Cloud([HostWiring(lab.hosts[0])])
        public, network = cloud.public(), cloud.network()
        port = cloud.port(network, 11, cloud.group(PING, WEB), name="one")
        router = cloud.router(public, network)
        floating = cloud.float(router, 20, port)
        cloud.change(cloud.networks[network.id], peers=("192.168.77.99",))
        cloud.wire()
        yield House(lab, cloud, cloud.networks[network.id], port, router, floating, open_guest(cloud, port))


def open_guest(cloud: Cloud, port: Port) -> Guest:
    guest = cloud.wirings[0].guest(port)
    guest.serve(80, "hello\n")
    guest.serve(2222, "closed\n")
    return guest


DAMAGE = {
    "bridge": "ip link delete {bridge}",
    "bridge down": "ip link set {bridge} down",
    "tap down": "ip link set {tap} down",
    "tap out of its bridge": "ip link set {tap} nomaster",
    "tap with another MTU": "ip link set {tap} mtu 1400",
    "tunnel": "ip link delete {tunnel}",
    "DHCP port": "ip link delete {dhcp}",
    "DHCP namespace": "ip netns delete qdhcp-{network}",
    "router namespace": "ip netns delete qrouter-{router}",
    "router's rules": "ip netns exec qrouter-{router} nft flush ruleset",
    "router's route": "ip netns exec qrouter-{router} ip route delete default",
    "router's floating address": "ip netns exec qrouter-{router} ip address delete {floating}/32 dev {gateway}",
    "metadata rules": "ip netns exec qdhcp-{network} nft flush ruleset",
    "DHCP address": "ip netns exec qdhcp-{network} ip address delete 10.1.0.2/24 dev {dhcp_inside}",
    "firewall": "nft flush ruleset",
    "one chain": "nft flush chain inet {table} ingress",
    "external bridge": "ip link delete br-ex",
    "external address": "ip address flush dev br-ex",
}


@pytest.mark.parametrize("what", DAMAGE)
def test_damage_is_repaired(house: House, what: str) -> None:
    gateway = house.router.gateway
    assert gateway is not None and house.network.dhcp_port_id is not None
    command = DAMAGE[what].format(
        bridge=house.bridge, tap=house.tap, tunnel=f"vxlan-{house.network.segment}", network=house.network.id,
        dhcp=f"tap{house.network.dhcp_port_id[:11]}", dhcp_inside=f"ns-{house.network.dhcp_port_id[:11]}",
        router=house.router.id, floating=house.floating, gateway=f"qg-{gateway.port_id[:11]}",
        table=f"nephos_{CLOUD[:8]}",
    )  # fmt: skip
    house.host.run(command)
    answer = house.wiring.wire(house.cloud.desired())
    assert answer["changes"] > 0
    house.works()
    again = house.wiring.wire(house.cloud.desired())
    assert again["changes"] == 0


def test_a_deleted_tap_comes_back(house: House) -> None:
    house.guest.kill()
    house.host.run(f"ip link delete {house.tap}")
    house.wiring.wire(house.cloud.desired())
    house.guest = open_guest(house.cloud, house.port)
    house.works()


def test_an_equal_host_is_left_alone(house: House) -> None:
    """How quickly is `bench/wiring.py`'s to say."""
    house.wiring.wire(house.cloud.desired())
    answers = [house.wiring.wire(house.cloud.desired()) for _ in range(5)]
    assert [answer["changes"] for answer in answers] == [0] * 5


def test_a_hint_is_enough_for_a_new_port_and_its_lease(house: House) -> None:
    port = house.cloud.port(house.network, 33, next(iter(house.cloud.groups.values())))
    keys = [Key(Kind.PORT, port.id), Key(Kind.NETWORK, house.network.id)]
    assert house.wiring.apply(house.cloud.desired(), keys)["errors"] == {}
    guest = house.wiring.guest(port)
    assert guest.dhcp()["ip"] == "10.1.0.33"
    guest.kill()
    house.cloud.remove(port)
    keys = [Key(Kind.PORT, port.id), Key(Kind.NETWORK, house.network.id)]
    assert house.wiring.apply(house.cloud.desired(), keys)["errors"] == {}
    assert f"tap{port.id[:11]}" not in house.host.out("ip -br link")


def test_a_killed_dnsmasq_is_back_without_being_asked(house: House) -> None:
    before = house.dnsmasq_pid()
    house.host.run(f"kill -9 {before}")
    wait(lambda: house.dnsmasq_pid() not in (0, before), 5, "another dnsmasq")
    house.works()


def test_the_drivers_death_interrupts_nothing(house: House) -> None:
    house.works()
    before = house.dnsmasq_pid()
    house.wiring.restart(kill=True)
    assert house.guest.dhcp()["ip"] == "10.1.0.11"
    assert house.host.reaches(house.floating, 80) == "hello\n"
    answer = house.wiring.wire(house.cloud.desired())
    assert answer["changes"] == 0, "the next driver finds the host as it should be"
    assert house.dnsmasq_pid() == before
    house.works()
    facts = {(fact.kind, fact.detail) for fact in house.wiring.facts()}
    assert ("address_taken", "10.1.0.11") in facts


def test_open_connections_survive_a_new_ruleset(house: House) -> None:
    listen = "import socket\ns=socket.create_server(('0.0.0.0',9000))\nprint('ready',flush=True)\nc,_=s.accept()\n"
    outer = house.lab.internet.popen("/usr/bin/python3", "-c", listen + "while d:=c.recv(99): c.sendall(d)\n")
    assert outer.stdout is not None and outer.stdout.readline() == "ready\n"
    talk = f"import socket,sys\nc=socket.create_connection(('{OUTSIDE}',9000),3)\nc.settimeout(2)\n"
    talk += "for l in sys.stdin: c.sendall(l.encode()); print(c.recv(99).decode().strip(),flush=True)\n"
    inner = house.guest.popen("/usr/bin/python3", "-c", talk, stdin=-1)
    assert inner.stdin is not None and inner.stdout is not None
    for text in ("one", "two"):
        inner.stdin.write(text + "\n")
        inner.stdin.flush()
        assert inner.stdout.readline() == text + "\n"
        extra = house.cloud.port(house.network, 34)
        assert house.wiring.wire(house.cloud.desired())["changes"] > 0
        house.cloud.remove(extra)
    house.wiring.wire(house.cloud.desired())


@pytest.mark.parametrize("tool", ["iptables", "iptables-legacy"])
def test_a_foreign_firewall_does_not_stop_guests(house: House, tool: str) -> None:
    host = house.host
    host.run(f"{tool} -P FORWARD DROP")
    host.run(f"{tool} -A FORWARD -j REJECT --reject-with icmp-host-prohibited")
    assert house.guest.reaches(OUTSIDE, 80, wait=1) is None
    house.wiring.wire(house.cloud.desired())
    house.works()
    assert house.wiring.wire(house.cloud.desired())["changes"] == 0
    host.run(f"{tool} -F FORWARD")
    house.wiring.wire(house.cloud.desired())
    house.works()
    if tool == "iptables-legacy":
        host.run(f"{tool} -P FORWARD ACCEPT")
        house.wiring.wire(house.cloud.desired())
        assert "nephos" in host.out(f"{tool} -S FORWARD")
        return
    host.run(f"{tool} -A FORWARD -j REJECT --reject-with icmp-host-prohibited")


def test_what_others_made_is_never_touched(house: House) -> None:
    cloud, host = house.cloud, house.host
    network = cloud.network("10.7.0.0/24", kind="local")
    name = f"brq{network.id[:11]}"
    host.run(f"ip link add {name} type bridge")
    host.run("ip", "link", "set", name, "alias", "somebody else's")
    answer = house.wiring.apply(cloud.desired())
    assert 'belongs to "somebody else\'s"' in answer["errors"][f"network {network.id}"]
    del cloud.networks[network.id]
    house.wiring.wire(cloud.desired())
    assert name in host.out("ip -br link")
    host.run(f"ip link delete {name}")


def test_leftovers_are_named_one_by_one(house: House) -> None:
    host, wiring = house.host, house.wiring
    lost = new_id()
    wiring.wire(house.cloud.desired())
    assert wiring.leftovers(house.cloud.desired()) == []
    folder = wiring.state_dir / "dhcp" / lost
    table = f"nephos_{CLOUD[:8]}"
    host.run("sh", "-ec", f"""
        ip tuntap add tap{lost[:11]} mode tap; ip link set tap{lost[:11]} alias nephos:{CLOUD}:port:{lost}
        ip link add brq{lost[:11]} type bridge; ip link set brq{lost[:11]} alias nephos:{CLOUD}:network:{lost}
        ip netns add qdhcp-{lost}
        mkdir {folder}; echo port=0 > {folder}/conf; dnsmasq --conf-file={folder}/conf --pid-file={folder}/pid
        nft add chain inet {table} from_65000
    """)  # fmt: skip
    found = {(one.kind, one.name) for one in wiring.leftovers(house.cloud.desired())}
    pid = Path(f"{folder}/pid").read_text().strip()
    assert found == {
        ("tap", f"tap{lost[:11]}"), ("bridge", f"brq{lost[:11]}"), ("namespace", f"qdhcp-{lost}"), ("dnsmasq", pid),
        ("file", str(folder)), ("rule", f"inet {table} from_65000"),
    }  # fmt: skip
    wiring.wire(house.cloud.desired())
    after = {one.kind for one in wiring.leftovers(house.cloud.desired())}
    assert after <= {"namespace"}, "only what this host has no record of is left for a person to judge"
    host.run(f"ip netns delete qdhcp-{lost}")


def test_purge_leaves_nothing_and_restores_the_host(house: House) -> None:
    host = house.host
    house.wiring.wire(house.cloud.desired())
    assert host.out("sysctl -n net.ipv4.ip_forward net.bridge.bridge-nf-call-iptables").split() == ["1", "1"]
    house.guest.kill()
    house.wiring.purge()
    links = {line.split()[0].split("@")[0] for line in host.out("ip -br link").splitlines()}
    assert links == {"lo", "eth0"}
    assert host.out("ip netns list") == ""
    ruleset = host.out("nft list ruleset")
    assert "nephos" not in ruleset and "brq" not in ruleset and "br-ex" not in ruleset
    assert "reject" in ruleset, "what others put there stays"
    assert "dnsmasq" not in host.out("ps ax")
    assert host.out("sysctl -n net.ipv4.ip_forward net.bridge.bridge-nf-call-iptables").split() == ["0", "0"]
    assert list(house.wiring.state_dir.iterdir()) == []
    assert house.wiring.leftovers(Desired()) == []


def test_a_tunnel_address_must_end_on_this_host(tmp_path: Path) -> None:
    with Lab(tmp_path / "lab") as lab:
        host = lab.hosts[0]
        host.run("sh", "-ec", "ip link add br0 type bridge; ip link add v0 type veth peer name v1; "
                 "ip link set v0 master br0; ip address add 192.168.78.1/24 dev v0; ip link set v0 up; "
                 "ip link set br0 up")  # fmt: skip
        for address, why in (
            ("192.168.77.77", "is on no device of this host"),
            ("192.168.78.1", "is on v0, a port of bridge br0"),
        ):
            wiring = HostWiring(host, settings=WiringSettings(tunnel_address=address))
            cloud = Cloud([wiring])
            network = cloud.network()
            errors = wiring.apply(cloud.desired())["errors"]
            assert why in errors[f"network {network.id}"]
        in_use = Physical(bridge="br-x", interface="eth0")
        wiring = HostWiring(host, settings=WiringSettings(physical={"public": in_use}))
        cloud = Cloud([wiring])
        public = cloud.public()
        answer = wiring.apply(cloud.desired())["errors"]
        assert "never moved" in answer[f"network {public.id}"]
        assert "192.168.77.1/24" in host.out("ip -br address show eth0")


def test_a_hostile_id_names_no_file_or_device(house: House) -> None:
    for name in ("../../etc/passwd", "a/b", "-rf", "x y", "a;b", ""):
        network = msgspec.structs.replace(house.network, id=name, endpoints=(), segment=999)
        answer = house.wiring.apply(Desired(networks={name: network}))
        assert "is no id" in answer["errors"][f"network {name}"]
        router = Router(id=name)
        answer = house.wiring.apply(Desired(routers={name: router}))
        assert "is no id" in answer["errors"][f"router {name}"]
