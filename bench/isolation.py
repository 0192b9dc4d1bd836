"""Whether tenants with equal addresses are apart: twenty of them on two hosts, each attacks each other one.

    sudo .venv/bin/python bench/isolation.py [--tenants 20] [--switch linux|openvswitch] [--seed 1]

Every tenant has a VXLAN network 10.0.0.0/24 with a router to the outside, and the guests 10.0.0.11 on host 1 and 10.0.0.12
on host 2, in a group that lets everything in. Half of the tenants have port security off, so that nothing but the networks
themselves holds their frames back; half of either kind also share the MACs of their guests with each other.

Each guest sends every other tenant's guests: unicast, spoofed and tagged frames, broadcasts, ARP and IPv6 claims, DHCP requests
in the other's name, packets for the other's DHCP port, metadata service and router, and VXLAN packets with the other's number
to the tunnel ports of both hosts, directly, by every device that the host has in its network, and by way of its router. Every
frame carries a token that names its sender. A capture on all devices of both hosts looks for tokens: on a device of another
tenant, on a device that is nobody's, or between the hosts under another tenant's number they are a leak. It fails on one leak,
also when a capture lost a frame, when an attack did not reach its own tap, when a tenant's own guests do not meet before or
after, or when a leak made on purpose is not found.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from nephos.wiring.base import Network, Port, Router, Rule
from nephos.wiring.linux.system import names
from tests.hosts.lab import OUTSIDE, UNDERLAY, Guest, Host, Lab, wait
from tests.hosts.test_switches import settings_of
from tests.hosts.wiring_lab import Cloud, HostWiring

CIDR, PREFIX, NUMBERS = "10.0.0.0/24", "10.0.0", (11, 12)
TOKEN = b"NEPHOS-ISOLATION:"
BROADCAST = "ff:ff:ff:ff:ff:ff"
METADATA = names.METADATA
_CAPTURE = """
import collections, json, select, signal, socket, sys
token, ends = sys.argv[1].encode(), [socket.inet_aton(each) for each in sys.argv[2:]]
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
s.setsockopt(socket.SOL_SOCKET, 33, 1 << 28)  # SO_RCVBUFFORCE
s.settimeout(0.2)
seen, talkers, stop = collections.Counter(), collections.defaultdict(set), []
signal.signal(signal.SIGINT, lambda *_: stop.append(1))
print("ready", flush=True)
while True:
    try:
        frame, (device, _, kind, _, _) = s.recvfrom(65536)
    except TimeoutError:
        if stop:
            break
        continue
    way = "out" if kind == 4 else "in"
    at = frame.rfind(token)
    if at < 0:
        if way == "out":
            talkers[device].add(frame[6:12].hex(":"))
        continue
    sender, attack = frame[at + len(token) :].split(b";")[:2]
    if device.startswith(("eth", "br-phy")):
        # Between hosts: the number of the outer VXLAN header, when it goes to where a tunnel ends.
        inside = frame[12:14] == b"\\x08\\x00" and frame[23] == 17 and frame[30:34] in ends and frame[36:38] == b"\\x12\\xb5"
        device += f"/{int.from_bytes(frame[46:49], 'big')}" if inside else "/"
    seen[device, way, int(sender), attack.decode()] += 1
lost = int.from_bytes(s.getsockopt(263, 6, 8)[4:], sys.byteorder)  # PACKET_STATISTICS
print(json.dumps({"lost": lost, "seen": [[*k, n] for k, n in seen.items()],
                  "talkers": {k: sorted(v) for k, v in talkers.items()}}))
"""
_SEND = """
import socket, sys, time
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
s.bind(("eth0", 0))
for number, line in enumerate(open(sys.argv[1])):
    s.send(bytes.fromhex(line))
    if number % 8 == 7:
        time.sleep(0.004)  # a guest's queue holds 500 frames; none may be lost before it is on the host
