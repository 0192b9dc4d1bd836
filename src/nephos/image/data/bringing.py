"""Images whose bytes another service of the cloud brings: compute's snapshots. No client's request holds a thread meanwhile.

A transaction begins it, the bytes come outside of any, and another transaction makes the image active. Until then the
bytes have a name of their own, so that a server that takes over from one that died is not in its way.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec
from sqlalchemy import select

from nephos import errors
from nephos.image.data import actions as data
from nephos.image.data import receive
from nephos.image.images import actions as images
from nephos.image.images import store
from nephos.image.images.actions import QUEUED, SAVING
from nephos.image.members import actions as members
from nephos.image.parts import parts
from nephos.kernel import clock
from nephos.kernel.auth.who import Who
from nephos.kernel.cloud import Cloud
from nephos.kernel.db.engine import Tx


class Brought(msgspec.Struct, frozen=True):
    """Bytes that are stored, and under which name."""

    name: str
    received: receive.Received


def queue(
    tx: Tx, who: Who, name: str, properties: Mapping[str, str], *, min_disk: int, min_ram: int, share_with: str | None
) -> str:
    """Write an image that waits for its bytes; answers its id. It is private, or shared with another project.

    Raises TooLarge for too many properties.
    """
    image_id = clock.uuid4()
    values = {
        "id": image_id,
        "name": name,
        "owner": who.project_id,
        "visibility": "private" if share_with is None else "shared",
        "min_disk": min_disk,
        "min_ram": min_ram,
    }
    images.create(tx, values, (), properties)
    if share_with is not None:
        members.add(tx, images.images_of(tx, [image_id])[image_id], share_with)
    return image_id


def begin(tx: Tx, image_id: str, upload_id: str, disk_format: str) -> bool:
    """The bytes are about to come, in a bare container. Again: nothing more. False when the image is gone, or became
    something else meanwhile."""
    image = images.images_of(tx, [image_id]).get(image_id)
    if image is None or image.row.status not in (QUEUED, SAVING):
        return False
    if image.row.status == SAVING:
        return bool(image.row.upload_id == upload_id)
    images.change(tx, image_id, disk_format=disk_format, container_format="bare")
    data.begin(tx, images.images_of(tx, [image_id])[image_id], upload_id, SAVING)
    return True


def bring(cloud: Cloud, image_id: str, blocks: Iterable[bytes], disk_format: str, size: int) -> Brought:
    """Store the bytes, looked into and hashed on their way; outside of any transaction. Raises UnsupportedMedia for what is
    not of the format or not safe, TooLarge, and whatever `blocks` raises; then nothing is kept."""
    kept = parts(cloud).store
    if size > kept.free():
        raise errors.TooLarge(f"The image store has no room for {size} bytes.")
    name = f"{image_id}.{clock.hex_id()[:8]}"
    return Brought(name, receive.take(kept, name, receive.capped(blocks, size), disk_format, "bare"))


def finish(tx: Tx, cloud: Cloud, image_id: str, upload_id: str, brought: Brought, properties: Mapping[str, str]) -> bool:
    """The image is active. When it was deleted meanwhile the bytes go, and the answer is False."""
    if not data.saved(tx, image_id, upload_id, brought.name, brought.received):
        tx.after_commit(lambda: parts(cloud).store.delete(brought.name))
        return False
    image = images.images_of(tx, [image_id])[image_id]
    images.replace_extras(tx, image, image.extras.tags, {**image.extras.properties, **properties})
    return True


def is_active(tx: Tx, image_id: str) -> bool:
    """Whether there is such an image, with its bytes."""
    row = tx.first(store.by_id, {"id": image_id})
    return row is not None and row.status == images.ACTIVE


def is_wanted(cloud: Cloud, image_id: str, upload_id: str) -> bool:
    """Whether the image still waits for these bytes."""
    with cloud.database.read() as tx:
        row = tx.first(store.by_id, {"id": image_id})
    return row is not None and row.upload_id == upload_id


def give_up(tx: Tx, cloud: Cloud, image_id: str) -> None:
    """Delete an image, whatever it holds. One that is gone, or that somebody protected: nothing."""
    image = images.images_of(tx, [image_id]).get(image_id)
    if image is None or image.row.protected:
        return
    name = images.remove(tx, image)
    if name is not None:
        tx.after_commit(lambda: parts(cloud).store.delete(name))


def holding(tx: Tx, properties: Mapping[str, str]) -> Sequence[str]:
    """The images that hold all these properties, the youngest first."""
    chosen = select(store.image.c.id).where(
        *(
            store.image.c.id.in_(
                select(store.property_.c.image_id).where(store.property_.c.name == name, store.property_.c.value == value)
            )
            for name, value in properties.items()
        )
    )
    return tx.column(chosen.order_by(store.image.c.created_at.desc(), store.image.c.id.desc()))
