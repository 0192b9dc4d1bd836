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
from nephos.network import addressing, notifications, problems, resource
from nephos.network.networks.store import SHARED, rbac
from nephos.network.networks.wire import NOUN as NETWORK
from nephos.network.ports.wire import NOUN as PORT
from nephos.network.ports.wire import FixedIp
from nephos.network.qos import actions as qos
from nephos.network.resource import V, View
from nephos.network.routers import actions, routes
from nephos.network.routers.wire import NOUN, Create, GatewayInfo, Gateways, InterfaceBody, Routes, Update
from nephos.network.subnets.addresses import Wanted
from nephos.network.subnets.wire import NOUN as SUBNET

_create = resource.Body(NOUN, Create, bulk=True)
_update = resource.Body(NOUN, Update)
_routes = resource.Body(NOUN, Routes)
_external_gateways = resource.Body(NOUN, Gateways)
index, show = resource.readers(NOUN)


def create(call: Call) -> Reply:
    return resource.make(call, NOUN, _create, _make)


def _make(tx: Tx, view: View, model: Create) -> str:
    project_id = resource.owner(view, model)
    target = {"project_id": project_id, "tenant_id": project_id}
    view.call.permit(target)
    _create.enforce(view, model, target, "create")
    _refuse_absent(model)
    info = model.external_gateway_info
    return actions.create(
        tx,
        view.cloud,
        project_id=project_id,
        name=model.name,
        description=model.description,
        admin_state_up=model.admin_state_up,
        gateway=None if info is UNSET else _gateway(tx, view, info, project_id),
        zone_hints=model.availability_zone_hints,
        ha=model.ha is True,
        distributed=model.distributed is True,
        flavor_id=model.flavor_id or None,
        ndp_proxy=model.enable_ndp_proxy is True,
        ecmp=model.enable_default_route_ecmp is True,
    )


def _refuse_absent(model: Create | Update) -> None:
    """Raises BadRequest for what Neutron's routers have with some drivers, and none here."""
    if model.enable_default_route_bfd is True:
        raise problems.bad(
            "Invalid input for operation: default routes are not watched by BFD in this cloud. That a gateway outside "
            "does not answer is found by asking for its address."
        )


