"""/address-groups."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from nephos.kernel.cloud import Cloud
from nephos.kernel.db.engine import Tx
from nephos.kernel.http.call import Call, Reply
from nephos.kernel.http.routes import Route
from nephos.network import problems, resource
from nephos.network.addressgroups import actions
from nephos.network.addressgroups.wire import NOUN, Addresses, Create, Update
from nephos.network.resource import Item, V, View

_create = resource.Body(NOUN, Create, bulk=True)
_update = resource.Body(NOUN, Update)


class _Addresses(resource.Base, kw_only=True):
    addresses: Addresses


_addresses = msgspec.json.Decoder(_Addresses)
index, show = resource.readers(NOUN)


def create(call: Call) -> Reply:
    return resource.make(call, NOUN, _create, _make)


def _make(tx: Tx, view: View, model: Create) -> str:
    project_id = resource.owner(view, model)
    view.call.permit({"project_id": project_id, "tenant_id": project_id})
    return actions.create(
        tx,
        view.cloud,
        project_id=project_id,
        name=model.name,
        description=model.description,
        addresses=model.addresses or (),
    )


def update(call: Call) -> Reply:
    return resource.change(call, NOUN, call.params["id"], _update, _change)


def _change(tx: Tx, view: View, row: Any, model: Update) -> None:
    resource.revise(tx, NOUN.table, row.id, resource.settings_of(model))


def delete(call: Call) -> Reply:
    return resource.remove(call, NOUN, call.params["id"], lambda tx, view, row: actions.remove(tx, row))


def add(call: Call) -> Reply:
    return _edit(call, "add_addresses", actions.add)


def take(call: Call) -> Reply:
    return _edit(call, "remove_addresses", actions.take)


def _edit(call: Call, rule: str, work: Callable[[Tx, Cloud, Any, Sequence[str]], None]) -> Reply:
    view, key = View(call), call.params["id"]
    try:
        addresses = _addresses.decode(resource.raw_body(call)).addresses
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as wrong:
        raise problems.bad(f"Invalid input for addresses. Reason: {wrong}", "HTTPBadRequest") from wrong

    def one(tx: Tx) -> Item:
        row = resource.fetch(tx, NOUN, view, key, rule)
        resource.if_match(call, NOUN, row)
        work(tx, view.cloud, row, addresses)
        return resource.reply(tx, NOUN, view, [key])[0]

    return Reply({NOUN.name: view.cloud.database.write(one)})


_ONE = V + "/address-groups/{id}"
ROUTES = (
    Route("GET", V + "/address-groups", index, "get_address_group", target="later"),
    Route("POST", V + "/address-groups", create, "create_address_group", 201, target="later"),
    Route("GET", _ONE, show, "get_address_group", target="later"),
    Route("PUT", _ONE, update, "update_address_group", target="later"),
    Route("DELETE", _ONE, delete, "delete_address_group", 204, target="later"),
    Route("PUT", _ONE + "/add_addresses", add, "add_addresses", target="later"),
    Route("PUT", _ONE + "/remove_addresses", take, "remove_addresses", target="later"),
)
