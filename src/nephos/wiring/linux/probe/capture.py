"""Packet sockets on several devices, in several namespaces, read by one thread (packet(7))."""

from __future__ import annotations

import select
import socket
import struct
from typing import NamedTuple

from nephos.kernel import clock
from nephos.wiring.linux.system import netns

_ALL = 3
"""ETH_P_ALL."""
_SNAP = 512
"""Bytes that are read of a frame: the headers of a tunnel, of the packet, and what it is known by."""
_STATISTICS = 6
_SOL_PACKET = 263
_ROOM = 4 << 20
_OUTGOING = 4


class Frame(NamedTuple):
    """A frame at the socket of `place`. `at` is microseconds of this host's clock."""

    place: int
    at: int
    leaving: bool
    data: bytes


class Capture:
    """Listens from `listen` on until `close`."""

    def __init__(self) -> None:
        self._sockets: dict[int, tuple[socket.socket, int]] = {}
        self._poll = select.poll()

    def listen(self, place: int, device: str, namespace: str | None) -> None:
        """Raises OSError when there is no such device."""

        def open_socket() -> socket.socket:
            raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
            try:
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _ROOM)
                raw.setblocking(False)
                raw.bind((device, _ALL))
            except OSError:
                raw.close()
                raise
            return raw

        raw = netns.inside(namespace, open_socket)
        self._sockets[raw.fileno()] = (raw, place)
        self._poll.register(raw, select.POLLIN)

    def frames(self, until: float) -> list[Frame]:
        """What comes until that time of the monotonic clock, at least what is there already."""
        found: list[Frame] = []
        while True:
            left = until - clock.monotonic()
            ready = self._poll.poll(max(0, left * 1000))
            for handle, _ in ready:
                found += self._read(handle)
            if left <= 0 or (not ready and clock.monotonic() >= until):
                return found
            if found:
                return found

    def _read(self, handle: int) -> list[Frame]:
        raw, place = self._sockets[handle]
        found = []
        for _ in range(256):
            try:
                data, address = raw.recvfrom(_SNAP)
            except BlockingIOError:
                break
            except OSError:
                # The device went; it is not listened to any more.
                self._poll.unregister(raw)
                break
            found.append(Frame(place, clock.now_us(), address[2] == _OUTGOING, data))
        return found

    def close(self) -> int:
        """How many frames the sockets could not hold."""
        lost = 0
        for raw, _ in self._sockets.values():
            lost += struct.unpack("II", raw.getsockopt(_SOL_PACKET, _STATISTICS, 8))[1]
            raw.close()
        self._sockets.clear()
        return lost
