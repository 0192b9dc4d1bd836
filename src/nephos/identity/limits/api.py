"""/v3/registered_limits and /v3/limits."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row, or_, select

from nephos.identity import listing
from nephos.identity import wire as shared
from nephos.identity.limits import actions, models, wire
from nephos.identity.limits.store import limit, registered_limit
from nephos.identity.projects import actions as projects
from nephos.identity.projects.store import project
from nephos.kernel import clock
from nephos.kernel.db.engine import Tx
from nephos.kernel.http.call import Call, Reply
from nephos.kernel.http.routes import Route

_REGISTERED = {name: registered_limit.c[name] for name in ("id", "service_id", "region_id", "resource_name")}
_LIMITS = {**_REGISTERED, "id": limit.c.id, "project_id": limit.c.project_id, "domain_id": limit.c.domain_id}


def index_registered(call: Call) -> Reply:
    call.permit({})
    with call.cloud.database.read() as tx:
        listed = listing.fetch(
            tx, call, select(registered_limit), _REGISTERED, key=registered_limit.c.id, sort="resource_name"
        )
    items = [wire.registered_limit(call, row) for row in listed.rows]
    return Reply(shared.collection(call, "registered_limits", items, listed.marker))


def create_registered(call: Call) -> Reply:
    """All of them or none."""
    call.permit({})
    body = call.body(wire.RegisteredBody)
    new = [{"id": clock.hex_id(), **shared.given(one)} for one in body.registered_limits]
    rows = call.cloud.database.write(lambda tx: [actions.register(tx, one) for one in new])
    return Reply({"registered_limits": [wire.registered_limit(call, row) for row in rows]})


def show_registered(call: Call) -> Reply:
    call.permit({})
    with call.cloud.database.read() as tx:
        row = actions.find_registered(tx, call.params["registered_limit_id"])
    return Reply({"registered_limit": wire.registered_limit(call, row)})


def update_registered(call: Call) -> Reply:
    call.permit({})
    body, _ = shared.member(call, "registered_limit", wire.RegisteredUpdate)
    changes = shared.given(body)
    shared.something(changes, {}, "registered_limit")
    ident = call.params["registered_limit_id"]
    row = call.cloud.database.write(
        lambda tx: actions.change_registered(tx, actions.find_registered(tx, ident), changes)
    )
    return Reply({"registered_limit": wire.registered_limit(call, row)})


def delete_registered(call: Call) -> Reply:
    call.permit({})
    ident = call.params["registered_limit_id"]
    call.cloud.database.write(lambda tx: actions.remove_registered(tx, actions.find_registered(tx, ident)))
    return Reply()


def show_model(call: Call) -> Reply:
    call.permit({})
    return Reply({"model": models.document(call.cloud.settings.limits.model)})


def index(call: Call) -> Reply:
    """Admins and services see all, others those of their own domain or project."""
    call.permit({})
    who, statement = call.who, actions.all_limits()
    if who.system_scope is None and not who.roles & {"admin", "service"}:
        if who.domain_id is not None:
            inside = select(project.c.id).where(project.c.domain_id == who.domain_id)
            statement = statement.where(or_(limit.c.domain_id == who.domain_id, limit.c.project_id.in_(inside)))
        else:
            statement = statement.where(limit.c.project_id == who.project_id)
    with call.cloud.database.read() as tx:
        listed = listing.fetch(tx, call, statement, _LIMITS, key=limit.c.id, sort="resource_name")
    return Reply(shared.collection(call, "limits", [wire.limit(call, row) for row in listed.rows], listed.marker))


def create(call: Call) -> Reply:
    """All of them or none."""
    call.permit({})
    body = call.body(wire.LimitsBody)
    ids, model = [clock.hex_id() for _ in body.limits], call.cloud.settings.limits.model

    def work(tx: Tx) -> list[Row[Any]]:
        made = []
        for ident, one in zip(ids, body.limits, strict=True):
            values = {
                "id": ident,
                "project_id": one.project_id,
                "domain_id": one.domain_id,
                "resource_limit": one.resource_limit,
                "description": one.description,
            }
            made.append(actions.create(tx, values, one.service_id, one.region_id, one.resource_name))
        models.check(tx, model, made)
        return made

    return Reply({"limits": [wire.limit(call, row) for row in call.cloud.database.write(work)]})


def show(call: Call) -> Reply:
    with call.cloud.database.read() as tx:
        row = actions.get(tx, call.params["limit_id"])
        target: dict[str, Any] = {}
        if row is not None:
            target["target.limit.project_id"] = row.project_id
            if row.domain_id is not None:
                target["target.limit.domain.id"] = row.domain_id
            else:
                target["target.limit.project.domain_id"] = projects.find(tx, row.project_id).domain_id
        call.permit(target)
        row = actions.find(tx, call.params["limit_id"])
    return Reply({"limit": wire.limit(call, row)})


def update(call: Call) -> Reply:
    call.permit({})
    body, _ = shared.member(call, "limit", wire.LimitUpdate)
    changes = shared.given(body)
    shared.something(changes, {}, "limit")
    ident, model = call.params["limit_id"], call.cloud.settings.limits.model

    def work(tx: Tx) -> Row[Any]:
        row = actions.change(tx, actions.find(tx, ident).id, changes)
        models.check(tx, model, [row])
        return row

    return Reply({"limit": wire.limit(call, call.cloud.database.write(work))})


def delete(call: Call) -> Reply:
    call.permit({})
    ident = call.params["limit_id"]
    call.cloud.database.write(lambda tx: actions.remove(tx, actions.find(tx, ident).id))
    return Reply()


_R, _L = "/v3/registered_limits/{registered_limit_id}", "/v3/limits/{limit_id}"
ROUTES = (
    Route("GET", "/v3/registered_limits", index_registered, "identity:list_registered_limits", target="later"),
    Route("POST", "/v3/registered_limits", create_registered, "identity:create_registered_limits", 201, target="later"),
    Route("GET", _R, show_registered, "identity:get_registered_limit", target="later"),
    Route("PATCH", _R, update_registered, "identity:update_registered_limit", target="later"),
    Route("DELETE", _R, delete_registered, "identity:delete_registered_limit", 204, target="later"),
    Route("GET", "/v3/limits/model", show_model, "identity:get_limit_model", target="later"),
    Route("GET", "/v3/limits", index, "identity:list_limits", target="later"),
    Route("POST", "/v3/limits", create, "identity:create_limits", 201, target="later"),
    Route("GET", _L, show, "identity:get_limit", target="later"),
    Route("PATCH", _L, update, "identity:update_limit", target="later"),
    Route("DELETE", _L, delete, "identity:delete_limit", 204, target="later"),
)
