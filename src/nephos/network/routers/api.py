"""/routers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from msgspec import UNSET
from sqlalchemy import select

from nephos.kernel.db.engine import Tx
from nephos.kernel.http import call as http
from nephos.kernel.http.call import Call, Reply
from nephos.kernel.http.routes import Route
from nephos.network import addressing, problems, resource
from nephos.network.networks.store import SHARED, rbac
from nephos.network.networks.wire import NOUN as NETWORK
from nephos.network.ports.wire import NOUN as PORT
from nephos.network.ports.wire import FixedIp
from nephos.network.resource import V, View
from nephos.network.routers import actions
from nephos.network.routers.wire import NOUN, Create, GatewayInfo, InterfaceBody, Routes, Update
from nephos.network.subnets.addresses import Wanted
from nephos.network.subnets.wire import NOUN as SUBNET

_create = resource.Body(NOUN, Create, bulk=True)
_update = resource.Body(NOUN, Update)
_routes = resource.Body(NOUN, Routes)


def index(call: Call) -> Reply:
    return resource.index(call, NOUN)


def show(call: Call) -> Reply:
    return resource.show(call, NOUN, call.params["id"])


def create(call: Call) -> Reply:
    return resource.make(call, NOUN, _create, _make)


def _make(tx: Tx, view: View, model: Create) -> str:
    project_id = resource.owner(view, model)
    target = {"project_id": project_id, "tenant_id": project_id}
    view.call.permit(target)
    _create.enforce(view, model, target, "create")
    _refuse_kinds(model)
    info = model.external_gateway_info
    return actions.create(
        tx,
        view.cloud,
        project_id=project_id,
        name=model.name,
        description=model.description,
        admin_state_up=model.admin_state_up,
        gateway=None if info is UNSET else _gateway(tx, view, info),
        zone_hints=model.availability_zone_hints,
    )


def _refuse_kinds(model: Create | Update) -> None:
    for name in ("distributed", "ha"):
        if getattr(model, name) is True:
            raise problems.bad(f"Invalid input for operation: {name} routers are not available in this cloud.")


def _gateway(tx: Tx, view: View, info: GatewayInfo | None) -> actions.Gateway | None:
    """Raises NetworkNotFound for a network that the caller does not see, BadRequest for one that is not external."""
    if info is None or not isinstance(info.network_id, str):
        return None
    network = external(tx, view, info.network_id, "router")
    fixed = info.external_fixed_ips
    return actions.Gateway(
        network_id=network.id,
        snat=True if info.enable_snat is UNSET else info.enable_snat,
        fixed=[_fixed(each) for each in fixed] if isinstance(fixed, list) and fixed else None,
    )


def external(tx: Tx, view: View, network_id: str, what: str) -> Any:
    """An external network's row, if the caller may use it. Raises NetworkNotFound, BadRequest."""
    network = tx.first(resource.narrowed(NETWORK, view).where(NETWORK.table.c.id == network_id), view.bind)
    if network is None:
        raise problems.missing("Network", network_id)
    if not network.external:
        raise problems.bad(f"Bad {what} request: Network {network_id} is not an external network.", "BadRequest")
    return network


def _fixed(one: FixedIp) -> Wanted:
    at = one.ip_address
    if at is UNSET and one.subnet_id is UNSET:
        raise problems.invalid("external_fixed_ips", "an entry has neither subnet_id nor ip_address")
    return Wanted(
        subnet_id=None if one.subnet_id is UNSET else one.subnet_id,
        address=None if at is UNSET else str(addressing.address("external_fixed_ips", at)),
    )


def update(call: Call) -> Reply:
    return resource.change(call, NOUN, call.params["id"], _update, _change)


def _change(tx: Tx, view: View, row: Any, model: Update) -> None:
    _refuse_kinds(model)
    values = resource.settings_of(model)
    for name in ("distributed", "ha", "external_gateway_info"):
        values.pop(name, None)
    if model.routes is not UNSET:
        values["routes"] = _pairs(model.routes or [])
    actions.update(tx, view.cloud, row, values)
    if model.external_gateway_info is not UNSET:
        wanted = _gateway(tx, view, model.external_gateway_info)
        row = actions.get(tx, row.id)
        if wanted is None:
            actions.clear_gateway(tx, view.cloud, row)
        else:
            actions.set_gateway(tx, view.cloud, row, wanted)
        if row.routes:
            actions.checked_routes(tx, row.id, row.routes)


def _pairs(routes: Sequence[Any]) -> list[tuple[str, str]]:
    return [(each.destination, each.nexthop) for each in routes]


