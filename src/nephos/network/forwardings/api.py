"""/floatingips/{id}/port_forwardings."""

from __future__ import annotations

from typing import Any

from msgspec import UNSET, UnsetType
from sqlalchemy import select

from nephos.kernel.db.engine import Tx
from nephos.kernel.http.call import Call, Reply
from nephos.kernel.http.routes import Route
from nephos.network import addressing, below, problems, resource
from nephos.network.floatingips import actions as floating
from nephos.network.floatingips.store import floatingip
from nephos.network.floatingips.wire import NOUN as FLOATING
from nephos.network.forwardings import actions
from nephos.network.forwardings.actions import Forwarding, Ports
from nephos.network.forwardings.wire import NOUN, Create, Update
from nephos.network.ports.wire import NOUN as PORT
from nephos.network.resource import V, View

_create = resource.Body(NOUN, Create)
_update = resource.Body(NOUN, Update)


def index(call: Call) -> Reply:
    return resource.index(call, NOUN, below.owned(call, FLOATING))


def show(call: Call) -> Reply:
    return resource.show(call, NOUN, call.params["forwarding_id"], below.view(call, FLOATING))


def create(call: Call) -> Reply:
    return resource.make(call, NOUN, _create, _make, below.owned(call, FLOATING))


def _make(tx: Tx, view: View, model: Create) -> str:
    above = floating.get(tx, view.bind["above"])
    if above.fixed_port_id is not None:
        raise problems.refused(
            f"Cannot associate floating IP {above.address} ({above.id}) with port {model.internal_port_id}, as that "
            f"floating IP leads to port {above.fixed_port_id} already.",
            "FloatingIPPortAlreadyAssociated",
        )
    outside = _ports("external", model.external_port, model.external_port_range)
    inside = _ports("internal", model.internal_port, model.internal_port_range)
    if outside is None or inside is None:
        which = "external" if outside is None else "internal"
        raise problems.invalid(f"{which}_port", f"one of {which}_port and {which}_port_range is needed")
    address, router_id = _target(tx, view, above, model.internal_port_id, model.internal_ip_address)
    new = Forwarding(
        protocol=_protocol(model.protocol),
        outside=outside,
        port_id=model.internal_port_id,
        address=address,
        inside=inside,
    )
    return actions.add(tx, view.cloud, above, new, router_id, model.description)


def _target(tx: Tx, view: View, above: Any, port_id: str, wanted: str | None) -> tuple[str, str]:
    """(address of the port, router between it and the floating IP). Raises BadRequest, PortHasBindingFloatingIP."""
    leaf = resource.fetch(tx, PORT, view, port_id)
    holder = tx.first(select(floatingip.c.id, floatingip.c.address).where(floatingip.c.fixed_port_id == port_id))
    if holder is not None:
        raise problems.refused(
            f"Cannot create port forwarding to floating IP {above.address} ({above.id}) with port {port_id}, as that port "
            f"already has a binding floating IP: {holder.address} ({holder.id}).",
            "PortHasBindingFloatingIP",
        )
    text = None if wanted is None else str(addressing.address("internal_ip_address", wanted))
    return floating.way_to(tx, leaf, text, above.network_id, "port_forwarding")


def _protocol(text: str) -> str:
    found = text.lower()
    if found not in actions.PROTOCOLS:
        raise problems.invalid("protocol", f"'{text}' is not in {list(actions.PROTOCOLS)}")
    return found


def _ports(which: str, one: int | UnsetType | None, many: str | int | UnsetType | None) -> Ports | None:
    """The ports that an API's pair of attributes means; None when it says nothing. Raises BadRequest."""
    number = None if one is UNSET else one
    if many is None or many is UNSET:
        return None if number is None else (number, number)
    first, _, last = str(many).partition(":")
    found = int(first), int(last or first)
    if not 1 <= found[0] <= found[1] <= 65535:
        raise problems.invalid(f"{which}_port_range", f"'{many}' is no range of ports between 1 and 65535")
    if number is not None and found != (number, number):
        raise problems.invalid(f"{which}_port_range", f"'{many}' is not {which}_port {number}")
    return found


def update(call: Call) -> Reply:
    return resource.change(call, NOUN, call.params["forwarding_id"], _update, _change, below.view(call, FLOATING))


def _change(tx: Tx, view: View, row: Any, model: Update) -> None:
    above = floating.get(tx, row.floatingip_id)
    port_id, address = row.port_id, row.address
    router_id = above.router_id
    if model.internal_port_id is not UNSET or model.internal_ip_address is not UNSET:
        port_id = row.port_id if model.internal_port_id is UNSET else model.internal_port_id
        wanted = None if model.internal_ip_address is UNSET else model.internal_ip_address
        address, router_id = _target(tx, view, above, port_id, wanted)
    new = Forwarding(
        protocol=row.protocol if model.protocol is UNSET else _protocol(model.protocol),
        outside=_ports("external", model.external_port, model.external_port_range)
        or (row.outside_first, row.outside_last),
        port_id=port_id,
        address=address,
        inside=_ports("internal", model.internal_port, model.internal_port_range)
        or (row.inside_first, row.inside_last),
    )
    description = None if model.description is UNSET else model.description
    actions.change(tx, view.cloud, above, row, new, router_id, description)


def delete(call: Call) -> Reply:
    return resource.remove(
        call,
        NOUN,
        call.params["forwarding_id"],
        lambda tx, view, row: actions.remove(tx, view.cloud, row),
        below.view(call, FLOATING),
    )


_MANY, _RULE = V + "/floatingips/{id}/port_forwardings", "floatingip_port_forwarding"
_ONE = _MANY + "/{forwarding_id}"
ROUTES = (
    Route("GET", _MANY, index, f"get_{_RULE}", target="later"),
    Route("POST", _MANY, create, f"create_{_RULE}", 201, target="later"),
    Route("GET", _ONE, show, f"get_{_RULE}", target="later"),
    Route("PUT", _ONE, update, f"update_{_RULE}", target="later"),
    Route("DELETE", _ONE, delete, f"delete_{_RULE}", 204, target="later"),
)
