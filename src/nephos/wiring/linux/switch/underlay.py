"""Where the tunnels' packets end: whether the tunnel address is at a place where they arrive at all (S0-25 to S0-29)."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from nephos.errors import HostFault
from nephos.wiring.linux.system.netlink import Link
from nephos.wiring.linux.system.stack import Stack

_SWITCHES = {"bridge": "bridge", "openvswitch": "Open vSwitch datapath"}


def check(stack: Stack, local: str, peers: Iterable[str] = ()) -> Link:
    """The device that holds the tunnel address. Raises HostFault saying why no packet of a tunnel would arrive there.

    `peers` are tunnel addresses of other hosts.
    """
    by_index = {link.index: link for link in stack.links.values()}
    holder = next(
        (by_index[at] for at, cidr in stack.netlink.addresses() if cidr.split("/")[0] == local and at in by_index), None
    )
    if holder is None:
        raise HostFault(f"tunnel_address {local} is on no device of this host")
    remote = next((peer for peer in peers if not ipaddress.ip_address(peer).is_loopback), None)
    if ipaddress.ip_address(local).is_loopback and remote is not None:
        raise HostFault(f"tunnel_address {local} is a loopback address, which the host at {remote} cannot reach")
    if not holder.up:
        raise HostFault(f"tunnel_address {local} is on {holder.name}, which is down")
    above = by_index.get(holder.master)
    if above is not None and above.kind in _SWITCHES:
        raise HostFault(
            f"tunnel_address {local} is on {holder.name}, a port of {_SWITCHES[above.kind]} {above.name}: packets for "
            f"it end at the {_SWITCHES[above.kind]} and never reach {holder.name}; put it on {above.name}"
        )
    if holder.kind == "bridge" and not any(link.master == holder.index and link.up for link in by_index.values()):
        raise HostFault(
            f"tunnel_address {local} is on bridge {holder.name}, which has no port that is up: packets of a tunnel "
            "never get there; give the bridge its uplink or put the address where the uplink is"
        )
    return holder
