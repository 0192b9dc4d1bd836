"""`/servers/{id}/action`: rescue and unrescue."""

from __future__ import annotations

from msgspec import UNSET

from nephos.compute.building import wish
from nephos.compute.rescuing import actions, wire
from nephos.compute.servers.api import SERVER, seen
from nephos.kernel.db.engine import Tx
from nephos.kernel.http.call import Call, Reply
from nephos.kernel.http.routes import Route


def rescue(call: Call) -> Reply:
    """Answers 200 and the password, as Nova always has."""
    means = call.body(wire.Rescue).rescue or wire.Means()
    image_id = None if means.image is UNSET else means.image
    password = wish.password() if means.admin_pass is UNSET else means.admin_pass

    def work(tx: Tx) -> None:
        actions.rescue(tx, call.cloud, seen(call, tx), call.who, call.request_id, image_id, password)

    call.cloud.database.write(work)
    return Reply({"adminPass": password})


def unrescue(call: Call) -> Reply:
    call.cloud.database.write(lambda tx: actions.unrescue(tx, call.cloud, seen(call, tx), call.who, call.request_id))
    return Reply()


_ACTION, _RULE = SERVER + "/action", "os_compute_api:os-"

ROUTES = (
    Route("POST", _ACTION, rescue, _RULE + "rescue", 200, target="later", action="rescue"),
    Route("POST", _ACTION, unrescue, _RULE + "unrescue", 202, target="later", action="unrescue"),
)
