"""A cloud of two hosts: a guest on each, joined by VXLAN; what each host does for its own guest stays on it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nephos import guestimage
from nephos.cli import trace
from nephos.cli.demo import _images
from tests.hosts.lab import Failed, Host, Lab, Space, wait
from tests.hosts.lab_cloud import LabCloud

pytestmark = pytest.mark.host
SERVED = {"address taken", "metadata served"}
OPEN_PORT, CLOSED_PORT = 8080, 8081
# Offsets in bits from the outer UDP header: it, VXLAN's and the inner Ethernet header are 8, 8 and 14 bytes.
_TYPE, _PROTOCOL, _SOURCE, _TARGET, _PORTS = "@th,224,16", "@th,312,8", "@th,336,32", "@th,368,32", "@th,400,32"
_COUNTERS = f"""table bridge tunnels {{
    counter tunnelled {{ }}
    counter pings {{ }}
    counter dhcp {{ }}
    counter metadata {{ }}
    chain forward {{
        type filter hook forward priority 0
        udp dport 4789 jump tunnel
    }}
    chain tunnel {{
        counter name tunnelled
        {_TYPE} 0x0800 {_PROTOCOL} 1 counter name pings
        {_TYPE} 0x0800 {_PROTOCOL} 17 {_PORTS} 0x00440043 counter name dhcp
        {_TYPE} 0x0800 {_PROTOCOL} 17 {_PORTS} 0x00430044 counter name dhcp
        {_TYPE} 0x0800 {_TARGET} 0xa9fea9fe counter name metadata
        {_TYPE} 0x0800 {_SOURCE} 0xa9fea9fe counter name metadata
    }}
}}
"""


class Underlay:
    """Counts what hosts send each other in tunnels, at the switch between them."""

    def __init__(self, switch: Space) -> None:
        self._switch = switch
        switch.run("nft", "-f", "-", text=_COUNTERS)

    def packets(self, counter: str) -> int:
        words = self._switch.out("nft", "list", "counter", "bridge", "tunnels", counter).split()
        return int(words[words.index("packets") + 1])


class World:
    """Two guests, one on each host, on one network with a router on host 1."""

    def __init__(self, cloud: LabCloud, folder: Path) -> None:
        self.cloud = cloud
        self.underlay = Underlay(cloud.lab.switch)
        self.key = folder / "id"
        with cloud.network():
            self.admin = cloud.connect("admin")  # a host is an administrator's to choose
            self._make()

    def _make(self) -> None:
        admin = self.admin
        image = _images(self.admin, guestimage.build(Path("/var/cache/nephos/guest")))
        pair = admin.compute.create_keypair(name="two")
        self.key.touch(mode=0o600)
        self.key.write_text(pair.private_key)
        network = self.network = admin.network.create_network(name="two")
        subnet = admin.network.create_subnet(network_id=network.id, ip_version=4, cidr="10.20.0.0/24", name="two")
        self.router = admin.network.create_router(
            name="two", external_gateway_info={"network_id": admin.network.find_network("public").id}
        )
        admin.network.add_interface_to_router(self.router, subnet_id=subnet.id)
        self.group = admin.network.create_security_group(name="two")
        self.allow("icmp", None)
        self.allow("tcp", 22)
        self.allow("tcp", OPEN_PORT)
        flavor = admin.compute.find_flavor("m1.nano")
        made = [
            self.server(name=f"on-{host}", image=image, flavor=flavor, zone=f"nova:{host}")
            for host in cloud_hosts(self.cloud)
        ]
        self.servers = [admin.compute.wait_for_server(server, interval=0.2, wait=120) for server in made]
        self.ports = [next(iter(admin.network.ports(device_id=server.id))) for server in self.servers]
        self.addresses = [port.fixed_ips[0]["ip_address"] for port in self.ports]
        public = admin.network.find_network("public")
        self.floating = admin.network.create_ip(floating_network_id=public.id, port_id=self.ports[0].id)

    def server(self, *, name: str, image: Any, flavor: Any, zone: str) -> Any:
        return self.admin.compute.create_server(
            name=name,
            image_id=image.id,
            flavor_id=flavor.id,
            networks=[{"uuid": self.network.id}],
            key_name="two",
            security_groups=[{"name": "two"}],
            availability_zone=zone,
        )

    def allow(self, protocol: str, port: int | None) -> Any:
        return self.admin.network.create_security_group_rule(
            security_group_id=self.group.id,
            direction="ingress",
            ether_type="IPv4",
            protocol=protocol,
            port_range_min=port,
            port_range_max=port,
        )

    def events(self, server: Any) -> set[str]:
        with self.cloud.network():
            actions = self.admin.compute.server_actions(server.id)
            create = next(each for each in actions if each.action == "create")
            return {each.event for each in self.admin.compute.get_server_action(create.request_id, server.id).events}

    def in_guest(self, number: int, command: str, *, timeout: float = 30, text: str | None = None) -> str:
        """Run a command in a guest, from its gateway's host: in the first through its floating IP, in the second by way
        of the first. `Failed` when it fails."""
        address = self.floating.floating_ip_address
        options = ["-i", str(self.key), "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]
        options += ["-o", "LogLevel=ERROR", "-o", "ConnectTimeout=5", "-o", "BatchMode=yes"]
        target = f"root@{address}"
        if number:
            hop = f"ProxyCommand=ssh {' '.join(options)} -W %h:%p {target}"
            options, target = [*options, "-o", hop], f"root@{self.addresses[number]}"
        return self.cloud.lab.hosts[0].run("ssh", *options, target, command, timeout=timeout, text=text).stdout

    def answers(self, number: int) -> bool:
        try:
            return bool(self.in_guest(number, "hostname"))
        except Failed:
            return False

    def reaches(self, port: int) -> bool:
        """Whether a TCP connection from the first guest to the second comes about on this port."""
        script = f"echo hello | timeout 4 nc -w 3 {self.addresses[1]} {port} >/dev/null 2>&1 && echo yes || echo no"
        return self.in_guest(0, script).strip() == "yes"

    def delete_everything(self) -> None:
        """What the test made and what the cloud began with."""
        network, compute = self.admin.network, self.admin.compute
        with self.cloud.network():
            for server in self.servers:
                compute.delete_server(server)
            for server in self.servers:
                compute.wait_for_delete(server, interval=0.1, wait=60)
            network.delete_ip(self.floating)
            for leg in list(network.ports(device_owner="network:router_interface")):
                network.remove_interface_from_router(leg.device_id, port_id=leg.id)
            for router in list(network.routers()):
                network.delete_router(router)
            for each in list(network.networks()):
                network.delete_network(each)
            network.delete_security_group(self.group)


def cloud_hosts(cloud: LabCloud) -> list[str]:
    return [host.name for host in cloud.lab.hosts]


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    folder = Path(tempfile.mkdtemp(prefix="nephos-two-", dir="/var/tmp"))
    folder.chmod(0o755)
    try:
        with Lab(folder, hosts=2) as lab, LabCloud(lab) as cloud:
            yield World(cloud, folder)
    finally:
        shutil.rmtree(folder)


def background(command: str) -> str:
    return f"({command}) < /dev/null > /dev/null 2>&1 & sleep 0.5"


def ours(host: Host) -> str:
    """The owners' marks of this cloud's devices on a host, but for the bridge to the external network."""
    marks = [word for word in host.out("ip", "-o", "link").split() if word.startswith("nephos:")]
    return "\n".join(mark for mark in marks if ":physical:" not in mark)


def test_a_guest_on_each_host_with_address_and_metadata_of_its_own_host(world: World) -> None:
    for server, host in zip(world.servers, cloud_hosts(world.cloud), strict=True):
        assert server.status == "ACTIVE"
        with world.cloud.network():
            assert world.admin.compute.get_server(server.id).hypervisor_hostname == host
        wait(lambda server=server: world.events(server) >= SERVED, 90, f"{server.name}: {SERVED}")  # type: ignore[misc]
    assert world.underlay.packets("dhcp") == 0, "each host answers its own guests"
    assert world.underlay.packets("metadata") == 0, "each host answers its own guests"
    for number, address in enumerate(world.addresses):
        wait(lambda number=number: world.answers(number), 60, f"log-in to guest {number + 1}")  # type: ignore[misc]
        assert f"inet {address}/24" in world.in_guest(number, "ip -4 address show dev eth0")


def test_guests_reach_each_other_through_the_tunnel(world: World) -> None:
    before = world.underlay.packets("tunnelled"), world.underlay.packets("pings")
    said = world.in_guest(0, f"ping -c 5 -W 5 {world.addresses[1]}")
    assert " 0% packet loss" in said
    assert world.underlay.packets("pings") >= before[1] + 10, "five requests and five replies, in tunnels"
    assert world.underlay.packets("tunnelled") >= before[0] + 10


def test_64_kilobytes_over_tcp(world: World) -> None:
    # Until its input ends nc does not half-close: the sender would take that for the end.
    world.in_guest(1, background(f"sleep 20 | nc -l -p {OPEN_PORT} | sha256sum > /tmp/sum"))
    before = world.underlay.packets("tunnelled")
    send = f"nc -w 5 {world.addresses[1]} {OPEN_PORT} < /tmp/random"
    sent = world.in_guest(0, f"head -c 65536 /dev/urandom > /tmp/random; {send}; sha256sum < /tmp/random").split()[0]
    wait(lambda: world.in_guest(1, "cat /tmp/sum").strip(), 10, "the whole transfer")
    assert world.in_guest(1, "cat /tmp/sum").split()[0] == sent
    assert world.underlay.packets("tunnelled") - before > 65536 // 1450


def test_the_security_group_blocks_what_no_rule_allows(world: World) -> None:
    world.in_guest(1, background(f"while :; do nc -l -p {CLOSED_PORT} < /dev/null; done"))
    assert not world.reaches(CLOSED_PORT)
    with world.cloud.network():
        world.allow("tcp", CLOSED_PORT)
    wait(lambda: world.reaches(CLOSED_PORT), 15, "the port open once a rule allows it")


def test_a_trace_follows_packets_of_a_guest_wherever_they_go(world: World) -> None:
    floating = world.floating.floating_ip_address
    for to in ("dhcp", "metadata", "gateway", "internet", world.ports[0].id, world.addresses[0], floating):
        port = world.ports[1].to_dict(original_names=True)
        found = world.cloud.get(f"/nephos/v1/ports/{port['id']}/trace?to={to}")["trace"]
        picture = trace.drawing(port, to, found)
        assert found["ok"] and found["also"] == [], picture
        assert all(hop["device"] in picture for hop in found["hops"])
    with pytest.raises(Failed, match=r"404.*could not be found"):
        world.cloud.get("/nephos/v1/ports/nonsense/trace")
    with pytest.raises(Failed, match=r"409.*no IPv6 address"):
        world.cloud.get(f"/nephos/v1/ports/{world.ports[1].id}/trace?to=2001:db8::1")


def test_a_trace_follows_packets_over_ipv6(world: World) -> None:
    admin = world.admin
    with world.cloud.network():
        modes = {"ipv6_ra_mode": "slaac", "ipv6_address_mode": "slaac"}
        subnet = admin.network.create_subnet(network_id=world.network.id, ip_version=6, cidr="fd00:20::/64", **modes)
        admin.network.add_interface_to_router(world.router, subnet_id=subnet.id)
        admin.network.create_security_group_rule(
            security_group_id=world.group.id, direction="ingress", ether_type="IPv6", protocol="ipv6-icmp"
        )
        near = next(each["ip_address"] for each in admin.network.get_port(world.ports[0].id).fixed_ips if ":" in each["ip_address"])
    wait(lambda: near in world.in_guest(0, "ip -6 address show dev eth0"), 60, "the guest's address by the router's advertisement")
    for to in ("dhcp6", "metadata6", "gateway6", near):
        found = world.cloud.get(f"/nephos/v1/ports/{world.ports[1].id}/trace?to={to}")["trace"]
        assert found["ok"] and found["also"] == [], trace.drawing(world.ports[1].to_dict(original_names=True), to, found)
    with pytest.raises(Failed, match=r"409.*no external gateway over IPv6"):
        world.cloud.get(f"/nephos/v1/ports/{world.ports[1].id}/trace?to=internet6")
    with pytest.raises(Failed, match="400"):
        world.cloud.get(f"/nephos/v1/ports/{world.ports[1].id}/trace?to=ff02::1")


def test_what_a_host_cannot_carry_fails_the_server_with_the_reason(world: World) -> None:
    """A VLAN network where the kernel has no 802.1Q; where it has, the server runs."""
    host, admin = world.cloud.lab.hosts[0], world.admin
    able = host.run("ip", "link", "add", "link", "eth0", "trial", "type", "vlan", "id", "9", check=False).returncode == 0
    if able:
        host.run("ip link del trial")
    with world.cloud.network():
        network = admin.network.create_network(
            name="tagged", provider_network_type="vlan", provider_physical_network="public", provider_segmentation_id=9
        )
        admin.network.create_subnet(network_id=network.id, ip_version=4, cidr="10.21.0.0/24")
        server = admin.compute.create_server(
            name="tagged",
            image_id=next(iter(admin.image.images())).id,
            flavor_id=admin.compute.find_flavor("m1.nano").id,
            networks=[{"uuid": network.id}],
            availability_zone=f"nova:{host.name}",
        )

        def over() -> bool:
            return admin.compute.get_server(server.id).status in ("ACTIVE", "ERROR")

        wait(over, 60, "the server to run or fail")
        server = admin.compute.get_server(server.id)
        assert server.status == ("ACTIVE" if able else "ERROR")
        assert able or "no 802.1Q (8021q)" in server.fault["message"], server.fault
        admin.compute.delete_server(server)
        admin.compute.wait_for_delete(server, interval=0.1, wait=60)


def test_after_all_is_deleted_no_host_has_anything(world: World) -> None:
    hosts = world.cloud.lab.hosts
    assert all(":tunnel:" in ours(host) and ":port:" in ours(host) for host in hosts)
    world.delete_everything()
    wait(lambda: world.cloud.audit() == [], 20, "an audit without findings")
    for host in hosts:
        wait(lambda host=host: not ours(host), 10, f"no devices of the cloud on {host.name}")  # type: ignore[misc]
        assert host.out("ip", "netns", "list") == ""
        assert not list((world.cloud.state_of(host) / "agent" / "instances").iterdir())
