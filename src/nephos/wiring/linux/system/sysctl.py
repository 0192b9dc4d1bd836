"""Kernel settings of the namespace that the calling thread is in."""

from __future__ import annotations

from pathlib import Path


def _path(name: str) -> Path:
    return Path("/proc/sys", *name.split("."))


def read(name: str) -> str | None:
    """The value, None when this kernel has no such setting."""
    try:
        return _path(name).read_text().strip()
    except OSError:
        return None


def write(name: str, value: str) -> None:
    """Set it when it differs. A setting that this kernel lacks (IPv6 switched off, say) is passed over."""
    if read(name) not in (None, value):
        _path(name).write_text(value)
