"""The probes' frames: written, and recognised wherever they show up, bare or inside a tunnel.

Formats: RFC 894 Ethernet, RFC 826 ARP, RFC 791 IPv4, RFC 792 ICMP, RFC 9293 TCP, RFC 2131 DHCP; RFC 2464 Ethernet of
IPv6, RFC 8200 IPv6, RFC 4443 ICMPv6, RFC 4861 neighbours and routers, RFC 8415 DHCPv6.
"""

from __future__ import annotations

import socket
import struct
from typing import NamedTuple

from nephos.wiring.probe import Arp, Dhcp, Dhcp6, Echo, Packet, RouterSolicit, Solicit, Syn

ETHER, IPV4, IPV6 = 14, 20, 40
_BROADCAST = b"\xff" * 6
_IPV4, _IPV6 = b"\x08\x00", b"\x86\xdd"
_ICMP, _TCP, _UDP, _ICMP6 = 1, 6, 17, 58
_ALL_ROUTERS, _ALL_DHCP = "ff02::2", "ff02::1:2"
_ECHO = {4: (8, 0), 6: (128, 129)}
"""The types of an echo request and its reply, by IP version."""
_ROUTER_SOLICITATION, _ROUTER_ADVERTISEMENT, _SOLICITATION, _ADVERTISEMENT = 133, 134, 135, 136
_COOKIE = b"\x63\x82\x53\x63"


class Known(NamedTuple):
    """A recognised frame; see `nephos.wiring.probe.Sighting`."""

    answer: bool
    source: str
    target: str
    by: str


class Pattern(NamedTuple):
    """What a frame carries at an offset from its Ethernet header, and whether it is then an answer."""

    offset: int
    data: bytes
    answer: bool


