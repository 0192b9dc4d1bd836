"""The way round a blocked VXLAN: another transport to the peers that the ledger names, with the networks' own numbers.

The hosts prove VXLAN all the while (`overlay`), the ledger says to both of a pair that it does not pass, and both lead
the networks that they share by what `tunnel_fallback` sets on either.
"""

from __future__ import annotations

from nephos.errors import HostFault
from nephos.wiring.base import Network, WiringSettings

GENEVE_PORT = 6081
"""Of networks that are of type Geneve (RFC 8926, section 3.3)."""
KEYS = 0xFF << 24
"""GRE keys from here on carry VXLAN networks where GRE is the fall-back."""


def check(settings: WiringSettings) -> None:
    """Raises HostFault when the fall-back would meet what has its port already."""
    fallback = settings.tunnel_fallback
    if fallback is None or fallback.kind != "geneve":
        return
    if not 1 <= fallback.port <= 65535:
        raise HostFault(f"host.tunnel_fallback: {fallback.port} is no UDP port")
    taken = {settings.tunnel_port: "VXLAN (host.tunnel_port)", GENEVE_PORT: "networks of type Geneve"}
    if fallback.port in taken:
        raise HostFault(
            f"host.tunnel_fallback: UDP port {fallback.port} is that of {taken[fallback.port]}; give it one of its own"
        )


def peers(settings: WiringSettings, network: Network) -> frozenset[str]:
    """The peers of a VXLAN network to which the fall-back leads."""
    return frozenset(network.detours if settings.tunnel_fallback is not None and network.kind == "vxlan" else ())


def number(settings: WiringSettings, segment: int) -> int:
    """What a VXLAN network's number is in the fall-back."""
    fallback = settings.tunnel_fallback
    return KEYS | segment if fallback is not None and fallback.kind == "gre" else segment


def check_key(settings: WiringSettings, network: Network) -> None:
    """Raises HostFault for a GRE network whose key is one of the fall-back's."""
    fallback = settings.tunnel_fallback
    if network.kind == "gre" and fallback is not None and fallback.kind == "gre" and (network.segment or 0) >= KEYS:
        raise HostFault(f"GRE keys from {KEYS} on are the fall-back's, because host.tunnel_fallback is GRE")
