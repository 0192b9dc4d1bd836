"""What may leave a router for the outside: nothing with an address that others have on that wire.

Without source NAT a router sends what guests send with their own addresses, and a project chooses those itself: where
the external network is the hosts' own wire too, a guest could speak with the address of a host. Hosts believe tunnels by
their peers' addresses (`guard`), and everybody on a wire believes its neighbours.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from nephos.wiring.base import Network, Router
from nephos.wiring.linux.routers.gateways import outside
from nephos.wiring.linux.system.nft import ACCEPT, DROP, Table, field, match, meta, prefix

_AFTER_NAT = 300
_OUT = meta("oifname")


def wire(tunnel: str | None, addresses: Iterable[str], networks: Mapping[str, Network]) -> set[str]:
    """The hosts' addresses, as networks: around this one's end of tunnels, of whose `addresses` (with prefixes) it is one,
    and the peers that are known. Nothing without tunnels."""
    if tunnel is None:
        return set()
    around = {str(one.network) for one in map(ipaddress.ip_interface, addresses) if str(one.ip) == tunnel}
    return around | {str(ipaddress.ip_network(peer)) for network in networks.values() for peer in network.peers}


def table(router: Router, hosts: Collection[str]) -> Table:
    """Of what leaves by each gateway, after NAT: the router's own addresses pass, others of that wire do not. `hosts` are
    the networks that hosts have their addresses in."""
    made = Table("inet", "nephos_leaving")
    own = {one.address for gateway in router.gateways for one in gateway.addresses}
    own |= {one.address for one in router.floating} | {one.address for one in router.forwardings}
    own |= set(router.proxied or ())
    made.hook("leaving", "postrouting", _AFTER_NAT)
    for version, family in ((4, "ip"), (6, "ip6")):
        source = field(family, "saddr")
        ours = sorted(each for each in own if ipaddress.ip_address(each).version == version)
        passes = made.set(f"own{version}", f"ipv{version}_addr", ours) if ours else None
        for place, gateway in enumerate(router.gateways):
            theirs = _joined({f"{one.address}/{one.prefix}" for one in gateway.addresses} | set(hosts), version)
            if theirs:
                taken = made.set(f"wire{place}_{version}", f"ipv{version}_addr", map(prefix, theirs), interval=True)
                here = match(_OUT, outside(gateway))
                if passes is not None:
                    made.rule("leaving", here, match(source, passes), ACCEPT)
                made.rule("leaving", here, match(source, taken), DROP)
    return made


def _joined(ranges: Iterable[str], version: int) -> list[str]:
    """Those of an IP version, none within another: nft takes no two in one transaction that overlap."""
    found: list[Any] = [ipaddress.ip_network(each, strict=False) for each in ranges]
    return [str(each) for each in ipaddress.collapse_addresses(each for each in found if each.version == version)]
