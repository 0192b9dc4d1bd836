"""/routers/{id}/conntrack_helpers."""

from __future__ import annotations

from typing import Any

from nephos.kernel.db.engine import Tx
from nephos.kernel.http.call import Call, Reply
from nephos.kernel.http.routes import Route
from nephos.network import below, resource
from nephos.network.conntrack import actions
from nephos.network.conntrack.wire import NOUN, Create, Update
from nephos.network.resource import V, View
from nephos.network.routers.wire import NOUN as ROUTER

_create = resource.Body(NOUN, Create)
_update = resource.Body(NOUN, Update)


def index(call: Call) -> Reply:
    return resource.index(call, NOUN, below.owned(call, ROUTER))


def show(call: Call) -> Reply:
    return resource.show(call, NOUN, call.params["helper_id"], below.view(call, ROUTER))


def create(call: Call) -> Reply:
    return resource.make(call, NOUN, _create, _make, below.owned(call, ROUTER))


def _make(tx: Tx, view: View, model: Create) -> str:
    return actions.add(tx, view.cloud, view.bind["above"], model.protocol.lower(), model.port, model.helper)


def update(call: Call) -> Reply:
    return resource.change(call, NOUN, call.params["helper_id"], _update, _change, below.view(call, ROUTER))


def _change(tx: Tx, view: View, row: Any, model: Update) -> None:
    actions.change(tx, view.cloud, row, resource.settings_of(model))


def delete(call: Call) -> Reply:
    return resource.remove(
        call,
        NOUN,
        call.params["helper_id"],
        lambda tx, view, row: actions.remove(tx, view.cloud, row),
        below.view(call, ROUTER),
    )


_MANY, _RULE = V + "/routers/{id}/conntrack_helpers", "router_conntrack_helper"
_ONE = _MANY + "/{helper_id}"
ROUTES = (
    Route("GET", _MANY, index, f"get_{_RULE}", target="later"),
    Route("POST", _MANY, create, f"create_{_RULE}", 201, target="later"),
    Route("GET", _ONE, show, f"get_{_RULE}", target="later"),
    Route("PUT", _ONE, update, f"update_{_RULE}", target="later"),
    Route("DELETE", _ONE, delete, f"delete_{_RULE}", 204, target="later"),
)
