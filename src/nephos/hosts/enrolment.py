"""How a host comes into the cloud and stays in it: invitations, certificates.

An invitation is signed by the cloud's authority, works once and not for long; the ledger remembers those that were used
and what was withdrawn. Whoever may read the authority's key can invite. What people carry to the host, the ticket, says the authority's
fingerprint too: the host knows the server before the server knows the host.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode

import msgspec
from sqlalchemy import delete, select

from nephos import errors
from nephos.hosts import actions, store, wire
from nephos.kernel import clock
from nephos.kernel.cloud import Cloud
from nephos.kernel.db.engine import Tx
from nephos.kernel.tls.authority import Authority

_i = store.invitation
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,61}[A-Za-z0-9])?")
_PURPOSE = b"nephos-invitation:"
_WITHDRAWN = ""
"""Stands where the host's name is of an invitation that was used."""
WITHDRAWN_SECONDS = 10 * 366 * 86_400
"""How long a host's invitations stay withdrawn: longer than anybody invites for."""


class Invitation(msgspec.Struct, frozen=True, array_like=True):
    """`host` is the one name that it is for; None is any that the cloud does not know yet. Times are microseconds."""

    id: str
    host: str | None
    expires: int
    issued: int = 0


class Ticket(msgspec.Struct, frozen=True, array_like=True):
    """`pin` is the SHA-256 of the authority's certificate, `signature` the authority's over `invitation`, encoded."""

    pin: bytes
    invitation: bytes
    signature: bytes


def invite(authority: Authority, host: str | None, seconds: int) -> str:
    """A ticket as one word. Raises BadRequest for what is no host's name."""
    if host is not None and not _NAME.fullmatch(host):
        raise errors.BadRequest(f"{host!r} is no host's name: letters, digits, points and hyphens, at most 63.")
    now = clock.now_us()
    raw = msgspec.msgpack.encode(Invitation(clock.hex_id(), host, now + seconds * 1_000_000, now))
    ticket = Ticket(bytes.fromhex(authority.pin), raw, authority.sign(_PURPOSE + raw))
    return urlsafe_b64encode(msgspec.msgpack.encode(ticket)).decode().rstrip("=")


def read(word: str) -> Ticket:
    """Raises BadRequest for what is no ticket."""
    try:
        return msgspec.msgpack.decode(urlsafe_b64decode(word + "=" * (-len(word) % 4)), type=Ticket)
    except (ValueError, msgspec.DecodeError) as wrong:
        raise errors.BadRequest("That is no whole ticket: copy all that `nephos invite` printed.") from wrong


def withdraw(tx: Tx, which: str | None) -> str:
    """Make invitations useless: the one of a ticket, or all until now in a host's name; None: all in no name. Answers what
    was withdrawn, in words. Raises BadRequest for what is neither a ticket nor a host's name."""
    if which is None or _NAME.fullmatch(which):
        whose, ends = _all_of(which), tx.now + WITHDRAWN_SECONDS * 1_000_000
        words = "all invitations " + (f"of host {which}" if which else "in no host's name")
    else:
        found = _invitation(read(which))
        whose, ends, words = found.id, found.expires, f"the invitation of {found.host or 'any new host'}"
    row = {"id": whose, "host": _WITHDRAWN, "expires_at": ends, "used_at": tx.now}
    tx.upsert(_i, row, key=("id",), put=("expires_at", "used_at"))
    return words


def _all_of(host: str | None) -> str:
    return f"all/{host or ''}"


def join(cloud: Cloud, authority: Authority, asked: wire.Join) -> bytes:
    """Enrol the host that was invited; its certificate as PEM. Raises Unauthorized with the reason."""
    invitation, key = _verified(authority, asked.ticket), _key(asked.public_key)
    if not _NAME.fullmatch(asked.name):
        raise errors.Unauthorized(f"{asked.name[:80]!r} is no host's name.")
    if invitation.host is not None and invitation.host != asked.name:
        raise errors.Unauthorized(f"The invitation is for host {invitation.host}, not for {asked.name}.")
    certificate = authority.host(asked.name, key, cloud.settings.tls.host_days)

    def work(tx: Tx) -> None:
        tx.execute(delete(_i).where(_i.c.expires_at <= tx.now))
        if invitation.expires <= tx.now:
            raise errors.Unauthorized("The invitation is over: ask for another.")
        rows = tx.all(select(_i.c.host, _i.c.used_at).where(_i.c.id.in_([invitation.id, _all_of(invitation.host)])))
        for row in rows:
            if row.host != _WITHDRAWN:
                raise errors.Unauthorized("The invitation was used already: ask for another.")
            if invitation.issued <= row.used_at:
                raise errors.Unauthorized("The invitation was withdrawn: ask for another.")
        known = tx.first(select(store.host.c.public_key).where(store.host.c.name == asked.name))
        if invitation.host is None and known is not None and known.public_key != key.hex():
            raise errors.Unauthorized(
                f"Host {asked.name} is in this cloud already: only an invitation by its name replaces it."
            )
        tx.insert(_i, {"id": invitation.id, "host": asked.name, "expires_at": invitation.expires, "used_at": tx.now})
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


def _verified(authority: Authority, word: str) -> Invitation:
    try:
        ticket = read(word)
    except errors.BadRequest as wrong:
        raise errors.Unauthorized(wrong.message) from wrong
    if not authority.signed(_PURPOSE + ticket.invitation, ticket.signature):
        raise errors.Unauthorized("The invitation is not of this cloud.")
    return _invitation(ticket)


def _invitation(ticket: Ticket) -> Invitation:
    try:
        return msgspec.msgpack.decode(ticket.invitation, type=Invitation)
    except msgspec.DecodeError as wrong:
        raise errors.BadRequest("That is no ticket of this cloud.") from wrong


def _key(text: str) -> bytes:
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) != 32:
        raise errors.Unauthorized("A host's key is 32 bytes, in hexadecimal.")
    return key
