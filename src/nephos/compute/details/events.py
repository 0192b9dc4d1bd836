"""`/servers/{id}/os-instance-actions`: a server's life history (S3-04), and each request's timeline (S2-65, S3-21).

An action is what one request began; its events are the steps and marks of the operations that did it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import select

from nephos import errors
from nephos.compute import wire as common
from nephos.compute.lifecycle import actions as lifecycle
from nephos.compute.moving import actions as moving
from nephos.compute.servers import store
from nephos.compute.servers.api import SERVER, owned, seen
from nephos.compute.showing.views import host_id
from nephos.compute.wire import fine_moment, since
from nephos.kernel.db.engine import Tx
from nephos.kernel.http.call import Call, Reply
from nephos.kernel.http.query import Page
from nephos.kernel.http.routes import Route
from nephos.kernel.operations.model import FAILED, LIVE
from nephos.kernel.operations.store import event, operation

_o, _e = operation, event
_NOTED = {
    lifecycle.LOCK: "lock",
    lifecycle.UNLOCK: "unlock",
    lifecycle.RESET: "resetState",
    moving.ABORT: "live_migration_cancel",
    moving.FORCE: "live_migration_force_complete",
}
_AS_NOVA = {"port released": "compute_detach_interface"}
"""Steps whose end clients wait for under Nova's name."""
_EVENTS = "os_compute_api:os-instance-actions:events"


def _actions(tx: Tx, server_id: str) -> list[list[Any]]:
    """The server's operations by request, the newest request first; those of one request in their order."""
    rows = tx.all(
        select(_o).where(_o.c.noun == store.NOUN, _o.c.noun_id == server_id).order_by(_o.c.created_at, _o.c.id)
    )
    found: dict[str, list[Any]] = {}
    for row in rows:
        found.setdefault(row.request_id, []).append(row)
    return list(reversed(found.values()))


def index(call: Call) -> Reply:
    if since(call, 58):
        known = {"limit", "marker", "changes-since"} | ({"changes-before"} if since(call, 66) else set())
        common.refuse_unknown(call, known, 58)
    else:
        common.refuse_unknown(call, (), 102)
    with call.cloud.database.read() as tx:
        row = seen(call, tx, deleted=since(call, 21))
        found = _actions(tx, row.id)
    shown = [_action(call, each) for each in found]
    if not since(call, 58):
        return Reply({"instanceActions": shown})
    shown = _between(call, found, shown)
    most = call.cloud.settings.api.max_limit
    limit = call.query.integer("limit")
    page = Page(most if limit is None else min(limit, most), call.query.one("marker"))
    if page.marker is not None:
        ids = [each["request_id"] for each in shown]
        if page.marker not in ids:
            raise errors.BadRequest(f"Marker {page.marker} could not be found.")
        shown = shown[ids.index(page.marker) + 1 :]
    shown = shown[: page.limit]
    body: dict[str, Any] = {"instanceActions": shown}
    path = f"servers/{row.id}/os-instance-actions"
    following = common.next_links(call, path, [each["request_id"] for each in shown], page)
    if following:
        body["links"] = following
    return Reply(body)


def _between(call: Call, found: Sequence[Sequence[Any]], shown: list[dict[str, Any]]) -> list[dict[str, Any]]:
    after, before = call.query.one("changes-since"), call.query.one("changes-before")
    least = common.parse_moment(after, "changes-since") if after else 0
    most = common.parse_moment(before, "changes-before") if before else 1 << 62
    if after and before and most < least:
        raise errors.BadRequest("The value of changes-since must be less than or equal to changes-before.")
    return [each for rows, each in zip(found, shown, strict=True) if least <= rows[-1].updated_at <= most]


def show(call: Call) -> Reply:
    common.refuse_unknown(call, (), 102)
    request_id = call.params["request_id"]
    with call.cloud.database.read() as tx:
        server = seen(call, tx, deleted=since(call, 21))
        rows = next((each for each in _actions(tx, server.id) if each[0].request_id == request_id), None)
        if rows is None:
            raise errors.NotFound(f"Action {request_id} not found")
        events = tx.all(select(_e).where(_e.c.operation_id.in_([each.id for each in rows])))
    shown = _action(call, rows)
    whole = call.allowed(_EVENTS, owned(server))
    if whole or since(call, 51):
        details = since(call, 84) and call.allowed(_EVENTS + ":details", owned(server))
        shown["events"] = [
            _event(call, each, server.project_id, whole=whole, details=details) for each in _ordered(rows, events)
        ]
    return Reply({"instanceAction": shown})


def _action(call: Call, rows: Sequence[Any]) -> dict[str, Any]:
    first, last = rows[0], rows[-1]
    failed = last.state == FAILED
    shown = {
        "action": _name(call, first.kind),
        "instance_uuid": first.noun_id,
        "request_id": first.request_id,
        "user_id": first.user_id or "",
        "project_id": first.project_id or "",
        "start_time": fine_moment(first.created_at),
        "message": (last.error or "Error") if failed else None,
    }
    if since(call, 58):
        shown["updated_at"] = fine_moment(last.updated_at)
    return shown


def _name(call: Call, kind: str) -> str:
    known = call.cloud.operations.kinds.get(kind)
    return known.action if known is not None else _NOTED.get(kind, kind)


def _ordered(rows: Iterable[Any], events: Iterable[Any]) -> list[dict[str, Any]]:
    """All events in the order in which they began, and the step that is being done now as one without an end."""
    found = [dict(each._mapping) for each in events]
    found.sort(key=lambda each: (each["started_at"], each["id"]))
    for row in rows:
        if row.state in LIVE:
            found.append(
                {
                    "name": row.step,
                    "host": None,
                    "started_at": row.updated_at,
                    "finished_at": None,
                    "result": None,
                    "detail": None,
                }
            )
    return found


def _event(call: Call, found: dict[str, Any], project_id: str, *, whole: bool, details: bool) -> dict[str, Any]:
    shown = {
        "event": _AS_NOVA.get(found["name"], found["name"]),
        "start_time": fine_moment(found["started_at"]),
        "finish_time": fine_moment(found["finished_at"]),
        "result": found["result"],
    }
    if whole:
        shown["traceback"] = found["detail"] if found["result"] == "Error" else None
    if since(call, 62):
        shown["hostId"] = host_id(project_id, found["host"])
        if whole:
            shown["host"] = found["host"]
    if details:
        shown["details"] = found["detail"]
    return shown


_ALL, _RULE = SERVER + "/os-instance-actions", "os_compute_api:os-instance-actions"

ROUTES = (
    Route("GET", _ALL, index, f"{_RULE}:list", target="later"),
    Route("GET", _ALL + "/{request_id}", show, f"{_RULE}:show", target="later"),
)
