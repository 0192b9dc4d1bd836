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
from nephos.wiring.linux.switch.detour import GENEVE_PORT
from nephos.wiring.linux.system.nft import ACCEPT, DROP, Table, field, jump, match, meta, raw, room

_GRE = 47
"""By number: its name is in a file that a small system may lack."""
_IN = meta("iifname")
_NUMBER = raw("th", 96, 24)
"""VXLAN's network identifier, by its place in bits after the start of the UDP header."""


def write(table: Table, settings: WiringSettings, networks: Iterable[Network]) -> None:
    """Add the rules to a table of the inet family, to its chain forward among others. VXLAN of somebody else on the same
    port, told by its numbers, passes."""
    if settings.tunnel_address is None:
        return
    own = ipaddress.ip_address(settings.tunnel_address)
    family = "ip" if own.version == 4 else "ip6"
    tunnelled = [network for network in networks if network.kind in ("vxlan", "gre", "geneve")]
    peers = {peer for network in tunnelled for peer in network.peers}
    reachable = sorted(peer for peer in peers if ipaddress.ip_address(peer).version == own.version)
    ends = table.set("tunnel_ends", f"ipv{own.version}_addr", reachable, size=room(len(reachable)))
    guests = sorted(
        physical.bridge
        for physical in settings.physical.values()
        if physical.address is not None and own not in ipaddress.ip_interface(physical.address).network
    )
    from_guest = match(_IN, {"set": guests})
    vxlan = match(field("udp", "dport"), settings.tunnel_port)
    peer = [match(field(family, "daddr"), str(own)), match(field(family, "saddr"), ends)]
    table.hook("to_tunnels", "input", 0)
    # First what is right and most of all: then nothing else is looked at.
    table.rule("to_tunnels", vxlan, *peer, *([match(_IN, {"set": guests}, "!=")] if guests else []), ACCEPT)
    numbers = sorted(net.segment for net in tunnelled if net.kind == "vxlan" and net.segment is not None)
    if numbers:
        table.rule("to_tunnels", vxlan, match(_NUMBER, {"set": numbers}), DROP)
    if guests:
        table.rule("to_tunnels", from_guest, jump(table.chain("guests_tunnels")))
        table.rule("forward", from_guest, match(field(family, "daddr"), ends), jump("guests_tunnels"))
        fallback = {settings.tunnel_fallback.port} if settings.tunnel_fallback is not None else set()
        ports = {"set": sorted({settings.tunnel_port, GENEVE_PORT} | fallback)}
        table.rule("guests_tunnels", match(field("udp", "dport"), ports), DROP)
        table.rule("guests_tunnels", match(meta("l4proto"), _GRE), DROP)
