"""Secrets that must be read again (EC2 keys, TOTP seeds) are kept sealed."""

from __future__ import annotations

from collections.abc import Sequence

from cryptography.fernet import InvalidToken

from nephos import errors
from nephos.kernel.auth import fernet


class Vault:
    """Seals with the first of `keys`, whose id in the ledger is `key_id`. Raises ValueError for what is no key."""

    def __init__(self, keys: Sequence[bytes], key_id: str) -> None:
        self._crypt = fernet.crypt(keys)
        self.key_id = key_id

    def seal(self, text: str) -> str:
        return self._crypt.encrypt(text.encode()).decode("ascii")

    def open(self, sealed: str) -> str:
        """Raises Unavailable when no key that is left has sealed it."""
        try:
            return self._crypt.decrypt(sealed.encode("ascii")).decode()
        except InvalidToken as wrong:
            raise errors.Unavailable("A credential cannot be opened: the key that sealed it is missing.") from wrong
