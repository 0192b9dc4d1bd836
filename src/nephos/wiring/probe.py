"""Probes: packets sent as a guest, and where they were seen (S0-30, S2-59, S4-04).

The server says which points of the way to watch, in ids; a host derives its devices from them. Every host on the way
watches at once, and the guest's own host sends. A packet is recognised by what only it carries, also inside a tunnel.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec


class At(StrEnum):
    """The kinds of points on a packet's way; what `Point.id` means for each."""

    TAP = "tap"
    """the guest's device; a port"""
    DHCP = "dhcp"
    """inside the namespace that answers DHCP and metadata; a network"""
    UPLINK = "uplink"
    """where a network leaves the host: its tunnel device, or its end towards a physical network; a network"""
    UNDERLAY = "underlay"
    """the device with the host's tunnel address; no id"""
    LEG = "leg"
    """inside a router's namespace; a router's port (`router_id` names the router)"""
    PHYSICAL = "physical"
    """the uplink of a physical network, or its bridge when it has none; its name"""


class Point(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One place where packets are looked for. `peer` is the tunnel address of the host to which an uplink leads: a
    network may have a device for each."""

    at: At
    id: str = ""
    router_id: str = ""
    peer: str = ""


class Dhcp(msgspec.Struct, frozen=True, kw_only=True, tag="dhcp"):
    """A DHCPDISCOVER (RFC 2131) with this transaction id; the answer is an OFFER, which reserves nothing."""

    xid: int
    mac: str


class Dhcp6(msgspec.Struct, frozen=True, kw_only=True, tag="dhcp6"):
    """A DHCPv6 SOLICIT, answered by an ADVERTISE, which reserves nothing; `stateless`: an INFORMATION-REQUEST, answered by a
    REPLY (RFC 8415). `xid` has 24 bits; `address` is the guest's on the link."""

    xid: int
    mac: str
    address: str
    stateless: bool = False


class Arp(msgspec.Struct, frozen=True, kw_only=True, tag="arp"):
    """Who has `target`? Asked by the guest's MAC and address."""

    mac: str
    address: str
    target: str


class Solicit(msgspec.Struct, frozen=True, kw_only=True, tag="nd"):
    """The same over IPv6: a neighbour solicitation, answered by an advertisement (RFC 4861)."""

    mac: str
    address: str
    target: str


class RouterSolicit(msgspec.Struct, frozen=True, kw_only=True, tag="rs"):
    """A router solicitation from the guest's address on the link; any router's advertisement is an answer (RFC 4861)."""

    mac: str
    address: str


class Echo(msgspec.Struct, frozen=True, kw_only=True, tag="echo"):
    """An ICMP or ICMPv6 echo request whose payload starts with `token` (16 bytes), `size` bytes of IP packet, not to be fragmented.

    It goes to `target_mac`; None is the MAC that answered when `nexthop` was asked for.
    """

    mac: str
    address: str
    target: str
    nexthop: str
    token: bytes
    size: int = 84
    target_mac: str | None = None


class Syn(msgspec.Struct, frozen=True, kw_only=True, tag="syn"):
    """A TCP SYN from port `source` with sequence number `sequence`; the guest itself resets what is answered."""

    mac: str
    address: str
    target: str
    port: int
    source: int
    sequence: int
    nexthop: str
    target_mac: str | None = None


Packet = Dhcp | Dhcp6 | Arp | Solicit | RouterSolicit | Echo | Syn


class Watch(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Look for these packets, and answers to them, at these points for so long. With `port_id`: also send them, one after
    the other, as the guest behind that port."""

    token: str
    packets: tuple[Packet, ...]
    points: tuple[Point, ...]
    seconds: float
    port_id: str | None = None


class Sighting(msgspec.Struct, frozen=True, kw_only=True):
    """A packet at a point. `at` is microseconds of the host's clock; `packet` and `point` are places in the Watch.

    `answer` tells the answer from the question; `leaving` whether the device sent it (True) or received it. `source`
    and `target` are as the packet says there, after any NAT; `by` is the MAC that sent it.
    """

    packet: int
    point: int
    at: int
    answer: bool
    leaving: bool
    source: str
    target: str
    by: str


class Eaten(msgspec.Struct, frozen=True, kw_only=True):
    """A rule that dropped or rejected a packet: `rule` is its text, `number` its place in the chain, from 1; for a chain's
    policy there is no rule. `foreign`: not one of ours. `namespace` is empty for the host's own."""

    packet: int
    answer: bool
    family: str
    table: str
    chain: str
    verdict: str
    namespace: str = ""
    rule: str = ""
    number: int | None = None
    foreign: bool = False


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """Something at a point that is not as it should be, in words, with what mends it."""

    point: int
    words: str
    mend: str = ""


class Watched(msgspec.Struct, frozen=True, kw_only=True):
    """What a host saw. `devices` are the points' devices, empty where there is none; `transports` what carries a network from
    the point to its peer, in words, empty where nothing does; `lost` counts frames that the capture could not keep up with."""

    devices: tuple[str, ...]
    sightings: tuple[Sighting, ...] = ()
    eaten: tuple[Eaten, ...] = ()
    faults: tuple[Fault, ...] = ()
    transports: tuple[str, ...] = ()
    lost: int = 0
