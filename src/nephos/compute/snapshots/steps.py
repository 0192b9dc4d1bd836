"""The operations that make an image of a server: the host keeps what the disk holds, the image service takes the bytes.

The server asks the host for them piece by piece, so nothing is ever whole in memory; each piece comes with its hash, and
the image service looks into the image as into any other. If it fails, or the server is deleted first, no image stays.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import msgspec

from nephos import errors
from nephos.compute.building.steps import LOOK_SECONDS, Building
from nephos.compute.servers import actions, states, store
from nephos.compute.snapshots.actions import BACKUP, IMAGE
from nephos.hosts.guest import DropSnapshot, Piece, TakeSnapshot
from nephos.hypervisor.base import PIECE, SNAPSHOT, Part
from nephos.image.data import bringing
from nephos.kernel import clock
from nephos.kernel.cloud import Cloud
from nephos.kernel.db.engine import Tx
from nephos.kernel.operations.model import Kind, Later, Operation, Outcome, Outside, Step

PATIENCE = 120.0
"""Seconds for which the host's agent may be away while the bytes are fetched."""
MOST_PASSED = 40
"""How often the bytes are left to another server before this one fetches them by whatever way there is."""
_PASS_SECONDS = 0.25
_LOOK_EVERY = 5.0
_DIGEST = 32


