"""After a host's reboot, with the server down, DHCP, metadata, routers and rules work again (S3-45).

The host keeps what it was told and what it noted on disk; everything of the kernel is gone: devices, namespaces, rules
and daemons.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from nephos.agent.state import State
from nephos.hosts import wire
from nephos.wiring.base import Desired
from tests.hosts.lab import OUTSIDE, OUTSIDE_NAME, Lab
from tests.hosts.test_switches import KERNEL, KERNELS_OWN, kernel_makes, settings_of
from tests.hosts.wiring_lab import PING, WEB, Cloud, HostWiring

pytestmark = pytest.mark.host


@pytest.fixture
def folder() -> Iterator[Path]:
    """One that everybody may pass through, as the state directory of a cloud is."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as made:
        Path(made).chmod(0o755)
        yield Path(made)


def keep(path: Path, desired: Desired) -> None:
    """Write what the server said as the agent does."""
    tables = {
        "network": desired.networks, "port": desired.ports, "group": desired.groups, "router": desired.routers,
    }  # fmt: skip
    items = tuple(
        wire.Item(kind, key, msgspec.msgpack.encode(item))
        for kind, table in tables.items()
        for key, item in table.items()
    )
    state = State(path)
    state.take(wire.HostState("host1", 1, full=True, items=items))
    state.save()


@pytest.mark.parametrize("kind", ["vxlan", "vlan"])
def test_everything_is_back_after_a_reboot_without_the_server(folder: Path, kind: str) -> None:
    with Lab(folder / "lab") as lab:
        host = lab.hosts[0]
        if kind == "vlan" and not kernel_makes(host, kind):
            pytest.skip("this kernel has no 802.1Q")
        wiring = HostWiring(host, settings=settings_of(host, KERNEL))
        cloud = Cloud([wiring])
        public = cloud.public()
        network = cloud.network(kind=kind, physical="rack" if kind == "vlan" else None)
        port = cloud.port(network, 11, cloud.group(PING, WEB), name="one")
        router = cloud.router(public, network)
        floating = cloud.float(router, 20, port)
        cloud.wire()
        keep(folder / "desired", cloud.desired())
        dnsmasq = host.out("ps", "-C", "dnsmasq", "-o", "user=")
        assert dnsmasq.splitlines()[0].strip() == "nobody", "no DHCP server runs as root"

        def works() -> None:
            guest = wiring.guest(port)
            guest.serve(80, "hello\n")
            guest.serve(2222, "closed\n")
            assert guest.dhcp()["ip"] == "10.1.0.11"
            assert guest.http("http://169.254.169.254/x") == (200, f"{port.id} /x")
            assert guest.reaches(OUTSIDE, 80) == "outside\n"
            assert OUTSIDE in guest.run("busybox", "nslookup", OUTSIDE_NAME, check=False).stdout
            assert host.reaches(floating, 80) == "hello\n"
            assert host.reaches(floating, 2222, wait=0.5) is None
            guest.kill()

        works()
        boot(host.pid, wiring)
        links = {line.split()[0].split("@")[0] for line in host.out("ip -br link").splitlines()}
        assert links - KERNELS_OWN == {"lo", "eth0", "eth1", "eth2"} and host.out("nft list ruleset") == "" and "dnsmasq" not in host.out("ps ax")
        wiring._start()
        known = State(folder / "desired")
        assert known.known
        wiring.wire(known.snapshot())
        works()
        assert wiring.wire(known.snapshot())["changes"] == 0
        assert wiring.leftovers(known.snapshot()) == []


def boot(pid: int, wiring: HostWiring) -> None:
    """What is left of a host after its machine was switched off and on."""
    wiring._process.kill()
    wiring._process.wait()
    inside = ["nsenter", "-t", str(pid), "-n", "-m", "-u", "-p", "--"]
    script = """
        for name in $(ip netns list | cut -d' ' -f1); do
          for one in $(ip netns pids $name); do kill -9 $one; done; ip netns delete $name
        done
        for one in $(ps -C dnsmasq,python3 -o pid=); do kill -9 $one; done
        for link in $(ip -br link | cut -d' ' -f1 | cut -d@ -f1); do
          case $link in lo|eth[0-9]) ;; *) ip link delete $link 2>/dev/null ;; esac
        done
        nft flush ruleset
        sysctl -qw net.ipv4.ip_forward=0
    """
    subprocess.run([*inside, "bash", "-c", script], check=False, capture_output=True)
