"""Notices leases as dnsmasq writes them (inotify(7)), so that an address really taken is known at once (S2-54)."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Callable
from pathlib import Path

from nephos.wiring.linux.serving.dhcp import Lease, read_leases
from nephos.wiring.linux.system.reactor import Reactor

_MODIFY, _CLOSE_WRITE, _MOVED_TO = 0x2, 0x8, 0x80
_libc = ctypes.CDLL(None, use_errno=True)


class LeaseWatch:
    """Calls `leased(network id, leases)` in the reactor's thread whenever a network's lease file changed."""

    def __init__(self, reactor: Reactor, leased: Callable[[str, list[Lease]], None]) -> None:
        self._reactor = reactor
        self._leased = leased
        self._files: dict[int, tuple[str, Path]] = {}
        self._numbers: dict[str, int] = {}
        self._handle = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._handle < 0:
            raise OSError(ctypes.get_errno(), "inotify cannot be used")
        reactor.soon(lambda: reactor.watch(self._handle, self._changed))

    def watch(self, network_id: str, path: Path) -> None:
        """Watch the folder of this lease file; nothing when it is watched."""
        number = _libc.inotify_add_watch(self._handle, os.fsencode(path.parent), _MODIFY | _CLOSE_WRITE | _MOVED_TO)
        if number < 0:
            code = ctypes.get_errno()
            raise OSError(code, f"watch {path.parent}: {os.strerror(code)}")
        if self._numbers.get(network_id) != number:
            self._numbers[network_id] = number
            self._files[number] = (network_id, path)
            self._reactor.soon(lambda: self._read(number))

    def forget(self, network_id: str) -> None:
        number = self._numbers.pop(network_id, None)
        if number is not None:
            self._files.pop(number, None)
            _libc.inotify_rm_watch(self._handle, number)

    def close(self) -> None:
        def end() -> None:
            self._reactor.forget(self._handle)
            os.close(self._handle)

        self._reactor.soon(end)

    def _read(self, number: int) -> None:
        known = self._files.get(number)
        if known is not None:
            self._leased(known[0], read_leases(known[1]))

    def _changed(self) -> None:
        data = os.read(self._handle, 65536)
        numbers, offset = set(), 0
        while offset + 16 <= len(data):
            number, _, _, size = struct.unpack_from("iIII", data, offset)
            name = data[offset + 16 : offset + 16 + size].rstrip(b"\0")
            offset += 16 + size
            if name == b"leases":
                numbers.add(number)
        for number in numbers:
            self._read(number)
