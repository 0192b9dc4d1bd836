"""What can be done with images. Functions take `tx`; who may do it is asked by `api.py`, who may see it here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from sqlalchemy import and_, bindparam, case, delete, exists, func, literal, or_, select, update
from sqlalchemy.sql import ColumnElement

from nephos import errors
from nephos.image import notifications
from nephos.image.images import store
from nephos.image.images.store import Extras
from nephos.image.members.store import member
from nephos.kernel.auth.who import Who
from nephos.kernel.db.engine import Tx

QUEUED, SAVING, ACTIVE, DEACTIVATED = "queued", "saving", "active", "deactivated"
UPLOADING, IMPORTING = "uploading", "importing"
MOST_PROPERTIES = MOST_TAGS = 128

_i, _t, _p = store.image, store.tag, store.property_
_shared = (
    select(literal(1)).where(member.c.image_id == bindparam("id"), member.c.member_id == bindparam("project")).exists()
)
_seen = select(_i, _shared.label("is_member")).where(_i.c.id == bindparam("id"))


class Image(msgspec.Struct, frozen=True):
    """An image as the API shows it: its row, its tags and properties, and whether the asker is a member of it."""

    row: Any
    extras: Extras
    is_member: bool = False

    def target(self, who: Who) -> dict[str, Any]:
        """The image as a policy target."""
        found: dict[str, Any] = {
            **self.extras.properties,
            "project_id": self.row.owner,
            "tenant_id": self.row.owner,
            "owner": self.row.owner,
            "visibility": self.row.visibility,
            "status": self.row.status,
            "id": self.row.id,
        }
        found.pop("member_id", None)
        if self.is_member:
            found["member_id"] = who.project_id
        return found


class BootImage(msgspec.Struct, frozen=True, kw_only=True):
    """What a guest needs of an image. Sizes are bytes, `min_disk` GiB, `min_ram` MiB; `virtual_size` is None when the
    format does not tell. `sha256` is of the stored bytes. `properties` hold `kernel_id` and `ramdisk_id` of a three-part
    image (S1-49)."""

    id: str
    name: str | None
    status: str
    owner: str | None
    size: int
    virtual_size: int | None
    sha256: str
    disk_format: str
    container_format: str
    min_disk: int
    min_ram: int
    properties: dict[str, str]
    tags: list[str]


def is_admin(who: Who) -> bool:
    return who.is_admin or "admin" in who.roles


def find(tx: Tx, who: Who, image_id: str) -> Image:
    """An image that `who` may see. Raises NotFound for any other."""
    row = tx.first(_seen, {"id": image_id, "project": who.project_id or ""})
    if row is None or not _visible(row, who):
        raise errors.NotFound(f"Failed to find image {image_id}.")
    return Image(row, store.extras_of(tx, (image_id,))[image_id], bool(row.is_member) and row.visibility == "shared")


def _visible(row: Any, who: Who) -> bool:
    return (
        is_admin(who)
        or row.visibility in ("public", "community")
        or (row.owner is not None and row.owner == who.project_id)
        or (row.visibility == "shared" and bool(row.is_member))
    )


def images_of(tx: Tx, ids: Iterable[str]) -> dict[str, Image]:
    """Images by id, whoever may see them; what is gone is left out. Two queries."""
    rows = store.rows_of(tx, ids)
    extras = store.extras_of(tx, [row.id for row in rows])
    return {row.id: Image(row, extras[row.id]) for row in rows}


def boot_image(tx: Tx, who: Who, image_id: str) -> BootImage:
    """What is needed to boot an image that `who` may see.

    Raises BadRequest when there is none or when it is not active, as the compute API answers both (S2-24).
    """
    try:
        found = find(tx, who, image_id)
    except errors.NotFound as missing:
        raise errors.BadRequest(f"Can not find requested image {image_id}.") from missing
    row = found.row
    if row.status != ACTIVE:
        raise errors.BadRequest(f"Image {image_id} is not active: it is {row.status}.")
    return BootImage(
        id=row.id,
        name=row.name,
        status=row.status,
        owner=row.owner,
        size=row.size,
        virtual_size=row.virtual_size,
        sha256=row.sha256,
        disk_format=row.disk_format,
        container_format=row.container_format,
        min_disk=row.min_disk,
        min_ram=row.min_ram,
        properties=found.extras.properties,
        tags=found.extras.tags,
    )


def seen_by(who: Who, visibility: str | None, member_status: str) -> ColumnElement[bool]:
    """Which images a list holds: others' community images only when asked for by visibility."""
    own = _i.c.owner == who.project_id
    choices: list[ColumnElement[bool]] = []
    if not is_admin(who):
        of_member = [member.c.image_id == _i.c.id, member.c.member_id == who.project_id]
        if member_status != "all":
            of_member.append(member.c.status == member_status)
        shared = and_(_i.c.visibility == "shared", exists().where(*of_member))
        choices.append(or_(_i.c.visibility.in_(("public", "community")), own, shared))
    if visibility is None:
        choices.append(or_(_i.c.visibility != "community", own))
    elif visibility != "all":
        choices.append(_i.c.visibility == visibility)
    return and_(True, *choices)


def create(tx: Tx, values: Mapping[str, Any], tags: Iterable[str], properties: Mapping[str, str]) -> None:
    """Write a queued image; `values` are its columns, id included.

    Raises Conflict when the id is or was another image's, TooLarge beyond the limits of tags and properties.
    """
    tags = list(dict.fromkeys(tags))
    check_limits(tags, properties)
    image_id = values["id"]
    if tx.first(select(store.used_id).where(store.used_id.c.id == image_id)) or tx.first(store.by_id, {"id": image_id}):
        raise errors.Conflict(f"Image ID {image_id} already exists!")
    tx.insert(_i, {**values, "status": QUEUED, "created_at": tx.now, "updated_at": tx.now})
    tx.insert(_t, [{"image_id": image_id, "value": each} for each in tags])
    tx.insert(_p, [{"image_id": image_id, "name": name, "value": value} for name, value in properties.items()])
    notifications.tell(tx, image_id, notifications.CREATE)


