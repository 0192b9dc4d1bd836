"""Tokens that carry their own proof: Fernet, as the identity service of OpenStack has them.

A token says who, for what scope, how and until when; nothing about it is stored. Any server with the keys verifies it in
its own process, so a request costs no round trip (7 µs). What it may do (roles, a disabled user, a revoked token) is
looked up elsewhere by these ids.

Keys lie in a directory as Keystone lays them out, so the tools that operators have for moving keys between servers fit:
the highest number is the primary, which signs; 0 is the staged one, which will be primary next and is already known to
all; those between still verify. Source: Keystone administrator guide, "Fernet tokens"; the Fernet specification.
"""

from __future__ import annotations

import base64
import binascii
import fcntl
import logging
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec
from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from nephos import errors
from nephos.kernel import clock

_log = logging.getLogger(__name__)

STAGED = 0
LOOK_SECONDS = 1.0
MAX_TOKEN = 1024  # characters; longer ones are refused unread

#: Their places are bits in every token that is out there: add at the end, never move one.
METHODS = (
    "external",
    "password",
    "token",
    "totp",
    "application_credential",
    "mapped",
    "oauth1",
    "saml2",
    "oauth2_credential",
    "ec2credential",
)
_VERSION = 1
_UNSCOPED, _PROJECT, _DOMAIN, _SYSTEM = range(4)


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """What a token says. Times are microseconds since the epoch.

    At most one of `project_id`, `domain_id` and `system` is set; without any the token is unscoped. `audit_ids` holds
    the token's own id and, for one that was got with another token, the id of the first of that chain.
    """

    user_id: str
    methods: tuple[str, ...]
    issued: int
    expires: int
    audit_ids: tuple[str, ...]
    project_id: str | None = None
    domain_id: str | None = None
    system: str | None = None
    trust_id: str | None = None
    application_credential_id: str | None = None


def new_audit_id() -> str:
    """22 characters, safe in URLs."""
    return _text64(clock.token_bytes(16))


class Keys:
    """A directory of keys. `max_active` counts all of them: staged, primary and those that only verify still.

    A token must not outlive its key: rotate at most every lifetime / (max_active - 2).
    """

    def __init__(self, directory: Path, *, max_active: int = 3) -> None:
        if max_active < 2:
            raise errors.SettingsError(f"{directory}: at least 2 active keys are needed, {max_active} were asked for")
        self.directory = directory
        self._max_active = max_active

    def initialise(self) -> bool:
        """Makes the directory (0700) with a staged and a primary key (0600); False when there were keys already.

        Raises SettingsError when the directory cannot be made or written.
        """
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise errors.SettingsError(f"{self.directory}: the key directory cannot be made: {error.strerror}") from None
        with self._locked():
            numbers = self._numbers()
            if max(numbers, default=STAGED) != STAGED:
                return False
            self._write(max(numbers, default=STAGED) + 1)
            if STAGED not in numbers:
                self._write(STAGED)
            return True

    def rotate(self) -> int:
        """The staged key becomes primary, a new one is staged, the oldest beyond `max_active` go.

        Returns the number of the new primary. A crash in between leaves a directory that still loads, and the next
        rotation completes it. Raises SettingsError.
        """
        with self._locked():
            numbers = self._numbers()
            primary = max(numbers, default=STAGED) + 1
            if STAGED in numbers:
                (self.directory / str(STAGED)).rename(self.directory / str(primary))
            else:
                self._write(primary)
            self._write(STAGED)
            secondary = [number for number in sorted(self._numbers()) if number not in (STAGED, primary)]
            for number in secondary[: max(0, len(secondary) - (self._max_active - 2))]:
                (self.directory / str(number)).unlink()
            return primary

    def load(self) -> list[Fernet]:
        """The keys, primary first. Raises SettingsError naming what is missing, unreadable or not a key."""
        try:
            numbers = sorted(self._numbers(), reverse=True)
            keys = [self._read(self.directory / str(number)) for number in numbers]
        except OSError as error:
            raise errors.SettingsError(f"{error.filename}: cannot be read: {error.strerror}") from None
        if not keys:
            raise errors.SettingsError(f"{self.directory}: holds no keys")
        return keys

    def stamp(self) -> tuple[int, ...]:
        """Changes when keys come or go."""
        try:
            files = [self.directory, *(self.directory / str(number) for number in sorted(self._numbers()))]
            return tuple(file.stat().st_ctime_ns for file in files)
        except OSError as error:
            return (-(error.errno or 0),)

    def _numbers(self) -> list[int]:
        return [int(entry.name) for entry in self.directory.iterdir() if entry.name.isascii() and entry.name.isdigit()]

    @staticmethod
    def _read(path: Path) -> Fernet:
        with path.open("rb") as file:
            text = file.read(256).strip()
            mode = os.fstat(file.fileno()).st_mode
        if mode & 0o077:
            _log.warning("%s: others than its owner may open this key (mode %04o); make it 0600", path, mode & 0o7777)
        try:
            return Fernet(text)
        except (ValueError, binascii.Error):
            raise errors.SettingsError(f"{path}: is not a key: 32 bytes in URL-safe base64 are expected") from None

    def _write(self, number: int) -> None:
        """A key appears whole or not at all, also after a power cut."""
        path = self.directory / str(number)
        part = self.directory / f"{number}.tmp"
        try:
            part.unlink(missing_ok=True)
            with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(base64.urlsafe_b64encode(clock.token_bytes(32)))
                file.flush()
                os.fsync(file.fileno())
            part.rename(path)
        except OSError as error:
            raise errors.SettingsError(f"{path}: the key cannot be written: {error.strerror}") from None

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            handle = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise errors.SettingsError(f"{self.directory}: the key directory cannot be opened: {error.strerror}") from None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
            os.fsync(handle)
        finally:
            os.close(handle)


