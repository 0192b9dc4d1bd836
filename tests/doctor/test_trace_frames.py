"""A probe's packets are known again, bare, inside a tunnel, and after NAT; other packets are not taken for them."""

from __future__ import annotations

import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nephos.wiring.linux.probe import frames
from nephos.wiring.probe import Arp, Dhcp, Dhcp6, Echo, Packet, RouterSolicit, Solicit, Syn

MAC, OTHER = "fa:16:3e:00:00:01", "fa:16:3e:00:00:02"
LINK, OTHER_LINK = "fe80::f816:3eff:fe00:1", "fe80::f816:3eff:fe00:2"
TOKEN = bytes(range(16))
PACKETS: tuple[Packet, ...] = (
    Dhcp(xid=0x01020304, mac=MAC),
    Arp(mac=MAC, address="10.1.0.5", target="10.1.0.1"),
    Echo(mac=MAC, address="10.1.0.5", target="192.0.2.1", nexthop="10.1.0.1", token=TOKEN),
    Syn(mac=MAC, address="10.1.0.5", target="192.0.2.1", port=80, source=40000, sequence=2**32 - 1, nexthop="10.1.0.1"),
    Dhcp6(xid=0x010203, mac=MAC, address=LINK),
    Dhcp6(xid=0x010203, mac=MAC, address=LINK, stateless=True),
    Solicit(mac=MAC, address="fd00::5", target="fd00::1"),
    RouterSolicit(mac=MAC, address=LINK),
    Echo(mac=MAC, address="fd00::5", target="2001:db8::1", nexthop="fd00::1", token=TOKEN),
    Syn(mac=MAC, address=LINK, target="fe80::a9fe:a9fe", port=80, source=40000, sequence=7, nexthop="fe80::a9fe:a9fe"),
)


def tunnelled(frame: bytes) -> bytes:
    """In VXLAN (RFC 7348), over IPv4."""
    udp = struct.pack("!HHHH", 50000, 4789, 16 + len(frame), 0) + b"\x08\0\0\0\0\0\x65\0" + frame
    return bytes(12) + b"\x08\x00" + frames._ip(17, "192.168.77.1", "192.168.77.2", udp)


def answer(packet: Packet) -> bytes:
    """What a good peer sends back."""
    own = frames.mac_bytes(OTHER)
    head = frames.mac_bytes(MAC) + own
    match packet:
        case Arp(address=address, target=target):
            body = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 2) + own + socket.inet_aton(target)
            return head + b"\x08\x06" + body + frames.mac_bytes(MAC) + socket.inet_aton(address)
        case Dhcp(xid=xid):
            body = struct.pack("!BBBBI", 2, 1, 6, 0, xid) + bytes(20) + frames.mac_bytes(MAC) + bytes(202) + b"\x63\x82\x53\x63"
            udp = struct.pack("!HHHH", 67, 68, 8 + len(body), 0) + body
            return head + b"\x08\x00" + frames._ip(17, "10.1.0.2", "10.1.0.5", udp)
        case Solicit(address=address, target=target):
            icmp = struct.pack("!BBHI", 136, 0, 0, 6 << 28) + frames.packed(target) + b"\x02\x01" + own
            return head + b"\x86\xdd" + frames._icmp6(target, address, icmp)
        case RouterSolicit():
            icmp = struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 300, 0, 0) + b"\x01\x01" + own
            return head + b"\x86\xdd" + frames._icmp6(OTHER_LINK, "ff02::1", icmp)
        case Dhcp6(xid=xid, stateless=stateless):
            body = bytes([7 if stateless else 2]) + xid.to_bytes(3, "big") + struct.pack("!HHHH", 1, 10, 3, 1) + frames.mac_bytes(MAC)
            udp = struct.pack("!HHHH", 547, 546, 8 + len(body), 0) + body
            return head + b"\x86\xdd" + frames._ip(17, OTHER_LINK, LINK, udp)
        case Echo(address=address, target=target) if ":" in target:
            icmp = struct.pack("!BBHHH", 129, 0, 0, 7, 1) + TOKEN + bytes(40)
            return head + b"\x86\xdd" + frames._icmp6(target, address, icmp, hops=60)
        case Echo(address=address, target=target):
            icmp = struct.pack("!BBHHH", 0, 0, 0, 7, 1) + TOKEN + bytes(40)
            return head + b"\x08\x00" + frames._ip(1, target, address, icmp)
        case Syn(address=address, target=target, port=port, source=source, sequence=sequence):
            tcp = struct.pack("!HHIIBBHHH", port, source, 99, (sequence + 1) & 0xFFFFFFFF, 5 << 4, 0x12, 100, 0, 0)
            kind = b"\x86\xdd" if ":" in target else b"\x08\x00"
            return head + kind + frames._ip(6, target, address, tcp)


