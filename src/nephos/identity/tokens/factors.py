"""More than one proof: passcodes by time, rules that say which proofs a user needs, and receipts for those given.

Source: Keystone API v3.14, "Multi-factor authentication with TOTP" and "Auth receipts"; RFC 6238.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from cryptography.fernet import InvalidToken

from nephos import errors
from nephos.kernel import clock
from nephos.kernel.auth import fernet

METHODS = frozenset({"password", "token", "totp", "application_credential"})
PERIOD = 30
DIGITS = 6
RECEIPT_SECONDS = 300
HEADER = "Openstack-Auth-Receipt"


def passcode(seed: str, step: int) -> str:
    """The code of one period, HMAC-SHA1 with six digits. Raises ValueError for a seed that is no base32."""
    try:
        secret = base64.b32decode(seed.strip().upper() + "=" * (-len(seed.strip()) % 8))
    except binascii.Error as wrong:
        raise ValueError("the seed is not base32") from wrong
    digest = hmac.digest(secret, step.to_bytes(8, "big"), hashlib.sha1)
    start = digest[-1] & 15
    number = int.from_bytes(digest[start : start + 4], "big") & 0x7FFFFFFF
    return str(number % 10**DIGITS).zfill(DIGITS)


def periods(seed: str, code: str) -> list[int]:
    """The periods whose code this is, of the present one and the one before; none for a seed that is no base32."""
    now = int(clock.now()) // PERIOD
    try:
        return [step for step in (now, now - 1) if hmac.compare_digest(passcode(seed, step).encode(), code.encode())]
    except ValueError:
        return []


def missing(options: Mapping[str, Any] | None, methods: Iterable[str]) -> list[list[str]]:
    """The rules of a user, when none of them is met; else nothing. Methods that nobody serves do not count, and a rule
    of only such is none, so that nobody is locked out by a misspelling."""
    chosen = options or {}
    if chosen.get("multi_factor_auth_enabled") is False:
        return []
    given = set(methods)
    rules = [sorted(METHODS.intersection(rule)) for rule in chosen.get("multi_factor_auth_rules") or []]
    rules = [rule for rule in rules if rule]
    return [] if any(given.issuperset(rule) for rule in rules) else rules


class Receipt(msgspec.Struct, frozen=True):
    """What a user has proved so far. Times are microseconds."""

    user_id: str
    methods: tuple[str, ...]
    issued: int
    expires: int


class More(Exception):
    """The proofs given are right, and not enough. `required` are the rules of which one must be met."""

    def __init__(self, receipt: Receipt, required: Sequence[Sequence[str]]) -> None:
        super().__init__("more proofs are needed")
        self.receipt, self.required = receipt, required


class Receipts:
    """Seals and opens receipts, with keys of their own so that none is ever taken for a token."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._crypt = fernet.crypt(keys)

    def new(self, user_id: str, methods: Iterable[str]) -> Receipt:
        now = clock.now_us()
        return Receipt(user_id, tuple(sorted(methods)), now, now + RECEIPT_SECONDS * 1_000_000)

    def seal(self, receipt: Receipt) -> str:
        return self._crypt.encrypt(msgspec.msgpack.encode(receipt)).decode("ascii")

    def open(self, text: str) -> Receipt:
        """Raises Unauthorized for one that is not ours or has expired."""
        try:
            receipt = msgspec.msgpack.decode(self._crypt.decrypt(text.encode()), type=Receipt)
        except (InvalidToken, msgspec.DecodeError, UnicodeEncodeError) as wrong:
            raise errors.Unauthorized("Could not find auth receipt.") from wrong
        if receipt.expires <= clock.now_us():
            raise errors.Unauthorized("The auth receipt has expired.")
        return receipt
