"""The master key: a file that every server of one cloud has, which seals the keys in the ledger.

A copy of the ledger alone opens no token and no credential. The file changes only when its operator wants it to: a new
key is put in the first line on every server, and the next rotation of each kind seals that kind's keys with it.
"""

from __future__ import annotations

import binascii
import logging
import os
from pathlib import Path

from cryptography.fernet import InvalidToken

from nephos import errors
from nephos.kernel.auth import fernet

log = logging.getLogger(__name__)


class Master:
    """Raises SettingsError, naming the file, when it cannot be read or made or holds no key."""

    def __init__(self, path: Path, *, make: bool) -> None:
        """With `make` a file that is not there is made, 0600, whole or not at all."""
        self._path = path
        if make and not path.exists():
            _write(path)
        try:
            with path.open("rb") as file:
                mode = os.fstat(file.fileno()).st_mode
                lines = file.read(65536).split()
        except OSError as error:
            raise errors.SettingsError(
                f"{path}: the master key cannot be read: {error.strerror}. It is a copy of the same file of another "
                "server of this cloud."
            ) from None
        if mode & 0o077:
            log.warning(
                "%s: others than its owner may open the master key (mode %04o); make it 0600", path, mode & 0o7777
            )
        try:
            self._crypt = fernet.crypt(lines)
        except (ValueError, binascii.Error):
            raise errors.SettingsError(f"{path}: each line is a key of 32 bytes in URL-safe base64") from None

    def seal(self, secret: bytes) -> str:
        return self._crypt.encrypt(secret).decode("ascii")

    def open(self, sealed: str) -> bytes:
        """Raises SettingsError when no line of the file has sealed it."""
        try:
            return self._crypt.decrypt(sealed.encode("ascii"))
        except InvalidToken:
            raise errors.SettingsError(
                f"{self._path}: this master key does not open the keys of this cloud's ledger: copy the file from another "
                "server of this cloud, or bring back the one that was here."
            ) from None


def _write(path: Path) -> None:
    part = path.with_suffix(".part")
    try:
        part.unlink(missing_ok=True)
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(fernet.new_key() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        part.rename(path)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise errors.SettingsError(f"{path}: the master key cannot be written: {error.strerror}") from None
