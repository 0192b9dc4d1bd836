"""Puts built files in place, whole or not at all, and recognises what an earlier build left."""

from __future__ import annotations

import fcntl
import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nephos.errors import HostFault
from nephos.guestimage.command import run
from nephos.guestimage.disk import FILES


def recipe(*inputs: object) -> str:
    """Hash of the builder's own files and of `inputs`: another hash means another image."""
    total = hashlib.sha256(repr(inputs).encode())
    for path in sorted([*Path(__file__).parent.glob("*.py"), *FILES.iterdir()]):
        if path.is_file():
            total.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def existing(manifest: Path, key: str) -> dict[str, Any] | None:
    """The manifest of an earlier build, if it is of the recipe `key` and every file is there in full length."""
    try:
        read: dict[str, Any] = json.loads(manifest.read_text(encoding="utf-8"))
        sizes = {name: (manifest.parent / name).stat().st_size for name in read["files"]}
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return read if read.get("key") == key and sizes == read["files"] else None


def publish(files: Sequence[Path], manifest: Path, key: str, **facts: str) -> dict[str, Any]:
    """Moves `files` beside `manifest`, read-only; the manifest comes last, so a killed build is never taken for whole."""
    manifest.unlink(missing_ok=True)
    sizes: dict[str, int] = {}
    for path in files:
        fresh = manifest.parent / (path.name + ".new")
        run("cp", "--sparse=always", "--reflink=auto", str(path), str(fresh))
        fresh.chmod(0o444)
        sizes[path.name] = fresh.stat().st_size
        fresh.replace(manifest.parent / path.name)
    fresh = manifest.with_name(manifest.name + ".new")
    fresh.write_text(json.dumps({"key": key, "files": sizes, **facts}, indent=1) + "\n", encoding="utf-8")
    fresh.chmod(0o444)
    fresh.replace(manifest)
    present = existing(manifest, key)
    if present is None:
        raise HostFault(f"The built guest image {manifest} does not read back as it was written.")
    return present


@contextmanager
def one_at_a_time(folder: Path) -> Iterator[None]:
    """Two builds into one folder wait for each other; a lock is gone with the process that held it."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
