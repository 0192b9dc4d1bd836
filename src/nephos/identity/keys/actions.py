"""What sets of keys can do: begin, rotate, let go.

Source: Keystone administrator guide, "Fernet key rotation": the staged key is known to every server before it signs, so
that servers which learn of a rotation at different moments still understand each other.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Row, delete, select, update

from nephos import errors
from nephos.identity.keys.store import signing_key
from nephos.kernel import clock
from nephos.kernel.auth.token import FERNET, JWS
from nephos.kernel.db.engine import Tx

CREDENTIALS, RECEIPTS = "credentials", "receipts"
KINDS = (FERNET, JWS, CREDENTIALS, RECEIPTS)
STAGED = 0
_k = signing_key.c


def of_kind(tx: Tx, kind: str) -> Sequence[Row[Any]]:
    """The primary first, those that only verify after it, the newest first, and the staged one last."""
    return tx.all(select(signing_key).where(_k.kind == kind).order_by(_k.number.desc()))


def all_keys(tx: Tx) -> Sequence[Row[Any]]:
    return tx.all(select(signing_key).order_by(_k.kind, _k.number.desc()))


def state(row: Row[Any]) -> str:
    """`staged`, `primary` or `secondary`."""
    return "staged" if row.number == STAGED else "primary" if row.retired_at is None else "secondary"


def begin(tx: Tx, kind: str, sealed: Mapping[int, str]) -> bool:
    """The first keys of a kind, by their numbers; False when it has some already."""
    if of_kind(tx, kind):
        return False
    primary = max(sealed)
    tx.insert(
        signing_key,
        [
            {
                "id": clock.hex_id(),
                "kind": kind,
                "number": number,
                "sealed": text,
                "created_at": tx.now,
                "primary_at": None if number == STAGED else tx.now,
                "retired_at": None if number in (STAGED, primary) else tx.now,
            }
            for number, text in sealed.items()
        ],
    )
    return True


def rotate(
    tx: Tx,
    kind: str,
    new: str,
    *,
    most: int,
    lifetime: int,
    needed: Collection[str] = (),
    force: bool = False,
    unless_since: int | None = None,
) -> Row[Any] | None:
    """The staged key becomes primary, `new` (sealed) is staged, the oldest beyond `most` go. Returns the new primary.

    A key goes only when it has not signed for `lifetime` microseconds and its id is not among the `needed`; otherwise
    Conflict says when it may, and nothing changes. With `force` it goes though tokens are lost, but never when needed.
    With `unless_since` a kind whose primary became so later than that is left alone and None returned.
    """
    rows = of_kind(tx, kind)
    if not rows:
        raise errors.NotFound(f"There are no {kind} keys.")
    staged, primary = rows[-1], rows[0]
    if staged.number != STAGED or primary.number == STAGED:
        raise errors.Conflict(f"The {kind} keys are incomplete: one staged and one primary key are expected.")
    if unless_since is not None and (primary.primary_at or 0) > unless_since:
        return None
    secondary = list(rows[:-1])  # the primary of now becomes the newest of them
    gone = [row for row in secondary[max(0, most - 2) :] if row.id not in needed]
    for row in gone:
        free = (row.retired_at if row.retired_at is not None else tx.now) + lifetime
        if free > tx.now and not force:
            raise errors.Conflict(
                f"The {kind} key {row.number} would go, and what it signed counts until {clock.iso(free)}: rotate then, "
                "allow more active keys, or force it."
            )
    # by number and id: of two servers that rotate at once the second changes no row
    moved = update(signing_key).where(_k.id == staged.id, _k.number == STAGED)
    if tx.execute(moved.values(number=primary.number + 1, primary_at=tx.now)).rowcount != 1:
        raise errors.Conflict(f"The {kind} keys are being rotated by another server.")
    tx.execute(update(signing_key).where(_k.id == primary.id).values(retired_at=tx.now))
    tx.insert(
        signing_key,
        {"id": clock.hex_id(), "kind": kind, "number": STAGED, "sealed": new, "created_at": tx.now},
    )
    if gone:
        tx.execute(delete(signing_key).where(_k.id.in_([row.id for row in gone])))
    return of_kind(tx, kind)[0]


def reseal(tx: Tx, sealed: Iterable[tuple[str, str, str]]) -> None:
    """Keys sealed anew: id, as it was and as it is to be. One that changed meanwhile is left alone."""
    for ident, old, new in sealed:
        tx.execute(update(signing_key).where(_k.id == ident, _k.sealed == old).values(sealed=new))
