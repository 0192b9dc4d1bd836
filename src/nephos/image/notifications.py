"""What the image service tells, as Glance's listeners know it: `image.create`, `image.upload`, `image.activate` …

The payload is Glance's: the image without its location, which may hold credentials.
"""

from __future__ import annotations

from typing import Any

from nephos.image.images import store
from nephos.image.images.store import Extras
from nephos.kernel import clock
from nephos.kernel.db.engine import Tx
from nephos.kernel.notifications.outbox import ERROR, HOST, INFO, Notice

CREATE, UPDATE, DELETE = "image.create", "image.update", "image.delete"
PREPARE, UPLOAD, ACTIVATE = "image.prepare", "image.upload", "image.activate"
MEMBER_CREATE, MEMBER_UPDATE, MEMBER_DELETE = "image.member.create", "image.member.update", "image.member.delete"


def tell(tx: Tx, image_id: str, *events: str) -> None:
    """What happened to an image in this unit of work, with the image as it is now."""
    if tx.outbox is None:
        return
    row, extras = store.rows_of(tx, [image_id])[0], store.extras_of(tx, [image_id])[image_id]
    tx.outbox.put(tx, *(_notice(event, _shown(row, extras), image_id) for event in events))


def deleted(tx: Tx, row: Any, extras: Extras) -> None:
    """`row` and `extras` are the image as it was."""
    if tx.outbox is not None:
        gone = {"deleted": True, "deleted_at": clock.iso(tx.now)}
        tx.outbox.put(tx, _notice(DELETE, _shown(row, extras) | gone, row.id))


def not_uploaded(tx: Tx, image_id: str) -> None:
    """The bytes did not come, or were refused."""
    if tx.outbox is not None:
        words = f"Failed to upload image data for image {image_id}."
        tx.outbox.put(tx, _notice(UPLOAD, words, image_id, ERROR))


def member(tx: Tx, event: str, row: Any) -> None:
    """`row` is the member's, as it is or was."""
    if tx.outbox is None:
        return
    payload = {
        "image_id": row.image_id,
        "member_id": row.member_id,
        "status": row.status,
        "created_at": clock.iso(row.created_at),
        "updated_at": clock.iso(row.updated_at),
        "deleted": event == MEMBER_DELETE,
        "deleted_at": clock.iso(tx.now) if event == MEMBER_DELETE else None,
    }
    tx.outbox.put(tx, _notice(event, payload, row.image_id))


def _shown(row: Any, extras: Extras) -> dict[str, Any]:
    return {
        "id": row.id,
        "name": row.name,
        "status": row.status,
        "created_at": clock.iso(row.created_at),
        "updated_at": clock.iso(row.updated_at),
        "min_disk": row.min_disk,
        "min_ram": row.min_ram,
        "protected": row.protected,
        "checksum": row.checksum,
        "owner": row.owner,
        "disk_format": row.disk_format,
        "container_format": row.container_format,
        "size": row.size,
        "virtual_size": row.virtual_size,
        "is_public": row.visibility == "public",
        "visibility": row.visibility,
        "properties": dict(extras.properties),
        "tags": list(extras.tags),
        "deleted": False,
        "deleted_at": None,
    }


def _notice(event: str, payload: Any, image_id: str, priority: str = INFO) -> Notice:
    return Notice(
        service="glance",
        publisher=f"image.{HOST}",
        event=event,
        payload=payload,
        resource=f"image/{image_id}",
        priority=priority,
    )