class Snapshots:
    """The steps. An operation's `data` holds the image's id, the part that the host keeps, and how to rotate backups.

    `tasks` are the task states that are shown while the disk is copied, before its bytes are fetched, and while they are.
    """

    def __init__(self, cloud: Cloud, building: Building, tasks: tuple[str, str, str] = states.IMAGE_TASKS) -> None:
        self.cloud, self.building = cloud, building
        self.copying, self.pending, self.uploading = tasks

    def kinds(self) -> tuple[Kind, ...]:
        steps = (*self.steps(), Step("snapshot removed", self.finish))
        return tuple(
            Kind(name, action, steps, deadline=6 * 3600, failed=self.failed)
            for name, action in ((IMAGE, "createImage"), (BACKUP, "createBackup"))
        )

    def steps(self) -> tuple[Step, ...]:
        """From a guest to an active image, for every kind that makes one."""
        return (
            Step("snapshot", self.take, after=self.taken, undo=self.drop),
            Step("image uploaded", self.upload, after=self.uploaded, undo=self.delete_image),
        )

    def take(self, tx: Tx, operation: Operation) -> Outcome:
        row = actions.get(tx, operation.noun_id)
        self._require_up(tx, row)
        if row.task_state != self.copying:
            self._show(tx, operation, self.copying)
        operation.data["host"] = row.host_id
        body = TakeSnapshot(id=row.id)
        return self.cloud.hosts.task(tx, operation, row.host_id, "guest.snapshot", body, seconds=LOOK_SECONDS)

    def taken(self, tx: Tx, operation: Operation, result: Any) -> None:
        operation.data["part"] = msgspec.to_builtins(msgspec.convert(result, Part))
        self._show(tx, operation, self.pending)

    def drop(self, tx: Tx, operation: Operation) -> Outcome:
        """Undo of `take`: nobody waits for it. A host that is away does it when it comes back."""
        if "host" in operation.data:
            body = DropSnapshot(id=operation.noun_id)
            self.cloud.hosts.send(tx, operation.task, operation.data["host"], "guest.drop_snapshot", body)
        return None

    def upload(self, tx: Tx, operation: Operation) -> Outcome:
        part = msgspec.convert(operation.data["part"], Part)
        image_id, host_id, server_id = operation.data["image"], operation.data["host"], operation.noun_id
        passed = operation.data.get("passed", 0)
        if passed < MOST_PASSED and not self.cloud.hosts.is_here(host_id):
            # Left to the server that the host's agent is connected to: else every byte goes through the ledger.
            operation.data["passed"] = passed + 1
            return Later(_PASS_SECONDS)
        if not bringing.begin(tx, image_id, operation.id, part.format):
            operation.mark("image is gone")
            return None
        self._show(tx, operation, self.uploading)

        def work() -> Any:
            blocks = self._blocks(host_id, server_id, part, image_id, operation.id)
            return msgspec.to_builtins(bringing.bring(self.cloud, image_id, blocks, part.format, part.size))

        return Outside(work)

    def uploaded(self, tx: Tx, operation: Operation, result: Any) -> None:
        row = store.by_id(tx, operation.noun_id)
        if row is None:
            return
        properties = (row.image or {}).get("properties", {})
        more = {"image_location": "snapshot", "image_state": "available", "owner_id": row.project_id}
        more |= {key: str(properties[key]) for key in ("kernel_id", "ramdisk_id") if properties.get(key)}
        brought = msgspec.convert(result, bringing.Brought)
        if not bringing.finish(tx, self.cloud, operation.data["image"], operation.id, brought, more):
            operation.mark("image is gone")

    def delete_image(self, tx: Tx, operation: Operation) -> Outcome:
        """Undo of `upload`; `failed` does it where that was not begun."""
        bringing.give_up(tx, self.cloud, operation.data["image"])
        return None

    def finish(self, tx: Tx, operation: Operation) -> Outcome:
        self._show(tx, operation, None)
        if operation.kind == BACKUP:
            of_type = {"image_type": "backup", "backup_type": operation.data["backup_type"]}
            found = bringing.holding(tx, {**of_type, "instance_uuid": operation.noun_id})
            for image_id in found[operation.data["rotation"] :]:
                bringing.give_up(tx, self.cloud, image_id)
        return self.drop(tx, operation)

    def failed(self, tx: Tx, operation: Operation, failure: errors.NephosError) -> None:
        """The server is as it was, and there is no image; the reason stands on the timeline."""
        bringing.give_up(tx, self.cloud, operation.data["image"])
        if not operation.cancelled:
            self._show(tx, operation, None)

    def _show(self, tx: Tx, operation: Operation, task_state: str | None) -> None:
        row = store.by_id(tx, operation.noun_id)
        if row is not None and not row.deleted and not operation.cancelled:
            store.change(tx, row.id, task_state=task_state)

    def _require_up(self, tx: Tx, row: Any) -> None:
        if row.host_id is None or not self.building.is_up(tx, row.host_id):
            raise errors.HostFault(f"Host {row.host_name} went away.")

    def _blocks(self, host_id: str, server_id: str, part: Part, image_id: str, upload_id: str) -> Iterator[bytes]:
        """The bytes that the host keeps. Raises HostFault when they cannot be had, Conflict when nobody wants them more."""
        look = clock.monotonic() + _LOOK_EVERY
        for offset in range(0, part.size, PIECE):
            if clock.monotonic() > look:
                look = clock.monotonic() + _LOOK_EVERY
                if not self._wanted(image_id, upload_id):
                    raise errors.Conflict(f"Image {image_id} is not wanted any more.")
            length = min(PIECE, part.size - offset)
            body = self._ask(host_id, Piece(guest=server_id, name=SNAPSHOT, offset=offset, length=length))
            digest, data = body[:_DIGEST], body[_DIGEST:]
            if hashlib.sha256(data).digest() != digest or len(data) != length:
                raise errors.HostFault(f"The snapshot was damaged on its way, at {offset} of {part.size} bytes.")
            yield data

    def _ask(self, host_id: str, piece: Piece) -> bytes:
        subject, until = msgspec.json.encode(piece).decode(), clock.monotonic() + PATIENCE
        while True:
            try:
                return bytes(self.cloud.hosts.ask(host_id, "piece", subject))
            except errors.Unavailable as away:
                if clock.monotonic() > until:
                    raise errors.HostFault(f"The host cannot be asked for the snapshot: {away.message}") from away
                clock.sleep(1)

    def _wanted(self, image_id: str, upload_id: str) -> bool:
        """The image was not deleted, and nothing superseded what is done with the server."""
        with self.cloud.database.read() as tx:
            cancelled = self.cloud.operations.is_cancelled(tx, upload_id)
        return not cancelled and bringing.is_wanted(self.cloud, image_id, upload_id)
