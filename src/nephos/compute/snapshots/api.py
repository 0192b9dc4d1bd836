"""`/servers/{id}/action`: createImage and createBackup."""

from __future__ import annotations

from nephos.compute import wire as common
from nephos.compute.servers import actions as servers
from nephos.compute.servers.api import SERVER, seen
from nephos.compute.snapshots import actions, wire
from nephos.kernel.db.engine import Tx
from nephos.kernel.http.call import Call, Reply
from nephos.kernel.http.routes import Route


def create_image(call: Call) -> Reply:
    wanted = call.body(wire.CreateImage).image
    name = common.name(wanted.name)

    def work(tx: Tx) -> str:
        row = seen(call, tx)
        _permit_image(call)
        if not common.since(call, 39):
            servers.check_metadata(tx, call.cloud, row.project_id, wanted.metadata)
        return actions.create_image(tx, call.cloud, row, call.who, call.request_id, name, wanted.metadata)

    return _made(call, call.cloud.database.write(work))


def create_backup(call: Call) -> Reply:
    wanted = call.body(wire.CreateBackup).backup
    name, rotation = common.name(wanted.name), common.whole(wanted.rotation, "rotation")

    def work(tx: Tx) -> str:
        row = seen(call, tx)
        _permit_image(call)
        if not common.since(call, 39):
            servers.check_metadata(tx, call.cloud, row.project_id, wanted.metadata)
        return actions.create_backup(
            tx,
            call.cloud,
            row,
            call.who,
            call.request_id,
            name,
            wanted.metadata,
            backup_type=wanted.backup_type,
            rotation=rotation,
        )

    image_id = call.cloud.database.write(work)
    return _made(call, image_id) if rotation or common.since(call, 45) else Reply()


def _permit_image(call: Call) -> None:
    """Who makes an image of a server makes an image. Raises Forbidden."""
    owner = call.who.project_id
    call.permit({"project_id": owner, "tenant_id": owner, "owner": owner, "visibility": "private"}, rule="add_image")


def _made(call: Call, image_id: str) -> Reply:
    """The image's id in the body, before 2.45 in a header. A backup that is rotated away at once has no header."""
    if common.since(call, 45):
        return Reply({"image_id": image_id})
    return Reply(headers={"Location": f"{call.host_url}/image/v2/images/{image_id}"})


_ACTION = SERVER + "/action"

ROUTES = (
    Route(
        "POST",
        _ACTION,
        create_image,
        "os_compute_api:servers:create_image",
        202,
        target="later",
        action="createImage",
    ),
    Route(
        "POST", _ACTION, create_backup, "os_compute_api:os-create-backup", 202, target="later", action="createBackup"
    ),
)
