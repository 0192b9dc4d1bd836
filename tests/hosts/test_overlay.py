"""Two real hosts prove the tunnel between them: what is blocked, what is too narrow, and that it is well again."""

from __future__ import annotations

from pathlib import Path

import pytest

from nephos.wiring.linux.switch.overlay import DEVICE
from tests.hosts.lab import Lab, wait
from tests.hosts.wiring_lab import Cloud, HostWiring

pytestmark = pytest.mark.host


def said(wiring: HostWiring) -> list[str]:
    """What a host said of its peer, oldest first."""
    return [fact.detail for fact in wiring.facts() if fact.kind == "overlay"]


def test_hosts_prove_their_tunnel(tmp_path: Path) -> None:
    with Lab(tmp_path, hosts=2) as lab:
        wirings = [HostWiring(host) for host in lab.hosts]
        one = wirings[0]
        cloud = Cloud(wirings)
        network = cloud.network()
        cloud.port(network, 10, host=0)
        far = cloud.port(network, 11, host=1)
        cloud.wire()
        for each in wirings:
            wait(lambda each=each: said(each) == ["up 1450/1450"], 20, "the tunnel is proved")  # type: ignore[misc]
        assert one.wire(cloud.desired(0))["changes"] == 0, "a pass over an equal host changes nothing"

        lab.switch.run("nft add table bridge t")
        lab.switch.run("nft add chain bridge t f { type filter hook forward priority 0; }")
        lab.switch.run("nft add rule bridge t f ip saddr 192.168.77.1 udp dport 4789 drop")
        for each in wirings:
            wait(lambda each=each: said(each)[-1] == "down", 40, "the blocked tunnel is named")  # type: ignore[misc]
        lab.switch.run("nft delete table bridge t")
        lab.switch.run("ip link set p2 mtu 1400")
        lab.hosts[1].run("ip link set eth0 mtu 1400")
        for each in wirings:
            wait(lambda each=each: said(each)[-1] == "up 1350/1450", 60, "the narrow path's width is found")  # type: ignore[misc]

        cloud.remove(far)
        cloud.wire()
        wait(lambda: said(one)[-1] == "gone", 10, "no peer, no tunnel")
        assert DEVICE not in lab.hosts[0].out("ip -br link")
