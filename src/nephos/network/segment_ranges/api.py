"""/network_segment_ranges."""

from __future__ import annotations

from typing import Any

from nephos.kernel.db.engine import Tx
from nephos.kernel.http.call import Call, Reply
from nephos.kernel.http.routes import Route
from nephos.network import problems, resource
from nephos.network.resource import V, View
from nephos.network.segment_ranges import actions
from nephos.network.segment_ranges.wire import NOUN, Create, Update

_create = resource.Body(NOUN, Create, bulk=True)
_update = resource.Body(NOUN, Update)
index, show = resource.readers(NOUN)


def create(call: Call) -> Reply:
    return resource.make(call, NOUN, _create, _make)


def _make(tx: Tx, view: View, model: Create) -> str:
    """The project counts for a range that is not shared, and is the caller's when none is named."""
    project_id = resource.owner(view, model)
    view.call.permit({"project_id": project_id, "tenant_id": project_id})
    physical = model.physical_network or None
    if physical is not None and model.network_type != "vlan":
        raise problems.invalid("physical_network", f"a {model.network_type} range has none")
    new = actions.New(
        range=actions.Range(model.network_type, physical, model.minimum, model.maximum),
        name=model.name,
        description=model.description,
        project_id=None if model.shared else project_id,
    )
    return actions.create(tx, new)


def update(call: Call) -> Reply:
    return resource.change(call, NOUN, call.params["id"], _update, _change)


def _change(tx: Tx, view: View, row: Any, model: Update) -> None:
    actions.update(tx, row, resource.settings_of(model))


def delete(call: Call) -> Reply:
    return resource.remove(call, NOUN, call.params["id"], lambda tx, view, row: actions.remove(tx, row))


_ALL, _ONE = V + "/network_segment_ranges", V + "/network_segment_ranges/{id}"
ROUTES = (
    Route("GET", _ALL, index, "get_network_segment_range", target="later"),
    Route("POST", _ALL, create, "create_network_segment_range", 201, target="later"),
    Route("GET", _ONE, show, "get_network_segment_range", target="later"),
    Route("PUT", _ONE, update, "update_network_segment_range", target="later"),
    Route("DELETE", _ONE, delete, "delete_network_segment_range", 204, target="later"),
)
