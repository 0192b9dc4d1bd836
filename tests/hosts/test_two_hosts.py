"""A cloud of two hosts: a guest on each, joined by VXLAN; what each host does for its own guest stays on it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from nephos.cli import trace
from tests.hosts.lab import Failed, Host, Lab, wait
from tests.hosts.lab_cloud import LabCloud
from tests.hosts.two_guests import OPEN_PORT, World, cloud_hosts

pytestmark = pytest.mark.host
SERVED = {"address taken", "metadata served"}
CLOSED_PORT = OPEN_PORT + 1


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


def test_a_guest_moves_running_and_shut_down_and_takes_its_disk_along(world: World) -> None:
    """Live to the other host, larger and back, and shut down to where it was: what it wrote is there each time."""
    compute, server = world.admin.compute, world.servers[1]
    first, second = cloud_hosts(world.cloud)
    world.in_guest(1, "head -c 8388608 /dev/urandom > /root/kept; sync; sha256sum /root/kept > /tmp/sum")
    kept = world.in_guest(1, "cat /tmp/sum").split()[0]
    world.in_guest(1, background("while :; do date +%s >> /tmp/beats; sleep 1; done"))

    def rests(status: str, host: str) -> None:
        def look() -> bool:
            with world.cloud.network():
                found = compute.get_server(server.id)
            assert found.status != "ERROR", found.fault
            return (found.status, found.task_state, found.hypervisor_hostname) == (status, None, host)

        wait(look, 180, f"{status} on {host}")

    def holds(gigabytes: int) -> None:
        wait(lambda: world.answers(1), 90, "log-in to the guest that moved")
        assert world.in_guest(1, "sha256sum /root/kept").split()[0] == kept
        assert int(world.in_guest(1, "cat /sys/block/vda/size")) == gigabytes << 21

    with world.cloud.network():
        compute.live_migrate_server(server, host=None, block_migration="auto")
    rests("ACTIVE", first)
    holds(1)
    before = int(world.in_guest(1, "wc -l < /tmp/beats"))
    wait(lambda: int(world.in_guest(1, "wc -l < /tmp/beats")) > before, 10, "what ran in the guest goes on")
    with world.cloud.network():
        larger = compute.create_flavor(name="larger", ram=256, vcpus=1, disk=2)
        compute.resize_server(server, larger)
    wait(lambda: _settled(world, server.id) == "VERIFY_RESIZE", 180, "the larger guest")
    holds(2)
    with world.cloud.network():
        compute.revert_server_resize(server)
    rests("ACTIVE", first)
    holds(1)
    with world.cloud.network():
        compute.migrate_server(server, host=second)
    rests("VERIFY_RESIZE", second)
    with world.cloud.network():
        compute.confirm_server_resize(server)
    rests("ACTIVE", second)
    holds(1)
    wait(lambda: world.cloud.audit() == [], 20, "an audit without findings")


def _settled(world: World, server_id: str) -> str | None:
    with world.cloud.network():
        found = world.admin.compute.get_server(server_id)
    return found.status if found.task_state is None else None


def test_after_all_is_deleted_no_host_has_anything(world: World) -> None:
    hosts = world.cloud.lab.hosts
    assert all(":tunnel:" in ours(host) and ":port:" in ours(host) for host in hosts)
    world.delete_everything()
    wait(lambda: world.cloud.audit() == [], 20, "an audit without findings")
    for host in hosts:
        wait(lambda host=host: not ours(host), 10, f"no devices of the cloud on {host.name}")  # type: ignore[misc]
        assert host.out("ip", "netns", "list") == ""
        assert not list((world.cloud.state_of(host) / "agent" / "instances").iterdir())
