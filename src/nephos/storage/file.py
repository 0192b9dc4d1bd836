"""Images as files of one directory: written beside, made durable, then renamed."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path
from typing import BinaryIO

from nephos import errors

_PART = ".part"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,200}")


class FileWriter:
    """See `storage.base.Writer`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._part = path.with_name(path.name + _PART)
        try:
            descriptor = os.open(self._part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError as busy:
            raise errors.Conflict(f"{path.name} is being written already.") from busy
        except OSError as wrong:
            raise _refusal(wrong) from wrong
        self._file: BinaryIO | None = os.fdopen(descriptor, "wb", buffering=0)

    def write(self, block: bytes) -> None:
        assert self._file is not None
        try:
            rest = memoryview(block)
            while rest:
                rest = rest[self._file.write(rest) or 0 :]
        except OSError as wrong:
            raise _refusal(wrong) from wrong

    def finish(self) -> None:
        assert self._file is not None
        try:
            os.fsync(self._file.fileno())
            self._file.close()
            self._part.rename(self._path)
            _sync(self._path.parent)
        except OSError as wrong:
            raise _refusal(wrong) from wrong
        self._file = None

    def abandon(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
            self._part.unlink(missing_ok=True)


class FileStore:
    """See `storage.base.ImageStore`. `root` is made, for this user only, when the first image comes."""

    name = "file"

    def __init__(self, root: Path) -> None:
        self._root = root

    def create(self, name: str) -> FileWriter:
        try:
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as wrong:
            raise _refusal(wrong) from wrong
        return FileWriter(self._at(name))

    def open(self, name: str) -> BinaryIO:
        try:
            return self._at(name).open("rb")
        except FileNotFoundError as gone:
            raise errors.NotFound(f"The bytes of {name} are not in the image store.") from gone

    def path(self, name: str) -> Path:
        path = self._at(name)
        if not path.is_file():
            raise errors.NotFound(f"The bytes of {name} are not in the image store.")
        return path

    def rename(self, name: str, other: str) -> None:
        self.path(name).rename(self._at(other))
        _sync(self._root)

    def delete(self, name: str) -> None:
        self._at(name).unlink(missing_ok=True)

    def names(self) -> set[str]:
        return {path.name for path in self._files() if path.suffix != _PART}

    def sweep(self) -> list[str]:
        left = [path for path in self._files() if path.suffix == _PART]
        for path in left:
            path.unlink(missing_ok=True)
        return [path.name for path in left]

    def free(self) -> int:
        existing = next(path for path in (self._root, *self._root.parents) if path.is_dir())
        room = os.statvfs(existing)
        return room.f_bavail * room.f_frsize

    def _files(self) -> list[Path]:
        return list(self._root.iterdir()) if self._root.is_dir() else []

    def _at(self, name: str) -> Path:
        if not _NAME.fullmatch(name) or name.endswith(_PART):
            raise ValueError(f"{name!r} is no name of an image's bytes")
        return self._root / name


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _refusal(wrong: OSError) -> errors.NephosError:
    if wrong.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return errors.TooLarge(f"The image store is full: {wrong.strerror}.")
    return errors.Unavailable(f"The image store cannot be written: {wrong.strerror}.")
