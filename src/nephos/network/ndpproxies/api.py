"""/ndp_proxies."""

from __future__ import annotations

from typing import Any

from nephos.kernel.db.engine import Tx
from nephos.kernel.http.call import Call, Reply
from nephos.kernel.http.routes import Route
from nephos.network import addressing, resource
from nephos.network.ndpproxies import actions
from nephos.network.ndpproxies.wire import NOUN, Create, Update
from nephos.network.ports.wire import NOUN as PORT
from nephos.network.resource import V, View
from nephos.network.routers.wire import NOUN as ROUTER

_create = resource.Body(NOUN, Create, bulk=True)
_update = resource.Body(NOUN, Update)
index, show = resource.readers(NOUN)


def create(call: Call) -> Reply:
    return resource.make(call, NOUN, _create, _make)


def _make(tx: Tx, view: View, model: Create) -> str:
    project_id = resource.owner(view, model)
    view.call.permit({"project_id": project_id, "tenant_id": project_id})
    way = resource.fetch(tx, ROUTER, view, model.router_id)
    leaf = resource.fetch(tx, PORT, view, model.port_id)
    wanted = None if not model.ip_address else str(addressing.address("ip_address", model.ip_address))
    values = {"project_id": project_id, "name": model.name, "description": model.description}
    return actions.create(tx, view.cloud, leaf, way, wanted, values)


def update(call: Call) -> Reply:
    return resource.change(call, NOUN, call.params["id"], _update, _change)


def _change(tx: Tx, view: View, row: Any, model: Update) -> None:
    resource.revise(tx, NOUN.table, row.id, resource.settings_of(model))


def delete(call: Call) -> Reply:
    return resource.remove(call, NOUN, call.params["id"], lambda tx, view, row: actions.remove(tx, view.cloud, row))


_ONE = V + "/ndp_proxies/{id}"
ROUTES = (
    Route("GET", V + "/ndp_proxies", index, "get_ndp_proxy", target="later"),
    Route("POST", V + "/ndp_proxies", create, "create_ndp_proxy", 201, target="later"),
    Route("GET", _ONE, show, "get_ndp_proxy", target="later"),
    Route("PUT", _ONE, update, "update_ndp_proxy", target="later"),
    Route("DELETE", _ONE, delete, "delete_ndp_proxy", 204, target="later"),
)
