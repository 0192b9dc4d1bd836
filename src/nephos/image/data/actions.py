"""The life of an image's bytes: queued → saving → active, or queued → uploading → importing → active."""

from __future__ import annotations

from sqlalchemy import select

from nephos import errors
from nephos.image import notifications
from nephos.image.data.receive import Received
from nephos.image.images import actions, store
from nephos.image.images.actions import ACTIVE, IMPORTING, QUEUED, SAVING, UPLOADING, Image
from nephos.kernel.db.engine import Tx

STAGED = ".staged"
_i = store.image


def begin(tx: Tx, image: Image, upload_id: str, status: str) -> None:
    """Let bytes come in: `status` is saving or uploading.

    Raises Conflict unless the image is queued, BadRequest while its formats are not set.
    """
    row = image.row
    if row.status != QUEUED:
        raise errors.Conflict(f"Image status transition from {row.status} to {status} is not allowed")
    check_formats(image)
    actions.change(tx, row.id, status=status, upload_id=upload_id)
    notifications.tell(tx, row.id, notifications.PREPARE)


def check_formats(image: Image) -> None:
    """Raises BadRequest while an image's formats are not set."""
    missing = [name for name in ("disk_format", "container_format") if not getattr(image.row, name)]
    if missing:
        noun = "Properties" if len(missing) > 1 else "Property"
        raise errors.BadRequest(f"{noun} {', '.join(missing)} must be set prior to saving data.")


def give_up(tx: Tx, image_id: str, upload_id: str) -> None:
    """The bytes did not come: the image waits for them again."""
    waiting = _i.c.upload_id == upload_id
    if actions.change(tx, image_id, when=waiting, status=QUEUED, upload_id=None, size=None, virtual_size=None):
        notifications.not_uploaded(tx, image_id)


def saved(tx: Tx, image_id: str, upload_id: str, name: str, received: Received) -> bool:
    """The bytes are stored under a name: the image is active. False when it was deleted meanwhile."""
    kept = actions.change(tx, image_id, when=_i.c.upload_id == upload_id, **_active(name, received))
    if kept:
        notifications.tell(tx, image_id, notifications.UPLOAD, notifications.ACTIVATE)
    return kept


def staged(tx: Tx, image_id: str, upload_id: str, name: str, size: int) -> bool:
    """The bytes wait to be imported. False when the image was deleted meanwhile."""
    waiting = _i.c.upload_id == upload_id
    kept = actions.change(tx, image_id, when=waiting, upload_id=None, size=size, bytes_name=name)
    if kept:
        notifications.tell(tx, image_id, notifications.UPLOAD)
    return kept


def imported(tx: Tx, image_id: str, name: str, received: Received) -> bool:
    """The staged bytes are stored under a name: the image is active. False when it was deleted meanwhile."""
    kept = actions.change(tx, image_id, when=_i.c.status == IMPORTING, **_active(name, received))
    if kept:
        notifications.tell(tx, image_id, notifications.UPLOAD, notifications.ACTIVATE)
    return kept


def not_imported(tx: Tx, image_id: str) -> None:
    """An import failed: the image waits for bytes again."""
    importing = _i.c.status == IMPORTING
    if actions.change(tx, image_id, when=importing, status=QUEUED, bytes_name=None, size=None, virtual_size=None):
        notifications.not_uploaded(tx, image_id)


def _active(name: str, received: Received) -> dict[str, object]:
    return {
        "status": ACTIVE,
        "upload_id": None,
        "bytes_name": name,
        "size": received.size,
        "virtual_size": received.virtual_size,
        "checksum": received.md5,
        "os_hash_algo": "sha512",
        "os_hash_value": received.sha512,
        "sha256": received.sha256,
    }


def forget_uploads(tx: Tx) -> int:
    """After a start: no upload is under way, so images that wait for one are queued again. Answers how many."""
    lost = tx.column(select(_i.c.id).where(_i.c.upload_id.is_not(None)))
    for image_id in lost:
        actions.change(tx, image_id, status=QUEUED, upload_id=None, size=None, virtual_size=None)
    return len(lost)


def names(tx: Tx) -> set[str]:
    """The names of all bytes that an image owns, stored and staged."""
    return set(tx.column(select(_i.c.bytes_name).where(_i.c.bytes_name.is_not(None))))


__all__ = [
    "SAVING",
    "STAGED",
    "UPLOADING",
    "begin",
    "check_formats",
    "forget_uploads",
    "give_up",
    "imported",
    "names",
    "not_imported",
    "saved",
    "staged",
]
