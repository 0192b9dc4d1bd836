"""/security-groups and /security-group-rules."""

from __future__ import annotations

from functools import partial
from typing import Any

from msgspec import UNSET

from nephos.kernel.db.engine import Tx
from nephos.kernel.http.call import Call, Reply
from nephos.kernel.http.routes import Route
from nephos.network import addressing, problems, resource
from nephos.network.addressgroups.wire import NOUN as ADDRESS_GROUP
from nephos.network.groups import actions, protocols
from nephos.network.groups.rules import NewRule
from nephos.network.groups.wire import GROUP, RULE, CreateGroup, CreateRule, UpdateGroup
from nephos.network.resource import V, View

_create = resource.Body(GROUP, CreateGroup, bulk=True)
_update = resource.Body(GROUP, UpdateGroup)
_create_rule = resource.Body(RULE, CreateRule, bulk=True)


def index(call: Call) -> Reply:
    resource.check_query(call, GROUP)
    _ensure(call)
    return resource.index(call, GROUP)


def _ensure(call: Call) -> None:
    """The default groups of the caller's project and of the one asked about are there when somebody looks."""
    view = View(call)
    wanted = {view.project_id}
    if view.sees_all:
        wanted.update(call.query.many("project_id"), call.query.many("tenant_id"))
    wanted.discard("")
    with view.cloud.database.read() as tx:
        lacking = [each for each in sorted(wanted) if actions.default_group(tx, each) is None]
    for each in lacking:
        view.cloud.database.write(partial(_ensure_one, view, each))


def _ensure_one(view: View, project_id: str, tx: Tx) -> str:
    return actions.ensure_default(tx, view.cloud, project_id)


def show(call: Call) -> Reply:
    return resource.show(call, GROUP, call.params["id"])


def create(call: Call) -> Reply:
    return resource.make(call, GROUP, _create, _make)


def _make(tx: Tx, view: View, model: CreateGroup) -> str:
    project_id = resource.owner(view, model)
    view.call.permit({"project_id": project_id, "tenant_id": project_id})
    return actions.create(
        tx,
        view.cloud,
        project_id=project_id,
        name=model.name,
        description=model.description,
        stateful=None if model.stateful is UNSET else bool(model.stateful),
    )


def update(call: Call) -> Reply:
    return resource.change(call, GROUP, call.params["id"], _update, _change)


def _change(tx: Tx, view: View, row: Any, model: UpdateGroup) -> None:
    actions.update(tx, view.cloud, row, resource.settings_of(model))


def delete(call: Call) -> Reply:
    return resource.remove(
        call, GROUP, call.params["id"], lambda tx, view, row: actions.remove(tx, view.cloud, row, admin=view.admin)
    )


def rules(call: Call) -> Reply:
    resource.check_query(call, RULE)
    _ensure(call)
    return resource.index(call, RULE)


def show_rule(call: Call) -> Reply:
    return resource.show(call, RULE, call.params["id"])


def create_rule(call: Call) -> Reply:
    return resource.make(call, RULE, _create_rule, _make_rule)


def _make_rule(tx: Tx, view: View, model: CreateRule) -> str:
    project_id = resource.owner(view, model)
    group = resource.fetch(tx, GROUP, view, model.security_group_id)
    view.call.permit({"project_id": project_id, "tenant_id": project_id, "security_group:project_id": group.project_id})
    if model.remote_group_id is not None:
        resource.fetch(tx, GROUP, view, model.remote_group_id)
    if model.remote_address_group_id is not None:
        resource.fetch(tx, ADDRESS_GROUP, view, model.remote_address_group_id)
    return actions.add_rule(tx, view.cloud, group, new_rule(model), project_id)


def new_rule(model: Any) -> NewRule:
    """The rule that a body asks for. Raises BadRequest."""
    cidr = addressing.prefix("remote_ip_prefix", model.remote_ip_prefix) if model.remote_ip_prefix else None
    return NewRule(
        direction=model.direction,
        version=_version(model.ethertype, cidr),
        protocol=protocols.canonical(model.protocol),
        port_min=model.port_range_min,
        port_max=model.port_range_max,
        remote_cidr=cidr,
        remote_prefix=addressing.written("remote_ip_prefix", model.remote_ip_prefix) if cidr else None,
        remote_group_id=model.remote_group_id,
        remote_address_group_id=model.remote_address_group_id,
        description=model.description,
    )


def _version(ethertype: str | None, cidr: str | None) -> int:
    if ethertype is None:
        return 4
    version = {"ipv4": 4, "ipv6": 6}.get(ethertype.lower())
    if version is None:
        raise problems.invalid("ethertype", f"'{ethertype}' is not in ['IPv4', 'IPv6']")
    return version


def delete_rule(call: Call) -> Reply:
    return resource.remove(
        call, RULE, call.params["id"], lambda tx, view, row: actions.remove_rule(tx, view.cloud, row)
    )


ROUTES = (
    Route("GET", V + "/security-groups", index, "get_security_group", target="later"),
    Route("POST", V + "/security-groups", create, "create_security_group", 201, target="later"),
    Route("GET", V + "/security-groups/{id}", show, "get_security_group", target="later"),
    Route("PUT", V + "/security-groups/{id}", update, "update_security_group", target="later"),
    Route("DELETE", V + "/security-groups/{id}", delete, "delete_security_group", 204, target="later"),
    Route("GET", V + "/security-group-rules", rules, "get_security_group_rule", target="later"),
    Route("POST", V + "/security-group-rules", create_rule, "create_security_group_rule", 201, target="later"),
    Route("GET", V + "/security-group-rules/{id}", show_rule, "get_security_group_rule", target="later"),
    Route("DELETE", V + "/security-group-rules/{id}", delete_rule, "delete_security_group_rule", 204, target="later"),
)