def delete(call: Call) -> Reply:
    return resource.remove(call, NOUN, call.params["id"], lambda tx, view, row: actions.remove(tx, view.cloud, row))


Work = Callable[[Tx, View, Any, InterfaceBody], actions.Interface]


def _interface(call: Call, rule: str, work: Work) -> Reply:
    view, wanted = View(call), http.decode(call.raw, InterfaceBody)
    if wanted.subnet_id is None and wanted.port_id is None:
        raise problems.bad("Bad router request: Either subnet_id or port_id must be specified.", "BadRequest")

    def one(tx: Tx) -> tuple[str, actions.Interface]:
        row = resource.fetch(tx, NOUN, view, call.params["id"], rule)
        resource.if_match(call, NOUN, row)
        return row.project_id, work(tx, view, row, wanted)

    project_id, done = view.cloud.database.write(one)
    return Reply(
        {
            "id": call.params["id"],
            "project_id": project_id,
            "tenant_id": project_id,
            "port_id": done.port_id,
            "network_id": done.network_id,
            "subnet_id": done.subnet_ids[0],
            "subnet_ids": list(done.subnet_ids),
        }
    )


def add_interface(call: Call) -> Reply:
    return _interface(call, "add_router_interface", _add)


def _add(tx: Tx, view: View, row: Any, wanted: InterfaceBody) -> actions.Interface:
    if wanted.port_id is not None:
        if wanted.subnet_id is not None:
            raise problems.bad("Bad router request: Cannot specify both subnet-id and port-id.", "BadRequest")
        return actions.add_port(tx, view.cloud, row, resource.fetch(tx, PORT, view, wanted.port_id))
    subnet = resource.fetch(tx, SUBNET, view, wanted.subnet_id or "")
    if not view.admin:
        _check_connectable(tx, subnet, view.project_id)
    return actions.add_subnet(tx, view.cloud, row, subnet.id, row.project_id)


def _check_connectable(tx: Tx, subnet: Any, project_id: str) -> None:
    """A subnet of another project is only connected when its network is shared with just this one: a network shared
    with all does not give its gateway address to whoever comes first."""
    shared = select(rbac.c.id).where(
        rbac.c.object_id == subnet.network_id, rbac.c.action == SHARED, rbac.c.target == project_id
    )
    if subnet.project_id != project_id and tx.first(shared) is None:
        raise problems.bad(
            f"Bad router request: Cannot add interface to router because subnet {subnet.id} is not owned by project "
            "making the request.",
            "BadRequest",
        )


def remove_interface(call: Call) -> Reply:
    return _interface(call, "remove_router_interface", _drop)


def _drop(tx: Tx, view: View, row: Any, wanted: InterfaceBody) -> actions.Interface:
    return actions.drop_interface(tx, view.cloud, row, port_id=wanted.port_id, subnet_id=wanted.subnet_id)


def add_routes(call: Call) -> Reply:
    return _change_routes(call, "add_extraroutes", actions.add_routes)


def remove_routes(call: Call) -> Reply:
    return _change_routes(call, "remove_extraroutes", actions.drop_routes)


def _change_routes(call: Call, rule: str, work: Callable[..., None]) -> Reply:
    view, key, model = View(call), call.params["id"], _routes.one(call)

    def one(tx: Tx) -> resource.Item:
        row = resource.fetch(tx, NOUN, view, key, rule)
        resource.if_match(call, NOUN, row)
        work(tx, view.cloud, row, _pairs(model.routes))
        return resource.reply(tx, NOUN, view, [key])[0]

    return Reply({"router": view.cloud.database.write(one)})


ROUTES = (
    Route("GET", V + "/routers", index, "get_router", target="later"),
    Route("POST", V + "/routers", create, "create_router", 201, target="later"),
    Route("GET", V + "/routers/{id}", show, "get_router", target="later"),
    Route("PUT", V + "/routers/{id}", update, "update_router", target="later"),
    Route("DELETE", V + "/routers/{id}", delete, "delete_router", 204, target="later"),
    Route("PUT", V + "/routers/{id}/add_router_interface", add_interface, "add_router_interface", target="later"),
    Route(
        "PUT", V + "/routers/{id}/remove_router_interface", remove_interface, "remove_router_interface", target="later"
    ),
    Route("PUT", V + "/routers/{id}/add_extraroutes", add_routes, "add_extraroutes", target="later"),
    Route("PUT", V + "/routers/{id}/remove_extraroutes", remove_routes, "remove_extraroutes", target="later"),
)
