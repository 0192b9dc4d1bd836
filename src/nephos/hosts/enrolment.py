"""How a host comes into the cloud and stays in it: invitations, certificates.

An invitation is a secret that works once and not for long. Its ticket, which is what people carry to the host, says the
secret and the fingerprint of the cloud's authority: the host knows the server before the server knows the host.
"""

from __future__ import annotations

import hashlib
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from typing import Any

from sqlalchemy import delete, select

from nephos import errors
from nephos.hosts import actions, store, wire
from nephos.kernel import clock
from nephos.kernel.cloud import Cloud
from nephos.kernel.db.engine import Tx
from nephos.kernel.tls.authority import Authority

_i = store.invitation
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,61}[A-Za-z0-9])?")
SECRET_BYTES = 16


def invite(tx: Tx, secret: bytes, name: str | None, seconds: int) -> str:
    """Let one host join within `seconds`: one of this name, or any that is new. Answers the invitation's id.

    Raises BadRequest for what is no host's name. Invitations that are over are forgotten.
    """
    if name is not None and not _NAME.fullmatch(name):
        raise errors.BadRequest(f"{name!r} is no host's name: letters, digits, points and hyphens, at most 63.")
    tx.execute(delete(_i).where(_i.c.expires_at <= tx.now))
    ident = clock.uuid4()
    tx.insert(
        _i,
        {
            "id": ident,
            "secret_hash": _hash(secret),
            "host": name,
            "expires_at": tx.now + seconds * 1_000_000,
            "created_at": tx.now,
        },
    )
    return ident


def invitations(tx: Tx) -> Sequence[Any]:
    """Those that still work, the oldest first."""
    return tx.all(select(_i).where(_i.c.expires_at > tx.now).order_by(_i.c.created_at, _i.c.id))


def withdraw(tx: Tx, ident: str) -> None:
    """Raises NotFound."""
    if tx.execute(delete(_i).where(_i.c.id == ident)).rowcount == 0:
        raise errors.NotFound(f"Invitation {ident} could not be found.")


def join(cloud: Cloud, authority: Authority, asked: wire.Join) -> bytes:
    """Enrol the host that was invited; its certificate as PEM. Raises Unauthorized with the reason."""
    key = _key(asked.public_key)
    if not _NAME.fullmatch(asked.name):
        raise errors.Unauthorized(f"{asked.name[:80]!r} is no host's name.")
    certificate = authority.host(asked.name, key, cloud.settings.tls.host_days)

    def work(tx: Tx) -> None:
        row = tx.first(select(_i).where(_i.c.secret_hash == _hash(_bytes(asked.secret)), _i.c.expires_at > tx.now))
        if row is None or tx.execute(delete(_i).where(_i.c.id == row.id)).rowcount == 0:
            raise errors.Unauthorized("The invitation is unknown, used or over.")
        if row.host is not None and row.host != asked.name:
            raise errors.Unauthorized(f"The invitation is for host {row.host}, not for {asked.name}.")
        known = tx.first(select(store.host.c.public_key).where(store.host.c.name == asked.name))
        if row.host is None and known is not None and known.public_key != key.hex():
            raise errors.Unauthorized(
                f"Host {asked.name} is in this cloud already: only an invitation by name replaces it."
            )
        actions.enrol(tx, asked.name, key.hex())

    cloud.database.write(work)
    return certificate


def renew(cloud: Cloud, authority: Authority | None, host_id: str) -> bytes:
    """A new certificate for the key that the ledger has of a host, as PEM; empty without an authority."""
    if authority is None:
        return b""
    with cloud.database.read() as tx:
        row = actions.get(tx, host_id)
    return authority.host(row.name, bytes.fromhex(row.public_key), cloud.settings.tls.host_days)


def ticket(secret: bytes, pin: str) -> str:
    """Secret and pin (SHA-256 in hexadecimal) in one word."""
    return urlsafe_b64encode(secret + bytes.fromhex(pin)).decode().rstrip("=")


def read_ticket(text: str) -> tuple[bytes, str]:
    """The inverse. Raises BadRequest for what is none."""
    raw = _bytes(text)
    if len(raw) != SECRET_BYTES + 32:
        raise errors.BadRequest("That is no whole ticket: copy what `nephos invite` printed.")
    return raw[:SECRET_BYTES], raw[SECRET_BYTES:].hex()


def word(secret: bytes) -> str:
    """A secret as a word, as `Join` carries it."""
    return urlsafe_b64encode(secret).decode().rstrip("=")


def _bytes(text: str) -> bytes:
    try:
        return urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        return b""


def _key(text: str) -> bytes:
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) != 32:
        raise errors.Unauthorized("A host's key is 32 bytes, in hexadecimal.")
    return key


def _hash(secret: bytes) -> str:
    return hashlib.sha256(secret).hexdigest()
