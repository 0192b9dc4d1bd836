"""Images, their tags, their custom properties, and the ids that were used up."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Column, ForeignKey, Index, Table, Text, bindparam, literal, select, union_all

from nephos.kernel.db.engine import Tx
from nephos.kernel.db.schema import boolean, integer, key, metadata, text, when

image = Table(
    "image",
    metadata,
    key(),
    text("owner", null=True),
    text("name", null=True),
    text("status"),
    text("visibility"),
    boolean("os_hidden"),
    boolean("protected"),
    text("disk_format", null=True),
    text("container_format", null=True),
    integer("min_disk", default=0),
    integer("min_ram", default=0),
    integer("size", null=True),
    integer("virtual_size", null=True),
    text("checksum", null=True),
    text("os_hash_algo", null=True),
    text("os_hash_value", null=True),
    text("sha256", null=True),
    text("bytes_name", null=True),
    text("upload_id", null=True),
    integer("generation", default=0),
    when("created_at"),
    when("updated_at"),
    Index("ix_image_owner", "owner", "created_at"),
    Index("ix_image_visibility", "visibility", "created_at"),
)
"""`sha256` is of the stored bytes, for the hosts' caches. `bytes_name` is their name in the image store, or in its staging
area while the status is uploading or importing. `upload_id` is set while bytes are on their way in."""

tag = Table(
    "image_tag",
    metadata,
    Column("image_id", Text, ForeignKey("image.id", ondelete="CASCADE"), primary_key=True),
    Column("value", Text, primary_key=True),
    Index("ix_image_tag_value", "value"),
)

property_ = Table(
    "image_property",
    metadata,
    Column("image_id", Text, ForeignKey("image.id", ondelete="CASCADE"), primary_key=True),
    Column("name", Text, primary_key=True),
    text("value"),
    Index("ix_image_property_name", "name", "value"),
)

used_id = Table("image_used_id", metadata, key(), when("deleted_at"))
"""Ids of deleted images. One is never given again: whoever boots by id must not get somebody else's image (OSSN-0065)."""

_i, _t, _p = image, tag, property_
by_id = select(_i).where(_i.c.id == bindparam("id"))
_more = union_all(
    select(_t.c.image_id, literal(None).label("name"), _t.c.value).where(
        _t.c.image_id.in_(bindparam("ids", expanding=True))
    ),
    select(_p.c.image_id, _p.c.name, _p.c.value).where(_p.c.image_id.in_(bindparam("ids", expanding=True))),
)


class Extras:
    """Tags and custom properties of one image."""

    __slots__ = ("properties", "tags")

    def __init__(self) -> None:
        self.tags: list[str] = []
        self.properties: dict[str, str] = {}


def extras_of(tx: Tx, ids: Iterable[str]) -> dict[str, Extras]:
    """Tags and properties of many images, in one query; every id is a key of the answer."""
    found = {each: Extras() for each in ids}
    if found:
        for row in tx.execute(_more, {"ids": list(found)}):
            if row.name is None:
                found[row.image_id].tags.append(row.value)
            else:
                found[row.image_id].properties[row.name] = row.value
    return found


def rows_of(tx: Tx, ids: Iterable[str]) -> Sequence[Any]:
    return tx.all(select(_i).where(_i.c.id.in_(list(ids))))
