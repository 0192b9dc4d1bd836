"""The images that guests of this host are made from, each downloaded once (S2-45).

A file in the cache is whole, has the hash that the ledger says, has been looked into, belongs to root and is read-only.
It is named by image id and hash, so new content under an old id is another file. Guests hold hard links to it (see
`hypervisor.libvirt.disk`): a file with one link is used by nobody, and removing one that is used takes it from nobody.
"""

from __future__ import annotations

import contextlib
import grp
import hashlib
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from nephos.errors import HostFault
from nephos.hypervisor import daemon
from nephos.hypervisor.base import ImageFile
from nephos.kernel import clock

BLOCK = 4 * 1024 * 1024
"""Bytes asked for at once."""

ReadRange = Callable[[int, int], bytes]
"""(offset, length) → the image's bytes there; fewer only at the end."""

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,63}")
_DIGESTS = {64: "sha256", 128: "sha512"}
_HEX = re.compile(r"[0-9a-f]*")
_FORMATS = {"raw": "raw", "qcow2": "qcow2", "iso": "iso", "aki": "raw", "ari": "raw", "ami": "raw"}
_LOOKS_LIKE_RAW = frozenset(("raw", "gpt", "iso", "luks"))
_RESERVE = 512 * 1024 * 1024
_LOOK_BLOCK = 64 * 1024
_VMDK_DESCRIPTOR = b"# Disk DescriptorFile"
"""How a text begins that is nothing but names of other files. The inspector knows it only inside a sparse VMDK."""
_DESCRIPTOR_WITHIN = 512


class ImageCache:
    """The image files below `directory`, at most `limit` bytes of them that nobody uses (None: as many as fit).

    QEMU's user can read them through its group; where there is no such user everyone can.
    """

    grace = 300.0
    """Seconds for which a file that was asked for counts as used: time to make the guest that links it."""

    def __init__(self, directory: Path, *, limit: int | None = None) -> None:
        self._directory = directory.absolute()
        self._limit = limit
        self._lock = threading.Lock()
        self._locks: dict[str, threading.Lock] = {}
        self._users: dict[str, int] = {}
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o711)
        self._directory.chmod(0o711)

    def get(
        self,
        image_id: str,
        *,
        size: int,
        format: str,
        read_range: ReadRange,
        sha256: str | None = None,
        os_hash_value: str | None = None,
    ) -> ImageFile:
        """The image's file, downloaded if it is not there; who asks while another downloads it waits for that.

        `size` is in bytes; one of `sha256` and `os_hash_value` (SHA-512) must be given. `format` is the claimed disk
        format. A download that was cut off goes on where it stopped. Raises HostFault when the bytes are not those of
        the hash or are not safe to open as the claimed format, and whatever `read_range` raises.
        """
        digest = sha256 or os_hash_value or ""
        if not _ID.fullmatch(image_id) or len(digest) not in _DIGESTS or not _HEX.fullmatch(digest):
            raise HostFault(f"image {image_id!r} with hash {digest!r} cannot be kept: that is no image id and hash")
        opened_as = _FORMATS.get(format)
        if opened_as is None:
            raise HostFault(
                f"image {image_id} has the disk format {format!r}, which hosts do not open; "
                f"convert it to one of {', '.join(sorted(_FORMATS))}"
            )
        path = self._directory / f"{image_id}-{digest[:16]}.{opened_as}"
        with self._one_at_a_time(path.name):
            if not path.exists():
                self._fetch(path, image_id, size, digest, format, read_range)
            os.utime(path)
        return ImageFile(id=image_id, path=path, format=opened_as)

    def trim(self, needed: int = 0) -> None:
        """Remove files that nobody uses, the longest unused first, until `needed` bytes more are within bounds."""
        spare = self._unused()
        total = sum(status.st_size for _, status in spare)
        for path, status in spare:
            free = shutil.disk_usage(self._directory).free
            if free >= needed + _RESERVE and (self._limit is None or total + needed <= self._limit):
                return
            with self._lock:
                busy = path.name.removesuffix(".part") in self._locks
            if not busy:
                path.unlink(missing_ok=True)
                total -= status.st_size

    def _unused(self) -> list[tuple[Path, os.stat_result]]:
        found = []
        for path in self._directory.iterdir():
            with contextlib.suppress(FileNotFoundError):
                status = path.stat()
                if status.st_nlink == 1 and clock.now() - status.st_mtime > self.grace:
                    found.append((path, status))
        return sorted(found, key=lambda each: each[1].st_mtime_ns)

    def _fetch(self, path: Path, image_id: str, size: int, digest: str, format: str, read_range: ReadRange) -> None:
        part = path.with_name(path.name + ".part")
        self.trim(size)
        try:
            resumed = _download(part, size, read_range)
            if _digest(part, digest) != digest and resumed:
                # What an earlier run left may be damaged, by a power cut for one.
                part.unlink()
                _download(part, size, read_range)
            if (seen := _digest(part, digest)) != digest:
                part.unlink()
                raise HostFault(f"image {image_id} was damaged on its way: its hash should be {digest}, it is {seen}")
            try:
                _inspect(part, image_id, format)
            except HostFault:
                part.unlink()
                raise
            _publish(part, path)
        except OSError as error:
            raise HostFault(f"cannot keep image {image_id} on this host: {error}") from error

    @contextlib.contextmanager
    def _one_at_a_time(self, name: str) -> Iterator[None]:
        with self._lock:
            lock = self._locks.setdefault(name, threading.Lock())
            self._users[name] = self._users.get(name, 0) + 1
        try:
            with lock:
                yield
        finally:
            with self._lock:
                self._users[name] -= 1
                if not self._users[name]:
                    del self._users[name], self._locks[name]


