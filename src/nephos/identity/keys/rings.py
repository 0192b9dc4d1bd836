"""The keys of a cloud in memory, opened: what seals and opens tokens, credentials and receipts."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from sqlalchemy import Row

from nephos import errors
from nephos.identity.credentials.vault import Vault
from nephos.identity.keys import actions
from nephos.identity.keys.actions import CREDENTIALS, KINDS, RECEIPTS, STAGED
from nephos.identity.keys.master import Master
from nephos.identity.tokens.factors import Receipts
from nephos.kernel.auth import fernet
from nephos.kernel.auth.token import FERNET, JWS, Form, Tokens
from nephos.kernel.db.engine import Tx

log = logging.getLogger(__name__)
T = TypeVar("T")

OLD_FOLDERS = {FERNET: "fernet-keys", CREDENTIALS: "credential-keys", RECEIPTS: "receipt-keys"}
"""Below the server's directory, where the first release kept them as files, numbered as here."""


class Ring(NamedTuple):
    """Everything that the keys of one revision make. `oldest` is when the primary key that is longest in service
    became it, in microseconds."""

    revision: int
    tokens: Tokens
    vault: Vault
    receipts: Receipts
    oldest: int


def new_key(kind: str) -> bytes:
    """A new key of its kind. Raises NotFound for a kind that there is not."""
    if kind == JWS:
        from nephos.kernel.auth import jws  # a cloud that signs no JWS does not pay for the library

        return jws.new_key()
    if kind not in KINDS:
        raise errors.NotFound(f"There are no keys of the kind {kind!r}: the kinds are {', '.join(KINDS)}.")
    return fernet.new_key()


def load(tx: Tx, master: Master, revision: int, chosen: str) -> Ring:
    """Raises SettingsError when there are none yet, or none that this master key opens."""
    rows = {kind: actions.of_kind(tx, kind) for kind in KINDS}

    def secrets(kind: str) -> list[bytes]:
        return [master.open(row.sealed) for row in rows[kind]]

    def build(kind: str, make: Callable[[Sequence[bytes]], T]) -> T:
        try:
            return make(secrets(kind))
        except ValueError:
            raise errors.SettingsError(f"The ledger holds no usable {kind} keys.") from None

    forms: dict[str, Form] = {}
    if rows[FERNET]:
        forms[FERNET] = build(FERNET, fernet.FernetTokens)
    if rows[JWS]:
        from nephos.kernel.auth.jws import JwsTokens

        forms[JWS] = build(JWS, JwsTokens)
    primary = rows[CREDENTIALS][0].id if rows[CREDENTIALS] else ""
    return Ring(
        revision=revision,
        tokens=Tokens(forms, chosen),
        vault=build(CREDENTIALS, lambda keys: Vault(keys, primary)),
        receipts=build(RECEIPTS, Receipts),
        oldest=min(row[0].primary_at or 0 for row in rows.values() if row),
    )


def missing(tx: Tx, chosen: str) -> list[str]:
    """The kinds that a cloud needs and has no keys of; JWS keys only where tokens are signed with them."""
    wanted = [kind for kind in KINDS if kind != JWS or chosen == JWS]
    return [kind for kind in wanted if not actions.of_kind(tx, kind)]


def first(kind: str, master: Master, folder: Path) -> dict[int, str]:
    """The first keys of a kind, sealed, by number: those of an earlier release's files, or new ones."""
    found = {}
    old = folder / OLD_FOLDERS.get(kind, "none")
    if old.is_dir():
        for entry in sorted(old.iterdir()):
            if entry.name.isascii() and entry.name.isdigit():
                found[int(entry.name)] = master.seal(entry.read_bytes().strip())
        log.info("%s: %d keys were taken into the ledger; the files are not read any more", old, len(found))
    if max(found, default=STAGED) == STAGED:
        found[1] = master.seal(new_key(kind))
    return {STAGED: master.seal(new_key(kind)), **found}


def sealed_anew(rows: Sequence[Row[tuple[object, ...]]], master: Master) -> list[tuple[str, str, str]]:
    """Each key with its text before and after; what `actions.reseal` takes."""
    return [(row.id, row.sealed, master.seal(master.open(row.sealed))) for row in rows]
