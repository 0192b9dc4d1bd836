"""/trunks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta

from nephos.kernel.db.engine import Tx
from nephos.kernel.http.call import Call, Reply
from nephos.kernel.http.routes import Route
from nephos.network import problems, resource
from nephos.network.ports.wire import NOUN as PORT
from nephos.network.resource import Item, V, View
from nephos.network.trunks import actions
from nephos.network.trunks.actions import Sub
from nephos.network.trunks.wire import NOUN, Create, SubPort, Update, sub_port

_create = resource.Body(NOUN, Create, bulk=True)
_update = resource.Body(NOUN, Update)


class _SubPorts(resource.Base, kw_only=True):
    sub_ports: Annotated[list[SubPort], Meta(max_length=4094)]


_sub_ports = msgspec.json.Decoder(_SubPorts, strict=False)
index, show = resource.readers(NOUN)


def create(call: Call) -> Reply:
    return resource.make(call, NOUN, _create, _make)


def _make(tx: Tx, view: View, model: Create) -> str:
    project_id = resource.owner(view, model)
    view.call.permit({"project_id": project_id, "tenant_id": project_id})
    _check_apart(model.sub_ports or ())
    parent = resource.fetch(tx, PORT, view, model.port_id)
    trunk_id = actions.create(
        tx,
        view.cloud,
        project_id=project_id,
        parent=parent,
        name=model.name,
        description=model.description,
        admin_state_up=True,
    )
    row = tx.first(NOUN.one, {**view.bind, "key": trunk_id})
    if model.sub_ports:
        actions.add(tx, view.cloud, row, _wanted(tx, view, model.sub_ports))
    if not model.admin_state_up:
        actions.update(tx, view.cloud, row, {"admin_state_up": False})
    return trunk_id


def _check_apart(given: Sequence[SubPort]) -> None:
    """Raises BadRequest for a tag that is there twice."""
    tags = [(one.segmentation_type, one.segmentation_id) for one in given if isinstance(one.segmentation_id, int)]
    double = [f"{kind} {number}" for (kind, number), times in Counter(tags).items() if times > 1]
    if double:
        raise problems.invalid("sub_ports", f"{', '.join(double)} is there twice")


def _wanted(tx: Tx, view: View, given: Sequence[SubPort]) -> list[Sub]:
    """The ports, each one that the caller may see. Raises BadRequest for a port that is there twice or has no tag."""
    found: list[Sub] = []
    for one in given:
        if one.segmentation_type in (UNSET, None) or (
            one.segmentation_id in (UNSET, None) and one.segmentation_type != actions.INHERIT
        ):
            raise problems.bad(
                f"Invalid input for operation: Invalid subport details for {one.port_id}: missing segmentation "
                "information. Must specify both segmentation_id and segmentation_type."
            )
        if one.port_id in {each.port_id for each in found}:
            raise problems.invalid("sub_ports", f"the port {one.port_id} is there twice")
        resource.fetch(tx, PORT, view, one.port_id)
        number = one.segmentation_id if isinstance(one.segmentation_id, int) else None
        found.append(Sub(port_id=one.port_id, kind=str(one.segmentation_type), number=number))
    return found


def update(call: Call) -> Reply:
    return resource.change(call, NOUN, call.params["id"], _update, _change)


def _change(tx: Tx, view: View, row: Any, model: Update) -> None:
    actions.update(tx, view.cloud, row, resource.settings_of(model))


def delete(call: Call) -> Reply:
    return resource.remove(call, NOUN, call.params["id"], lambda tx, view, row: actions.remove(tx, view.cloud, row))


def sub_ports(call: Call) -> Reply:
    view = View(call)
    with call.cloud.database.read() as tx:
        row = resource.fetch(tx, NOUN, view, call.params["id"], "get_subports")
        found = actions.subports_of(tx, [row.id]).get(row.id, ())
    return Reply({"sub_ports": [sub_port(each) for each in found]})


def add(call: Call) -> Reply:
    def work(tx: Tx, view: View, row: Any, given: Sequence[SubPort]) -> None:
        actions.add(tx, view.cloud, row, _wanted(tx, view, given))

    return _edit(call, "add_subports", work)


def take(call: Call) -> Reply:
    def work(tx: Tx, view: View, row: Any, given: Sequence[SubPort]) -> None:
        actions.drop(tx, view.cloud, row, [each.port_id for each in given])

    return _edit(call, "remove_subports", work)


def _edit(call: Call, rule: str, work: Callable[[Tx, View, Any, Sequence[SubPort]], None]) -> Reply:
    """The trunk as it is then, bare: so Neutron answers."""
    view, key = View(call), call.params["id"]
    try:
        given = _sub_ports.decode(resource.raw_body(call)).sub_ports
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as wrong:
        raise problems.bad(f"Invalid input for sub_ports. Reason: {wrong}", "HTTPBadRequest") from wrong

    def one(tx: Tx) -> Item:
        row = resource.fetch(tx, NOUN, view, key, rule)
        resource.if_match(call, NOUN, row)
        work(tx, view, row, given)
        return resource.reply(tx, NOUN, view, [key])[0]

    return Reply(view.cloud.database.write(one))


_ONE = V + "/trunks/{id}"
ROUTES = (
    Route("GET", V + "/trunks", index, "get_trunk", target="later"),
    Route("POST", V + "/trunks", create, "create_trunk", 201, target="later"),
    Route("GET", _ONE, show, "get_trunk", target="later"),
    Route("PUT", _ONE, update, "update_trunk", target="later"),
    Route("DELETE", _ONE, delete, "delete_trunk", 204, target="later"),
    Route("GET", _ONE + "/get_subports", sub_ports, "get_subports", target="later"),
    Route("PUT", _ONE + "/add_subports", add, "add_subports", target="later"),
    Route("PUT", _ONE + "/remove_subports", take, "remove_subports", target="later"),
)
