"""What can be done with servers: make one, change what is written of it, hand it to its operations."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec
from sqlalchemy import delete as delete_from

from nephos import errors
from nephos.compute import notifications
from nephos.compute.aggregates import store as aggregates
from nephos.compute.flavors import actions as flavors
from nephos.compute.groups import actions as groups
from nephos.compute.keypairs import actions as keypairs
from nephos.compute.quotas import actions as quotas
from nephos.compute.servers import states, store
from nephos.hosts import actions as hosts
from nephos.image.images import actions as images
from nephos.kernel import clock
from nephos.kernel.auth.who import Who
from nephos.kernel.cloud import Cloud
from nephos.kernel.db.engine import Tx
from nephos.kernel.operations.store import event
from nephos.network import guests as network
from nephos.network.guests import NetworkRequest

CREATE, DELETE = "server.create", "server.delete"
GIB = 1 << 30


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """A request for servers, read and checked as far as one can without the ledger.

    `may_zero_disk` tells whether policy lets the caller boot an image on a flavor without a disk. `host` is the one
    asked for; `forced` when it passes the filters (zone:host), else it goes through them (2.74).
    """

    name: str
    flavor_id: str
    image_id: str
    networks: Sequence[NetworkRequest] | Literal["auto", "none"] | None = None
    security_groups: tuple[str, ...] = ()
    key_name: str | None = None
    user_data: str | None = None
    config_drive: bool = False
    metadata: Mapping[str, str] = {}
    zone: str | None = None
    host: str | None = None
    forced: bool = False
    hints: Mapping[str, Any] = {}
    group_id: str | None = None
    least: int = 1
    most: int = 1
    description: str | None = None
    tags: tuple[str, ...] = ()
    hostname: str | None = None
    access_ipv4: str | None = None
    access_ipv6: str | None = None
    disk_config: str = "MANUAL"
    admin_pass: str = ""
    files: tuple[tuple[str, str], ...] = ()
    trusted_certs: tuple[str, ...] | None = None
    reservation_id: str = ""
    may_zero_disk: bool = False


def get(tx: Tx, server_id: str) -> Any:
    """A server that is not deleted. Raises NotFound."""
    row = store.by_id(tx, server_id)
    if row is None or row.deleted:
        raise errors.NotFound(f"Instance {server_id} could not be found.")
    return row


# --- making servers ------------------------------------------------------------------------------------------


def create(tx: Tx, cloud: Cloud, who: Who, wish: Wish, *, request_id: str, began: int) -> list[str]:
    """Write the records of new servers and the operations that build them; answers their ids.

    `began` is when the request came in. Raises BadRequest for what cannot be, OverQuota, Forbidden, Conflict; then
    nothing of it was kept.
    """
    project_id = who.project_id or ""
    checked = clock.now_us()
    flavor = _flavor(tx, wish, project_id)
    found = images.boot_image(tx, who, wish.image_id)
    check_fits(found, ram_mb=flavor.ram_mb, root_gb=flavor.root_gb, may_zero_disk=wish.may_zero_disk)
    parts = parts_of(tx, who, found)
    key = None if wish.key_name is None else key_of(tx, who, wish.key_name)
    _place(tx, cloud, wish)
    if wish.group_id is not None:
        groups.admit(tx, cloud.settings.quota, wish.group_id, who, wish.most)
    check_metadata(tx, cloud, project_id, wish.metadata)
    check_files(tx, cloud, project_id, wish.files)
    requests = network.check(tx, cloud, who, wish.networks, wish.security_groups)
    count = _take(tx, cloud, who, flavor, wish)
    counted = clock.now_us()
    rows = [_row(tx, who, wish, flavor, found, key, at, count) for at in range(count)]
    tx.insert(store.server, rows)
    tx.insert(store.tag, [{"server_id": row["id"], "tag": each} for row in rows for each in sorted(set(wish.tags))])
    data = {
        "parts": parts,
        "networks": [msgspec.to_builtins(each) for each in requests],
        "host": wish.host,
        "forced": wish.forced,
        "excluded": [],
    }
    for row in rows:
        operation_id = cloud.operations.start(
            tx,
            CREATE,
            store.NOUN,
            row["id"],
            request_id=request_id,
            project_id=project_id,
            user_id=who.user_id,
            data=data,
        )
        marks = (("token checked", began, checked), ("quota counted", checked, counted), ("record made", counted, None))
        tx.insert(event, [_mark(operation_id, *each) for each in marks])
    return [row["id"] for row in rows]


def _mark(operation_id: str, name: str, started: int, finished: int | None) -> dict[str, Any]:
    return {
        "operation_id": operation_id,
        "name": name,
        "host": None,
        "started_at": started,
        "finished_at": finished or clock.now_us(),
        "result": "Success",
        "detail": None,
    }


def _flavor(tx: Tx, wish: Wish, project_id: str) -> Any:
    try:
        flavor = flavors.get(tx, wish.flavor_id, project_id)
    except errors.NotFound as missing:
        raise errors.BadRequest(missing.message) from missing
    if flavor.disabled:
        raise errors.BadRequest(f"Flavor {wish.flavor_id} could not be found.")
    return flavor


def check_fits(found: images.BootImage, *, ram_mb: int, root_gb: int, may_zero_disk: bool) -> None:
    """The image must fit on the flavor (S2-24). Raises BadRequest, or Forbidden for a flavor without a disk."""
    if found.min_ram > ram_mb:
        raise errors.BadRequest("Flavor's memory is too small for requested image.")
    if not root_gb:
        if not may_zero_disk:
            raise errors.Forbidden("Only volume-backed servers are allowed for flavors with zero disk.")
        return
    size = max(found.virtual_size or found.size, 0)
    if size > root_gb * GIB:
        raise errors.BadRequest(
            "Flavor's disk is too small for requested image. "
            f"Flavor disk is {root_gb * GIB} bytes, image is {size} bytes."
        )
    if found.min_disk > root_gb:
        raise errors.BadRequest(
            "Flavor's disk is smaller than the minimum size specified in image metadata. "
            f"Flavor disk is {root_gb * GIB} bytes, minimum size is {found.min_disk * GIB} bytes."
        )


def parts_of(tx: Tx, who: Who, found: images.BootImage) -> dict[str, dict[str, Any]]:
    """What hosts are told of an image, and of the kernel and ramdisk that it names (S1-49). Raises BadRequest."""
    return {"root": part_of(found)} | {
        name: part_of(images.boot_image(tx, who, found.properties[f"{name}_id"]))
        for name in ("kernel", "ramdisk")
        if found.properties.get(f"{name}_id")
    }


def part_of(found: images.BootImage) -> dict[str, Any]:
    """What hosts are told of an image that they fetch."""
    return {"id": found.id, "size": found.size, "sha256": found.sha256, "format": found.disk_format}


def image_of(found: images.BootImage) -> dict[str, Any]:
    """The columns that keep what a server was made from."""
    image: dict[str, Any] = {"name": found.name, "properties": found.properties, "tags": found.tags}
    image |= {"min_disk": found.min_disk, "min_ram": found.min_ram}
    return {"image_id": found.id, "image": image}


def key_of(tx: Tx, who: Who, name: str) -> Any:
    """A key pair of the caller. Raises BadRequest when there is none of the name."""
    key = keypairs.find(tx, who.user_id, name)
    if key is None:
        raise errors.BadRequest("Invalid key_name provided.")
    return key


def _place(tx: Tx, cloud: Cloud, wish: Wish) -> None:
    """The host and the zone that were asked for must exist."""
    if wish.host is not None:
        try:
            hosts.by_name(tx, wish.host)
        except errors.NotFound as missing:
            raise errors.BadRequest(f"Compute host {wish.host} could not be found.") from missing
    if wish.zone is not None and not wish.forced and wish.zone not in aggregates.zones(tx, cloud.settings.compute.zone):
        raise errors.BadRequest("The requested availability zone is not available")


def check_files(tx: Tx, cloud: Cloud, project_id: str, files: Sequence[tuple[str, str]]) -> None:
    """Raises OverQuota when files (path, base64) to inject are more or larger than the project's limits."""
    if not files:
        return
    limits = quotas.limits(tx, cloud.settings.quota, project_id)
    if 0 <= limits["injected_files"] < len(files):
        raise errors.OverQuota("injected_files", limit=limits["injected_files"], used=0, requested=len(files))
    for path, content in files:
        for resource, size in (
            ("injected_file_path_bytes", len(path.encode())),
            ("injected_file_content_bytes", len(content) * 3 // 4),
        ):
            if 0 <= limits[resource] < size:
                raise errors.OverQuota(resource, limit=limits[resource], used=0, requested=size)


def check_metadata(tx: Tx, cloud: Cloud, project_id: str, metadata: Mapping[str, str]) -> None:
    """Raises OverQuota when there are more items than the project's limit."""
    if not metadata:
        return
    limit = quotas.limits(tx, cloud.settings.quota, project_id)["metadata_items"]
    if 0 <= limit < len(metadata):
        raise errors.OverQuota("metadata_items", limit=limit, used=0, requested=len(metadata))


def _take(tx: Tx, cloud: Cloud, who: Who, flavor: Any, wish: Wish) -> int:
    """Count the quota; answers how many servers there can be, at least `wish.least` and at most `wish.most`."""
    count = wish.most
    while True:
        wanted = {"instances": count, "cores": count * flavor.vcpus, "ram": count * flavor.ram_mb}
        try:
            quotas.take(tx, cloud.settings.quota, who.project_id or "", who.user_id, wanted)
            return count
        except errors.OverQuota as over:
            each = {"instances": 1, "cores": flavor.vcpus, "ram": flavor.ram_mb}[str(over.detail["resource"])]
            room = (int(str(over.detail["limit"])) - int(str(over.detail["used"]))) // each
            if room < wish.least:
                raise
            count = min(room, count - 1)


def _row(
    tx: Tx, who: Who, wish: Wish, flavor: Any, found: images.BootImage, key: Any | None, at: int, count: int
) -> dict[str, Any]:
    server_id = clock.uuid4()
    several = count > 1 or wish.least > 1
    name = f"{wish.name}-{at + 1}" if several else wish.name
    hostname = wish.hostname or host_name(name, server_id)
    return {
        "id": server_id,
        "project_id": who.project_id,
        "user_id": who.user_id,
        "name": name,
        "description": wish.description,
        "hostname": f"{hostname}-{at + 1}" if several and wish.hostname else hostname,
        "vm_state": states.BUILDING,
        "task_state": states.SCHEDULING,
        "power_state": states.NO_STATE,
        "progress": 0,
        "wanted_zone": wish.zone,
        **image_of(found),
        "flavor_id": flavor.id,
        "flavor": flavor_of(flavor),
        "vcpus": flavor.vcpus,
        "ram_mb": flavor.ram_mb,
        "key_name": key.name if key else None,
        "public_key": key.public_key if key else None,
        "key_type": key.type if key else None,
        "user_data": wish.user_data,
        "config_drive": wish.config_drive,
        "metadata": dict(wish.metadata),
        "hints": dict(wish.hints),
        "group_id": wish.group_id,
        "access_ipv4": wish.access_ipv4,
        "access_ipv6": wish.access_ipv6,
        "disk_config": wish.disk_config,
        "admin_pass": wish.admin_pass if wish.config_drive else None,
        "launch_index": at,
        "reservation_id": wish.reservation_id,
        "security_groups": list(wish.security_groups),
        "files": [list(each) for each in wish.files],
        "trusted_certs": None if wish.trusted_certs is None else list(wish.trusted_certs),
        "created_at": tx.now,
        "updated_at": tx.now,
        "deleted": False,
        "generation": 1,
    }


def flavor_of(flavor: Any) -> dict[str, Any]:
    """A flavor as a server keeps it."""
    names = ("name", "vcpus", "ram_mb", "root_gb", "ephemeral_gb", "swap_mb")
    return {name: getattr(flavor, name) for name in names} | {"extra_specs": flavor.extra_specs or {}}


def host_name(name: str, server_id: str) -> str:
    """A server's name as a host name: what RFC 1123 allows of it."""
    plain = re.sub(r"[ _.]", "-", name.lower())
    plain = re.sub(r"[^a-z0-9-]+", "", plain).strip("-")[:63].rstrip("-")
    return plain or f"server-{server_id}"


# --- changing what is written ----------------------------------------------------------------------------------


def change(tx: Tx, cloud: Cloud, row: Any, **values: Any) -> None:
    """Change what is written of a server, and let its host know where the guest's metadata shows it."""
    store.change(tx, row.id, **values)
    touch(tx, cloud, row)


def touch(tx: Tx, cloud: Cloud, row: Any) -> None:
    """The guest's metadata, ports or power changed: its host pulls it anew."""
    if row.host_id is not None:
        cloud.hosts.touch(tx, [row.host_id], "guest", [row.id])


def set_tags(tx: Tx, row: Any, tags: Sequence[str]) -> None:
    tx.execute(delete_from(store.tag).where(store.tag.c.server_id == row.id))
    tx.insert(store.tag, [{"server_id": row.id, "tag": each} for each in sorted(set(tags))])
    store.change(tx, row.id)
    notifications.updated(tx, row)


def begin(
    tx: Tx, cloud: Cloud, kind: str, row: Any, who: Who | None, request_id: str, data: Mapping[str, Any] | None = None
) -> str:
    """Begin an operation on a server, for `who` or, None, for the cloud itself; answers its id. Raises Conflict while
    another goes on."""
    return cloud.operations.start(
        tx,
        kind,
        store.NOUN,
        row.id,
        request_id=request_id,
        project_id=who.project_id if who else row.project_id,
        user_id=who.user_id if who else None,
        data=data,
    )


def delete(tx: Tx, cloud: Cloud, row: Any, who: Who, request_id: str) -> None:
    """Begin to delete a server; one that is being deleted already: nothing. Raises Conflict when it is locked."""
    refuse_locked(row, who, "delete")
    if row.task_state != states.DELETING:
        store.change(tx, row.id, task_state=states.DELETING, progress=0)
    begin(tx, cloud, DELETE, row, who, request_id, {"host": row.host_id})


def refuse_locked(row: Any, who: Who, action: str) -> None:
    """An administrator may act on a locked server. Raises Conflict for anybody else."""
    if row.locked_by is not None and "admin" not in who.roles:
        raise errors.Conflict(f"Instance {row.id} is locked")
