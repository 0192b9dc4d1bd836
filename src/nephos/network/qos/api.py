"""/qos/policies with their rules, /qos/rule-types and /qos/alias-…-rules."""

from __future__ import annotations

from functools import partial
from typing import Any

from nephos import errors
from nephos.kernel.db.engine import Tx
from nephos.kernel.http.call import Call, Reply
from nephos.kernel.http.routes import Route
from nephos.network import filters, problems, resource
from nephos.network.qos import actions, needs
from nephos.network.qos.kinds import ALL, BY_NAME, LEAST_BANDWIDTH, LEAST_PACKETS, Kind
from nephos.network.qos.wire import ALIASES, MODELS, POLICY, RULES, CreatePolicy, UpdatePolicy, rule_type
from nephos.network.resource import V, View

_create = resource.Body(POLICY, CreatePolicy, bulk=True)
_update = resource.Body(POLICY, UpdatePolicy)
_create_rule: dict[Kind, resource.Body[Any]] = {kind: resource.Body(RULES[kind], MODELS[kind][0]) for kind in ALL}
_update_rule: dict[Kind, resource.Body[Any]] = {kind: resource.Body(RULES[kind], MODELS[kind][1]) for kind in ALL}
_update_alias: dict[Kind, resource.Body[Any]] = {
    kind: resource.Body(noun, MODELS[kind][1]) for kind, noun in ALIASES.items()
}
index, show = resource.readers(POLICY)


def create(call: Call) -> Reply:
    return resource.make(call, POLICY, _create, _make)


def _make(tx: Tx, view: View, model: CreatePolicy) -> str:
    project_id = resource.owner(view, model)
    view.call.permit({"project_id": project_id, "tenant_id": project_id})
    return actions.create(
        tx,
        project_id=project_id,
        name=model.name,
        description=model.description,
        shared=model.shared,
        default=model.is_default,
    )


def update(call: Call) -> Reply:
    return resource.change(call, POLICY, call.params["id"], _update, _change)


def _change(tx: Tx, view: View, row: Any, model: UpdatePolicy) -> None:
    actions.update(tx, row, resource.settings_of(model))


def delete(call: Call) -> Reply:
    return resource.remove(call, POLICY, call.params["id"], lambda tx, view, row: actions.remove(tx, row))


# --- rules -----------------------------------------------------------------------------------------------------------


def _parent(tx: Tx, view: View, *, creating: bool = False) -> Any:
    """The policy that the URL names; the statements of its rules know it from now on. Raises QosPolicyNotFound, and
    Forbidden for a rule to be made in somebody else's policy, as Neutron does."""
    key = view.call.params["id"]
    row = tx.first(POLICY.one, {**view.bind, "key": key})
    visible = row is not None and (view.sees_all or row.project_id == view.project_id or row.shared)
    if row is not None and not visible and creating:
        view.call.permit({"ext_parent:project_id": row.project_id, "project_id": row.project_id})
    if not visible:
        raise problems.missing("QoS policy", key, "QosPolicyNotFound")
    return row


def _viewing(call: Call) -> View:
    """A view whose statements know the policy of the URL."""
    view = View(call)
    view.bind = {**view.bind, "policy": call.params["id"]}
    return view


def rules(kind: Kind, call: Call) -> Reply:
    view = _viewing(call)
    with call.cloud.database.read() as tx:
        parent = _parent(tx, view)
    call.permit({"ext_parent:project_id": parent.project_id, "project_id": parent.project_id})
    return resource.index(call, RULES[kind], view)


def show_rule(kind: Kind, call: Call) -> Reply:
    return resource.show(call, RULES[kind], call.params["rule_id"], _below(call))


def create_rule(kind: Kind, call: Call) -> Reply:
    def work(tx: Tx, view: View, model: Any) -> str:
        parent = _parent(tx, view, creating=True)
        view.call.permit({"ext_parent:project_id": parent.project_id, "project_id": parent.project_id})
        new = actions.NewRule(
            kind=kind,
            amount=model.amount,
            burst=getattr(model, "burst", 0),
            direction=getattr(model, "direction", None),
        )
        rule_id = actions.add_rule(tx, view.cloud, parent.id, new)
        _recount(tx, view, kind, parent.id)
        return rule_id

    return resource.make(call, RULES[kind], _create_rule[kind], work, _viewing(call))


def update_rule(kind: Kind, call: Call) -> Reply:
    return resource.change(call, RULES[kind], call.params["rule_id"], _update_rule[kind], _change_rule, _below(call))


