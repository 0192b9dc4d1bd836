"""/floatingips."""

from __future__ import annotations

from typing import Any

from msgspec import UNSET

from nephos.kernel.db.engine import Tx
from nephos.kernel.http.call import Call, Reply
from nephos.kernel.http.routes import Route
from nephos.network import addressing, problems, resource
from nephos.network.floatingips import actions
from nephos.network.floatingips.wire import NOUN, Create, Update
from nephos.network.networks.wire import NOUN as NETWORK
from nephos.network.ports.wire import NOUN as PORT
from nephos.network.qos import actions as qos
from nephos.network.resource import V, View
from nephos.network.routers.api import external

_create = resource.Body(NOUN, Create, bulk=True)
_update = resource.Body(NOUN, Update)
index, show = resource.readers(NOUN)


def create(call: Call) -> Reply:
    return resource.make(call, NOUN, _create, _make)


def _make(tx: Tx, view: View, model: Create) -> str:
    project_id = resource.owner(view, model)
    target = {"project_id": project_id, "tenant_id": project_id}
    view.call.permit(target)
    _create.enforce(view, model, target, "create")
    network = external(tx, view, model.floating_network_id, "floatingip")
    if model.port_id is not None:
        resource.fetch(tx, PORT, view, model.port_id)
    wanted = model.floating_ip_address
    new = actions.New(
        project_id=project_id,
        network_id=network.id,
        subnet_id=model.subnet_id,
        address=str(addressing.address("floating_ip_address", wanted)) if isinstance(wanted, str) and wanted else None,
        port_id=model.port_id,
        fixed_address=_fixed(model.fixed_ip_address),
        admin=view.admin,
        description=model.description,
        dns_name=model.dns_name,
        dns_domain=model.dns_domain,
        qos_policy_id=qos.usable(tx, model.qos_policy_id, project_id, admin=view.sees_all),
    )
    return actions.create(tx, view.cloud, new)


def _fixed(text: str | None) -> str | None:
    return str(addressing.address("fixed_ip_address", text)) if text else None


def update(call: Call) -> Reply:
    return resource.change(call, NOUN, call.params["id"], _update, _change)


def _change(tx: Tx, view: View, row: Any, model: Update) -> None:
    if model.description is not UNSET:
        resource.revise(tx, NOUN.table, row.id, {"description": model.description})
    if model.qos_policy_id is not UNSET:
        policy_id = qos.usable(tx, model.qos_policy_id, row.project_id, admin=view.sees_all)
        actions.limit(tx, view.cloud, row, policy_id)
    fixed = None if model.fixed_ip_address is UNSET else _fixed(model.fixed_ip_address)
    if model == Update():
        # An update of nothing clears the association: so it was before a floating IP had anything else to update.
        if row.fixed_port_id is not None:
            actions.disassociate(tx, view.cloud, row)
    elif model.port_id is UNSET:
        if fixed is not None and row.fixed_port_id is None:
            raise problems.bad(
                "Bad floatingip request: fixed_ip_address cannot be specified without a port_id.", "BadRequest"
            )
        if fixed is not None:
            actions.associate(tx, view.cloud, row, row.fixed_port_id, fixed, admin=view.admin)
    elif model.port_id is None or model.port_id == "":
        if row.fixed_port_id is not None:
            actions.disassociate(tx, view.cloud, row)
    else:
        resource.fetch(tx, PORT, view, model.port_id)
        actions.associate(tx, view.cloud, row, model.port_id, fixed, admin=view.admin)


def delete(call: Call) -> Reply:
    return resource.remove(call, NOUN, call.params["id"], lambda tx, view, row: actions.remove(tx, view.cloud, row))


def pools(call: Call) -> Reply:
    """The subnets that floating IPs are of, as far as the caller sees their networks."""
    view = View(call)
    allowed = {"subnet_id", "subnet_name", "network_id", "cidr", "project_id", "fields"}
    unknown = [name for name in call.query if name not in allowed]
    if unknown:
        raise problems.bad(f"{unknown} is invalid attribute for filtering", "HTTPBadRequest")
    with view.cloud.database.read() as tx:
        statement = resource.narrowed(NETWORK, view).where(NETWORK.table.c.external.is_(True))
        seen = [row.id for row in tx.all(statement, view.bind)]
        rows = actions.pools(tx, seen)
    found = [
        {
            "subnet_id": row.id,
            "subnet_name": row.name,
            "network_id": row.network_id,
            "cidr": row.cidr,
            "project_id": row.project_id,
            "tenant_id": row.project_id,
        }
        for row in rows
    ]
    for name, values in call.query.items():
        if name != "fields":
            found = [each for each in found if each[name] in values]
    return Reply({"floatingip_pools": found})


ROUTES = (
    Route("GET", V + "/floatingip_pools", pools, "get_floatingip_pool"),
    Route("GET", V + "/floatingips", index, "get_floatingip", target="later"),
    Route("POST", V + "/floatingips", create, "create_floatingip", 201, target="later"),
    Route("GET", V + "/floatingips/{id}", show, "get_floatingip", target="later"),
    Route("PUT", V + "/floatingips/{id}", update, "update_floatingip", target="later"),
    Route("DELETE", V + "/floatingips/{id}", delete, "delete_floatingip", 204, target="later"),
)
