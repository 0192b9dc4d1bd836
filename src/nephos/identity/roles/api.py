"""/v3/roles, what they imply, and /v3/role_inferences."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row, select

from nephos import errors
from nephos.identity import listing, part, targets
from nephos.identity import wire as shared
from nephos.identity.roles import actions, wire
from nephos.identity.roles.store import GLOBAL, implied, role
from nephos.kernel import clock
from nephos.kernel.db.engine import Tx
from nephos.kernel.http.call import Call, Reply
from nephos.kernel.http.routes import Route

COLUMNS = {name: role.c[name] for name in ("id", "name", "domain_id")}


def index(call: Call) -> Reply:
    """Global roles, or with `?domain_id=` those of a domain."""
    of_domain = bool(call.query.one("domain_id"))
    call.permit(targets.of_domain(call), rule="identity:list_domain_roles" if of_domain else None)
    statement = select(role)
    if not of_domain:
        statement = statement.where(role.c.domain_id == GLOBAL)
    with call.cloud.database.read() as tx:
        listed = listing.fetch(tx, call, statement, COLUMNS, key=role.c.id)
    items = [wire.role(call, row) for row in listed.rows]
    return Reply(shared.collection(call, "roles", items, listed.marker))


def create(call: Call) -> Reply:
    body, extra = shared.member(call, "role", wire.RoleCreate)
    target = targets.of(call, role={"domain_id": body.domain_id, "name": body.name})
    call.permit(target, rule="identity:create_domain_role" if body.domain_id else None)
    values = {
        "id": clock.hex_id(),
        "name": body.name,
        "domain_id": body.domain_id or GLOBAL,
        "description": body.description,
        "options": shared.merged(None, body.options),
        "extra": extra or None,
    }
    row = part.change(call.cloud, lambda tx: actions.create(tx, values))
    return Reply({"role": wire.role(call, row)})


def _permitted(tx: Tx, call: Call, what: str) -> Row[Any]:
    """A domain's own roles have rules of their own."""
    row = actions.get(tx, call.params["role_id"])
    rule = f"identity:{what}_domain_role" if row is not None and row.domain_id != GLOBAL else None
    call.permit(targets.of(call, role=row), rule=rule)
    return actions.find(tx, call.params["role_id"])


def show(call: Call) -> Reply:
    with call.cloud.database.read() as tx:
        row = _permitted(tx, call, "get")
    return Reply({"role": wire.role(call, row)})


def update(call: Call) -> Reply:
    with call.cloud.database.read() as tx:
        _permitted(tx, call, "update")
    body, extra = shared.member(call, "role", wire.RoleUpdate)
    shared.same_id(call, "role", "role_id")
    changes = shared.given(body)
    shared.something(changes, extra, "role")

    def work(tx: Tx) -> Row[Any]:
        return actions.change(tx, actions.find(tx, call.params["role_id"]), dict(changes), extra)

    return Reply({"role": wire.role(call, part.change(call.cloud, work))})


def delete(call: Call) -> Reply:
    with call.cloud.database.read() as tx:
        _permitted(tx, call, "delete")
    part.change(call.cloud, lambda tx: actions.remove(tx, actions.find(tx, call.params["role_id"])))
    return Reply()


def index_implied(call: Call) -> Reply:
    call.permit(dict(call.params))
    with call.cloud.database.read() as tx:
        prior = actions.find(tx, call.params["role_id"])
        found = actions.implied_by(tx, prior.id)
    return Reply({"role_inference": wire.inference(call, prior, found), "links": {"self": shared.url(call)}})


def _pair(tx: Tx, call: Call) -> tuple[Row[Any], Row[Any]]:
    return actions.find(tx, call.params["role_id"]), actions.find(tx, call.params["implied_role_id"])


def show_implied(call: Call) -> Reply:
    call.permit(dict(call.params))
    with call.cloud.database.read() as tx:
        prior, other = _existing(tx, call)
    return Reply({"role_inference": wire.inference(call, prior, other), "links": {"self": shared.url(call)}})


def check_implied(call: Call) -> Reply:
    call.permit(dict(call.params))
    with call.cloud.database.read() as tx:
        _existing(tx, call)
    return Reply()


def _existing(tx: Tx, call: Call) -> tuple[Row[Any], Row[Any]]:
    prior, other = _pair(tx, call)
    if not actions.implies(tx, prior.id, other.id):
        raise errors.NotFound(f"{prior.id} does not imply {other.id}")
    return prior, other


def create_implied(call: Call) -> Reply:
    call.permit(dict(call.params))

    def work(tx: Tx) -> tuple[Row[Any], Row[Any]]:
        prior, other = _pair(tx, call)
        actions.imply(tx, prior, other)
        return prior, other

    prior, other = part.change(call.cloud, work)
    return Reply({"role_inference": wire.inference(call, prior, other), "links": {"self": shared.url(call)}})


def delete_implied(call: Call) -> Reply:
    call.permit(dict(call.params))
    prior_id, implied_id = call.params["role_id"], call.params["implied_role_id"]
    part.change(call.cloud, lambda tx: actions.unimply(tx, prior_id, implied_id))
    return Reply()


def index_inferences(call: Call) -> Reply:
    call.permit(dict(call.params))
    with call.cloud.database.read() as tx:
        pairs = [(row.prior_id, row.implied_id) for row in tx.all(select(implied.c.prior_id, implied.c.implied_id))]
        rows = actions.roles_of(tx, [one for pair in pairs for one in pair])
    rules: dict[str, list[Row[Any]]] = {}
    for prior_id, implied_id in pairs:
        rules.setdefault(prior_id, []).append(rows[implied_id])
    shown = [wire.inference(call, rows[prior_id], others) for prior_id, others in rules.items()]
    return Reply({"role_inferences": shown, "links": {"self": shared.url(call)}})


_ONE, _RULE = "/v3/roles/{role_id}", "/v3/roles/{role_id}/implies/{implied_role_id}"
ROUTES = (
    Route("GET", "/v3/roles", index, "identity:list_roles", target="later"),
    Route("POST", "/v3/roles", create, "identity:create_role", 201, target="later"),
    Route("GET", _ONE, show, "identity:get_role", target="later"),
    Route("PATCH", _ONE, update, "identity:update_role", target="later"),
    Route("DELETE", _ONE, delete, "identity:delete_role", 204, target="later"),
    Route("GET", f"{_ONE}/implies", index_implied, "identity:list_implied_roles", target="later"),
    Route("GET", _RULE, show_implied, "identity:get_implied_role", target="later"),
    Route("HEAD", _RULE, check_implied, "identity:check_implied_role", 204, target="later"),
    Route("PUT", _RULE, create_implied, "identity:create_implied_role", 201, target="later"),
    Route("DELETE", _RULE, delete_implied, "identity:delete_implied_role", 204, target="later"),
    Route("GET", "/v3/role_inferences", index_inferences, "identity:list_role_inference_rules", target="later"),
)
