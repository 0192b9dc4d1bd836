"""Interoperable image import: staged bytes become the image's. A task of the image API is an operation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import delete, select

from nephos import errors
from nephos.image.data import actions as data
from nephos.image.images import actions as images
from nephos.image.images import store
from nephos.image.images.actions import IMPORTING, UPLOADING, Image
from nephos.kernel.cloud import Cloud
from nephos.kernel.db.engine import Tx
from nephos.kernel.http.call import Call
from nephos.kernel.operations import history
from nephos.kernel.operations.store import operation

KIND, NOUN = "image.import", "image"
FAILED_STORES = "os_glance_failed_import"
"""The property by which clients see that an import failed, as Glance names it."""
_o, _p = operation, store.property_


def start(cloud: Cloud, tx: Tx, call: Call, image: Image, request: dict[str, Any]) -> str:
    """Begin to import what was staged; answers the task's id. Raises Conflict unless the image holds staged bytes."""
    row = image.row
    if row.status == images.ACTIVE:
        raise errors.Conflict("Image with status active cannot be target for import")
    if row.status == IMPORTING:
        raise errors.Conflict(f"Image {row.id} is being imported already.")
    if row.status != UPLOADING or row.upload_id is not None:
        raise errors.Conflict("Image needs to be staged before 'glance-direct' method can be used")
    data.check_formats(image)
    task_id = cloud.operations.start(
        tx,
        KIND,
        NOUN,
        row.id,
        request_id=call.request_id,
        project_id=call.who.project_id,
        user_id=call.who.user_id,
        data={"input": {"image_id": row.id, "import_req": request, "backend": [cloud.parts["image"].store.name]}},
    )
    forget_failure(tx, row.id)
    images.change(tx, row.id, status=IMPORTING)
    return task_id


def forget_failure(tx: Tx, image_id: str) -> None:
    tx.execute(delete(_p).where(_p.c.image_id == image_id, _p.c.name == FAILED_STORES))


def remember_failure(tx: Tx, image_id: str, store_name: str) -> None:
    """To be called once the image is known to be there still."""
    forget_failure(tx, image_id)
    tx.insert(_p, {"image_id": image_id, "name": FAILED_STORES, "value": store_name})


def tasks_of(tx: Tx, image_id: str) -> Sequence[Any]:
    """The operations behind an image's tasks, oldest first."""
    chosen = select(_o).where(_o.c.noun == NOUN, _o.c.noun_id == image_id, _o.c.kind == KIND)
    return tx.all(chosen.order_by(_o.c.created_at, _o.c.id))


def task(tx: Tx, task_id: str) -> Any:
    """The operation behind a task. Raises NotFound."""
    row = tx.first(select(_o).where(_o.c.id == task_id, _o.c.kind == KIND))
    if row is None:
        raise errors.NotFound(f"No task found with ID {task_id}.")
    return row


def sweep(tx: Tx, before: int, most: int) -> int:
    """Forget imports that ended before a time (microseconds), at most so many."""
    return history.forget_before(tx, NOUN, before, most)
