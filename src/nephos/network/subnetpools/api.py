"""/subnetpools."""

from __future__ import annotations

from typing import Any

from nephos.kernel.db.engine import Tx
from nephos.kernel.http.call import Call, Reply
from nephos.kernel.http.routes import Route
from nephos.network import resource
from nephos.network.resource import V, View
from nephos.network.subnetpools import actions
from nephos.network.subnetpools.wire import NOUN, Create, Update

_create = resource.Body(NOUN, Create, bulk=True)
_update = resource.Body(NOUN, Update)


def index(call: Call) -> Reply:
    return resource.index(call, NOUN)


def show(call: Call) -> Reply:
    return resource.show(call, NOUN, call.params["id"])


def create(call: Call) -> Reply:
    return resource.make(call, NOUN, _create, _make)


def _make(tx: Tx, view: View, model: Create) -> str:
    project_id = resource.owner(view, model)
    target = {"project_id": project_id, "tenant_id": project_id, "shared": model.shared}
    view.call.permit(target)
    _create.enforce(view, model, target, "create")
    values = resource.settings_of(model)
    for name in ("project_id", "tenant_id", "address_scope_id"):
        values.pop(name, None)
    return actions.create(tx, view.cloud, project_id, values)


def update(call: Call) -> Reply:
    return resource.change(call, NOUN, call.params["id"], _update, _change)


def _change(tx: Tx, view: View, row: Any, model: Update) -> None:
    values = resource.settings_of(model)
    values.pop("address_scope_id", None)
    actions.update(tx, row, values)


def delete(call: Call) -> Reply:
    return resource.remove(call, NOUN, call.params["id"], lambda tx, view, row: actions.remove(tx, row))


ROUTES = (
    Route("GET", V + "/subnetpools", index, "get_subnetpool", target="later"),
    Route("POST", V + "/subnetpools", create, "create_subnetpool", 201, target="later"),
    Route("GET", V + "/subnetpools/{id}", show, "get_subnetpool", target="later"),
    Route("PUT", V + "/subnetpools/{id}", update, "update_subnetpool", target="later"),
    Route("DELETE", V + "/subnetpools/{id}", delete, "delete_subnetpool", 204, target="later"),
)