def _download(part: Path, size: int, read_range: ReadRange) -> bool:
    """Fetch what is missing; True when something was there already. Bytes are on the disk when it returns."""
    handle = os.open(part, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        have = os.fstat(handle).st_size
        if have > size:
            os.ftruncate(handle, 0)
            have = 0
        resumed = have > 0
        while have < size:
            block = read_range(have, min(BLOCK, size - have))
            if not block:
                raise HostFault(f"the image ended after {have} of {size} bytes")
            if have + len(block) > size:
                raise HostFault(f"the image has more than the {size} bytes that were promised")
            have += os.pwrite(handle, block, have)
        os.fsync(handle)
    finally:
        os.close(handle)
    return resumed


def _digest(path: Path, like: str) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, _DIGESTS[len(like)]).hexdigest()


def _publish(part: Path, path: Path) -> None:
    mode = 0o444
    if user := daemon.qemu_user():
        os.chown(part, 0, grp.getgrnam(user[1]).gr_gid)
        mode = 0o440
    part.chmod(mode)
    part.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _inspect(path: Path, image_id: str, claimed: str) -> None:
    """Refuse content that is not the claimed format, or that names other files of this host (OSSA-2024-001, -002).

    The image service looked as well; this host does not take its word for it.
    """
    # Imported here: a fake host never opens an image.
    from oslo_utils.imageutils import format_inspector

    with path.open("rb") as handle:
        if _VMDK_DESCRIPTOR in handle.read(_DESCRIPTOR_WITHIN):
            raise HostFault(f"image {image_id} was said to be {claimed}, its content is a vmdk descriptor")
        handle.seek(0)
        watcher = format_inspector.InspectWrapper(handle)
        while watcher.formats is None and watcher.read(_LOOK_BLOCK):
            pass
        watcher.close()
    found: dict[str, Any] = {str(each): each for each in watcher.formats or ()}
    names = ", ".join(sorted(found)) or "nothing known"
    if _FORMATS[claimed] == "raw":
        if found.keys() <= _LOOKS_LIKE_RAW:
            return
    elif claimed in found and found.keys() <= {claimed, "gpt" if claimed == "iso" else claimed}:
        try:
            found[claimed].safety_check()
        except format_inspector.SafetyCheckFailed as unsafe:
            reasons = "; ".join(f"{check}: {reason}" for check, reason in sorted(unsafe.failures.items()))
            raise HostFault(f"image {image_id} is not safe to open: {reasons}") from unsafe
        except format_inspector.ImageFormatError as wrong:
            raise HostFault(f"image {image_id} cannot be checked: {wrong}") from wrong
        return
    raise HostFault(f"image {image_id} was said to be {claimed}, its content is {names}")
