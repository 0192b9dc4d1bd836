"""/segments."""

from __future__ import annotations

from typing import Any

from nephos.kernel.db.engine import Tx
from nephos.kernel.http.call import Call, Reply
from nephos.kernel.http.routes import Route
from nephos.network import resource
from nephos.network.networks import actions as networks
from nephos.network.resource import V, View
from nephos.network.segments import actions
from nephos.network.segments.types import Segment
from nephos.network.segments.wire import NOUN, Create, Update

_create = resource.Body(NOUN, Create, bulk=True)
_update = resource.Body(NOUN, Update)
index, show = resource.readers(NOUN)


def create(call: Call) -> Reply:
    return resource.make(call, NOUN, _create, _make)


def _make(tx: Tx, view: View, model: Create) -> str:
    view.call.permit({})
    row = networks.get(tx, model.network_id)
    wanted = Segment(
        kind=model.network_type, physical=model.physical_network or None, number=resource.given(model.segmentation_id)
    )
    name, description = resource.given(model.name), resource.given(model.description)
    return actions.create(tx, view.cloud, row, wanted, name, description)


def update(call: Call) -> Reply:
    return resource.change(call, NOUN, call.params["id"], _update, _change)


def _change(tx: Tx, view: View, row: Any, model: Update) -> None:
    resource.revise(tx, NOUN.table, row.id, resource.settings_of(model))


def delete(call: Call) -> Reply:
    return resource.remove(call, NOUN, call.params["id"], lambda tx, view, row: actions.remove(tx, view.cloud, row))


ROUTES = (
    Route("GET", V + "/segments", index, "get_segment", target="later"),
    Route("POST", V + "/segments", create, "create_segment", 201, target="later"),
    Route("GET", V + "/segments/{id}", show, "get_segment", target="later"),
    Route("PUT", V + "/segments/{id}", update, "update_segment", target="later"),
    Route("DELETE", V + "/segments/{id}", delete, "delete_segment", 204, target="later"),
)
