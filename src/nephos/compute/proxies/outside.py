"""What other parts of a cloud tell compute or leave with it: external events, and the password a guest posted.

Here ports and servers are rows of one ledger, so an event only makes the guest's host look again.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from nephos.compute import wire as common
from nephos.compute.servers import actions, store
from nephos.compute.servers.api import SERVER, seen
from nephos.compute.wire import Strict, Uuid
from nephos.kernel.db.engine import Tx
from nephos.kernel.http.call import Call, Reply
from nephos.kernel.http.routes import Route

_NEEDS_TAG = frozenset({"network-vif-deleted", "volume-extended", "accelerator-request-bound", "volume-reimaged"})
_SINCE = {"volume-extended": 51, "power-update": 76, "accelerator-request-bound": 82, "volume-reimaged": 93}


class Event(Strict):
    name: Literal[
        "network-changed",
        "network-vif-plugged",
        "network-vif-unplugged",
        "network-vif-deleted",
        "volume-extended",
        "power-update",
        "accelerator-request-bound",
        "volume-reimaged",
    ]
    server_uuid: Uuid
    status: Literal["failed", "completed", "in-progress"] | UnsetType = UNSET
    tag: Annotated[str, Meta(max_length=255)] | UnsetType = UNSET


class Events(Strict):
    events: Annotated[list[Event], Meta(min_length=1)]


def create(call: Call) -> Reply:
    """207 when one of several events could not be taken; each tells its own code."""
    events = call.body(Events).events
    for each in events:
        if call.version.minor < _SINCE.get(each.name, 1):
            common.refuse(each, "name")

    def work(tx: Tx) -> list[tuple[dict[str, Any], int]]:
        rows = store.by_ids(tx, [each.server_uuid for each in events])
        return [_take(tx, call, rows.get(each.server_uuid), each) for each in events]

    taken = call.cloud.database.write(work)
    good = all(code == 200 for _, code in taken)
    return Reply({"events": [shown for shown, _ in taken]}, status=200 if good else 207)


def _take(tx: Tx, call: Call, row: Any | None, event: Event) -> tuple[dict[str, Any], int]:
    code = 200
    if row is None or row.deleted:
        code = 404
    elif event.name in _NEEDS_TAG and event.tag is UNSET:
        code = 400
    elif row.host_id is None:
        code = 422
    else:
        actions.touch(tx, call.cloud, row)
    shown: dict[str, Any] = msgspec.to_builtins(event)
    shown["code"] = code
    shown["status"] = shown.get("status", "completed") if code == 200 else "failed"
    return shown, code


def show_password(call: Call) -> Reply:
    """What the guest posted to its metadata service; empty while there is nothing."""
    common.refuse_unknown(call, (), 102)
    with call.cloud.database.read() as tx:
        return Reply({"password": seen(call, tx).guest_password or ""})


def clear_password(call: Call) -> Reply:
    """Forget it, so that the guest may post another; inside the guest nothing changes."""

    def work(tx: Tx) -> None:
        row = seen(call, tx)
        if row.guest_password is not None:
            actions.change(tx, call.cloud, row, guest_password=None)

    call.cloud.database.write(work)
    return Reply()


_PASSWORD, _USES = SERVER + "/os-server-password", "os_compute_api:os-server-password"

ROUTES = (
    Route("POST", "/v2.1/os-server-external-events", create, "os_compute_api:os-server-external-events:create"),
    Route("GET", _PASSWORD, show_password, f"{_USES}:show", target="later"),
    Route("DELETE", _PASSWORD, clear_password, f"{_USES}:clear", 204, target="later"),
)