def _gateway(tx: Tx, view: View, info: GatewayInfo | None, project_id: str) -> actions.Gateway | None:
    """Raises NetworkNotFound for a network that the caller does not see, BadRequest for one that is not external,
    QosPolicyNotFound for a policy that the router's project may not use."""
    if info is None or not isinstance(info.network_id, str):
        return None
    network = external(tx, view, info.network_id, "router")
    fixed = info.external_fixed_ips
    return actions.Gateway(
        network_id=network.id,
        snat=True if info.enable_snat is UNSET else info.enable_snat,
        fixed=[_fixed(each) for each in fixed] if isinstance(fixed, list) and fixed else None,
        policy=UNSET
        if info.qos_policy_id is UNSET
        else qos.usable(tx, info.qos_policy_id, project_id, admin=view.sees_all),
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
    _refuse_absent(model)
    values = resource.settings_of(model, enable_ndp_proxy="ndp_proxy", enable_default_route_ecmp="ecmp")
    for name in ("external_gateway_info", "enable_default_route_bfd"):
        values.pop(name, None)
    values = {name: value for name, value in values.items() if value is not None or name == "routes"}
    late = {name: values.pop(name) for name in ("ndp_proxy",) if values.get(name)}
    if model.routes is not UNSET:
        values["routes"] = _pairs(model.routes or [])
    actions.update(tx, view.cloud, row, values)
    if model.external_gateway_info is not UNSET:
        wanted = _gateway(tx, view, model.external_gateway_info, row.project_id)
        row = actions.get(tx, row.id)
        if wanted is None:
            actions.set_gateways(tx, view.cloud, row, [])
        else:
            actions.set_gateway(tx, view.cloud, row, wanted)
        if row.routes:
            routes.checked(tx, row.id, row.routes)
    if late:
        actions.update(tx, view.cloud, actions.get(tx, row.id), late)


def _pairs(routes: Sequence[Any]) -> list[tuple[str, str]]:
    return [(each.destination, each.nexthop) for each in routes]


def delete(call: Call) -> Reply:
    return resource.remove(call, NOUN, call.params["id"], lambda tx, view, row: actions.remove(tx, view.cloud, row))


Work = Callable[[Tx, View, Any, InterfaceBody], actions.Interface]


def _interface(call: Call, rule: str, work: Work) -> Reply:
    view, wanted = View(call), http.decode(call.raw, InterfaceBody)
    if wanted.subnet_id is None and wanted.port_id is None:
        raise problems.bad("Bad router request: Either subnet_id or port_id must be specified.", "BadRequest")

    def one(tx: Tx) -> dict[str, Any]:
        row = resource.fetch(tx, NOUN, view, call.params["id"], rule)
        resource.if_match(call, NOUN, row)
        done = work(tx, view, row, wanted)
        shown = {
            "id": row.id,
            "project_id": row.project_id,
            "tenant_id": row.project_id,
            "port_id": done.port_id,
            "network_id": done.network_id,
            "subnet_id": done.subnet_ids[0],
            "subnet_ids": list(done.subnet_ids),
        }
        notifications.interface(tx, "create" if work is _add else "delete", shown)
        return shown

    return Reply(view.cloud.database.write(one))


def add_interface(call: Call) -> Reply:
    return _interface(call, "add_router_interface", _add)


def _add(tx: Tx, view: View, row: Any, wanted: InterfaceBody) -> actions.Interface:
    if wanted.port_id is not None:
        if wanted.subnet_id is not None:
            raise problems.bad("Bad router request: Cannot specify both subnet-id and port-id.", "BadRequest")
        port_id = addressing.uuid("port_id", wanted.port_id)
        return actions.add_port(tx, view.cloud, row, resource.fetch(tx, PORT, view, port_id))
    subnet = resource.fetch(tx, SUBNET, view, addressing.uuid("subnet_id", wanted.subnet_id or ""))
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


# --- several gateways ------------------------------------------------------------------------------------------------


def add_gateways(call: Call) -> Reply:
    return _gateways(call, "add_external_gateways", _add_gateways)


def _add_gateways(tx: Tx, view: View, row: Any, wanted: Sequence[actions.Gateway]) -> None:
    for each in wanted:
        actions.add_gateway(tx, view.cloud, actions.get(tx, row.id), each)


def update_gateways(call: Call) -> Reply:
    return _gateways(call, "update_external_gateways", _update_gateways)


def _update_gateways(tx: Tx, view: View, row: Any, wanted: Sequence[actions.Gateway]) -> None:
    """The gateways become these: what is there and not named goes, what is named and not there comes; the first is the
    main one."""
    actions.set_gateways(tx, view.cloud, row, wanted)


def remove_gateways(call: Call) -> Reply:
    return _gateways(call, "remove_external_gateways", _remove_gateways)


def _remove_gateways(tx: Tx, view: View, row: Any, wanted: Sequence[actions.Gateway]) -> None:
    found = [actions.find_gateway(tx, row, each).id for each in wanted]
    # The main one last: what is needed of it is then needed of none that stays.
    for port_id in sorted(set(found), key=lambda key: key == row.gateway_port_id):
        actions.remove_gateway(tx, view.cloud, actions.get(tx, row.id), port_id)


def _gateways(call: Call, rule: str, work: Callable[..., None]) -> Reply:
    view, key, model = View(call), call.params["id"], _external_gateways.one(call)

    def one(tx: Tx) -> resource.Item:
        row = resource.fetch(tx, NOUN, view, key, rule)
        resource.if_match(call, NOUN, row)
        infos = list(model.external_gateways) if isinstance(model.external_gateways, list) else []
        for each in infos:
            for name in each.__struct_fields__:
                inner = f"{rule}:external_gateways:{name}"
                if getattr(each, name) is not UNSET and inner in view.cloud.policies:
                    view.call.permit(NOUN.target(row), rule=inner)
        wanted = [_gateway(tx, view, each, row.project_id) for each in infos]
        if any(each is None for each in wanted):
            raise problems.invalid("external_gateways", "a gateway has no network_id")
        if rule != "remove_external_gateways" and infos:
            snat = infos[0].enable_snat
            if snat is not UNSET and snat != row.snat:
                resource.revise(tx, NOUN.table, key, {"snat": snat})
        work(tx, view, row, wanted)
        row = actions.get(tx, key)
        if row.routes:
            routes.checked(tx, key, row.routes)
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
    Route("PUT", V + "/routers/{id}/add_external_gateways", add_gateways, "add_external_gateways", target="later"),
    Route(
        "PUT", V + "/routers/{id}/update_external_gateways", update_gateways, "update_external_gateways", target="later"
    ),
    Route(
        "PUT", V + "/routers/{id}/remove_external_gateways", remove_gateways, "remove_external_gateways", target="later"
    ),
)
