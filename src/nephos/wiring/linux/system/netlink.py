"""A small rtnetlink client: links, addresses, routes, forwarding entries, conntrack and the nftables generation.

Written here because the agent holds one socket a namespace and looks at all of them on every pass. pyroute2 0.9 costs
28 MB and 0.27 s to import, an event loop and four file descriptors a socket, and 13 ms to read a hundred links; this
reads them in under one. Wire formats: rtnetlink(7), linux/if_link.h, linux/neighbour.h, linux/netfilter/*.h.

Every call raises `OSError` with the kernel's errno and a text that says what was asked.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from nephos.wiring.linux.system.names import METADATA6

NETLINK_ROUTE, NETLINK_NETFILTER, NETLINK_GENERIC = 0, 12, 16
GENERIC_CONTROL, CONTROL_GET_FAMILY, CONTROL_NAME = 16, 3, 2
RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK = 16, 17, 18
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
RTM_NEWNEIGH, RTM_DELNEIGH, RTM_GETNEIGH = 28, 29, 30
RTM_NEWRULE, RTM_DELRULE, RTM_GETRULE = 32, 33, 34
NLM_REQUEST, NLM_ACK, NLM_DUMP = 1, 4, 0x300
NLM_REPLACE, NLM_EXCL, NLM_CREATE, NLM_APPEND = 0x100, 0x200, 0x400, 0x800
IFF_UP = 1
IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_LINK, IFLA_MASTER, IFLA_LINKINFO = 1, 3, 4, 5, 10, 18
IFLA_IFALIAS, IFLA_NET_NS_FD = 20, 28
INFO_KIND, INFO_DATA, INFO_SLAVE_KIND, INFO_SLAVE_DATA = 1, 2, 4, 5
PORT_FLUSH, PORT_ISOLATED = 24, 33
VETH_PEER = 1
VLAN_ID = 1
GRE_IN_FLAGS, GRE_OUT_FLAGS, GRE_IN_KEY, GRE_OUT_KEY, GRE_LOCAL, GRE_REMOTE = 2, 3, 4, 5, 6, 7
GRE_KEY = 0x2000
GENEVE_ID, GENEVE_REMOTE, GENEVE_PORT, GENEVE_REMOTE6, GENEVE_DF = 1, 2, 5, 7, 13
VLAN_ID = 1
VXLAN_ID, VXLAN_LOCAL, VXLAN_LEARNING, VXLAN_PORT, VXLAN_LOCAL6, VXLAN_DF = 1, 4, 7, 15, 17, 29
BR_FORWARD_DELAY, BR_STP_STATE, BR_MCAST_SNOOPING = 1, 5, 23
IFA_ADDRESS, IFA_LOCAL, IFA_FLAGS = 1, 2, 8
IFA_F_NODAD = 2
RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_MULTIPATH, RTA_TABLE = 1, 4, 5, 9, 15
FRA_SRC, FRA_PRIORITY, FRA_FWMARK, FRA_SUPPRESS_PREFIXLEN, FRA_TABLE, FRA_FWMASK, FRA_PROTOCOL = 2, 6, 10, 14, 15, 16, 21
FR_ACT_TO_TABLE, MAIN_TABLE = 1, 254
NDA_DST, NDA_LLADDR, NDA_MASTER = 1, 2, 9
NTF_SELF, NTF_MASTER, NTF_PROXY, NTF_STICKY = 2, 4, 8, 0x40
NUD_NOARP, NUD_PERMANENT = 0x40, 0x80
NUD_INCOMPLETE, NUD_FAILED = 0x01, 0x20
AF_BRIDGE = 7
ROUTE_PROTOCOL = 78
"""Marks the routes and rules that Nephos makes (rtm_protocol), so that it removes no other."""
CT_NEW, CT_GET = 0x100, 0x101
CTA_TUPLE_ORIG, CTA_MARK, CTA_ZONE = 1, 8, 18
NFT_GETGEN = 0xA10
NLA_MASK, NLA_NESTED = 0x3FFF, 0x8000


@dataclass(frozen=True, slots=True)
class Link:
    """A network device. `master` and `parent` (of a VLAN, say) are interface indexes, 0 for none; `data` the raw
    attributes of its kind. `isolated` bridge ports do not reach each other."""

    index: int
    name: str
    up: bool
    mtu: int
    mac: str
    master: int
    kind: str
    alias: str
    data: dict[int, bytes]
    parent: int = 0
    isolated: bool = False


@dataclass(frozen=True, slots=True)
class Forward:
    """A forwarding entry: of a VXLAN device (`destination` set) or of a bridge port."""

    index: int
    mac: str
    destination: str | None
    flags: int
    state: int


class Route(NamedTuple):
    """A unicast route. `destination` is a CIDR, `gateway` None for a directly reached one. `others` are further (gateway,
    device) that share the traffic with the first."""

    destination: str
    gateway: str | None
    device: int
    table: int = MAIN_TABLE
    others: tuple[tuple[str | None, int], ...] = ()


class PolicyRule(NamedTuple):
    """Which table is asked for packets with a mark (under a mask; 0: any) and from a source (an address, "": any).
    `suppress` leaves out routes of this prefix length and shorter."""

    version: int
    priority: int
    table: int
    mark: int = 0
    mask: int = 0
    source: str = ""
    suppress: int | None = None


class Flow(NamedTuple):
    """A tracked connection as its first packet went; `raw` is its name for the kernel.

    `source_port`, `target_port` are 0 and `kind`, `code` None for protocols without; `mark` is the connection's.
    """

    family: int
    zone: int
    source: str
    target: str
    protocol: int
    source_port: int
    target_port: int
    kind: int | None
    code: int | None
    mark: int
    raw: bytes


def attribute(kind: int, value: bytes | str | int) -> bytes:
    """One attribute, padded. Text gets its closing zero; an int is 32 bits in the host's order."""
    if isinstance(value, str):
        value = value.encode() + b"\0"
    elif isinstance(value, int):
        value = struct.pack("=I", value)
    size = 4 + len(value)
    return struct.pack("=HH", size, kind) + value + b"\0" * (-size % 4)


