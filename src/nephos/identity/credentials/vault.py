"""Secrets that must be read again (EC2 keys, TOTP seeds) are kept sealed, with keys that lie outside of the ledger."""

from __future__ import annotations

from cryptography.fernet import InvalidToken, MultiFernet

from nephos import errors
from nephos.kernel.auth.fernet import Keys


class Vault:
    """Makes the first keys when there are none. Raises SettingsError when keys cannot be read or written."""

    def __init__(self, keys: Keys) -> None:
        keys.initialise()
        self._crypt = MultiFernet(keys.load())

    def seal(self, text: str) -> str:
        return self._crypt.encrypt(text.encode()).decode("ascii")

    def open(self, sealed: str) -> str:
        """Raises Unavailable when no key that is left has sealed it."""
        try:
            return self._crypt.decrypt(sealed.encode("ascii")).decode()
        except InvalidToken as wrong:
            raise errors.Unavailable("A credential cannot be opened: the key that sealed it is missing.") from wrong
