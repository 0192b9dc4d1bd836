"""Names on the host: the ones that people who know OpenStack look for, derived from ids and nothing else.

Every device that Nephos makes carries an owner mark in its alias, `nephos:<cloud>:<kind>:<id>`; what does not carry
this cloud's mark is never changed or removed.
"""

from __future__ import annotations

import functools
import hashlib
import ipaddress
import re
from typing import NamedTuple

METADATA, METADATA6 = "169.254.169.254", "fe80::a9fe:a9fe"
"""Where guests ask for their metadata; the IPv6 one is Neutron's, on the link."""
DHCP_NAMESPACE, ROUTER_NAMESPACE = "qdhcp-", "qrouter-"
_ID = re.compile(r"[0-9a-zA-Z][0-9a-zA-Z_-]{0,63}\Z")


class Mark(NamedTuple):
    """An owner mark, taken apart."""

    cloud: str
    kind: str
    id: str

    @staticmethod
    def parse(alias: str) -> Mark | None:
        parts = alias.split(":", 3)
        return Mark(*parts[1:]) if len(parts) == 4 and parts[0] == "nephos" else None

    def __str__(self) -> str:
        return f"nephos:{self.cloud}:{self.kind}:{self.id}"


def checked(identifier: str) -> str:
    """The id itself; ValueError when it could name anything but one file or device (a hostile server, design §2)."""
    if not _ID.match(identifier):
        raise ValueError(f"{identifier!r} is no id")
    return identifier


def bridge(network_id: str) -> str:
    return f"brq{checked(network_id)[:11]}"


@functools.lru_cache(1 << 16)
def tap(port_id: str) -> str:
    return f"tap{checked(port_id)[:11]}"


def slowed(port_id: str) -> str:
    """The device through which what a guest sends is limited."""
    return f"ifb{checked(port_id)[:11]}"


def tunnel(segment: int) -> str:
    return f"vxlan-{segment}"


def pair_tunnel(kind: str, segment: int, peer: str) -> str:
    """A tunnel of a network to one peer: the type, and a digest of number and address."""
    return f"{kind[:3]}-{hashlib.sha256(f'{segment}/{peer}'.encode()).hexdigest()[:11]}"


def detour(segment: int, peer: str) -> str:
    """The way round a blocked VXLAN to one peer: a digest of the network's number and the address."""
    return f"det-{hashlib.sha256(f'{segment}/{peer}'.encode()).hexdigest()[:11]}"


def vlan(parent: str, tag: int) -> str:
    """A sub-interface, as people call it; one whose parent's name leaves no room is called by its VLAN alone."""
    name = f"{parent}.{tag}"
    return name if len(name) <= 15 else f"vlan{tag}-{hashlib.sha256(parent.encode()).hexdigest()[:5]}"


def switch_ends(network_id: str) -> tuple[str, str]:
    """The pair that joins a network's bridge (first) to the integration bridge of Open vSwitch (second)."""
    return f"qvb{checked(network_id)[:11]}", f"qvo{network_id[:11]}"


def physical_ends(network_id: str) -> tuple[str, str]:
    """The pair that joins a network's bridge (first) to the bridge of its physical network (second)."""
    return f"phy{checked(network_id)[:11]}", f"int{network_id[:11]}"


def dhcp_namespace(network_id: str) -> str:
    return f"{DHCP_NAMESPACE}{checked(network_id)}"


def dhcp_device(port_id: str) -> str:
    return f"ns-{checked(port_id)[:11]}"


def router_namespace(router_id: str) -> str:
    return f"{ROUTER_NAMESPACE}{checked(router_id)}"


def leg_device(port_id: str, *, gateway: bool) -> str:
    return f"{'qg' if gateway else 'qr'}-{checked(port_id)[:11]}"


def ha_device(port_id: str) -> str:
    """A highly available router's leg in its HA network."""
    return f"ha-{checked(port_id)[:11]}"


def index_mac(index: int) -> str:
    """The MAC that stands for a port's index on the way to the metadata service; it never leaves the host."""
    return f"02:4e:50:00:{index >> 8:02x}:{index & 255:02x}"


INDEX_MAC_PREFIX, INDEX_MAC_MASK = "02:4e:50:00:00:00", "ff:ff:ff:ff:00:00"


def link_local(mac: str) -> str:
    """The IPv6 link-local address that a MAC gives (RFC 4291, modified EUI-64)."""
    octets = bytes.fromhex(mac.replace(":", ""))
    body = bytes([octets[0] ^ 2]) + octets[1:3] + b"\xff\xfe" + octets[3:]
    return str(ipaddress.IPv6Address(b"\xfe\x80" + b"\0" * 6 + body))
