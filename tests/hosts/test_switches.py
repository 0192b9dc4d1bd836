"""Networks of every type between hosts of both switches: pretend guests, real frames.

Host 1 and 2 have Open vSwitch, which switches in user space where the kernel has none; host 3 has the kernel's devices.
Each has three networks (S3-10): the hosts' own on eth0, the tunnels' on eth1, physical networks on eth2.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import msgspec
import pytest

from nephos.wiring.base import Fallback, LocalIp, Network, Physical, Port, WiringSettings
from nephos.wiring.linux.system.netlink import has_generic_family
from tests.hosts.lab import OUTSIDE, SLOW, Guest, Host, Lab, wait
from tests.hosts.wiring_lab import PING, PUBLIC_HOST, WEB, Cloud, HostWiring

pytestmark = pytest.mark.host
TUNNELS = "192.168.78"
OPEN, KERNEL = "openvswitch", "linux"
MTU = {"vxlan": 1450, "gre": 1458, "geneve": 1450, "vlan": 1500, "flat": 1500}
MEGABYTE = 1 << 20
KERNELS_OWN = {"gre0", "gretap0", "erspan0"}
"""Devices that the kernel itself makes in every network namespace as soon as it has GRE."""
_MAKES = {
    "gre": "type gretap key 9 remote 192.0.2.1", "geneve": "type geneve id 9 remote 192.0.2.1",
    "vlan": "link eth0 type vlan id 9",
}  # fmt: skip
_SEEN_AS = {
    "vxlan": "vni 77",
    "gre": "key=0x1,",
    "geneve": "Geneve, Flags [none], vni 0x4d",
    "vlan": "vlan 11",
    "flat": "ICMP echo request",
}


def settings_of(host: Host, switch: str) -> WiringSettings:
    """With the address of the tunnels where this switch wants it."""
    address = f"{TUNNELS}.{host.number}"
    host.cable("eth1", "tunnels")
    host.cable("eth2", "rack")
    under = Physical(bridge="br-phy", interface="eth1", address=f"{address}/24")
    if switch == KERNEL:
        host.run(f"ip address add {address}/24 dev eth1")
    return WiringSettings(
        tunnel_address=address,
        switch=OPEN if switch == OPEN else KERNEL,
        underlay=under if switch == OPEN else None,
        physical={
            "rack": Physical(bridge="br-rack", interface="eth2"),
            "public": Physical(bridge="br-ex", address=f"{PUBLIC_HOST}/24", masquerade=True),
        },
    )


def kernel_makes(host: Host, kind: str) -> bool:
    """Whether this machine's kernel has the devices of a network type."""
    made = host.run("ip", "link", "add", "trial", *_MAKES[kind].split(), check=False).returncode == 0
    if made:
        host.run("ip link del trial")
    return made


