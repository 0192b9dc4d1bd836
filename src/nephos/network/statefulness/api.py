"""/security-groups-default-statefulness."""

from __future__ import annotations

from typing import Any

from nephos.kernel.db.engine import Tx
from nephos.kernel.http.call import Call, Reply
from nephos.kernel.http.routes import Route
from nephos.network import problems, resource
from nephos.network.resource import V, View
from nephos.network.statefulness import actions
from nephos.network.statefulness.wire import NOUN, Create, Update

_create = resource.Body(NOUN, Create, bulk=True)
_update = resource.Body(NOUN, Update)
index, show = resource.readers(NOUN)


def create(call: Call) -> Reply:
    return resource.make(call, NOUN, _create, _make)


def _make(tx: Tx, view: View, model: Create) -> str:
    project_id = model.project_id or model.tenant_id or ""
    if len(project_id) > 255:
        raise problems.invalid("project_id", "it is longer than 255 characters")
    view.call.permit({"project_id": project_id, "tenant_id": project_id})
    return actions.create(tx, project_id, stateful=model.stateful)


def update(call: Call) -> Reply:
    return resource.change(call, NOUN, call.params["id"], _update, _change)


def _change(tx: Tx, view: View, row: Any, model: Update) -> None:
    actions.update(tx, row, resource.settings_of(model))


def delete(call: Call) -> Reply:
    return resource.remove(call, NOUN, call.params["id"], lambda tx, view, row: actions.remove(tx, row))


_MANY, _NAME = V + "/security-groups-default-statefulness", "security_groups_default_statefulness"
ROUTES = (
    Route("GET", _MANY, index, f"get_{_NAME}", target="later"),
    Route("POST", _MANY, create, f"create_{_NAME}", 201, target="later"),
    Route("GET", _MANY + "/{id}", show, f"get_{_NAME}", target="later"),
    Route("PUT", _MANY + "/{id}", update, f"update_{_NAME}", target="later"),
    Route("DELETE", _MANY + "/{id}", delete, f"delete_{_NAME}", 204, target="later"),
)