def _change_rule(tx: Tx, view: View, row: Any, model: Any) -> None:
    actions.change_rule(tx, view.cloud, row, resource.settings_of(model))
    _recount(tx, view, BY_NAME[row.kind], row.policy_id)


def _recount(tx: Tx, view: View, kind: Kind, policy_id: str) -> None:
    """Guests' ports have what the policy's minimum rules ask for now, or it stays as it was."""
    if kind in (LEAST_BANDWIDTH, LEAST_PACKETS):
        needs.changed(tx, view.cloud, "policy", policy_id)


def delete_rule(kind: Kind, call: Call) -> Reply:
    return resource.remove(call, RULES[kind], call.params["rule_id"], _drop, _below(call))


def _below(call: Call) -> View:
    view = _viewing(call)
    with call.cloud.database.read() as tx:
        _parent(tx, view)
    return view


def _drop(tx: Tx, view: View, row: Any) -> None:
    actions.remove_rule(tx, view.cloud, row)
    _recount(tx, view, BY_NAME[row.kind], row.policy_id)


def show_alias(kind: Kind, call: Call) -> Reply:
    return resource.show(call, ALIASES[kind], call.params["id"])


def update_alias(kind: Kind, call: Call) -> Reply:
    return resource.change(call, ALIASES[kind], call.params["id"], _update_alias[kind], _change_rule)


def delete_alias(kind: Kind, call: Call) -> Reply:
    return resource.remove(call, ALIASES[kind], call.params["id"], _drop)


# --- kinds of rules --------------------------------------------------------------------------------------------------


def rule_types(call: Call) -> Reply:
    """The kinds that hosts enforce; with `all_rules` every kind, with `all_supported` those of any driver."""
    everything = _flag(call, "all_rules")
    _flag(call, "all_supported")
    return Reply({"rule_types": [{"type": kind.name} for kind in ALL if kind.enforced or everything]})


def _flag(call: Call, name: str) -> bool:
    return name in call.query and filters.boolean(call.query.one(name) or "true")


def show_rule_type(call: Call) -> Reply:
    kind = BY_NAME.get(call.params["type"])
    if kind is None:
        raise problems.missing("Rule type", call.params["type"], "QosRuleTypeNotFound")
    if not View(call).admin:
        raise errors.Forbidden("What drivers support of a rule type is for administrators.", code="NotAuthorized")
    return Reply({"rule_type": rule_type(kind)})


_POLICY = V + "/qos/policies/{id}"


def _rule_routes(kind: Kind) -> tuple[Route, ...]:
    many = f"{_POLICY}/{kind.noun}s"
    one, name = many + "/{rule_id}", f"policy_{kind.noun}"
    return (
        Route("GET", many, partial(rules, kind), f"get_{name}", target="later"),
        Route("POST", many, partial(create_rule, kind), f"create_{name}", 201, target="later"),
        Route("GET", one, partial(show_rule, kind), f"get_{name}", target="later"),
        Route("PUT", one, partial(update_rule, kind), f"update_{name}", target="later"),
        Route("DELETE", one, partial(delete_rule, kind), f"delete_{name}", 204, target="later"),
    )


def _alias_routes(kind: Kind) -> tuple[Route, ...]:
    name = f"alias_{kind.noun}"
    one = f"{V}/qos/{name.replace('_', '-')}s/{{id}}"
    return (
        Route("GET", one, partial(show_alias, kind), f"get_{name}", target="later"),
        Route("PUT", one, partial(update_alias, kind), f"update_{name}", target="later"),
        Route("DELETE", one, partial(delete_alias, kind), f"delete_{name}", 204, target="later"),
    )


ROUTES = (
    Route("GET", V + "/qos/policies", index, "get_policy", target="later"),
    Route("POST", V + "/qos/policies", create, "create_policy", 201, target="later"),
    Route("GET", V + "/qos/policies/{id}", show, "get_policy", target="later"),
    Route("PUT", V + "/qos/policies/{id}", update, "update_policy", target="later"),
    Route("DELETE", V + "/qos/policies/{id}", delete, "delete_policy", 204, target="later"),
    Route("GET", V + "/qos/rule-types", rule_types, "get_rule_type"),
    Route("GET", V + "/qos/rule-types/{type}", show_rule_type, "get_rule_type"),
    *(route for kind in ALL for route in _rule_routes(kind)),
    *(route for kind in ALIASES for route in _alias_routes(kind)),
)
