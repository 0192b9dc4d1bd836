"""Import and tasks over HTTP."""

from __future__ import annotations

from typing import Any

import msgspec

from nephos import errors
from nephos.image.images import actions as images
from nephos.image.images.api import IMPORT_METHODS, seen
from nephos.image.imports import actions
from nephos.image.parts import parts
from nephos.kernel import clock
from nephos.kernel.db.engine import Tx
from nephos.kernel.http.call import Call, Reply
from nephos.kernel.http.routes import Route
from nephos.kernel.operations.model import DONE, FAILED

_STATUS = {DONE: "success", FAILED: "failure"}
_HOUR = 3_600_000_000
_LIFE = 48 * _HOUR


class Method(msgspec.Struct):
    name: str


class ImportRequest(msgspec.Struct):
    """`stores` or `all_stores` say where to; there is one store."""

    method: Method
    stores: list[str] | None = None
    all_stores: bool = False
    all_stores_must_succeed: bool = True


def import_image(call: Call) -> Reply:
    wanted = call.body(ImportRequest)
    if wanted.method.name not in IMPORT_METHODS:
        raise errors.BadRequest(f"Unknown import method name '{wanted.method.name}'.")
    if wanted.stores is not None and wanted.all_stores:
        raise errors.BadRequest("All_stores parameter can't be used with stores parameter.")
    for name in wanted.stores or ():
        if name != parts(call.cloud).store.name:
            raise errors.Conflict(f"The selected store {name} is not available on this node.")
    image = seen(call, "modify_image")
    request: dict[str, Any] = msgspec.json.decode(call.raw)

    def work(tx: Tx) -> None:
        actions.start(call.cloud, tx, call, images.find(tx, call.who, image.row.id), request)

    call.cloud.database.write(work)
    return Reply()


def image_tasks(call: Call) -> Reply:
    image = seen(call)
    with call.cloud.database.read() as tx:
        rows = actions.tasks_of(tx, image.row.id)
    return Reply({"tasks": [_show(row) for row in rows]})


def show_task(call: Call) -> Reply:
    with call.cloud.database.read() as tx:
        row = actions.task(tx, call.params["task_id"])
    return Reply({**_show(row), "self": f"/v2/tasks/{row.id}", "schema": "/v2/schemas/task"})


def _show(row: Any) -> dict[str, Any]:
    return {
        "id": row.id,
        "type": "api_image_import",
        "status": _STATUS.get(row.state, "processing"),
        "owner": row.project_id,
        "image_id": row.noun_id,
        "request_id": row.request_id,
        "user_id": row.user_id,
        "input": (row.data or {}).get("input"),
        "result": None if row.state != DONE else {"image_id": row.noun_id},
        "message": row.error or "",
        "created_at": clock.iso(row.created_at),
        "updated_at": clock.iso(row.updated_at),
        "expires_at": clock.iso(row.finished_at + _LIFE) if row.finished_at else None,
    }


ROUTES = (
    Route("POST", "/v2/images/{image_id}/import", import_image, "modify_image", 202, target="later"),
    Route("GET", "/v2/images/{image_id}/tasks", image_tasks, "get_image", target="later"),
    Route("GET", "/v2/tasks/{task_id}", show_task, "tasks_api_access"),
)
