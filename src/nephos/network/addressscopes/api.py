"""/address-scopes."""

from __future__ import annotations

from typing import Any

from nephos.kernel.db.engine import Tx
from nephos.kernel.http.call import Call, Reply
from nephos.kernel.http.routes import Route
from nephos.network import resource
from nephos.network.addressscopes import actions
from nephos.network.addressscopes.wire import NOUN, Create, Update
from nephos.network.resource import V, View

_create = resource.Body(NOUN, Create, bulk=True)
_update = resource.Body(NOUN, Update)
index, show = resource.readers(NOUN)


def create(call: Call) -> Reply:
    return resource.make(call, NOUN, _create, _make)


def _make(tx: Tx, view: View, model: Create) -> str:
    project_id = resource.owner(view, model)
    target = {"project_id": project_id, "tenant_id": project_id, "shared": model.shared}
    view.call.permit(target)
    _create.enforce(view, model, target, "create")
    return actions.create(tx, project_id=project_id, name=model.name, version=model.ip_version, shared=model.shared)


def update(call: Call) -> Reply:
    return resource.change(call, NOUN, call.params["id"], _update, _change)


def _change(tx: Tx, view: View, row: Any, model: Update) -> None:
    actions.update(tx, row, resource.settings_of(model))


def delete(call: Call) -> Reply:
    return resource.remove(call, NOUN, call.params["id"], lambda tx, view, row: actions.remove(tx, row))


ROUTES = (
    Route("GET", V + "/address-scopes", index, "get_address_scope", target="later"),
    Route("POST", V + "/address-scopes", create, "create_address_scope", 201, target="later"),
    Route("GET", V + "/address-scopes/{id}", show, "get_address_scope", target="later"),
    Route("PUT", V + "/address-scopes/{id}", update, "update_address_scope", target="later"),
    Route("DELETE", V + "/address-scopes/{id}", delete, "delete_address_scope", 204, target="later"),
)