"""


def ether(target: str, source: str, kind: int, body: bytes) -> bytes:
    return bytes.fromhex(f"{target}{source}".replace(":", "")) + struct.pack("!H", kind) + body


def ipv4(source: str, target: str, protocol: int, body: bytes) -> bytes:
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 0, 0, 64, protocol, 0)
    head += socket.inet_aton(source) + socket.inet_aton(target)
    total = sum(struct.unpack("!10H", head))
    total = (total & 0xFFFF) + (total >> 16)
    return head[:10] + struct.pack("!H", ~(total + (total >> 16)) & 0xFFFF) + head[12:] + body


def udp(source: str, target: str, ports: tuple[int, int], body: bytes) -> bytes:
    return ipv4(source, target, 17, struct.pack("!HHHH", *ports, 8 + len(body), 0) + body)


def arp(operation: int, mac: str, address: str, target: str) -> bytes:
    head = struct.pack("!HHBBH", 1, 0x0800, 6, 4, operation) + bytes.fromhex(mac.replace(":", ""))
    return head + socket.inet_aton(address) + bytes(6) + socket.inet_aton(target)


def dhcp(mac: str, token: bytes) -> bytes:
    """A request for the first address in the name of `mac`, with the token as its vendor class (RFC 2132, option 60)."""
    head = struct.pack("!BBBBIHH", 1, 1, 6, 0, 0x4E657068, 0, 0x8000) + bytes(16)
    head += bytes.fromhex(mac.replace(":", "")) + bytes(10 + 192)
    options = b"\x63\x82\x53\x63\x35\x01\x03\x32\x04" + socket.inet_aton(f"{PREFIX}.11")
    return udp("0.0.0.0", "255.255.255.255", (68, 67), head + options + bytes([60, len(token)]) + token + b"\xff")


def ipv6(source: str, target: str, kind: int, body: bytes) -> bytes:
    """ICMPv6 without a checksum: it is about where frames go, not about who believes them."""
    text = struct.pack("!BBHI", kind, 0, 0, 0) + body
    head = struct.pack("!IHBB", 6 << 28, len(text), 58, 255)
    return head + socket.inet_pton(socket.AF_INET6, source) + socket.inet_pton(socket.AF_INET6, target) + text


@dataclass
class Tenant:
    number: int
    network: Network
    router: Router
    outside: str
    loose: bool
    ports: list[Port]
    guests: list[Guest] = field(default_factory=list)

    def macs(self) -> set[str]:
        return {port.mac for port in self.ports} | {str(self.network.dhcp_mac), self.router.interfaces[0].mac}

    def devices(self) -> set[str]:
        """Every device of a host that carries this tenant's frames and nobody else's."""
        ports = [*(port.id for port in self.ports), self.network.dhcp_port_id, self.router.interfaces[0].port_id]
        net = self.network.id
        return {names.tap(str(port)) for port in ports} | {
            names.bridge(net), names.tunnel(int(self.network.segment or 0)), *names.switch_ends(net)
        }  # fmt: skip


class Seen(NamedTuple):
    device: str
    way: str
    sender: int
    attack: str
    count: int


class Capture:
    """On every device of a host, from now until `end`."""

    def __init__(self, host: Host, ends: list[str]) -> None:
        self._process = host.popen("/usr/bin/python3", "-c", _CAPTURE, TOKEN.decode(), *ends)
        assert self._process.stdout is not None and self._process.stdout.readline() == "ready\n"

    def end(self) -> tuple[list[Seen], dict[str, list[str]]]:
        """What carried a token, and for the rest which MACs sent to each device. AssertionError when frames were lost."""
        self._process.send_signal(signal.SIGINT)
        said = json.loads(self._process.communicate(timeout=120)[0])
        assert said["lost"] == 0, f"the capture lost {said['lost']} frames: it proves nothing"
        return [Seen(*each) for each in said["seen"]], said["talkers"]


class Town:
    """The tenants on their hosts."""

    def __init__(self, lab: Lab, count: int, switch: str) -> None:
        self.lab = lab
        self.device_macs: dict[str, str] = {}
        self.wirings, self.aims = [], ["172.24.4.1"]
        for host in lab.hosts:
            settings = settings_of(host, switch) if switch == "openvswitch" else None
            self.wirings.append(HostWiring(host, settings=settings))
            second = f"{UNDERLAY}.{100 + host.number}"
            host.run(f"ip address add {second}/24 dev eth0")
            self.aims += sorted({host.address, second, self.ends[-1]})
        for wiring in self.wirings:
            assert wiring.check() == "", wiring.check()
        self.cloud = cloud = Cloud(self.wirings)
        public = cloud.public()
        everything = [Rule(direction="ingress", version=version) for version in (4, 6)]
        self.tenants: list[Tenant] = []
        for number in range(count):
            network, group = cloud.network(CIDR), cloud.group(*everything)
            loose = number % 2 == 1
            ports = []
            for host, last in enumerate(NUMBERS):
                more = {"mac": f"fa:16:3e:77:77:{last:02x}"} if number % 4 >= 2 else {}
                ports.append(
                    cloud.port(cloud.networks[network.id], last, group, host=host, port_security=not loose, **more)
                )
            router = cloud.router(public, cloud.networks[network.id], number=20 + number)
            self.tenants.append(Tenant(number, network, router, f"172.24.4.{20 + number}", loose, ports))
        for _ in range(3):  # Open vSwitch uses what comes with one pass from the next on
            cloud.wire()
        self.host_macs = [[self._macs(host, tenant.network) for tenant in self.tenants] for host in lab.hosts]
        """By host and tenant, of the host's own devices in the tenant's network: its bridge, and a switch's end of it."""
        for host in lab.hosts:
            for line in host.out("ip -br link").splitlines():
                device, _, mac = line.split()[:3]
                self.device_macs[mac] = device.partition("@")[0]
        for tenant in self.tenants:
            for host, port in enumerate(tenant.ports):
                tenant.guests.append(self.wirings[host].guest(port))

    @staticmethod
    def _macs(host: Host, network: Network) -> list[str]:
        devices = {names.bridge(network.id), names.switch_ends(network.id)[1]}
        links = json.loads(host.out("ip -j link"))
        return [link["address"] for link in links if link["ifname"] in devices]

    @property
    def ends(self) -> list[str]:
        return [str(wiring.settings.tunnel_address) for wiring in self.wirings]

    def controls(self) -> None:
        """Every tenant by itself works: its own addresses, its own metadata, both guests meet, and the outside answers."""
        for tenant in self.tenants:
            for guest, port in zip(tenant.guests, tenant.ports, strict=True):
                lease = guest.dhcp()
                assert lease["ip"] == port.addresses[0].address, (tenant.number, lease)
            for guest, other in zip(tenant.guests, reversed(tenant.ports), strict=True):
                wait(lambda guest=guest, other=other: guest.pings(other.addresses[0].address), 20, "its mate to answer")
                assert guest.reaches(OUTSIDE, 80) == "outside\n", f"tenant {tenant.number} does not get out"

    def metadata(self, dice: random.Random) -> int:
        """Every guest asks as itself, and in the name of others by every header that a proxy might believe."""
        asked = 0
        for tenant in self.tenants:
            other = dice.choice([one for one in self.tenants if one is not tenant])
            lies = [
                "-H", f"X-Instance-ID: {other.ports[0].device_id or other.ports[0].id}", "-H", f"X-Port-Id: {other.ports[0].id}",
                "-H", f"X-OVN-Network-ID: {other.network.id}", "-H", f"X-Neutron-Network-ID: {other.network.id}",
                "-H", f"X-Forwarded-For: {other.ports[1].addresses[0].address}", "-H", f"X-Tenant-ID: {other.number}",
            ]  # fmt: skip
            for guest, port in zip(tenant.guests, tenant.ports, strict=True):
                for options in ([], lies):
                    answer = guest.http(f"http://{METADATA}/whose", *options)
                    assert answer == (200, f"{port.id} /whose"), f"tenant {tenant.number} was told {answer}"
                    asked += 1
        return asked

    def attacks(self, attacker: Tenant, own: int, victim: Tenant) -> Iterator[bytes]:
        """What the attacker's guest `own` sends against one other tenant."""
        port, mate = attacker.ports[own], attacker.ports[1 - own]
        me, here = port.mac, port.addresses[0].address
        gateway, service = attacker.router.interfaces[0].mac, str(attacker.network.dhcp_mac)

        def token(attack: str) -> bytes:
            return TOKEN + f"{attacker.number};{attack};".encode()

        for there in victim.ports:
            address = there.addresses[0].address
            yield ether(there.mac, me, 0x0800, udp(here, address, (7, 7), token("unicast")))
            yield ether(there.mac, there.mac, 0x0800, udp(address, address, (7, 7), token("spoofed both")))
            yield ether(mate.mac, there.mac, 0x0800, udp(address, address, (7, 7), token("spoofed MAC")))
            yield ether(there.mac, me, 0x0800, udp(f"{PREFIX}.1", address, (7, 7), token("spoofed IP")))
            yield ether(BROADCAST, there.mac, 0x0806, arp(1, there.mac, address, f"{PREFIX}.1") + token("ARP request"))
            yield ether(BROADCAST, me, 0x0806, arp(2, me, f"{PREFIX}.1", address) + token("ARP claim"))
            yield ether(there.mac, me, 0x0806, arp(2, me, address, address) + token("ARP answer"))
            yield ether(BROADCAST, me, 0x0800, dhcp(there.mac, token("DHCP")))
            yield ether(names.index_mac(there.index), me, 0x0800, udp(here, address, (7, 7), token("index MAC")))
            yield ether(me, names.index_mac(there.index), 0x0800, udp(here, METADATA, (7, 80), token("from index MAC")))
        yield ether(BROADCAST, me, 0x0800, udp(here, f"{PREFIX}.255", (7, 7), token("broadcast")))
        yield ether(BROADCAST, me, 0x0800, udp(here, "255.255.255.255", (7, 7), token("broadcast")))
        yield ether("01:00:5e:00:00:fb", me, 0x0800, udp(here, "224.0.0.251", (7, 7), token("multicast")))
        yield ether("33:33:00:00:00:01", me, 0x86DD, ipv6("fe80::1", "ff02::1", 134, token("router advertisement")))
        yield ether("33:33:ff:00:00:11", me, 0x86DD, ipv6("fe80::1", "ff02::1:ff00:11", 135, token("solicitation")))
        tag = struct.pack("!HH", int(victim.network.segment or 1) & 4095, 0x0800)
        yield ether(BROADCAST, me, 0x8100, tag + udp(here, f"{PREFIX}.255", (7, 7), token("tagged")))
        yield ether(str(victim.network.dhcp_mac), me, 0x0800, udp(here, METADATA, (7, 80), token("metadata")))
        yield ether(str(victim.network.dhcp_mac), me, 0x0800, udp(here, f"{PREFIX}.2", (68, 67), token("DHCP port")))
        yield ether(victim.router.interfaces[0].mac, me, 0x0800, udp(here, OUTSIDE, (7, 7), token("its router")))
        yield ether(gateway, me, 0x0800, udp(here, victim.outside, (7, 7), token("its outer address")))
        doors = self.host_macs[own][attacker.number]
        for outer in self.aims:
            # Inside: a broadcast, and what the victim would take for its mate's.
            for inside in (BROADCAST, *(there.mac for there in victim.ports)):
                inner = ether(inside, me, 0x0800, udp(here, f"{PREFIX}.255", (7, 7), token("forged VXLAN")))
                body = struct.pack("!II", 8 << 24, int(victim.network.segment or 0) << 8) + inner
                yield ether(gateway, me, 0x0800, udp(here, outer, (7, 4789), body))
            for door in (service, BROADCAST, *doors):
                yield ether(door, me, 0x0800, udp(here, outer, (7, 4789), body))
            for end in self.ends:
                for door in (*doors, gateway):
                    yield ether(door, me, 0x0800, udp(end, outer, (7, 4789), body))

    def attack(self, dice: random.Random) -> Counter[tuple[str, int, str]]:
        """Everyone against everyone, in any order, all at once. How many frames each tap should have seen come in."""
        expected: Counter[tuple[str, int, str]] = Counter()
        sending: list[subprocess.Popen[str]] = []
        for attacker in self.tenants:
            for own, guest in enumerate(attacker.guests):
                sent = [f for v in self.tenants if v is not attacker for f in self.attacks(attacker, own, v)]
                dice.shuffle(sent)
                for frame in sent:
                    kind = frame[frame.rfind(TOKEN) :].split(b";")[1].decode()
                    expected[names.tap(attacker.ports[own].id), attacker.number, kind] += 1
                sheet = guest.folder / "attacks"
                sheet.write_text("".join(f"{frame.hex()}\n" for frame in sent))
                sending.append(guest.popen("/usr/bin/python3", "-c", _SEND, str(sheet)))
        for process in sending:
            said = process.communicate(timeout=600)[0]
            assert process.returncode == 0, said
        return expected

    def leaks(self, seen: list[Seen]) -> list[Seen]:
        """What is where it must not be. The external network's devices are everyone's."""
        owner = {device: tenant.number for tenant in self.tenants for device in tenant.devices()}
        numbers = {int(tenant.network.segment or 0): tenant.number for tenant in self.tenants}
        shared = {"br-ex", "lo"} | {
            names.tap(gateway.port_id) for tenant in self.tenants for gateway in tenant.router.gateways
        }
        public = next(one for one in self.cloud.networks.values() if one.external)
        shared |= {names.bridge(public.id), *names.physical_ends(public.id), *names.switch_ends(public.id)}
        found = []
        for each in seen:
            device, _, number = each.device.partition("/")
            if device.startswith(("eth", "br-phy")):
                belongs = numbers.get(int(number)) if number else each.sender
            else:
                belongs = each.sender if device in shared else owner.get(device)
            if belongs != each.sender:
                found.append(each)
        return found


