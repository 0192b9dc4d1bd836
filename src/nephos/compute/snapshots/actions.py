"""An image of a server: the transaction that accepts it writes the image, queued, and the operation that fills it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nephos.compute.lifecycle.actions import require, require_host
from nephos.compute.servers import actions, states, store
from nephos.image.data import bringing
from nephos.kernel.auth.who import Who
from nephos.kernel.cloud import Cloud
from nephos.kernel.db.engine import Tx

IMAGE, BACKUP = "server.create_image", "server.create_backup"
_FROM = frozenset({states.ACTIVE, states.STOPPED, states.PAUSED, states.SUSPENDED})
_NOT_INHERITED = frozenset(
    (
        *("cache_in_nova", "bittorrent", "mappings", "block_device_mapping", "img_mappings", "img_block_device_mapping"),
        *("cinder_encryption_key_id", "cinder_encryption_key_deletion_policy"),
        *("img_signature", "img_signature_hash_method", "img_signature_key_type", "img_signature_certificate_uuid"),
    )
)
_RESERVED = "os_glance"


def create_image(
    tx: Tx, cloud: Cloud, row: Any, who: Who, request_id: str, name: str, metadata: Mapping[str, str]
) -> str:
    """Begin to make an image of a server's root disk; answers the image's id. A lock does not forbid it, as in Nova.

    Raises Conflict in a state that does not allow it or when the host is away, TooLarge for too many properties.
    """
    return _begin(tx, cloud, row, who, request_id, IMAGE, name, "snapshot", metadata, {})


def create_backup(
    tx: Tx,
    cloud: Cloud,
    row: Any,
    who: Who,
    request_id: str,
    name: str,
    metadata: Mapping[str, str],
    *,
    backup_type: str,
    rotation: int,
) -> str:
    """As `create_image`; of the server's backups of the type only the `rotation` youngest stay."""
    more = {**metadata, "backup_type": backup_type}
    data = {"backup_type": backup_type, "rotation": rotation}
    return _begin(tx, cloud, row, who, request_id, BACKUP, name, "backup", more, data)


def _begin(
    tx: Tx,
    cloud: Cloud,
    row: Any,
    who: Who,
    request_id: str,
    kind: str,
    name: str,
    image_type: str,
    metadata: Mapping[str, str],
    data: Mapping[str, Any],
) -> str:
    require(row, {IMAGE: "createImage", BACKUP: "createBackup"}[kind], _FROM)
    require_host(tx, cloud, row)
    image_id = queue(tx, row, who, name, image_type, metadata)
    store.change(tx, row.id, task_state=states.IMAGE_SNAPSHOT_PENDING if kind == IMAGE else states.IMAGE_BACKUP)
    actions.begin(tx, cloud, kind, row, who, request_id, {"image": image_id, **data})
    return image_id


def queue(tx: Tx, row: Any, who: Who, name: str, image_type: str, metadata: Mapping[str, str]) -> str:
    """Write the image that a snapshot of a server is to become; answers its id.

    It has the properties of the image that the server was made from; one that is made from another project is shared
    with the server's.
    """
    base = row.image or {}
    properties = {
        key: str(value)
        for key, value in base.get("properties", {}).items()
        if value is not None and key not in _NOT_INHERITED and not key.startswith(_RESERVED)
    }
    properties |= {"base_image_ref": row.image_id or "", "instance_uuid": row.id, "user_id": who.user_id}
    properties |= {"image_type": image_type, **metadata}
    foreign = row.project_id != who.project_id
    if foreign:
        properties["instance_owner"] = row.project_id
    return bringing.queue(
        tx,
        who,
        name,
        properties,
        min_disk=max(base.get("min_disk", 0), row.flavor["root_gb"]),
        min_ram=base.get("min_ram", 0),
        share_with=row.project_id if foreign else None,
    )