def check_limits(tags: list[str], properties: Mapping[str, str]) -> None:
    """Raises TooLarge, as Glance does, beyond the limits of tags and properties."""
    if len(tags) > MOST_TAGS:
        raise errors.TooLarge(f"The limit has been exceeded on the number of allowed image tags: {MOST_TAGS}.")
    if len(properties) > MOST_PROPERTIES:
        raise errors.TooLarge(
            f"The limit has been exceeded on the number of allowed image properties: {MOST_PROPERTIES}."
        )


def change(tx: Tx, image_id: str, *, when: ColumnElement[bool] | None = None, **values: Any) -> bool:
    """Set columns, provided that `when` still holds. Answers whether it did."""
    chosen = _i.c.id == image_id
    statement = (
        update(_i)
        .where(chosen if when is None else and_(chosen, when))
        .values(updated_at=tx.now, generation=_i.c.generation + 1, **values)
    )
    return bool(tx.execute(statement).rowcount)


def replace_extras(tx: Tx, old: Image, tags: list[str], properties: Mapping[str, str]) -> None:
    """Make an image's tags and properties these. Raises TooLarge beyond the limits."""
    image_id = old.row.id
    check_limits(tags, properties)
    before = old.extras
    if set(tags) != set(before.tags):
        tx.execute(delete(_t).where(_t.c.image_id == image_id))
        tx.insert(_t, [{"image_id": image_id, "value": each} for each in dict.fromkeys(tags)])
    if properties != before.properties:
        gone = [name for name, value in before.properties.items() if properties.get(name) != value]
        new = {name: value for name, value in properties.items() if before.properties.get(name) != value}
        if gone:
            tx.execute(delete(_p).where(_p.c.image_id == image_id, _p.c.name.in_(gone)))
        tx.insert(_p, [{"image_id": image_id, "name": name, "value": value} for name, value in new.items()])


def add_tag(tx: Tx, old: Image, value: str) -> None:
    if value not in old.extras.tags:
        replace_extras(tx, old, [*old.extras.tags, value], old.extras.properties)
        change(tx, old.row.id)
        notifications.tell(tx, old.row.id, notifications.UPDATE)


def remove_tag(tx: Tx, old: Image, value: str) -> None:
    """Raises NotFound when the image has no such tag."""
    if value not in old.extras.tags:
        raise errors.NotFound(f"Image {old.row.id} has no tag {value!r}.")
    tx.execute(delete(_t).where(_t.c.image_id == old.row.id, _t.c.value == value))
    change(tx, old.row.id)
    notifications.tell(tx, old.row.id, notifications.UPDATE)


def remove(tx: Tx, old: Image) -> str | None:
    """Delete an image; answers the name of the bytes to remove when this is durable. Raises Forbidden if protected."""
    row = old.row
    if row.protected:
        raise errors.Forbidden(f"Image {row.id} is protected and cannot be deleted.")
    tx.execute(delete(_t).where(_t.c.image_id == row.id))
    tx.execute(delete(_p).where(_p.c.image_id == row.id))
    tx.execute(delete(member).where(member.c.image_id == row.id))
    tx.execute(delete(_i).where(_i.c.id == row.id))
    tx.insert(store.used_id, {"id": row.id, "deleted_at": tx.now})
    notifications.deleted(tx, row, old.extras)
    return row.bytes_name  # type: ignore[no-any-return]


def sweep(tx: Tx, before: int, most: int) -> int:
    """Forget the ids of images that were deleted before a time (microseconds), at most so many."""
    ids = tx.column(select(store.used_id.c.id).where(store.used_id.c.deleted_at < before).limit(most))
    tx.execute(delete(store.used_id).where(store.used_id.c.id.in_(ids)))
    return len(ids)


def set_active(tx: Tx, old: Image, *, active: bool) -> None:
    """Deactivate, or activate again; what is so already stays. Raises Forbidden in any other status, as Glance does."""
    wanted, verb = (ACTIVE, "reactivate") if active else (DEACTIVATED, "deactivate")
    if old.row.status not in (ACTIVE, DEACTIVATED):
        raise errors.Forbidden(f"Not allowed to {verb} image in status '{old.row.status}'.")
    if old.row.status != wanted:
        change(tx, old.row.id, status=wanted)
        notifications.tell(tx, old.row.id, notifications.UPDATE)


def usage_of_project(tx: Tx, project_id: str) -> dict[str, int]:
    """What a project uses of Glance's limits: images, uploads under way, MiB stored and staged."""
    staging = _i.c.status.in_((UPLOADING, IMPORTING))
    totals = select(
        func.coalesce(func.sum(case((staging, 0), else_=_i.c.size)), 0).label("stored"),
        func.coalesce(func.sum(case((staging, _i.c.size), else_=0)), 0).label("staged"),
        func.count().label("images"),
        func.coalesce(func.sum(case((_i.c.status.in_((SAVING, UPLOADING, IMPORTING)), 1), else_=0)), 0).label("going"),
    )
    row = tx.execute(totals.where(_i.c.owner == project_id)).one()
    return {
        "image_size_total": int(row.stored) >> 20,
        "image_stage_total": int(row.staged) >> 20,
        "image_count_total": int(row.images),
        "image_count_uploading": int(row.going),
    }