def strangers(town: Town, talkers: dict[str, list[str]]) -> list[str]:
    """Frames without a token that came to a guest from a MAC that none of its tenant has: answers of another's services."""
    found = []
    for tenant in town.tenants:
        for port in tenant.ports:
            other = set(talkers.get(names.tap(port.id), ())) - tenant.macs()
            own = tenant.devices()
            found += [
                f"tenant {tenant.number} heard {mac} {town.device_macs.get(mac)}"
                for mac in other
                if town.device_macs.get(mac) not in own
            ]
    return found


def planted(town: Town) -> bool:
    """Whether a cable between two tenants' bridges is found: the proof can fail."""
    one, other = town.tenants[:2]
    host = town.lab.hosts[0]
    left, right = (names.bridge(tenant.network.id) for tenant in (one, other))
    host.run(
        "sh", "-ec", f"ip link add cable0 type veth peer name cable1; ip link set cable0 master {left} up; "
        f"ip link set cable1 master {right} up",
    )  # fmt: skip
    capture = Capture(host, town.ends)
    port, sheet = one.ports[0], one.guests[0].folder / "planted"
    here = port.addresses[0].address
    frame = ether(BROADCAST, port.mac, 0x0806, arp(1, port.mac, here, f"{PREFIX}.9") + TOKEN + b"0;planted;")
    sheet.write_text(f"{frame.hex()}\n" * 3)
    one.guests[0].run("/usr/bin/python3", "-c", _SEND, str(sheet))
    time.sleep(0.5)
    seen, _ = capture.end()
    host.run("ip link del cable0")
    tap = names.tap(other.ports[0].id)
    return any(each.device == tap and each.way == "out" for each in town.leaks(seen))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tenants", type=int, default=20)
    parser.add_argument("--switch", choices=("linux", "openvswitch"), default="linux")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    dice, began = random.Random(options.seed), time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="nephos-bench-", dir="/var/tmp") as folder,
        Lab(Path(folder) / "lab", hosts=2) as lab,
    ):
        Path(folder).chmod(0o755)
        town = Town(lab, options.tenants, options.switch)
        print(f"{options.tenants} tenants wired on two hosts after {time.monotonic() - began:.0f} s", flush=True)
        town.controls()
        asked = town.metadata(dice)
        print(
            f"all meet their own; {asked} metadata requests told each its own; {time.monotonic() - began:.0f} s",
            flush=True,
        )
        captures = [Capture(host, town.ends) for host in lab.hosts]
        expected = town.attack(dice)
        town.controls()
        asked += town.metadata(dice)
        time.sleep(2)
        ended = [capture.end() for capture in captures]
        found = planted(town)
    seen = [each for part, _ in ended for each in part]
    came: Counter[tuple[str, int, str]] = Counter()
    for each in seen:
        if each.way == "in":
            came[each.device, each.sender, each.attack] += each.count
    short = {key: (came[key], number) for key, number in expected.items() if came[key] < number}
    leaks = town.leaks(seen)
    heard = [line for _, talkers in ended for line in strangers(town, talkers)]
    kinds = Counter[str]()
    for (_, _, kind), number in expected.items():
        kinds[kind] += number
    pairs = options.tenants * (options.tenants - 1)
    print(f"{expected.total()} frames of attack, {pairs} ordered pairs of tenants: "
          + ", ".join(f"{kind} {number}" for kind, number in sorted(kinds.items())))  # fmt: skip
    print(f"{sum(each.count for each in seen)} sightings on {len({each.device for each in seen})} devices, none lost; "
          f"{asked} metadata requests; {time.monotonic() - began:.0f} s")  # fmt: skip
    for tap, sender, kind in list(short)[:10]:
        print(f"NOT SENT: of {kind} by tenant {sender} {short[tap, sender, kind]} came to {tap}")
    for each in leaks[:20]:
        print(f"LEAK: {each.count} of tenant {each.sender}, {each.attack}, on {each.device} ({each.way})")
    for line in heard[:10]:
        print(f"STRANGER: {line}")
    print(f"leaks {len(leaks)}, strangers {len(heard)}, a leak made on purpose is {'found' if found else 'NOT FOUND'}")
    return int(bool(leaks or heard or short or not found))


if __name__ == "__main__":
    sys.exit(main())