def attributes(data: bytes) -> dict[int, bytes]:
    """The attributes in `data` by number; of repeated ones the last."""
    found: dict[int, bytes] = {}
    offset, end = 0, len(data)
    while offset + 4 <= end:
        size, kind = struct.unpack_from("=HH", data, offset)
        if size < 4:
            break
        found[kind & NLA_MASK] = data[offset + 4 : offset + size]
        offset += size + (-size % 4)
    return found


def mac_bytes(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def mac_text(raw: bytes) -> str:
    return raw.hex(":")


def _family(address: str) -> int:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def packed(address: str) -> bytes:
    return socket.inet_pton(_family(address), address)


def _address(raw: bytes) -> str:
    return str(ipaddress.ip_address(raw))


def _link(data: bytes) -> Link:
    _, _, index, flags, _ = struct.unpack_from("=BxHiII", data)
    found = attributes(data[16:])
    info = attributes(found.get(IFLA_LINKINFO, b""))
    return Link(
        index=index,
        name=found[IFLA_IFNAME].rstrip(b"\0").decode(),
        up=bool(flags & IFF_UP),
        mtu=struct.unpack("=I", found[IFLA_MTU])[0],
        mac=mac_text(found.get(IFLA_ADDRESS, b"")),
        master=struct.unpack("=I", found[IFLA_MASTER])[0] if IFLA_MASTER in found else 0,
        kind=info.get(INFO_KIND, b"").rstrip(b"\0").decode(),
        alias=found.get(IFLA_IFALIAS, b"").rstrip(b"\0").decode(errors="replace"),
        data=attributes(info.get(INFO_DATA, b"")),
        parent=struct.unpack("=I", found[IFLA_LINK])[0] if IFLA_LINK in found else 0,
        isolated=attributes(info.get(INFO_SLAVE_DATA, b"")).get(PORT_ISOLATED, b"\0")[:1] == b"\1",
    )


class _Socket:
    """A netlink socket of the network namespace of the thread that makes it; it stays in that namespace."""

    def __init__(self, protocol: int) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        self._socket.bind((0, 0))
        self._sequence = 0

    def close(self) -> None:
        self._socket.close()

    def call(self, kind: int, flags: int, body: bytes, what: str) -> None:
        """Send one request and wait for the kernel's acknowledgement."""
        for _ in self._exchange(kind, flags | NLM_ACK, body, what):
            pass

    def dump(self, kind: int, body: bytes, what: str) -> Iterator[tuple[int, bytes]]:
        """(message type, body) of all that the kernel answers."""
        return self._exchange(kind, NLM_DUMP, body, what)

    def _exchange(self, kind: int, flags: int, body: bytes, what: str) -> Iterator[tuple[int, bytes]]:
        self._sequence += 1
        sequence = self._sequence
        self._socket.send(struct.pack("=IHHII", 16 + len(body), kind, NLM_REQUEST | flags, sequence, 0) + body)
        while True:
            data = self._socket.recv(1 << 18)
            offset = 0
            while offset + 16 <= len(data):
                size, answer, _, number, _ = struct.unpack_from("=IHHII", data, offset)
                payload = data[offset + 16 : offset + size]
                offset += size + (-size % 4)
                if number != sequence:
                    continue
                if answer in (2, 3):
                    code = -struct.unpack_from("=i", payload)[0] if payload else 0
                    if code:
                        raise OSError(code, f"{what}: {os.strerror(code)}")
                    return
                yield answer, payload
                if not flags & (NLM_DUMP | NLM_ACK):
                    return


class Netlink(_Socket):
    """Links, addresses, routes and forwarding entries of one network namespace."""

    def __init__(self) -> None:
        super().__init__(NETLINK_ROUTE)

    def links(self) -> dict[str, Link]:
        """Every device by name."""
        found = (_link(body) for _, body in self.dump(RTM_GETLINK, struct.pack("=BxHiII", 0, 0, 0, 0, 0), "read links"))
        return {link.name: link for link in found}

    def link(self, name: str) -> Link | None:
        body = struct.pack("=BxHiII", 0, 0, 0, 0, 0) + attribute(IFLA_IFNAME, name)
        try:
            for _, data in self._exchange(RTM_GETLINK, 0, body, f"read {name}"):
                return _link(data)
        except OSError as problem:
            if problem.errno != errno.ENODEV:
                raise
        return None

    def add_link(self, name: str, kind: str, *, data: bytes = b"", extra: bytes = b"") -> None:
        """Make a device. `data` are the attributes of its kind, `extra` further ones of the link itself."""
        info = attribute(INFO_KIND, kind.encode()) + (attribute(INFO_DATA, data) if data else b"")
        body = struct.pack("=BxHiII", 0, 0, 0, 0, 0) + attribute(IFLA_IFNAME, name) + extra
        self.call(RTM_NEWLINK, NLM_CREATE | NLM_EXCL, body + attribute(IFLA_LINKINFO, info), f"make {kind} {name}")

    def add_veth(self, name: str, peer: str, namespace: int | None, *, mac: str | None = None) -> None:
        """Make a pair; `peer` appears in the namespace of that open file, or here for None, and has MAC `mac`."""
        end = struct.pack("=BxHiII", 0, 0, 0, 0, 0) + attribute(IFLA_IFNAME, peer)
        if mac:
            end += attribute(IFLA_ADDRESS, mac_bytes(mac))
        if namespace is not None:
            end += attribute(IFLA_NET_NS_FD, namespace)
        self.add_link(name, "veth", data=attribute(VETH_PEER, end))

    def set_link(self, index: int, *, up: bool | None = None, changes: bytes = b"") -> None:
        """Change a device: `changes` are attributes, `up` its administrative state."""
        flags, mask = (IFF_UP if up else 0, 0 if up is None else IFF_UP)
        body = struct.pack("=BxHiII", 0, 0, index, flags, mask) + changes
        self.call(RTM_NEWLINK, 0, body, f"change device {index}")

    def isolate_port(self, index: int) -> None:
        """Keep a bridge port from the bridge's other isolated ports."""
        info = attribute(INFO_SLAVE_KIND, b"bridge") + attribute(INFO_SLAVE_DATA, attribute(PORT_ISOLATED, b"\1"))
        self.set_link(index, changes=attribute(IFLA_LINKINFO, info))

    def flush_port(self, index: int) -> None:
        """Forget what a bridge learned at a port."""
        info = attribute(INFO_SLAVE_KIND, b"bridge") + attribute(INFO_SLAVE_DATA, attribute(PORT_FLUSH, b""))
        self.set_link(index, changes=attribute(IFLA_LINKINFO, info))

    def delete_link(self, index: int) -> None:
        self.call(RTM_DELLINK, 0, struct.pack("=BxHiII", 0, 0, index, 0, 0), f"delete device {index}")

    def addresses(self) -> list[tuple[int, str]]:
        """(device index, address/prefix) of every address; of the link-local ones only the metadata service's."""
        found = []
        for _, body in self.dump(RTM_GETADDR, struct.pack("=BBBBI", 0, 0, 0, 0, 0), "read addresses"):
            _, prefix, _, _, index = struct.unpack_from("=BBBBI", body)
            values = attributes(body[8:])
            address = _address(values.get(IFA_LOCAL) or values[IFA_ADDRESS])
            if not address.startswith("fe80:") or address == METADATA6:
                found.append((index, f"{address}/{prefix}"))
        return found

    def change_address(self, index: int, cidr: str, *, add: bool) -> None:
        address, prefix = cidr.split("/")
        raw = packed(address)
        body = struct.pack("=BBBBI", _family(address), int(prefix), 0, 0, index)
        body += attribute(IFA_LOCAL, raw) + attribute(IFA_ADDRESS, raw)
        if len(raw) == 16:
            body += attribute(IFA_FLAGS, IFA_F_NODAD)
        kind, flags = (RTM_NEWADDR, NLM_CREATE | NLM_REPLACE) if add else (RTM_DELADDR, 0)
        self.call(kind, flags, body, f"{'set' if add else 'remove'} address {cidr}")

    def routes(self) -> set[Route]:
        """The routes that Nephos made in this namespace."""
        found = set()
        for _, body in self.dump(RTM_GETROUTE, struct.pack("=BBBBBBBBI", 0, 0, 0, 0, 0, 0, 0, 0, 0), "read routes"):
            family, prefix, _, _, table, protocol, _, _, _ = struct.unpack_from("=BBBBBBBBI", body)
            if protocol != ROUTE_PROTOCOL:
                continue
            values = attributes(body[12:])
            any_address = b"\0" * (16 if family == socket.AF_INET6 else 4)
            first, *others = _hops(values.get(RTA_MULTIPATH, b"")) or [
                (_gateway(values), struct.unpack("=I", values[RTA_OIF])[0] if RTA_OIF in values else 0)
            ]
            if RTA_TABLE in values:
                (table,) = struct.unpack("=I", values[RTA_TABLE])
            found.add(Route(f"{_address(values.get(RTA_DST, any_address))}/{prefix}", *first, table, tuple(others)))
        return found

    def change_route(self, route: Route, *, add: bool) -> None:
        address, prefix = route.destination.split("/")
        scope = 0 if route.gateway else 253
        head = struct.pack("=BBBBBBBBI", _family(address), int(prefix), 0, 0, 0, ROUTE_PROTOCOL, scope, 1, 0)
        body = head + (attribute(RTA_DST, packed(address)) if int(prefix) else b"") + attribute(RTA_TABLE, route.table)
        if route.others:
            hops = ((route.gateway, route.device), *route.others)
            body += attribute(RTA_MULTIPATH, b"".join(_hop(by, device) for by, device in hops))
        else:
            body += attribute(RTA_GATEWAY, packed(route.gateway)) if route.gateway else b""
            body += attribute(RTA_OIF, route.device) if route.device else b""
        kind, flags = (RTM_NEWROUTE, NLM_CREATE | NLM_REPLACE) if add else (RTM_DELROUTE, 0)
        what = f"{'set' if add else 'remove'} route {route.destination} via {route.gateway}"
        self.call(kind, flags, body, what)

    def rules(self) -> set[PolicyRule]:
        """The policy rules that Nephos made in this namespace."""
        found = set()
        for _, body in self.dump(RTM_GETRULE, struct.pack("=BBBBBBBBI", 0, 0, 0, 0, 0, 0, 0, 0, 0), "read rules"):
            values = attributes(body[12:])
            if values.get(FRA_PROTOCOL) != bytes([ROUTE_PROTOCOL]):
                continue
            suppress = struct.unpack("=I", values.get(FRA_SUPPRESS_PREFIXLEN, b"\xff" * 4))[0]
            source = values.get(FRA_SRC)
            found.add(
                PolicyRule(
                    6 if body[0] == socket.AF_INET6 else 4,
                    _word(values, FRA_PRIORITY),
                    _word(values, FRA_TABLE),
                    _word(values, FRA_FWMARK),
                    _word(values, FRA_FWMASK) if FRA_FWMARK in values else 0,
                    _address(source) if source else "",
                    None if suppress == 0xFFFFFFFF else suppress,
                )
            )
        return found

    def change_rule(self, rule: PolicyRule, *, add: bool) -> None:
        family = socket.AF_INET6 if rule.version == 6 else socket.AF_INET
        source = packed(rule.source) if rule.source else b""
        body = struct.pack("=BBBBBBBBI", family, 0, len(source) * 8, 0, 0, 0, 0, FR_ACT_TO_TABLE, 0)
        body += attribute(FRA_PRIORITY, rule.priority) + attribute(FRA_TABLE, rule.table)
        body += attribute(FRA_PROTOCOL, bytes([ROUTE_PROTOCOL]))
        if rule.mark:
            body += attribute(FRA_FWMARK, rule.mark) + attribute(FRA_FWMASK, rule.mask)
        if source:
            body += attribute(FRA_SRC, source)
        if rule.suppress is not None:
            body += attribute(FRA_SUPPRESS_PREFIXLEN, rule.suppress)
        kind, flags = (RTM_NEWRULE, NLM_CREATE | NLM_EXCL) if add else (RTM_DELRULE, 0)
        self.call(kind, flags, body, f"{'set' if add else 'remove'} rule {rule.priority} for table {rule.table}")

    def forwards(self) -> list[Forward]:
        """Every forwarding entry of every bridge port and VXLAN device."""
        found = []
        body = struct.pack("=BxHiII", AF_BRIDGE, 0, 0, 0, 0)
        for _, data in self.dump(RTM_GETNEIGH, body, "read forwarding entries"):
            _, index, state, flags, _ = struct.unpack_from("=BxxxiHBB", data)
            values = attributes(data[12:])
            target = values.get(NDA_DST)
            if NDA_LLADDR in values:
                mac = mac_text(values[NDA_LLADDR])
                found.append(Forward(index, mac, _address(target) if target else None, flags, state))
        return found

    def change_tunnel_entry(self, index: int, mac: str, destination: str, *, add: bool) -> None:
        """An entry of a VXLAN device: frames for `mac` go to `destination`."""
        body = struct.pack("=BxxxiHBB", AF_BRIDGE, index, NUD_PERMANENT, NTF_SELF, 0)
        body += attribute(NDA_LLADDR, mac_bytes(mac)) + attribute(NDA_DST, packed(destination))
        kind, flags = (RTM_NEWNEIGH, NLM_CREATE | NLM_APPEND) if add else (RTM_DELNEIGH, 0)
        self.call(kind, flags, body, f"{'add' if add else 'remove'} forwarding entry {mac} to {destination}")

    def neighbours(self) -> dict[tuple[int, str], int]:
        """(device index, address) → state (NUD_*) of every neighbour that the kernel asked for."""
        found = {}
        for family in (socket.AF_INET, socket.AF_INET6):
            body = struct.pack("=BxxxiHBB", family, 0, 0, 0, 0)
            for _, data in self.dump(RTM_GETNEIGH, body, "read neighbours"):
                _, index, state, flags, _ = struct.unpack_from("=BxxxiHBB", data)
                target = attributes(data[12:]).get(NDA_DST)
                if target and not flags & NTF_PROXY:
                    found[index, _address(target)] = state
        return found

    def told_neighbours(self) -> dict[tuple[int, str], str]:
        """(device index, address) → MAC of every neighbour that was told by `tell_neighbour`."""
        found = {}
        for family in (socket.AF_INET, socket.AF_INET6):
            body = struct.pack("=BxxxiHBB", family, 0, 0, 0, 0)
            for _, data in self.dump(RTM_GETNEIGH, body, "read neighbours"):
                _, index, state, flags, _ = struct.unpack_from("=BxxxiHBB", data)
                values = attributes(data[12:])
                if state & NUD_PERMANENT and not flags & NTF_PROXY and NDA_DST in values and NDA_LLADDR in values:
                    found[index, _address(values[NDA_DST])] = values[NDA_LLADDR].hex(":")
        return found

    def tell_neighbour(self, index: int, address: str, mac: str) -> None:
        """Let a neighbour have a MAC for good, without asking it."""
        raw = packed(address)
        body = struct.pack("=BxxxiHBB", _family(address), index, NUD_PERMANENT, 0, 0)
        body += attribute(NDA_DST, raw) + attribute(NDA_LLADDR, mac_bytes(mac))
        self.call(RTM_NEWNEIGH, NLM_CREATE | NLM_REPLACE, body, f"tell that {address} is {mac}")

    def forget_neighbour(self, index: int, address: str) -> None:
        """Undo `tell_neighbour`."""
        body = struct.pack("=BxxxiHBB", _family(address), index, NUD_PERMANENT, 0, 0) + attribute(NDA_DST, packed(address))
        self.call(RTM_DELNEIGH, 0, body, f"forget neighbour {address}")

    def proxies(self) -> set[tuple[int, str]]:
        """(device index, address) of every address that this namespace answers neighbour questions for (NDP proxy)."""
        found = set()
        body = struct.pack("=BxxxiHBB", socket.AF_INET6, 0, 0, NTF_PROXY, 0)
        for _, data in self.dump(RTM_GETNEIGH, body, "read proxied neighbours"):
            _, index, _, flags, _ = struct.unpack_from("=BxxxiHBB", data)
            target = attributes(data[12:]).get(NDA_DST)
            if flags & NTF_PROXY and target and len(target) == 16:
                found.add((index, _address(target)))
        return found

    def change_proxy(self, index: int, address: str, *, add: bool) -> None:
        body = struct.pack("=BxxxiHBB", socket.AF_INET6, index, NUD_PERMANENT, NTF_PROXY, 0)
        body += attribute(NDA_DST, packed(address))
        kind, how = (RTM_NEWNEIGH, NLM_CREATE | NLM_REPLACE) if add else (RTM_DELNEIGH, 0)
        self.call(kind, how, body, f"{'proxy' if add else 'no longer proxy'} {address}")

    def pin_mac(self, index: int, mac: str, *, add: bool) -> None:
        """Tie `mac` to a bridge port, so that no other port can claim it by sending from it."""
        flags = NTF_MASTER | (NTF_STICKY if add else 0)
        body = struct.pack("=BxxxiHBB", AF_BRIDGE, index, NUD_NOARP, flags, 0) + attribute(NDA_LLADDR, mac_bytes(mac))
        kind, how = (RTM_NEWNEIGH, NLM_CREATE | NLM_REPLACE) if add else (RTM_DELNEIGH, 0)
        self.call(kind, how, body, f"{'pin' if add else 'release'} {mac}")


def _gateway(values: dict[int, bytes]) -> str | None:
    gateway = values.get(RTA_GATEWAY)
    return _address(gateway) if gateway else None


def _word(values: dict[int, bytes], kind: int) -> int:
    return int(struct.unpack("=I", values[kind])[0]) if kind in values else 0


def _hop(gateway: str | None, device: int) -> bytes:
    """One next hop of several (struct rtnexthop), of the same weight as the others."""
    body = attribute(RTA_GATEWAY, packed(gateway)) if gateway else b""
    return struct.pack("=HBBi", 8 + len(body), 0, 0, device) + body


def _hops(data: bytes) -> list[tuple[str | None, int]]:
    found, offset = [], 0
    while offset + 8 <= len(data):
        size, _, _, device = struct.unpack_from("=HBBi", data, offset)
        found.append((_gateway(attributes(data[offset + 8 : offset + size])), device))
        offset += size + (-size % 4)
    return found


def has_generic_family(name: str) -> bool:
    """Whether the kernel serves a generic netlink family; it loads the module that does, if there is one."""
    client = _Socket(NETLINK_GENERIC)
    try:
        client.call(
            GENERIC_CONTROL, 0, struct.pack("=BBH", CONTROL_GET_FAMILY, 1, 0) + attribute(CONTROL_NAME, name), name
        )
    except OSError as problem:
        if problem.errno == errno.ENOENT:
            return False
        raise
    finally:
        client.close()
    return True


class Netfilter(_Socket):
    """The nftables generation and the connection table of one network namespace."""

    def __init__(self) -> None:
        super().__init__(NETLINK_NETFILTER)

    def generation(self) -> int:
        """A number that changes whenever anybody changes this namespace's nftables."""
        for _, body in self._exchange(NFT_GETGEN, 0, struct.pack("=BBH", 0, 0, 0), "read the ruleset's generation"):
            return int(struct.unpack(">I", attributes(body[4:])[1])[0])
        raise OSError(errno.EPROTO, "the kernel told no ruleset generation")

    def flows(self, zones: set[int]) -> list[Flow]:
        """The tracked connections of these conntrack zones."""
        found = []
        for _, body in self.dump(CT_GET, struct.pack("=BBH", 0, 0, 0), "read tracked connections"):
            values = attributes(body[4:])
            zone = _number(values.get(CTA_ZONE), 0)
            if zone in zones and CTA_TUPLE_ORIG in values and (flow := _flow(body[0], zone or 0, values)) is not None:
                found.append(flow)
        return found

    def mark_flow(self, flow: Flow, mark: int) -> None:
        """Set the connection's mark; nothing when it ended meanwhile."""
        body = struct.pack("=BBH", flow.family, 0, 0) + attribute(CTA_TUPLE_ORIG | NLA_NESTED, flow.raw)
        body += attribute(CTA_ZONE, struct.pack(">H", flow.zone)) + attribute(CTA_MARK, struct.pack(">I", mark))
        try:
            self.call(CT_NEW, 0, body, "mark a tracked connection")
        except OSError as problem:
            if problem.errno != errno.ENOENT:
                raise


def _number(raw: bytes | None, default: int | None) -> int | None:
    return int.from_bytes(raw, "big") if raw is not None else default


def _flow(family: int, zone: int, values: dict[int, bytes]) -> Flow | None:
    parts = attributes(values[CTA_TUPLE_ORIG])
    addresses, protocol = attributes(parts.get(1, b"")), attributes(parts.get(2, b""))
    source, target = addresses.get(1) or addresses.get(3), addresses.get(2) or addresses.get(4)
    if not source or not target:
        return None
    return Flow(
        family=family,
        zone=zone,
        source=_address(source),
        target=_address(target),
        protocol=_number(protocol.get(1), 0) or 0,
        source_port=_number(protocol.get(2), 0) or 0,
        target_port=_number(protocol.get(3), 0) or 0,
        kind=_number(protocol.get(5) or protocol.get(8), None),
        code=_number(protocol.get(6) or protocol.get(9), None),
        mark=_number(values.get(CTA_MARK), 0) or 0,
        raw=values[CTA_TUPLE_ORIG],
    )
