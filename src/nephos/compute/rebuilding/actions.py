"""A server is made again from an image: what it is asked with, and the transaction that accepts it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from nephos.compute.lifecycle.actions import require, require_host
from nephos.compute.servers import actions, states
from nephos.image.images import actions as images
from nephos.kernel.auth.who import Who
from nephos.kernel.cloud import Cloud
from nephos.kernel.db.engine import Tx

REBUILD = "server.rebuild"
_FROM = frozenset({states.ACTIVE, states.STOPPED, states.ERROR})


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """A request to rebuild, read and checked as far as one can without the ledger.

    `values` are the columns that it sets, but for those of the image and of the key. `changes_key` tells that
    `key_name` was given; None then takes the key away.
    """

    image_id: str
    values: Mapping[str, Any]
    admin_pass: str
    files: tuple[tuple[str, str], ...] = ()
    key_name: str | None = None
    changes_key: bool = False
    preserve_ephemeral: bool = False
    may_zero_disk: bool = False


def rebuild(tx: Tx, cloud: Cloud, row: Any, who: Who, request_id: str, wish: Wish) -> None:
    """Write what the server will be, and the operation that makes it so on the host where it is.

    Raises Conflict in a state that does not allow it, BadRequest for an image or a key that cannot be, OverQuota.
    """
    actions.refuse_locked(row, who, "rebuild")
    require(row, "rebuild", _FROM)
    require_host(tx, cloud, row)
    found = images.boot_image(tx, who, wish.image_id)
    flavor = row.flavor
    actions.check_fits(found, ram_mb=row.ram_mb, root_gb=flavor["root_gb"], may_zero_disk=wish.may_zero_disk)
    values = {**wish.values, **actions.image_of(found), "files": [list(each) for each in wish.files]}
    actions.check_metadata(tx, cloud, row.project_id, values.get("metadata") or {})
    actions.check_files(tx, cloud, row.project_id, wish.files)
    if wish.changes_key:
        key = None if wish.key_name is None else actions.key_of(tx, who, wish.key_name)
        values["key_name"] = key.name if key else None
        values["public_key"] = key.public_key if key else None
        values["key_type"] = key.type if key else None
    values["admin_pass"] = wish.admin_pass if row.config_drive else None
    data = {
        "parts": actions.parts_of(tx, who, found),
        "before": {"image_id": row.image_id, "image": row.image},
        "checked": found.id == row.image_id,
        "stopped": row.vm_state == states.STOPPED,
        "preserve_ephemeral": wish.preserve_ephemeral,
    }
    actions.change(tx, cloud, row, task_state=states.REBUILDING, progress=0, **values)
    actions.begin(tx, cloud, REBUILD, row, who, request_id, data)
