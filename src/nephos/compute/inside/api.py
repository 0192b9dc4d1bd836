"""`/servers/{id}/action`: changePassword and trigger_crash_dump."""

from __future__ import annotations

from nephos import errors
from nephos.compute.inside import steps, wire
from nephos.compute.servers.api import SERVER, seen
from nephos.compute.waiting import wait
from nephos.kernel.db.engine import Tx
from nephos.kernel.http.call import Call, Reply
from nephos.kernel.http.routes import Route
from nephos.kernel.http.versions import Version


def change_password(call: Call) -> Reply:
    """Answers when the guest has it, or cannot take it: most guests have no agent that could."""
    password = call.body(wire.ChangePassword).password.admin_pass

    def work(tx: Tx) -> str:
        return steps.change_password(tx, call.cloud, seen(call, tx), call.who, call.request_id, password)

    operation_id = call.cloud.database.write(work)
    try:
        wait(call, operation_id, "Failed to set admin password on")
    except errors.HostFault as cannot:
        raise errors.Conflict(cannot.message) from cannot
    return Reply()


def trigger_dump(call: Call) -> Reply:
    call.cloud.database.write(lambda tx: steps.trigger_dump(tx, call.cloud, seen(call, tx), call.who, call.request_id))
    return Reply()


_ACTION, _RULE = SERVER + "/action", "os_compute_api:"

ROUTES = (
    Route(
        "POST", _ACTION, change_password, _RULE + "os-admin-password", 202, target="later", action="changePassword"
    ),
    Route(
        "POST",
        _ACTION,
        trigger_dump,
        _RULE + "servers:trigger_crash_dump",
        202,
        target="later",
        action="trigger_crash_dump",
        since=Version(2, 17),
    ),
)