class Tokens:
    """Makes and verifies tokens with the keys in memory; sees within a second when keys were rotated.

    Raises SettingsError at the start when there is no usable key; later a directory that breaks leaves the keys as
    they are and is logged. Threads may share one.
    """

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self._looking = threading.Lock()
        self._stamp = keys.stamp()
        self._crypt = MultiFernet(keys.load())
        self._next_look = clock.monotonic() + LOOK_SECONDS

    def encode(self, token: Token) -> str:
        """The token as text: letters, digits, - and _; under 255 characters for ids of 32 digits."""
        self._look()
        payload = msgspec.msgpack.encode(_pack(token))
        sealed: bytes = self._crypt.encrypt_at_time(payload, token.issued // 1_000_000)
        return sealed.rstrip(b"=").decode("ascii")

    def decode(self, text: str, *, allow_expired: bool = False) -> Token:
        """Raises Unauthorized for what no key of ours sealed, or what has expired."""
        self._look()
        if len(text) > MAX_TOKEN:
            raise errors.Unauthorized("The token is not valid: it is too long.")
        try:
            payload = self._crypt.decrypt(text.encode("ascii") + b"=" * (-len(text) % 4))
            token = _unpack(msgspec.msgpack.decode(payload))
        except (InvalidToken, UnicodeEncodeError, msgspec.DecodeError, TypeError, ValueError):
            raise errors.Unauthorized("The token is not valid.") from None
        if not allow_expired and token.expires <= clock.now_us():
            raise errors.Unauthorized("The token has expired.")
        return token

    def _look(self) -> None:
        if clock.monotonic() < self._next_look or not self._looking.acquire(blocking=False):
            return
        try:
            self._next_look = clock.monotonic() + LOOK_SECONDS
            stamp = self._keys.stamp()
            if stamp != self._stamp:
                self._stamp = stamp
                self._crypt = MultiFernet(self._keys.load())
        except errors.SettingsError as error:
            _log.error("%s; the keys in memory stay in use", error)
        finally:
            self._looking.release()


def _pack(token: Token) -> list[object]:
    given = [
        (kind, scope)
        for kind, scope in ((_PROJECT, token.project_id), (_DOMAIN, token.domain_id), (_SYSTEM, token.system))
        if scope is not None
    ]
    if len(given) > 1:
        raise ValueError("a token has one scope: project, domain or system")
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
