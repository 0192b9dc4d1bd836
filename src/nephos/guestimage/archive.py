"""Writes a directory as a cpio archive in the "newc" form that the kernel unpacks as a ramdisk.

Format: Documentation/driver-api/early-userspace/buffer-format.rst in the kernel's tree.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

TRAILER = "TRAILER!!!"


def newc(root: Path) -> bytes:
    """The whole of `root` as one archive, owned by root, in a fixed order and without times."""
    paths = sorted(path for path in root.rglob("*"))
    entries = [_entry(number, path, str(path.relative_to(root))) for number, path in enumerate(paths, start=1)]
    archive = b"".join(entries) + _record(0, TRAILER, mode=0, links=1, data=b"")
    return archive + bytes(-len(archive) % 512)


def _entry(number: int, path: Path, name: str) -> bytes:
    status = path.lstat()
    if stat.S_ISLNK(status.st_mode):
        data = os.fsencode(path.readlink())
    elif stat.S_ISREG(status.st_mode):
        data = path.read_bytes()
    else:
        data = b""
    return _record(number, name, mode=status.st_mode, links=1, data=data)


def _record(number: int, name: str, *, mode: int, links: int, data: bytes) -> bytes:
    raw = name.encode() + b"\0"
    numbers = (number, mode, 0, 0, links, 0, len(data), 0, 0, 0, 0, len(raw), 0)
    head = b"070701" + b"".join(b"%08X" % value for value in numbers) + raw
    return head + bytes(-len(head) % 4) + data + bytes(-len(data) % 4)
