"""The serial console's log, as libvirt (or virtlogd, which rotates it) writes it."""

from __future__ import annotations

from pathlib import Path

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


def _tail(path: Path, limit: int | None) -> bytes:
    try:
        with path.open("rb") as handle:
            if limit is not None:
                handle.seek(max(0, handle.seek(0, 2) - limit))
            return handle.read()
    except FileNotFoundError:
        return b""