@pytest.mark.parametrize("packet", PACKETS, ids=lambda packet: type(packet).__name__)
@pytest.mark.parametrize("wrapped", [False, True], ids=["bare", "in a tunnel"])
def test_questions_and_answers_are_known(packet: Packet, wrapped: bool) -> None:
    wrap = tunnelled if wrapped else bytes
    asked, answered = (frames.recognise(packet, wrap(each)) for each in (frames.build(packet, OTHER), answer(packet)))
    assert asked is not None and not asked.answer and asked.by == MAC
    assert answered is not None and answered.answer and answered.by == OTHER


def test_nat_changes_what_is_shown_not_what_is_known() -> None:
    packet = PACKETS[2]
    frame = bytearray(frames.build(packet, OTHER))
    frame[26:30] = socket.inet_aton("172.24.4.10")
    known = frames.recognise(packet, bytes(frame))
    assert known is not None and known.source == "172.24.4.10"


@pytest.mark.parametrize("packet", PACKETS, ids=lambda packet: type(packet).__name__)
def test_packets_of_others_are_not(packet: Packet) -> None:
    others = [
        Dhcp(xid=0x01020304, mac=OTHER),
        Dhcp(xid=0x01020305, mac=MAC),
        Arp(mac=OTHER, address="10.1.0.6", target="10.1.0.1"),
        Echo(mac=MAC, address="10.1.0.5", target="192.0.2.1", nexthop="10.1.0.1", token=bytes(16)),
        Syn(mac=MAC, address="10.1.0.5", target="192.0.2.1", port=81, source=40000, sequence=1, nexthop="10.1.0.1"),
        Dhcp6(xid=0x010204, mac=MAC, address=LINK),
        Solicit(mac=OTHER, address="fd00::6", target="fd00::1"),
        Solicit(mac=MAC, address="fd00::5", target="fd00::2"),
        RouterSolicit(mac=OTHER, address=OTHER_LINK),
        Echo(mac=MAC, address="fd00::5", target="2001:db8::1", nexthop="fd00::1", token=bytes(16)),
        Syn(mac=MAC, address=LINK, target="fe80::1", port=80, source=40001, sequence=7, nexthop="fe80::1"),
    ]
    for other in others:
        assert frames.recognise(packet, frames.build(other, OTHER)) is None


@given(st.binary(max_size=200), st.sampled_from(PACKETS))
def test_anything_may_come_in(data: bytes, packet: Packet) -> None:
    frames.recognise(packet, data)
    for pattern in frames.patterns(packet):
        frames.recognise(packet, bytes(pattern.offset) + pattern.data + data)


@pytest.mark.parametrize("size", [84, 1450])
def test_an_echo_has_the_size_that_is_asked_for_and_right_checksums(size: int) -> None:
    packet = Echo(mac=MAC, address="10.1.0.5", target="192.0.2.1", nexthop="10.1.0.1", token=TOKEN, size=size)
    frame = frames.build(packet, OTHER)
    assert len(frame) == 14 + size
    assert frames._checksum(frame[14:34]) == 0 and frames._checksum(frame[34:]) == 0
    packet = Echo(mac=MAC, address="fd00::5", target="fd00::6", nexthop="fd00::6", token=TOKEN, size=size)
    assert len(frames.build(packet, OTHER)) == 14 + size


@pytest.mark.parametrize("packet", [each for each in PACKETS if frames.version(each) == 6], ids=lambda each: type(each).__name__)
def test_over_ipv6_the_checksum_covers_both_addresses(packet: Packet) -> None:
    frame = frames.build(packet, OTHER)
    length = len(frame) - 54
    assert frame[12:14] == b"\x86\xdd" and struct.unpack("!H", frame[18:20]) == (length,)
    assert frames._checksum(frame[22:54] + struct.pack("!IBBH", length, 0, 0, frame[20]) + frame[54:]) == 0