def mac_bytes(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def version(packet: Packet) -> int:
    """The IP version that the packet belongs to."""
    return 6 if isinstance(packet, Dhcp6 | Solicit | RouterSolicit) or ":" in getattr(packet, "target", "") else 4


def protocol(packet: Packet) -> int:
    """What its IP packet carries, by number; an ARP request is none."""
    match packet:
        case Echo() if version(packet) == 4:
            return _ICMP
        case Dhcp() | Dhcp6():
            return _UDP
        case Syn():
            return _TCP
        case _:
            return _ICMP6


def build(packet: Packet, target_mac: str | None) -> bytes:
    """The frame to send. `target_mac` is where the next hop lives; not needed for broadcasts and multicasts."""
    source = mac_bytes(packet.mac)
    target = mac_bytes(target_mac) if target_mac else _BROADCAST
    match packet:
        case Arp(address=address, target=wanted):
            body = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + source + socket.inet_aton(address)
            return _BROADCAST + source + b"\x08\x06" + body + bytes(6) + socket.inet_aton(wanted)
        case Solicit(address=address, target=wanted):
            raw = packed(wanted)
            group = socket.inet_ntop(socket.AF_INET6, packed("ff02::1:ff00:0")[:13] + raw[13:])
            icmp = struct.pack("!BBHI", _SOLICITATION, 0, 0, 0) + raw + b"\x01\x01" + source
            return _multicast(group) + source + _IPV6 + _icmp6(address, group, icmp)
        case RouterSolicit(address=address):
            icmp = struct.pack("!BBHI", _ROUTER_SOLICITATION, 0, 0, 0) + b"\x01\x01" + source
            return _multicast(_ALL_ROUTERS) + source + _IPV6 + _icmp6(address, _ALL_ROUTERS, icmp)
        case Dhcp(xid=xid):
            head = struct.pack("!BBBBIHH", 1, 1, 6, 0, xid, 0, 0x8000) + bytes(16) + source + bytes(10 + 192)
            options = b"\x35\x01\x01" + b"\x3d\x07\x01" + source + b"\x37\x04\x01\x03\x06\x1a" + b"\xff"
            body = head + _COOKIE + options
            udp = struct.pack("!HHHH", 68, 67, 8 + len(body), 0) + body
            return _BROADCAST + source + _IPV4 + _ip(_UDP, "0.0.0.0", "255.255.255.255", udp)
        case Dhcp6(address=address):
            options = struct.pack("!HHHH", 1, 10, 3, 1) + source
            if not packet.stateless:
                options += struct.pack("!HHIII", 3, 12, int.from_bytes(source[2:], "big"), 0, 0)
            options += struct.pack("!HHH", 8, 2, 0) + struct.pack("!HHHH", 6, 4, 23, 24)
            body = _dhcp6(packet, answer=False) + options
            udp = struct.pack("!HHHH", 546, 547, 8 + len(body), 0) + body
            udp = _summed(udp, 6, _UDP, address, _ALL_DHCP)
            return _multicast(_ALL_DHCP) + source + _IPV6 + _ip(_UDP, address, _ALL_DHCP, udp)
        case Echo(address=address, target=to, token=token, size=size):
            number = version(packet)
            payload = token + bytes(max(0, size - (IPV4 if number == 4 else IPV6) - 8 - len(token)))
            icmp = struct.pack("!BBHHH", _ECHO[number][0], 0, 0, int.from_bytes(token[:2], "big"), 1) + payload
            if number == 6:
                return target + source + _IPV6 + _icmp6(address, to, icmp, hops=64)
            icmp = icmp[:2] + struct.pack("!H", _checksum(icmp)) + icmp[4:]
            return target + source + _IPV4 + _ip(_ICMP, address, to, icmp)
        case Syn(address=address, target=to, port=port, source=own, sequence=sequence):
            tcp = struct.pack("!HHIIBBHHH", own, port, sequence, 0, 5 << 4, 2, 64240, 0, 0)
            tcp = _summed(tcp, 16, _TCP, address, to)
            return target + source + (_IPV6 if version(packet) == 6 else _IPV4) + _ip(_TCP, address, to, tcp)


def patterns(packet: Packet) -> list[Pattern]:
    """By what the packet and its answer are known. Offsets hold for frames without VLAN tag, IP options or extension headers."""
    inside = ETHER + (IPV6 if version(packet) == 6 else IPV4)
    match packet:
        case Arp(mac=mac, address=address, target=target):
            own, wanted = socket.inet_aton(address), socket.inet_aton(target)
            ask = b"\x00\x01" + mac_bytes(mac) + own
            return [
                Pattern(ETHER + 6, ask + bytes(6) + wanted, answer=False),
                Pattern(ETHER + 14, wanted + mac_bytes(mac) + own, answer=True),
            ]
        case Solicit(mac=mac, address=address, target=target):
            return [
                Pattern(inside + 16, packed(target)[8:] + b"\x01\x01" + mac_bytes(mac), answer=False),
                Pattern(ETHER + 32, packed(address)[8:] + bytes((_ADVERTISEMENT, 0)), answer=True),
            ]
        case RouterSolicit(mac=mac):
            return [
                Pattern(inside + 8, b"\x01\x01" + mac_bytes(mac), answer=False),
                Pattern(inside, bytes((_ROUTER_ADVERTISEMENT, 0)), answer=True),
            ]
        case Dhcp(xid=xid, mac=mac):
            number = struct.pack("!I", xid)
            return [
                Pattern(inside + 8, b"\x01\x01\x06\x00" + number, answer=False),
                Pattern(inside + 8, b"\x02\x01\x06\x00" + number, answer=True),
            ]
        case Dhcp6():
            return [Pattern(inside + 8, _dhcp6(packet, answer=answer), answer=answer) for answer in (False, True)]
        case Echo(token=token):
            # The type is what differs; the checksum after it does too, so only these two bytes and the token count.
            return [Pattern(inside + 8, token, answer=False), Pattern(inside + 8, token, answer=True)]
        case Syn(source=own, port=port, sequence=sequence):
            acknowledged = (sequence + 1) & 0xFFFFFFFF
            return [
                Pattern(inside, struct.pack("!HHI", own, port, sequence), answer=False),
                Pattern(inside + 8, struct.pack("!I", acknowledged), answer=True),
            ]


def recognise(packet: Packet, frame: bytes) -> Known | None:
    """Whether this frame carries the packet or its answer, at its own place or behind the headers of a tunnel."""
    for pattern in patterns(packet):
        at = frame.find(pattern.data)
        while at >= 0:
            start = at - pattern.offset
            if start >= 0 and (known := _confirm(packet, frame[start:], pattern)):
                return known
            at = frame.find(pattern.data, at + 1)
    return None


def _confirm(packet: Packet, frame: bytes, pattern: Pattern) -> Known | None:
    by = frame[6:12].hex(":")
    kind = frame[12:14]
    if isinstance(packet, Arp):
        if kind != b"\x08\x06" or frame[ETHER + 6 : ETHER + 8] != (b"\x00\x02" if pattern.answer else b"\x00\x01"):
            return None
        return Known(pattern.answer, _text(frame[ETHER + 14 : ETHER + 18]), _text(frame[ETHER + 24 : ETHER + 28]), by)
    number = version(packet)
    size, place, next_ = (IPV4, 12, 9) if number == 4 else (IPV6, 8, 6)
    if kind != (_IPV4 if number == 4 else _IPV6) or len(frame) < ETHER + size + 16:
        return None
    length = 4 if number == 4 else 16
    source = _text(frame[ETHER + place : ETHER + place + length])
    target = _text(frame[ETHER + place + length : ETHER + place + 2 * length])
    if frame[ETHER + next_] != protocol(packet) or not _fits(packet, frame[ETHER + size :], answer=pattern.answer):
        return None
    return Known(pattern.answer, source, target, by)


def _fits(packet: Packet, body: bytes, *, answer: bool) -> bool:
    """Whether what an IP packet carries (at least 16 bytes) is the question, or the answer."""
    match packet:
        case Echo():
            return body[0] == _ECHO[version(packet)][answer]
        case Solicit(target=target):
            return body[0] == (_ADVERTISEMENT if answer else _SOLICITATION) and body[8:24] == packed(target)
        case RouterSolicit():
            return body[0] == (_ROUTER_ADVERTISEMENT if answer else _ROUTER_SOLICITATION)
        case Dhcp(mac=mac):
            return body[36:42] == mac_bytes(mac)
        case Dhcp6():
            return struct.unpack("!HH", body[:4]) == ((547, 546) if answer else (546, 547))
        case Syn(source=own, port=port):
            return struct.unpack("!HH", body[:4]) == ((port, own) if answer else (own, port))
        case Arp():
            return False


def packed(address: str) -> bytes:
    """The bytes of an address of either version."""
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)


