"""The network types that carry segments, as Neutron's ML2 type drivers define them: ids, physical networks, overhead.

Local has neither id nor physical network and stays on one host; flat is a physical network as it is; VLAN (IEEE 802.1Q)
has a physical network and an id of 12 bits; VXLAN (RFC 7348), GRE (RFC 2890, the key) and Geneve (RFC 8926) are tunnels
between hosts.
"""

from __future__ import annotations

import msgspec

from nephos.network import problems

LOCAL, FLAT, VLAN, VXLAN, GRE, GENEVE = "local", "flat", "vlan", "vxlan", "gre", "geneve"
_IP_HEADER = {4: 20, 6: 40}


class Type(msgspec.Struct, frozen=True):
    """A network type. Ids go from 1 to `most`, 0 is that it has none; `overhead` is what its header adds to a frame
    inside an IP packet, in bytes, the inner Ethernet header included."""

    name: str
    most: int = 0
    physical: bool = False
    overhead: int = 0

    @property
    def tunnel(self) -> bool:
        return self.overhead > 0

    @property
    def ranged(self) -> bool:
        """Whether ids are given out of ranges."""
        return self.most > 0


# VXLAN's last number carries the proof that hosts reach each other (wiring.linux.switch.overlay).
TYPES = {
    each.name: each
    for each in (
        Type(LOCAL),
        Type(FLAT, physical=True),
        Type(VLAN, most=4094, physical=True),
        Type(VXLAN, most=(1 << 24) - 2, overhead=30),
        Type(GRE, most=(1 << 32) - 1, overhead=22),
        Type(GENEVE, most=(1 << 24) - 1, overhead=30),
    )
}
RANGED = tuple(name for name, each in TYPES.items() if each.ranged)
TUNNELS = tuple(name for name, each in TYPES.items() if each.tunnel)


class Segment(msgspec.Struct, frozen=True, kw_only=True):
    """What carries a network, or a part of one; None leaves the choice to the cloud."""

    kind: str | None = None
    physical: str | None = None
    number: int | None = None


def type_of(name: str) -> Type:
    """Raises BadRequest for a name that is none."""
    found = TYPES.get(name)
    if found is None:
        raise _bad(f"network_type value '{name}' not supported: it is one of {', '.join(TYPES)}.")
    return found


def check(wanted: Segment) -> Type:
    """Whether such a segment can be. Raises BadRequest in the words of Neutron's type drivers."""
    if wanted.kind is None:
        raise _bad("network_type required")
    kind = type_of(wanted.kind)
    if wanted.physical and not kind.physical:
        raise _bad(f"provider:physical_network specified for {kind.name} network.")
    if wanted.number is not None:
        if not kind.ranged:
            raise _bad(f"segmentation_id prohibited for {kind.name} provider network.")
        if not 1 <= wanted.number <= kind.most:
            raise _bad(f"segmentation_id {wanted.number} is out of range (1 through {kind.most}).")
        if kind.physical and not wanted.physical:
            raise _bad(f"segmentation_id requires physical_network for {kind.name.upper()} provider network.")
    elif kind.physical and not kind.ranged and not wanted.physical:
        raise _bad(f"physical_network required for {kind.name} provider network.")
    return kind


def key(kind: str, physical: str | None, number: int | None) -> str | None:
    """What no two segments may share; None for those of a local network."""
    if kind == LOCAL:
        return None
    return ":".join((kind, *([physical] if physical else []), *([str(number)] if number is not None else [])))


def most_mtu(kind: str, underlay: int, version: int) -> int:
    """The largest IP packet, in bytes, on a segment of this type: the underlay's MTU, less a tunnel's headers over IP
    of this version."""
    overhead = TYPES[kind].overhead
    return underlay - (overhead + _IP_HEADER[version] if overhead else 0)


def _bad(words: str) -> Exception:
    return problems.bad(f"Invalid input for operation: {words}")
