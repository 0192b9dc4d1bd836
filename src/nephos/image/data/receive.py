"""Bytes of an image on their way in: counted, hashed, inspected, stored."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from typing import IO

import msgspec

from nephos import errors
from nephos.image.inspection import Inspection
from nephos.kernel.http import connections
from nephos.storage.base import ImageStore

Write = Callable[[bytes], None]
BLOCK = 256 << 10
MOST_DRAINED = 64 << 20
MOST_BYTES = 1 << 40
"""An image holds at most 1 TiB, as Glance's `image_size_cap` has it."""


class Received(msgspec.Struct, frozen=True):
    """What became of the bytes. Sizes are bytes, hashes hexadecimal."""

    size: int
    md5: str
    sha512: str
    sha256: str
    virtual_size: int | None


class Incoming:
    """A request body that may be large, sent to a port. `length` is None for one that is chunked."""

    def __init__(self, stream: IO[bytes], length: int | None, port: int) -> None:
        self._stream, self._length, self._left = stream, length, length
        self._port = port
        self._count = 0

    def blocks(self) -> Iterator[bytes]:
        """All of it. Raises BadRequest when it ends early; a chunked one that is cut off looks whole until `finish`."""
        while block := self._read():
            self._count += len(block)
            yield block
        if self._left:
            raise errors.BadRequest(f"The upload broke off: {self._left} of {self._length} bytes are missing.")

    def finish(self) -> None:
        """To be called before the bytes are believed. Raises BadRequest when the client went away in a chunked body."""
        if self._length is None and connections.broke_off(self._port, self._count):
            raise errors.BadRequest(f"The upload broke off after {self._count} bytes.")

    def drain(self) -> None:
        """Read what is left of a body that was refused: a client that cannot finish sending reads no answer."""
        left = MOST_DRAINED
        try:
            while left > 0 and (block := self._read()):
                left -= len(block)
        except errors.BadRequest:
            return

    def _read(self) -> bytes:
        if self._left == 0:
            return b""
        try:
            block = self._stream.read(BLOCK if self._left is None else min(BLOCK, self._left))
        except OSError as broken:
            raise errors.BadRequest(f"The upload broke off: {broken}") from broken
        if self._left is not None:
            self._left -= len(block)
        return block


def capped(blocks: Iterable[bytes], size: int | None) -> Iterator[bytes]:
    """Pass blocks on. Raises TooLarge beyond the cap, BadRequest when they are not as many bytes as were told."""
    count = 0
    for block in blocks:
        count += len(block)
        if count > MOST_BYTES:
            raise errors.TooLarge(f"Denying attempt to upload image larger than {MOST_BYTES} bytes.")
        yield block
    if size is not None and count != size:
        raise errors.BadRequest(f"The upload holds {count} bytes, not the {size} that were told.")


def keep(store: ImageStore, name: str, blocks: Iterable[bytes]) -> int:
    """Store bytes under a name without looking at them; answers how many."""
    writer = store.create(name)
    count = 0
    try:
        for block in blocks:
            count += len(block)
            writer.write(block)
        writer.finish()
    finally:
        writer.abandon()
    return count


def take(store: ImageStore, name: str, blocks: Iterable[bytes], disk_format: str, container_format: str) -> Received:
    """Store an image's bytes under a name. Raises UnsupportedMedia for a hostile or wrong image; then nothing is kept."""
    inspection = Inspection(blocks, disk_format, container_format)
    writer = store.create(name)
    try:
        size, hashes = _pump(inspection.blocks(), writer.write)
        virtual_size = inspection.virtual_size()
        writer.finish()
    finally:
        writer.abandon()
    return Received(size, *hashes, virtual_size)


def look(blocks: Iterable[bytes], disk_format: str, container_format: str) -> Received:
    """Hash and inspect bytes that are stored already. Raises UnsupportedMedia."""
    inspection = Inspection(blocks, disk_format, container_format)
    size, hashes = _pump(inspection.blocks(), None)
    return Received(size, *hashes, inspection.virtual_size())


def _pump(blocks: Iterable[bytes], write: Write | None) -> tuple[int, tuple[str, str, str]]:
    size, md5, sha512, sha256 = 0, hashlib.md5(usedforsecurity=False), hashlib.sha512(), hashlib.sha256()
    for block in blocks:
        size += len(block)
        md5.update(block)
        sha512.update(block)
        sha256.update(block)
        if write is not None:
            write(block)
    return size, (md5.hexdigest(), sha512.hexdigest(), sha256.hexdigest())
