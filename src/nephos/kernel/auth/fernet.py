"""Tokens sealed with Fernet: small, and nobody without the keys learns what they say. Source: the Fernet specification."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence

import msgspec
from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from nephos.kernel import clock
from nephos.kernel.auth.token import METHODS, Token

_VERSION = 1
_UNSCOPED, _PROJECT, _DOMAIN, _SYSTEM = range(4)


def new_key() -> bytes:
    """32 random bytes as URL-safe base64."""
    return base64.urlsafe_b64encode(clock.token_bytes(32))


def crypt(keys: Sequence[bytes]) -> MultiFernet:
    """Seals with the first key, opens with any. Raises ValueError for what is no key, or for none."""
    return MultiFernet([Fernet(key) for key in keys])


class FernetTokens:
    """`keys` are the primary, which seals, and then those that only open."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._crypt = crypt(keys)

    def encode(self, token: Token) -> str:
        """Letters, digits, - and _; under 255 characters for ids of 32 digits."""
        payload = msgspec.msgpack.encode(_pack(token))
        sealed: bytes = self._crypt.encrypt_at_time(payload, token.issued // 1_000_000)
        return sealed.rstrip(b"=").decode("ascii")

    def decode(self, text: str) -> Token:
        try:
            payload = self._crypt.decrypt(text.encode("ascii") + b"=" * (-len(text) % 4))
            return _unpack(msgspec.msgpack.decode(payload))
        except (InvalidToken, msgspec.DecodeError, TypeError) as wrong:
            raise ValueError("not a token of ours") from wrong


def _pack(token: Token) -> list[object]:
    token.check_scope()
    given = [
        (kind, scope)
        for kind, scope in ((_PROJECT, token.project_id), (_DOMAIN, token.domain_id), (_SYSTEM, token.system))
        if scope is not None
    ]
    kind, scope = given[0] if given else (_UNSCOPED, None)
    return [
        _VERSION,
        _short(token.user_id),
        sum(1 << METHODS.index(method) for method in set(token.methods)),
        kind,
        _short(scope),
        token.issued,
        token.expires,
        [_short64(audit_id) for audit_id in token.audit_ids],
        _short(token.trust_id),
        _short(token.application_credential_id),
    ]


def _unpack(payload: Sequence[object]) -> Token:
    version, user_id, methods, kind, scope, issued, expires, audit_ids, trust_id, credential_id = payload
    if version != _VERSION or not isinstance(methods, int) or not isinstance(audit_ids, list):
        raise ValueError("a payload of another version")
    scope = _long(scope)
    return msgspec.convert(
        {
            "user_id": _long(user_id),
            "methods": tuple(name for bit, name in enumerate(METHODS) if methods >> bit & 1),
            "issued": issued,
            "expires": expires,
            "audit_ids": tuple(_long64(audit_id) for audit_id in audit_ids),
            "project_id": scope if kind == _PROJECT else None,
            "domain_id": scope if kind == _DOMAIN else None,
            "system": scope if kind == _SYSTEM else None,
            "trust_id": _long(trust_id),
            "application_credential_id": _long(credential_id),
        },
        Token,
    )


def _short(value: str | None) -> bytes | str | None:
    """An id of hexadecimal digits takes half the room as bytes; any other stays text."""
    if value is None or len(value) % 2:
        return value
    try:
        packed = bytes.fromhex(value)
    except ValueError:
        return value
    return packed if packed.hex() == value else value


def _long(value: object) -> object:
    return value.hex() if isinstance(value, bytes) else value


def _short64(value: str) -> bytes | str:
    try:
        packed = base64.urlsafe_b64decode(value + "=" * (-len(value) % 4))
    except (ValueError, binascii.Error):
        return value
    return packed if _text64(packed) == value else value


def _long64(value: object) -> object:
    return _text64(value) if isinstance(value, bytes) else value


def _text64(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode("ascii")
