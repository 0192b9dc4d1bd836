"""What other services of the cloud look up among images: those that somebody may see, by what compute's clients ask for."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, and_, or_, select

from nephos import errors
from nephos.image.images import actions, store
from nephos.image.images.actions import Image
from nephos.kernel.auth.who import Who
from nephos.kernel.db.engine import Tx

_i, _p = store.image, store.property_


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Conditions that all hold; what is not given is not asked for. `changed_since` is in microseconds."""

    name: str | None = None
    statuses: Collection[str] | None = None
    changed_since: int | None = None
    min_ram: int | None = None
    min_disk: int | None = None
    properties: Mapping[str, str] = {}


def listed(tx: Tx, who: Who, wanted: Wanted, *, marker: str | None, limit: int) -> list[Image]:
    """A page of the images that `who` may see, the youngest first. Raises BadRequest for a marker that is none of them."""
    conditions: list[ColumnElement[bool]] = [actions.seen_by(who, None, "accepted"), ~_i.c.os_hidden]
    for column in ("name", "min_ram", "min_disk"):
        value = getattr(wanted, column)
        if value is not None:
            conditions.append(_i.c[column] == value)
    if wanted.statuses is not None:
        conditions.append(_i.c.status.in_(list(wanted.statuses)))
    if wanted.changed_since is not None:
        conditions.append(_i.c.updated_at >= wanted.changed_since)
    for name, value in wanted.properties.items():
        conditions.append(_i.c.id.in_(select(_p.c.image_id).where(_p.c.name == name, _p.c.value == value)))
    if marker is not None:
        conditions.append(_after(tx, who, marker))
    rows = tx.all(select(_i).where(*conditions).order_by(_i.c.created_at.desc(), _i.c.id.desc()).limit(limit))
    extras = store.extras_of(tx, [row.id for row in rows])
    return [Image(row, extras[row.id], row.visibility == "shared" and row.owner != who.project_id) for row in rows]


def _after(tx: Tx, who: Who, marker: str) -> ColumnElement[bool]:
    try:
        row: Any = actions.find(tx, who, marker).row
    except errors.NotFound as missing:
        raise errors.BadRequest(f"Marker {marker} could not be found.") from missing
    return or_(_i.c.created_at < row.created_at, and_(_i.c.created_at == row.created_at, _i.c.id < row.id))
