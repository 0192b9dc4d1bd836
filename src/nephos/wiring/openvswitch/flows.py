"""The OpenFlow 1.3 rules of the bridges: which frame of which network goes where.

A network is a VLAN of its own inside the switch (its tag). The integration bridge only sorts: a network has one port
there and one way out, so nothing is learned, and a guest that moved is reached where the ledger says it is. The tunnel
bridge knows the host of every MAC, and sends what is for all to each peer. Whatever no rule names is dropped.

They are written as Open vSwitch tells them again, so that a look shows what differs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import NamedTuple

INTEGRATION, TUNNELS = "br-int", "br-tun"
TO_TUNNELS, TO_INTEGRATION = "patch-tun", "patch-int"
_NORMAL, _DROP = "priority=0,actions=NORMAL", "priority=0,actions=drop"


def physical_ports(bridge: str) -> tuple[str, str]:
    """The patch that joins the integration bridge (first) to the bridge of a physical network (second)."""
    name = bridge if len(bridge) <= 11 else hashlib.sha256(bridge.encode()).hexdigest()[:11]
    return f"int-{name}", f"phy-{name}"


class Tunnel(NamedTuple):
    """The tunnel bridge's port of that name, and the number that a network goes by there."""

    port: str
    number: int


class Rules:
    """The rules of all bridges, grown network by network."""

    def __init__(self) -> None:
        self.bridges: dict[str, list[str]] = {INTEGRATION: [_DROP], TUNNELS: [_DROP]}

    def tunnel(
        self,
        port: str,
        tag: int,
        tunnel: Tunnel,
        peers: Iterable[str],
        macs: Iterable[tuple[str, str]],
        detours: Mapping[str, Tunnel] | None = None,
    ) -> None:
        """A network of a tunnel type: `port` is its own on the integration bridge, `macs` the peers' (MAC, peer);
        `detours` are the peers to which another tunnel leads. What does not come from a peer is dropped: anybody who
        reaches the tunnels' port could have sent it."""
        peers, detours = list(peers), detours or {}
        inside, outside = self.bridges[INTEGRATION], self.bridges[TUNNELS]
        inside.append(f'priority=10,in_port="{port}",actions={_push(tag)},output:"{TO_TUNNELS}"')
        inside.append(f'priority=10,in_port="{TO_TUNNELS}",dl_vlan={tag},actions=pop_vlan,output:"{port}"')
        for peer in peers:
            source = "tun_ipv6_src" if ":" in peer else "tun_src"
            # The other side may still send as before, or do so already.
            for name, number in dict.fromkeys((tunnel, detours.get(peer, tunnel))):
                arriving = f'priority=10,in_port="{name}",tun_id={number:#x},{source}={peer}'
                outside.append(f'{arriving},actions={_push(tag)},output:"{TO_INTEGRATION}"')
        leaving = f'in_port="{TO_INTEGRATION}",dl_vlan={tag}'
        if peers:
            everyone = "".join(f",{_through(detours.get(peer, tunnel), peer)}" for peer in peers)
            outside.append(f"priority=10,{leaving},actions=pop_vlan{everyone}")
        for mac, peer in macs:
            through = _through(detours.get(peer, tunnel), peer)
            outside.append(f"priority=20,{leaving},dl_dst={mac},actions=pop_vlan,{through}")

    def open(self, bridge: str) -> None:
        """A bridge that learns and forwards as any switch."""
        self.bridges.setdefault(bridge, [_NORMAL])

    def physical(self, port: str, bridge: str, tag: int, vlan: int | None) -> None:
        """A network on a physical one, whose bridge is open, in that one's VLAN or (None) untagged."""
        inner, outer = physical_ports(bridge)
        inside, outside = self.bridges[INTEGRATION], self.bridges[bridge]
        inside.append(f'priority=10,in_port="{port}",actions={_push(tag)},output:"{inner}"')
        arriving = "vlan_tci=0x0000/0x1fff" if vlan is None else f"dl_vlan={vlan}"
        strip = "" if vlan is None else "pop_vlan,"
        inside.append(f'priority=10,in_port="{inner}",{arriving},actions={strip}output:"{port}"')
        leaving = "pop_vlan" if vlan is None else _retag(vlan)
        outside.append(f'priority=10,in_port="{outer}",dl_vlan={tag},actions={leaving},NORMAL')
        foreign = f'priority=5,in_port="{outer}",actions=drop'
        if foreign not in outside:
            outside.append(foreign)


def _push(tag: int) -> str:
    return f"push_vlan:0x8100,{_retag(tag)}"


def _retag(vlan: int) -> str:
    # Bit 12 tells that there is a tag (OpenFlow 1.3, OFPVID_PRESENT).
    return f"set_field:{vlan | 0x1000}->vlan_vid"


def _through(tunnel: Tunnel, peer: str) -> str:
    towards = f"set_field:{peer}->{'tun_ipv6_dst' if ':' in peer else 'tun_dst'}"
    return f'set_field:{tunnel.number:#x}->tun_id,{towards},output:"{tunnel.port}"'
