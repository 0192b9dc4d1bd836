"""Rescue (S3-27): a server that does not boot any more runs from an image, with its own disks beside, until it is mended."""

from __future__ import annotations

from typing import Any

from nephos import errors
from nephos.compute.lifecycle.actions import require, require_host
from nephos.compute.servers import actions, states, store
from nephos.image.images import actions as images
from nephos.kernel.auth.who import Who
from nephos.kernel.cloud import Cloud
from nephos.kernel.db.engine import Tx

RESCUE, UNRESCUE = "server.rescue", "server.unrescue"
_FROM = frozenset({states.ACTIVE, states.STOPPED, states.ERROR})


def rescue(
    tx: Tx, cloud: Cloud, row: Any, who: Who, request_id: str, image_id: str | None, admin_pass: str
) -> None:
    """Begin to rescue. Raises Conflict in a state that does not allow it, BadRequest for an image that cannot be booted."""
    actions.refuse_locked(row, who, "rescue")
    require(row, "rescue", _FROM)
    require_host(tx, cloud, row)
    wanted = image_id or row.image_id or ""
    try:
        found = images.boot_image(tx, who, wanted)
        parts = actions.parts_of(tx, who, found)
    except errors.BadRequest as wrong:
        raise errors.BadRequest(f"Requested rescue image '{wanted}' is not valid: {wrong.message}") from wrong
    data = {"parts": parts, "properties": found.properties, "image": found.id, "ran": row.vm_state == states.ACTIVE}
    secret = {"admin_pass": admin_pass} if row.config_drive else {}
    actions.change(tx, cloud, row, task_state=states.RESCUING, **secret)
    actions.begin(tx, cloud, RESCUE, row, who, request_id, data)


def unrescue(tx: Tx, cloud: Cloud, row: Any, who: Who, request_id: str) -> None:
    """Begin to end the rescue. Raises Conflict when the server is in none."""
    actions.refuse_locked(row, who, "unrescue")
    require(row, "unrescue", {states.RESCUED})
    require_host(tx, cloud, row)
    store.change(tx, row.id, task_state=states.UNRESCUING)
    actions.begin(tx, cloud, UNRESCUE, row, who, request_id)
