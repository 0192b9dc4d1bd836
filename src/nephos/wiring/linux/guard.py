"""Who may speak to this host's tunnels: hosts that share a network with it, and never a guest.

A VXLAN device believes every packet that gets to its UDP port, from wherever and to whichever of the host's addresses
(RFC 7348, section 7). A guest whose router leads to the hosts' own network could so put frames into any network: by the
port of the host that routes for it, or masqueraded, with that very host's address, by another host's. GRE and Geneve
devices know their peer, and are deceived by the second way alone.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from nephos.wiring.base import Network, WiringSettings
from nephos.wiring.linux.detour import GENEVE_PORT
from nephos.wiring.linux.nft import ACCEPT, DROP, Expression, Table, field, jump, match, meta, raw

CHAIN = "tunnels"
"""What packets of other protocols than TCP go through before anything else."""
_GRE = 47
"""By number: its name is in a file that a small system may lack."""
_IN = meta("iifname")
_NUMBER = raw("th", 96, 24)
"""VXLAN's network identifier, by its place in bits after the start of the UDP header."""
_HERE: Expression = match({"fib": {"result": "type", "flags": ["daddr"]}}, "local")
_NOTRACK: Expression = {"notrack": None}


def write(table: Table, settings: WiringSettings, networks: Iterable[Network]) -> bool:
    """Add the chain to a table of the inet family; answers whether there is anything to guard. VXLAN of somebody else on
    the same port, told by its numbers, passes.

    Packets between tunnels' ends are not tracked as connections: what they carry is, and the look for one would be their
    greatest cost. A guest's own packets pass by on their bridge, whatever they are.
    """
    if settings.tunnel_address is None:
        return False
    own = ipaddress.ip_address(settings.tunnel_address)
    family = "ip" if own.version == 4 else "ip6"
    tunnelled = [network for network in networks if network.kind in ("vxlan", "gre", "geneve")]
    peers = {peer for network in tunnelled for peer in network.peers}
    reachable = sorted(peer for peer in peers if ipaddress.ip_address(peer).version == own.version)
    ends = table.set("tunnel_ends", f"ipv{own.version}_addr", reachable)
    guests = sorted(
        physical.bridge
        for physical in settings.physical.values()
        if physical.address is not None and own not in ipaddress.ip_interface(physical.address).network
    )
    table.chain(CHAIN)
    vxlan = match(field("udp", "dport"), settings.tunnel_port)
    others = [match(_IN, "brq*", "!="), *([match(_IN, {"set": guests}, "!=")] if guests else [])]
    here, peer = match(field(family, "daddr"), str(own)), match(field(family, "saddr"), ends)
    table.rule(CHAIN, vxlan, here, peer, *others, _NOTRACK, ACCEPT)
    table.hook("to_peers", "output", -300)
    table.rule("to_peers", vxlan, match(field(family, "daddr"), ends), _NOTRACK)
    bridged = match(_IN, "brq*")
    table.rule(CHAIN, bridged, {"return": None})
    if guests:
        table.rule(CHAIN, match(_IN, {"set": guests}), jump(table.chain("guests_tunnels")))
        fallback = {settings.tunnel_fallback.port} if settings.tunnel_fallback is not None else set()
        ports = {"set": sorted({settings.tunnel_port, GENEVE_PORT} | fallback)}
        for tunnel in (match(field("udp", "dport"), ports), match(meta("l4proto"), _GRE)):
            table.rule("guests_tunnels", tunnel, match(field(family, "daddr"), ends), DROP)
            table.rule("guests_tunnels", tunnel, _HERE, DROP)
    numbers = sorted(net.segment for net in tunnelled if net.kind == "vxlan" and net.segment is not None)
    if numbers:
        table.rule(CHAIN, vxlan, match(_NUMBER, {"set": numbers}), _HERE, DROP)
    return True