@dataclass
class Plant:
    """A network of each type with a guest on each host that carries it; two VLANs."""

    lab: Lab
    cloud: Cloud
    networks: dict[str, Network]
    ports: dict[tuple[str, int], Port] = field(default_factory=dict)
    guests: dict[tuple[str, int], Guest] = field(default_factory=dict)

    def guest(self, name: str, host: int) -> Guest:
        return self.guests[name, host]

    def address(self, name: str, host: int) -> str:
        return self.ports[name, host].addresses[0].address

    def passes(self) -> None:
        """What an agent does every few seconds."""
        for number, wiring in enumerate(self.cloud.wirings):
            wiring.wire(self.cloud.desired(number))


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plant]:
    with Lab(tmp_path_factory.mktemp("plant"), hosts=3) as lab:
        switches = (OPEN, OPEN, KERNEL)
        wirings = [
            HostWiring(host, settings=settings_of(host, switch))
            for host, switch in zip(lab.hosts, switches, strict=True)
        ]
        for wiring in wirings:
            assert wiring.check() == ""
        cloud = Cloud(wirings)
        plant = Plant(lab, cloud, {})
        able = {kind for kind in _MAKES if kernel_makes(lab.hosts[2], kind)}
        group = cloud.group(PING, WEB)
        for name, segment, physical in (
            ("vxlan", 77, None), ("gre", 1, None), ("geneve", 77, None), ("vlan", 11, "rack"), ("other vlan", 12, "rack"),
            ("flat", None, "rack"),
        ):  # fmt: skip
            kind = name.split()[-1]
            cidr = f"10.{len(plant.networks) + 1}.0.0/24"
            net = cloud.network(cidr, kind=kind, segment=segment, physical=physical, mtu=MTU[kind])
            plant.networks[name] = net
            hosts = (0, 1, 2) if kind in ("vxlan", "flat") or kind in able else (0, 1)
            for host in hosts:
                plant.ports[name, host] = cloud.port(net, 11 + host, group, host=host)
        # The device that proves the tunnels comes with the second pass on Open vSwitch, and is used from the third.
        for _ in range(3):
            plant.passes()
        for (name, host), port in plant.ports.items():
            guest = wirings[host].guest(port, mtu=plant.networks[name].mtu)
            assert guest.dhcp()["ip"] == plant.address(name, host)
            guest.serve(80, "0123456789abcdef", times=MEGABYTE // 16)
            guest.serve(2222, "not for everyone\n")
            plant.guests[name, host] = guest
        yield plant


def _frames_of(host: Host, address: str) -> Callable[[], str]:
    """Begin to capture, on the tunnels' own NIC, what has an address in it; answers the function that ends it and tells."""
    capture = host.popen("tcpdump", "-lnni", "eth1")
    assert capture.stdout is not None
    while "listening on" not in capture.stdout.readline():
        pass

    def seen() -> str:
        assert capture.stdout is not None
        time.sleep(0.3)
        capture.terminate()
        return "\n".join(line for line in capture.stdout.read().splitlines() if address in line)

    return seen


def pairs(plant: Plant) -> list[tuple[str, int, int]]:
    return [(name, 0, host) for name, host in plant.ports if host]


def test_guests_of_one_network_meet_whatever_carries_it(plant: Plant) -> None:
    for name, here, there in pairs(plant):
        guest, far = plant.guest(name, here), plant.address(name, there)
        mtu = plant.networks[name].mtu
        what = f"{name} from host {here + 1} to host {there + 1}"
        assert guest.pings(far, count=3), what
        assert guest.run(f"ping -c1 -W2 -M do -s {mtu - 28} {far}", check=False).returncode == 0, f"{what}, {mtu} bytes"
        assert guest.reaches(far, 80, wait=20) == "0123456789abcdef" * (MEGABYTE // 16), f"{what}: a megabyte"
        assert guest.reaches(far, 2222, wait=1) is None, f"{what}: what no rule allows"
        port = plant.ports[name, there]
        assert plant.guest(name, there).http("http://169.254.169.254/x") == (200, f"{port.id} /x"), what


def test_the_wire_shows_what_the_network_is(plant: Plant) -> None:
    """S0-13: a capture shows the tag or the tunnel, and no two networks are in one."""
    for kind, seen in _SEEN_AS.items():
        device = "eth1" if kind in ("vxlan", "gre", "geneve") else "eth2"
        capture = plant.lab.hosts[1].popen("tcpdump", "-lnei", device, "-c", "400")
        assert capture.stdout is not None
        while "listening on" not in capture.stdout.readline():
            pass
        assert plant.guest(kind, 0).pings(plant.address(kind, 1))
        before = ""
        for line in capture.stdout:
            # tcpdump writes what is inside a tunnel on the same line, or on the next.
            if f"{plant.address(kind, 0)} > {plant.address(kind, 1)}: ICMP echo request" in line:
                break
            before = line
        capture.kill()
        capture.communicate()
        assert seen in before + line, before + line


def test_networks_do_not_meet(plant: Plant) -> None:
    """S0-11, also with one's addresses on another: what parts them is the network, not the addresses."""
    stranger = plant.guest("other vlan", 1)
    stranger.run(f"ip address add {plant.address('vlan', 1).rpartition('.')[0]}.99/24 dev eth0")
    stranger.run(f"ip address add {plant.address('flat', 1).rpartition('.')[0]}.99/24 dev eth0")
    for name in ("vlan", "flat"):
        assert not stranger.pings(plant.address(name, 0), wait=1)
        assert not stranger.pings(plant.address(name, 1), wait=1)
    for name in ("vlan", "flat"):
        stranger.run(f"ip address del {plant.address(name, 1).rpartition('.')[0]}.99/24 dev eth0")


_HEAR = """
import socket
s = socket.socket(type=socket.SOCK_DGRAM)
s.bind(('', 9))
print('ready', flush=True)
while True:
    print(s.recv(99).decode(), flush=True)
"""
_SAY = """
import socket, struct, sys
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
s.bind(('eth0', 0))
own, (source, name), (targets, macs) = s.getsockname()[4], sys.argv[1:3], map(str.split, sys.argv[3:])
for target in targets:
    for mac in macs:
        text = struct.pack('!HHHH', 9, 9, 8 + len(name), 0) + name.encode()
        head = struct.pack('!BBHHHBBH4s4s', 69, 0, 20 + len(text), 0, 0, 64, 17, 0, *map(socket.inet_aton, (source, target)))
        total = sum(struct.unpack('!10H', head))
        total = ~((total & 65535) + (total >> 16)) & 65535
        frame = head[:10] + struct.pack('!H', total) + head[12:] + text
        s.send(bytes.fromhex(mac.replace(':', '')) + own + b'\\x08\\x00' + frame)
"""


def test_nothing_that_a_guest_sends_is_taken_by_its_host(plant: Plant) -> None:
    """A switch in user space reads copies of frames that the host's own stack gets too: that one neither answers for the
    host's addresses in a network that is not its own, nor takes what is sent to any of its MACs there."""
    for number, host in enumerate(plant.lab.hosts):
        ear = host.popen("/usr/bin/python3", "-c", _HEAR)
        assert ear.stdout is not None and ear.stdout.readline() == "ready\n"
        addresses = [host.address, f"{TUNNELS}.{host.number}", PUBLIC_HOST]
        macs = {*host.out("sh", "-c", "cat /sys/class/net/*/address").split(), "ff:ff:ff:ff:ff:ff"}
        for name in ("vxlan", "gre", "geneve", "vlan", "flat"):
            if (name, number) not in plant.guests:
                continue
            guest = plant.guest(name, number)
            for each in addresses:
                guest.run(f"ip route add {each} dev eth0")
            asked = [guest.popen("ping", "-c1", "-W1", each) for each in addresses]
            for process in asked:
                process.wait()
            known = guest.out("ip neigh show")
            for each in addresses:
                assert f"{each} dev eth0 lladdr" not in known, f"host {number + 1} answers for {each} on {name}"
                guest.run(f"ip route del {each} dev eth0")
            words = (plant.address(name, number), name, " ".join(addresses), " ".join(sorted(macs)))
            guest.run("/usr/bin/python3", "-c", _SAY, *words)
        plant.lab.hosts[number - 1].run("bash", "-c", f"sleep 0.5; echo -n underlay > /dev/udp/{host.address}/9")
        assert ear.stdout.readline() == "underlay\n", "and it hears what comes to itself"
        ear.kill()


def test_a_pass_over_an_equal_host_changes_nothing(plant: Plant) -> None:
    for number, wiring in enumerate(plant.cloud.wirings):
        answer = wiring.apply(plant.cloud.desired(number))
        assert (answer["errors"], answer["changes"]) == ({}, 0)
        assert wiring.leftovers(plant.cloud.desired(number)) == []


def test_the_tunnels_between_both_switches_are_proved(plant: Plant) -> None:
    """S0-32: real frames, as large as the networks', between every two hosts, both ways."""
    for wiring in plant.cloud.wirings:
        others = {f"{TUNNELS}.{host.number}" for host in plant.lab.hosts} - {wiring.settings.tunnel_address}

        def proved(wiring: HostWiring = wiring) -> set[str]:
            return {one.port_id for one in wiring.facts() if (one.kind, one.detail) == ("overlay", "up 1450/1450")}

        wait(lambda: proved() == others, 30, f"proofs of {wiring.host.name}, {proved()} of {others}")  # noqa: B023


def ovs(host: Host, *words: str) -> str:
    folder = host.folder / "wiring" / "openvswitch"
    return host.out("env", f"OVS_RUNDIR={folder}", *words)


def test_what_somebody_broke_is_back_within_a_pass(plant: Plant) -> None:
    """The agent looks every four seconds; what is measured here is the pass itself."""
    host, wiring = plant.lab.hosts[0], plant.cloud.wirings[0]
    folder = host.folder / "wiring" / "openvswitch"

    def broken(what: str, *words: str, alive: str = "vxlan", goes_on: bool = False) -> None:
        ovs(host, *words)
        if not goes_on:
            assert not plant.guest(alive, 1).pings(plant.address(alive, 0), wait=1), f"{what}: it is not broken"
        began = time.monotonic()
        assert wiring.wire(plant.cloud.desired(0))["changes"] > 0
        assert time.monotonic() - began < 4 * SLOW, what
        for name in ("vxlan", "gre", "geneve", "vlan", "flat"):
            wait(lambda name=name: plant.guest(name, 1).pings(plant.address(name, 0)), 5, f"{what}: {name}")  # type: ignore[misc]

    broken("flows flushed", "ovs-ofctl", "del-flows", "br-tun")
    broken("a flow too many", "ovs-ofctl", "add-flow", "br-int", "priority=99,actions=drop")
    broken("the integration bridge deleted", "ovs-vsctl", "del-br", "br-int")
    broken("a port taken out", "ovs-vsctl", "del-port", "br-rack", "eth2", alive="vlan")
    broken("the tunnels' bridge deleted", "ovs-vsctl", "del-br", "br-phy")
    # The kernel's datapath goes on with the flows that it has.
    kill = f"kill -9 $(cat {folder}/ovs-vswitchd.pid {folder}/ovsdb-server.pid)"
    broken("both daemons killed", "sh", "-c", kill, goes_on=has_generic_family("ovs_datapath"))
    near, far = plant.lab.hosts[2], plant.cloud.wirings[2]
    mac = plant.ports["vxlan", 0].mac
    near.run(f"bridge fdb replace {mac} dev vxlan-77 dst 192.168.78.99 self permanent")
    assert not plant.guest("vxlan", 2).pings(plant.address("vxlan", 0), wait=1)
    far.wire(plant.cloud.desired(2))
    assert plant.guest("vxlan", 2).pings(plant.address("vxlan", 0))


def test_a_guest_that_moved_is_reached_at_once(plant: Plant) -> None:
    """S0-08: nothing remembers where a silent guest was; the ledger says where it is."""
    cloud = plant.cloud
    port = cloud.port(cloud.networks[plant.networks["vxlan"].id], 50, cloud.groups[plant.ports["vxlan", 0].groups[0]])
    plant.passes()
    first = cloud.wirings[0].guest(port)
    assert first.dhcp()["ip"] == "10.1.0.50"
    watcher = plant.guest("vxlan", 0)
    assert watcher.pings("10.1.0.50")
    first.kill()
    cloud.remove(port)
    cloud.ports[port.id] = (1, port)
    cloud._endpoint(port.network_id, port.id, port.mac, port.addresses, 1, None)
    network = cloud.networks[port.network_id]
    cloud.change(cloud.groups[port.groups[0]], members=("10.1.0.11", "10.1.0.12", "10.1.0.13", "10.1.0.50"))
    assert network.endpoints[-1].tunnel == f"{TUNNELS}.2"
    plant.passes()
    moved = cloud.wirings[1].guest(port)
    moved.run("sh", "-ec", "sysctl -qw net.ipv4.conf.eth0.arp_notify=0; ip address add 10.1.0.50/24 dev eth0")
    assert watcher.out("ip neigh show 10.1.0.50").count(port.mac) == 1, "the peer still knows its MAC"
    # The kernel takes up to a second to let a tap's bridge port forward when its guest opens it; what is remembered
    # wrongly is so for minutes.
    assert watcher.pings("10.1.0.50", count=10, wait=1)
    cloud.remove(port)
    plant.passes()


def test_a_router_with_floating_ips_on_open_vswitch(plant: Plant) -> None:
    """In by a floating IP, out by source NAT, through br-ex (S2-57, S2-58)."""
    cloud = plant.cloud
    public = cloud.public()
    router = cloud.router(public, plant.networks["gre"])
    floating = cloud.float(router, 20, plant.ports["gre", 1])
    plant.passes()
    host, guest = plant.lab.hosts[0], plant.guest("gre", 1)
    for one in (guest, plant.guest("gre", 0)):
        one.run("ip route replace default via 10.2.0.1")
    wait(lambda: host.reaches(floating, 80, wait=5), 10, "the floating IP")
    assert host.reaches(floating, 80, wait=10) == "0123456789abcdef" * (MEGABYTE // 16)
    assert host.reaches(floating, 2222, wait=1) is None
    assert guest.reaches(OUTSIDE, 80) == "outside\n"
    assert plant.guest("gre", 0).reaches(OUTSIDE, 80) == "outside\n"


def test_a_local_ip_leads_to_the_port_on_the_callers_own_host(plant: Plant) -> None:
    """On both switches: what is sent to 10.1.0.77, which a guest of host 2 has, gets to a port of the caller's host where one
    is led to, and no frame for it leaves that host. Groups judge by real addresses; the led-to port itself, and a host
    without one, reach who has the address."""
    cloud, net, local = plant.cloud, plant.networks["vxlan"], "10.1.0.77"
    group = cloud.group(PING, WEB)
    owner = cloud.port(net, 77, group, host=1)
    led = (LocalIp(local, "10.1.0.70"),), (LocalIp(local, "10.1.0.72"),)
    near = {0: cloud.port(net, 70, group, host=0, local=led[0]), 2: cloud.port(net, 72, group, host=2, local=led[1])}
    kept = cloud.port(net, 73, group, host=0, local=(LocalIp("10.1.0.78", "10.1.0.73", translated=False),))
    plant.passes()
    guests = {host: cloud.wirings[host].guest(port) for host, port in {**near, 1: owner}.items()}
    guests[3] = cloud.wirings[0].guest(kept)
    for host, guest in guests.items():
        guest.dhcp()
        guest.serve(80, f"host {host}")
        guest.serve(2222, "not for everyone")
    callers = {host: plant.guest("vxlan", host) for host in (0, 1, 2)}
    away = {host: _frames_of(plant.lab.hosts[host], local) for host in (0, 2)}
    for host in (0, 2):
        assert callers[host].pings(local), host
        assert callers[host].reaches(local, 80, wait=5) == f"host {host}"
        assert callers[host].reaches(f"10.1.0.{70 + host}", 80) == f"host {host}", "by its own address, too"
        assert callers[host].reaches(local, 2222, wait=1) is None, "what no group lets in"
    assert all(not frames() for frames in away.values()), "nothing left the host"
    assert callers[1].reaches(local, 80) == "host 1", "a host without a port that it leads to"
    assert guests[0].reaches(local, 80) == "host 1", "the port itself"
    guests[3].run("ip address add 10.1.0.78/32 dev lo")
    assert callers[0].reaches("10.1.0.78", 80) == "host 3", "untranslated"
    assert not callers[2].pings("10.1.0.78", wait=1), "it is nobody's there"
    assert [wiring.wire(cloud.desired(host))["changes"] for host, wiring in enumerate(cloud.wirings)] == [0, 0, 0]
    for host, port in near.items():
        cloud.ports[port.id] = (host, msgspec.structs.replace(port, local=()))
    plant.passes()
    for host in (0, 2):
        callers[host].run("ip neigh flush all")
        assert callers[host].reaches(local, 80, wait=5) == "host 1", "led no more"
    for port in (owner, kept, *near.values()):
        cloud.remove(port)
    plant.passes()


def test_what_a_kernel_lacks_is_said(plant: Plant) -> None:
    """On host 3, of the types that this machine's kernel has not; where it has them, nothing is to be said."""
    cloud, wiring = plant.cloud, plant.cloud.wirings[2]
    desired = cloud.desired(2)
    words = {"gre": "no GRE (ip_gre)", "geneve": "no Geneve (geneve)", "vlan": "no 802.1Q (8021q)"}
    for kind in words:
        network = plant.networks[kind]
        desired.networks[network.id] = msgspec.structs.replace(network, peers=(f"{TUNNELS}.1",))
    errors = wiring.apply(desired)["errors"]
    for kind, said in words.items():
        error = errors.get(f"network {plant.networks[kind].id}", "")
        assert said in error if not kernel_makes(plant.lab.hosts[2], kind) else error == "", kind
    assert plant.guest("vxlan", 2).pings(plant.address("vxlan", 0)), "the others go on"
    wiring.wire(cloud.desired(2))


def test_a_host_goes_over_to_the_other_switch_by_its_setting_alone(plant: Plant) -> None:
    """S0-29: started again with another setting, and everything is built anew; and back."""
    host, before = plant.lab.hosts[1], plant.cloud.wirings[1]
    for switch in (KERNEL, OPEN):
        plant.cloud.wirings[1].stop()
        settings = msgspec.structs.replace(before.settings, switch=switch)
        wiring = plant.cloud.wirings[1] = HostWiring(host, settings=settings)
        assert wiring.check() == ""
        desired = plant.cloud.desired(1)
        lacking = {kind for kind in _MAKES if switch == KERNEL and not kernel_makes(host, kind)}
        lost = {plant.networks[name].id for name in plant.networks if name.split()[-1] in lacking}
        for _ in range(2):
            errors = wiring.apply(desired)["errors"]
            assert {key.removeprefix("network ") for key in errors if key.startswith("network")} == lost, errors
        assert wiring.leftovers(desired) == []
        assert ("ovs" in host.out("ps ax")) == (switch == OPEN)
        for name in ("vxlan", "flat"):
            wait(lambda name=name: plant.guest(name, 0).pings(plant.address(name, 1)), 10, f"{name} by {switch}")  # type: ignore[misc]


def test_purge_leaves_the_host_as_it_was(plant: Plant) -> None:
    host, wiring = plant.lab.hosts[1], plant.cloud.wirings[1]
    ovs(host, "ovs-vsctl", "add-port", "br-int", "qvonobody", "--", "set", "Interface", "qvonobody", "type=internal",
        "--", "add-br", "br-planted", "--", "set", "Bridge", "br-planted", "datapath_type=netdev")  # fmt: skip
    found = {(one.kind, one.name) for one in wiring.leftovers(plant.cloud.desired(1))}
    assert {("port", "br-int qvonobody"), ("bridge", "br-planted")} <= found
    wiring.purge()
    left = {line.split("@")[0].split()[0] for line in host.out("ip -br link").splitlines()}
    assert left - KERNELS_OWN == {"lo", "eth0", "eth1", "eth2"}
    assert "ovs" not in host.out("ps ax")
    assert not (host.folder / "wiring" / "openvswitch").exists()
    assert host.pings("192.168.77.1"), "the host's own address is where it was"
    wiring.wire(plant.cloud.desired(1))
    wait(lambda: plant.guest("flat", 0).pings(plant.address("flat", 2)), 5, "the others, and all comes back")


# ---- settings that cannot work --------------------------------------------------------------------------------------


def test_an_agent_does_not_start_where_tunnels_end_nowhere(tmp_path_factory: pytest.TempPathFactory) -> None:
    """S0-25 to S0-29: the reason is said at start, and a corrected setting takes effect by starting again."""
    with Lab(tmp_path_factory.mktemp("nowhere"), hosts=1) as lab:
        (host,) = lab.hosts
        host.cable("eth1", "tunnels")
        host.run("sh", "-ec", "ip link add br0 up type bridge; ip link add tenant up type bridge; "
                 "ip link add empty up type bridge; ip address add 10.0.5.1/24 dev empty; "
                 "ip link set eth1 master br0; ip address add 10.0.1.1/24 dev eth1; ip address add 10.0.2.1/24 dev br0; "
                 "ip link add off type veth peer name far; ip address add 10.0.3.1/24 dev off")  # fmt: skip

        def says(**settings: object) -> str:
            wiring = HostWiring(host, settings=WiringSettings(**settings))  # type: ignore[arg-type]
            try:
                return wiring.check()
            finally:
                wiring.stop()

        under = Physical(bridge="br-phy", interface="eth1", address="10.0.9.1/24")
        assert "is on no device" in says(tunnel_address="10.0.77.7")
        assert "a port of bridge br0: packets for it end at the bridge" in says(tunnel_address="10.0.1.1")
        assert "no port that is up" in says(tunnel_address="10.0.5.1")
        assert "off, which is down" in says(tunnel_address="10.0.3.1")
        assert says(tunnel_address="10.0.2.1") == ""
        assert says(tunnel_address="127.0.0.1") == "", "on one machine, for practice (S0-33)"
        assert "never moved" in says(tunnel_address="10.0.9.1", underlay=under)
        assert "never moved" in says(tunnel_address="10.0.9.1", underlay=under, switch=OPEN)
        assert "but tunnel_address is 10.0.8.1" in says(tunnel_address="10.0.8.1", underlay=under, switch=OPEN)
        host.run("sh", "-ec", "ip link set eth1 nomaster; ip address flush dev eth1")
        assert says(tunnel_address="10.0.9.1", underlay=under) == ""
        assert says(tunnel_address="10.0.9.1", underlay=under, switch=OPEN) == ""
        for kind, lacking in (("geneve", "has no Geneve"), ("gre", "has no GRE")):
            fallback = Fallback(kind=kind)  # type: ignore[arg-type]
            said = says(tunnel_address="10.0.9.1", tunnel_fallback=fallback, underlay=under)
            able = kernel_makes(host, kind)
            assert said == "" if able else f"host.tunnel_fallback is {fallback}, but this host's kernel {lacking}" in said
            assert says(tunnel_address="10.0.9.1", tunnel_fallback=fallback, underlay=under, switch=OPEN) == ""
        if not has_generic_family("ovs_datapath"):
            assert "set host.underlay" in says(tunnel_address="10.0.2.1", switch=OPEN)
        assert "192.168.77.1/24" in host.out("ip -4 -br address show eth0")
