"""Password hashes.

New ones are bcrypt with 12 rounds, Keystone's default; every form that a Keystone writes is verified, so users move over
with their passwords: `$2a$ $2b$ $2x$ $2y$`, `$bcrypt-sha256$`, `$scrypt$`, `$pbkdf2-sha512$`.

bcrypt reads 72 bytes of UTF-8 and no more. As Keystone has it, a longer password counts by its first 72 bytes with
bcrypt and by its first 4096 with the other forms.

One hash takes a quarter of a second of one core, on purpose. `Passwords` therefore lets only as many run at a time as
there are cores, beside the threads that serve other requests (bcrypt and hashlib let those run meanwhile). Only so many
may wait for their turn: the rest is answered 503 with Retry-After at once, so that a flood of log-ins leaves threads
for everybody else. Never call it inside a unit of work.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import bcrypt

from nephos import errors
from nephos.kernel import clock

_log = logging.getLogger(__name__)

ROUNDS = 12
BCRYPT_BYTES = 72
MAX_BYTES = 4096
WAIT_SECONDS = 20.0
MOST_WAITING = 16
"""A quarter of a server's threads; on two cores they wait two seconds."""
_SCRYPT_MEMORY = 256 << 20
_SALT64 = bytes.maketrans(
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/",
    b"./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789",
)


class Passwords:
    """Makes and checks hashes. `rounds` is bcrypt's cost, 4 (for tests) to 31, each one twice the work of the one before.

    `at_once` bounds how many run at a time; None means the number of cores.
    """

    def __init__(self, rounds: int = ROUNDS, *, at_once: int | None = None) -> None:
        if not 4 <= rounds <= 31:
            raise errors.SettingsError(f"the cost of a password hash must be 4 to 31, not {rounds}")
        self._rounds = rounds
        running = at_once or os.cpu_count() or 1
        self._slots = threading.BoundedSemaphore(running)
        self._queue = threading.BoundedSemaphore(running + MOST_WAITING)
        self._decoy = self._salt() + b"." * 31

    def hash(self, password: str) -> str:
        """A hash with a new salt. Raises BadRequest for a password that cannot be hashed, Unavailable when too many wait."""
        secret = _bytes(password, BCRYPT_BYTES)
        with self._slot():
            return bcrypt.hashpw(secret, self._salt()).decode("ascii")

    def verify(self, password: str, hashed: str | None) -> bool:
        """Whether the password is the one that was hashed. A hash that cannot be read verifies nothing and is logged.

        With None (no such user, or one without a password) it works as long as for a real one and says no, so that the
        answer's time does not tell which users exist. Raises Unavailable when too many wait.
        """
        try:
            with self._slot():
                if hashed is None:
                    bcrypt.checkpw(_bytes(password, BCRYPT_BYTES), self._decoy)
                    return False
                return _verify(password, hashed)
        except errors.BadRequest:
            return False
        except (ValueError, KeyError, OverflowError, MemoryError):
            _log.error("a stored password hash of the form '%s' cannot be read", _form(hashed or ""))
            return False

    def outdated(self, hashed: str) -> bool:
        """Whether a hash is of another form or cheaper than new ones; to be replaced when its password is next seen."""
        parts = hashed.split("$")
        return len(parts) != 4 or parts[1] != "2b" or not parts[2].isdigit() or int(parts[2]) < self._rounds

    def _salt(self) -> bytes:
        """bcrypt.gensalt's form, with the clock's random bytes."""
        salt = base64.b64encode(clock.token_bytes(16)).rstrip(b"=").translate(_SALT64)
        return b"$2b$%02d$%s" % (self._rounds, salt)

    @contextmanager
    def _slot(self) -> Iterator[None]:
        if not self._queue.acquire(blocking=False):
            raise _too_many()
        try:
            if not self._slots.acquire(timeout=WAIT_SECONDS):
                raise _too_many()
            try:
                yield
            finally:
                self._slots.release()
        finally:
            self._queue.release()


def _too_many() -> errors.Unavailable:
    return errors.Unavailable("Too many log-ins are waiting for their password check. Try again.", retry_after=2)


def _bytes(password: str, limit: int) -> bytes:
    try:
        secret = password.encode("utf-8")
    except UnicodeEncodeError:
        raise errors.BadRequest("The password is not valid Unicode text.") from None
    if b"\0" in secret:
        raise errors.BadRequest("The password holds a null character.")
    return secret[:limit]


def _form(hashed: str) -> str:
    head = hashed[: hashed.find("$", 1) + 1]
    return head if len(head) < 20 else "?"


def _verify(password: str, hashed: str) -> bool:
    form = _form(hashed)
    if form in ("$2$", "$2a$", "$2b$", "$2x$", "$2y$"):
        return bcrypt.checkpw(_bytes(password, BCRYPT_BYTES), hashed.encode("ascii"))
    secret = _bytes(password, MAX_BYTES)
    if form == "$bcrypt-sha256$":
        return _verify_bcrypt_sha256(secret, hashed)
    if form == "$scrypt$":
        return _verify_scrypt(secret, hashed)
    if form == "$pbkdf2-sha512$":
        return _verify_pbkdf2(secret, hashed)
    raise ValueError(form)


def _verify_bcrypt_sha256(secret: bytes, hashed: str) -> bool:
    """`$bcrypt-sha256$v=2,t=2b,r=12$salt$digest`: bcrypt of a keyed SHA-256, so that long passwords count whole."""
    _, _, settings, salt, digest = hashed.split("$")
    options = _options(settings)
    if options["v"] != "2":
        raise ValueError(settings)
    inner = base64.b64encode(hmac.digest(salt.encode("ascii"), secret, "sha256"))
    return bcrypt.checkpw(inner, f"${options['t']}${int(options['r']):02d}${salt}{digest}".encode("ascii"))


def _verify_scrypt(secret: bytes, hashed: str) -> bool:
    """`$scrypt$ln=16,r=8,p=1$salt$digest`; 64 MB of memory at those settings."""
    _, _, settings, salt, digest = hashed.split("$")
    options, expected = _options(settings), _base64(digest)
    made = hashlib.scrypt(
        secret,
        salt=_base64(salt),
        n=1 << min(int(options["ln"]), 31),
        r=int(options["r"]),
        p=int(options["p"]),
        maxmem=_SCRYPT_MEMORY,
        dklen=len(expected),
    )
    return hmac.compare_digest(made, expected)


def _verify_pbkdf2(secret: bytes, hashed: str) -> bool:
    """`$pbkdf2-sha512$rounds$salt$digest`"""
    _, _, rounds, salt, digest = hashed.split("$")
    expected = _base64(digest)
    made = hashlib.pbkdf2_hmac("sha512", secret, _base64(salt), int(rounds), dklen=len(expected))
    return hmac.compare_digest(made, expected)


def _options(settings: str) -> dict[str, str]:
    return dict(item.split("=", 1) for item in settings.split(","))


def _base64(text: str) -> bytes:
    """passlib's base64: without padding, and with a dot for the plus."""
    return base64.b64decode(text.replace(".", "+") + "=" * (-len(text) % 4), validate=True)
