"""/subnetpools."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from nephos.kernel.db.engine import Tx
from nephos.kernel.http.call import Call, Reply
from nephos.kernel.http.routes import Route
from nephos.network import problems, resource
from nephos.network.networks.wire import NOUN as NETWORK
from nephos.network.resource import V, View
from nephos.network.subnetpools import actions
from nephos.network.subnetpools.wire import NOUN, Create, Update

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
    values = resource.settings_of(model)
    for name in ("project_id", "tenant_id"):
        values.pop(name, None)
    return actions.create(tx, view.cloud, project_id, values, admin=view.admin)


def update(call: Call) -> Reply:
    return resource.change(call, NOUN, call.params["id"], _update, _change)


def _change(tx: Tx, view: View, row: Any, model: Update) -> None:
    actions.update(tx, row, resource.settings_of(model), admin=view.admin)


def delete(call: Call) -> Reply:
    return resource.remove(call, NOUN, call.params["id"], lambda tx, view, row: actions.remove(tx, row))


class _Prefixes(resource.Base, kw_only=True):
    prefixes: Annotated[list[str], Meta(max_length=1000)]


class _Network(resource.Base, kw_only=True):
    network_id: str


_prefixes, _network = msgspec.json.Decoder(_Prefixes), msgspec.json.Decoder(_Network)


def add_prefixes(call: Call) -> Reply:
    wanted = _decoded(call, _prefixes).prefixes

    def work(tx: Tx, view: View, row: Any) -> Any:
        return {"prefixes": actions.add_prefixes(tx, row, wanted, admin=view.admin)}

    return _operate(call, "add_prefixes", work)


def remove_prefixes(call: Call) -> Reply:
    wanted = _decoded(call, _prefixes).prefixes
    return _operate(
        call, "remove_prefixes", lambda tx, view, row: {"prefixes": actions.remove_prefixes(tx, row, wanted)}
    )


def onboard(call: Call) -> Reply:
    """Only the network's owner gives its subnets away."""
    network_id = _decoded(call, _network).network_id

    def work(tx: Tx, view: View, row: Any) -> Any:
        network = resource.fetch(tx, NETWORK, view, network_id)
        view.call.permit({"project_id": network.project_id, "tenant_id": network.project_id})
        return actions.onboard(tx, row, network_id, admin=view.admin)

    return _operate(call, "onboard_network_subnets", work)


def _operate(call: Call, rule: str, work: Callable[[Tx, View, Any], Any]) -> Reply:
    view = View(call)

    def one(tx: Tx) -> Any:
        row = resource.fetch(tx, NOUN, view, call.params["id"], rule)
        resource.if_match(call, NOUN, row)
        return work(tx, view, row)

    return Reply(view.cloud.database.write(one))


def _decoded(call: Call, decoder: msgspec.json.Decoder[Any]) -> Any:
    try:
        return decoder.decode(resource.raw_body(call))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as wrong:
        raise problems.bad(f"Invalid input: {wrong}", "HTTPBadRequest") from wrong


_ONE = V + "/subnetpools/{id}"
ROUTES = (
    Route("GET", V + "/subnetpools", index, "get_subnetpool", target="later"),
    Route("POST", V + "/subnetpools", create, "create_subnetpool", 201, target="later"),
    Route("GET", V + "/subnetpools/{id}", show, "get_subnetpool", target="later"),
    Route("PUT", V + "/subnetpools/{id}", update, "update_subnetpool", target="later"),
    Route("DELETE", V + "/subnetpools/{id}", delete, "delete_subnetpool", 204, target="later"),
    Route("PUT", _ONE + "/add_prefixes", add_prefixes, "add_prefixes", target="later"),
    Route("PUT", _ONE + "/remove_prefixes", remove_prefixes, "remove_prefixes", target="later"),
    Route("PUT", _ONE + "/onboard_network_subnets", onboard, "onboard_network_subnets", target="later"),
)