def _text(raw: bytes) -> str:
    return socket.inet_ntop(socket.AF_INET6 if len(raw) == 16 else socket.AF_INET, raw)


def _multicast(group: str) -> bytes:
    return b"\x33\x33" + packed(group)[12:]


def _dhcp6(packet: Dhcp6, *, answer: bool) -> bytes:
    """The message's type and its transaction."""
    kind = (7 if packet.stateless else 2) if answer else (11 if packet.stateless else 1)
    return bytes((kind,)) + packet.xid.to_bytes(3, "big")


def _icmp6(source: str, target: str, body: bytes, *, hops: int = 255) -> bytes:
    return _ip(_ICMP6, source, target, _summed(body, 2, _ICMP6, source, target), hops=hops)


def _summed(body: bytes, place: int, protocol: int, source: str, target: str) -> bytes:
    """With the checksum over it and the pseudo header at that place."""
    lengths = struct.pack("!IBBH", len(body), 0, 0, protocol) if ":" in source else struct.pack("!BBH", 0, protocol, len(body))
    return body[:place] + struct.pack("!H", _checksum(packed(source) + packed(target) + lengths + body)) + body[place + 2 :]


def _ip(protocol: int, source: str, target: str, body: bytes, *, hops: int = 64) -> bytes:
    if ":" in source:
        return struct.pack("!IHBB", 6 << 28, len(body), protocol, hops) + packed(source) + packed(target) + body
    head = struct.pack("!BBHHHBBH", 0x45, 0, IPV4 + len(body), 0, 0x4000, hops, protocol, 0)
    head += socket.inet_aton(source) + socket.inet_aton(target)
    return head[:10] + struct.pack("!H", _checksum(head)) + head[12:] + body


def _checksum(data: bytes) -> int:
    """RFC 1071."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
