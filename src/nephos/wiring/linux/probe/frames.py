"""The probes' frames: written, and recognised wherever they show up, bare or inside a tunnel.

Formats: RFC 894 Ethernet, RFC 826 ARP, RFC 791 IPv4, RFC 792 ICMP, RFC 9293 TCP, RFC 2131 DHCP.
"""

from __future__ import annotations

import socket
import struct
from typing import NamedTuple

from nephos.wiring.probe import Arp, Dhcp, Echo, Packet, Syn

ETHER, IPV4 = 14, 20
_BROADCAST = b"\xff" * 6
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


def build(packet: Packet, target_mac: str | None) -> bytes:
    """The frame to send. `target_mac` is where the next hop lives; not needed for broadcasts."""
    source = mac_bytes(packet.mac)
    target = mac_bytes(target_mac) if target_mac else _BROADCAST
    match packet:
        case Arp(address=address, target=wanted):
            body = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + source + socket.inet_aton(address)
            return _BROADCAST + source + b"\x08\x06" + body + bytes(6) + socket.inet_aton(wanted)
        case Dhcp(xid=xid):
            head = struct.pack("!BBBBIHH", 1, 1, 6, 0, xid, 0, 0x8000) + bytes(16) + source + bytes(10 + 192)
            options = b"\x35\x01\x01" + b"\x3d\x07\x01" + source + b"\x37\x04\x01\x03\x06\x1a" + b"\xff"
            body = head + _COOKIE + options
            udp = struct.pack("!HHHH", 68, 67, 8 + len(body), 0) + body
            return _BROADCAST + source + b"\x08\x00" + _ipv4(17, "0.0.0.0", "255.255.255.255", udp)
        case Echo(address=address, target=to, token=token, size=size):
            payload = token + bytes(max(0, size - IPV4 - 8 - len(token)))
            icmp = struct.pack("!BBHHH", 8, 0, 0, int.from_bytes(token[:2], "big"), 1) + payload
            icmp = icmp[:2] + struct.pack("!H", _checksum(icmp)) + icmp[4:]
            return target + source + b"\x08\x00" + _ipv4(1, address, to, icmp)
        case Syn(address=address, target=to, port=port, source=own, sequence=sequence):
            tcp = struct.pack("!HHIIBBHHH", own, port, sequence, 0, 5 << 4, 2, 64240, 0, 0)
            pseudo = socket.inet_aton(address) + socket.inet_aton(to) + struct.pack("!BBH", 0, 6, len(tcp))
            tcp = tcp[:16] + struct.pack("!H", _checksum(pseudo + tcp)) + tcp[18:]
            return target + source + b"\x08\x00" + _ipv4(6, address, to, tcp)


def patterns(packet: Packet) -> list[Pattern]:
    """By what the packet and its answer are known. Offsets hold for frames without VLAN tag or IP options."""
    inside = ETHER + IPV4
    match packet:
        case Arp(mac=mac, address=address, target=target):
            own, wanted = socket.inet_aton(address), socket.inet_aton(target)
            ask = b"\x00\x01" + mac_bytes(mac) + own
            return [
                Pattern(ETHER + 6, ask + bytes(6) + wanted, answer=False),
                Pattern(ETHER + 14, wanted + mac_bytes(mac) + own, answer=True),
            ]
        case Dhcp(xid=xid, mac=mac):
            number = struct.pack("!I", xid)
            return [
                Pattern(inside + 8, b"\x01\x01\x06\x00" + number, answer=False),
                Pattern(inside + 8, b"\x02\x01\x06\x00" + number, answer=True),
            ]
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
        return Known(pattern.answer, _text(frame[ETHER + 14 :]), _text(frame[ETHER + 24 :]), by)
    if kind != b"\x08\x00" or len(frame) < ETHER + IPV4 + 16:
        return None
    source, target = _text(frame[ETHER + 12 :]), _text(frame[ETHER + 16 :])
    protocol, body = frame[ETHER + 9], frame[ETHER + IPV4 :]
    match packet:
        case Echo():
            if protocol != 1 or body[0] != (0 if pattern.answer else 8):
                return None
        case Dhcp(mac=mac):
            if protocol != 17 or body[36:42] != mac_bytes(mac):
                return None
        case Syn(source=own, port=port):
            ports = (port, own) if pattern.answer else (own, port)
            if protocol != 6 or struct.unpack("!HH", body[:4]) != ports:
                return None
    return Known(pattern.answer, source, target, by)


def _text(raw: bytes) -> str:
    return socket.inet_ntoa(raw[:4])


def _ipv4(protocol: int, source: str, target: str, body: bytes) -> bytes:
    head = struct.pack("!BBHHHBBH", 0x45, 0, IPV4 + len(body), 0, 0x4000, 64, protocol, 0)
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
