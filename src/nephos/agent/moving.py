"""Where a guest that comes to this host is fetched from: another host, through the servers, or this one.

A host that gives a guest away answers for it piece by piece, each with its hash; the host that receives it asks. So only
what holds data travels, nothing is kept on the way, and a server that is away for a moment costs only that moment.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import msgspec

from nephos.errors import HostFault, Unavailable
from nephos.hosts.guest import Piece
from nephos.hypervisor.base import Hypervisor, Part
from nephos.kernel import clock

Get = Callable[[str, int, int], bytes]
"""(path at the streams listener, offset, length) → bytes. Raises Unavailable when it is worth asking again."""
DIGEST = 32
PATIENCE = 120.0
"""Seconds for which a server, or the other host's agent, may be away in the middle of a move."""
_PAUSE = 1.0
_decoder = msgspec.json.Decoder(tuple[Part, ...])


def sealed(data: bytes) -> bytes:
    """A piece as it travels: its SHA-256, then itself."""
    return hashlib.sha256(data).digest() + data


def give(hypervisor: Hypervisor, wanted: str) -> bytes:
    """The answer to the question `piece`, whose subject is a `Piece` as JSON."""
    piece = msgspec.json.decode(wanted, type=Piece)
    return sealed(hypervisor.piece(piece.guest, piece.name, piece.offset, piece.length))


class Elsewhere:
    """The parts of a guest on another host. `link` opens them for one task."""

    def __init__(self, get: Get, link: str) -> None:
        self._get, self._link = get, link

    def parts(self) -> tuple[Part, ...]:
        return _decoder.decode(self._patiently(f"/disks/{self._link}", 0, 1))

    def piece(self, name: str, offset: int, length: int) -> bytes:
        body = self._patiently(f"/disks/{self._link}/{name}", offset, length)
        digest, data = body[:DIGEST], body[DIGEST:]
        if hashlib.sha256(data).digest() != digest:
            raise HostFault(f"{name} was damaged on its way, at {offset}")
        return data

    def _patiently(self, path: str, offset: int, length: int) -> bytes:
        until = clock.monotonic() + PATIENCE
        while True:
            try:
                return self._get(path, offset, length)
            except Unavailable as away:
                if clock.monotonic() > until:
                    raise HostFault(f"The other host cannot be asked: {away.message}") from away
                clock.sleep(_PAUSE)


class Here:
    """The parts of a guest that stays on its host and becomes another."""

    def __init__(self, hypervisor: Hypervisor, guest_id: str) -> None:
        self._hypervisor, self._guest_id = hypervisor, guest_id

    def parts(self) -> tuple[Part, ...]:
        return self._hypervisor.parts(self._guest_id)

    def piece(self, name: str, offset: int, length: int) -> bytes:
        return self._hypervisor.piece(self._guest_id, name, offset, length)
