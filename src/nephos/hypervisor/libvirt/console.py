"""The serial console's log: written by QEMU, or by virtlogd where the machine's libvirtd uses it.

What QEMU writes is bounded here, or a guest could fill the host's disk by printing.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

MOST_BYTES = 16 * 1024 * 1024
"""When a log is larger, it becomes the older half of what is kept."""

_MOST_BACKUPS = 9


def read(home: Path, limit: int | None) -> bytes:
    """The log from the first byte that is kept, over all reboots; with `limit`, its last bytes."""
    newest = home / "console.log"
    backups = [home / f"console.log.{number}" for number in range(_MOST_BACKUPS, -1, -1)]
    parts: list[bytes] = []
    left = limit
    for path in (newest, *reversed(backups)):
        if left is not None and left <= 0:
            break
        part = _tail(path, left)
        parts.append(part)
        if left is not None:
            left -= len(part)
    return b"".join(reversed(parts))


def bound(home: Path, most: int = MOST_BYTES) -> None:
    """Keep a log of more than `most` bytes as console.log.0, in place of the one before, and let it begin anew.

    QEMU appends, so the file is emptied in place. What it writes while the copy is made is lost.
    """
    path = home / "console.log"
    with contextlib.suppress(FileNotFoundError):  # the guest is being removed
        if path.stat().st_size <= most:
            return
        copy = home / "console.log.part"
        shutil.copyfile(path, copy)
        copy.chmod(0o600)
        copy.replace(home / "console.log.0")
        os.truncate(path, 0)


def _tail(path: Path, limit: int | None) -> bytes:
    try:
        with path.open("rb") as handle:
            if limit is not None:
                handle.seek(max(0, handle.seek(0, 2) - limit))
            return handle.read()
    except FileNotFoundError:
        return b""
