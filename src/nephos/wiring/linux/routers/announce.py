"""Tells the neighbours of a device that an address is here now."""

from __future__ import annotations

import contextlib
import socket
import struct

from nephos.wiring.linux.system.netlink import mac_bytes

_ALL_NODES, _ALL_NODES_MAC = "ff02::1", bytes.fromhex("333300000001")


def announce(items: list[tuple[str, str, str]]) -> None:
    """Gratuitous ARP (RFC 5227) or an unsolicited neighbour advertisement (RFC 4861) for each (device, MAC, address), in
    the namespace of the calling thread."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC) as raw:
        for device, mac, address in items:
            for frame in _six(mac_bytes(mac), address) if ":" in address else _four(mac_bytes(mac), address):
                raw.sendto(frame, (device, 0))


def ask_for(address: str) -> None:
    """Make the kernel resolve a neighbour of the namespace that the calling thread is in: by a datagram to the discard
    port. Nothing when there is no way to it."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as asking, contextlib.suppress(OSError):
        asking.sendto(b"", (address, 9))


def _four(own: bytes, address: str) -> list[bytes]:
    broadcast, ip = b"\xff" * 6, socket.inet_aton(address)
    bodies = (struct.pack("!HHBBH", 1, 0x0800, 6, 4, operation) + own + ip + broadcast + ip for operation in (1, 2))
    return [broadcast + own + b"\x08\x06" + body for body in bodies]


def _six(own: bytes, address: str) -> list[bytes]:
    source, target = (socket.inet_pton(socket.AF_INET6, one) for one in (address, _ALL_NODES))
    router_override = 0xA0000000
    body = struct.pack("!BBHI", 136, 0, 0, router_override) + source + b"\x02\x01" + own
    checksum = _checksum(source + target + struct.pack("!IHBB", len(body), 0, 0, 58) + body)
    body = body[:2] + struct.pack("!H", checksum) + body[4:]
    head = struct.pack("!IHBB", 6 << 28, len(body), 58, 255) + source + target
    return [_ALL_NODES_MAC + own + b"\x86\xdd" + head + body]


def _checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
