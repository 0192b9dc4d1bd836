"""Every network type on every switch, between two hosts of that switch: what a tenant wants of a network, one by one.

A cell is skipped where the kernel has not what it needs; `make nested` has a kernel that has everything. The router is on
the first host and the guest that is asked on the second, so all of it crosses from host to host.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from nephos.wiring.base import Network, Port
from tests.hosts.lab import OUTSIDE, Guest, Lab, wait
from tests.hosts.test_switches import KERNEL, MEGABYTE, MTU, OPEN, kernel_makes, settings_of
from tests.hosts.wiring_lab import PING, WEB, Cloud, HostWiring

pytestmark = pytest.mark.host
SEGMENTS = {"flat": None, "vlan": 11, "vxlan": 77, "gre": 1, "geneve": 77}
BODY = "0123456789abcdef"


class Site:
    """Two hosts of one switch, with a network of each type that this kernel can carry by it."""

    def __init__(self, lab: Lab, switch: str) -> None:
        self.lab = lab
        self.lacks = set()
        if switch == KERNEL:
            self.lacks = {kind for kind in ("vlan", "gre", "geneve") if not kernel_makes(lab.hosts[0], kind)}
        wirings = [HostWiring(host, settings=settings_of(host, switch)) for host in lab.hosts]
        for wiring in wirings:
            assert wiring.check() == ""
        self.cloud = Cloud(wirings)
        self.networks: dict[str, Network] = {}
        self.ports: dict[str, tuple[Port, Port]] = {}
        self.guests: dict[str, tuple[Guest, Guest]] = {}
        self.floating: dict[str, str] = {}
        group = self.cloud.group(PING, WEB)
        public = self.cloud.public()
        for number, (kind, segment) in enumerate(SEGMENTS.items(), 1):
            if kind in self.lacks:
                continue
            physical = "rack" if kind in ("flat", "vlan") else None
            network = self.cloud.network(
                f"10.{number}.0.0/24", kind=kind, segment=segment, physical=physical, mtu=MTU[kind]
            )
            near, far = (self.cloud.port(network, 11 + host, group, host=host) for host in (0, 1))
            self.networks[kind], self.ports[kind] = network, (near, far)
            router = self.cloud.router(public, network, number=10 + number)
            self.floating[kind] = self.cloud.float(router, 20 + number, far)
        self.cloud.wire()
        for kind, ports in self.ports.items():
            near, far = (
                wiring.guest(port, mtu=MTU[kind]) for wiring, port in zip(self.cloud.wirings, ports, strict=True)
            )
            self.guests[kind] = (near, far)


@pytest.fixture(scope="module", params=[KERNEL, OPEN])
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with Lab(tmp_path_factory.mktemp("matrix"), hosts=2) as lab:
        yield Site(lab, request.param)


def dhcp(site: Site, kind: str) -> None:
    for guest, port in zip(site.guests[kind], site.ports[kind], strict=True):
        lease = guest.dhcp()
        assert (lease["ip"], int(lease["mtu"])) == (port.addresses[0].address, MTU[kind])
        guest.serve(80, BODY, times=MEGABYTE // len(BODY))
        guest.serve(2222, "not for everyone\n")


def ping(site: Site, kind: str) -> None:
    """Also one as large as the network lets pass."""
    near, far = site.guests[kind][0], site.ports[kind][1].addresses[0].address
    wait(lambda: near.pings(far), 10, far)
    assert near.run(f"ping -c2 -W5 -M do -s {MTU[kind] - 28} {far}", check=False).returncode == 0


def megabyte(site: Site, kind: str) -> None:
    body = site.guests[kind][0].reaches(site.ports[kind][1].addresses[0].address, 80, wait=20)
    assert body == BODY * (MEGABYTE // len(BODY))


def metadata(site: Site, kind: str) -> None:
    for guest, port in zip(site.guests[kind], site.ports[kind], strict=True):
        assert guest.http("http://169.254.169.254/x") == (200, f"{port.id} /x")


def groups(site: Site, kind: str) -> None:
    """What no rule allows does not pass, in either direction between the hosts; what one allows did."""
    for here, there in ((0, 1), (1, 0)):
        far = site.ports[kind][there].addresses[0].address
        assert site.guests[kind][here].reaches(far, 2222, wait=1) is None
        assert site.guests[kind][here].reaches(far, 80, wait=20) is not None


def floating(site: Site, kind: str) -> None:
    outside = site.lab.hosts[0]
    wait(lambda: outside.reaches(site.floating[kind], 80, wait=10), 10, "the floating IP")
    assert outside.reaches(site.floating[kind], 2222, wait=1) is None


def snat(site: Site, kind: str) -> None:
    """The near guest has no floating IP; the far one leaves with its own."""
    for guest in site.guests[kind]:
        assert guest.reaches(OUTSIDE, 80, wait=5) == "outside\n"


CHECKS = {
    "DHCP": dhcp, "ping": ping, "megabyte": megabyte, "metadata": metadata, "groups": groups, "floating": floating,
    "SNAT": snat,
}  # fmt: skip


@pytest.mark.parametrize("kind", SEGMENTS)
@pytest.mark.parametrize("check", CHECKS)
def test_cell(site: Site, kind: str, check: str) -> None:
    if kind in site.lacks:
        pytest.skip(f"this kernel has no {kind}")
    CHECKS[check](site, kind)
