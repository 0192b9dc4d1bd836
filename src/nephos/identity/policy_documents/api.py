"""/v3/policies, and which endpoints they are for."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row, select

from nephos.identity import listing
from nephos.identity import wire as shared
from nephos.identity.catalog import wire as catalog_wire
from nephos.identity.policy_documents import actions, wire
from nephos.identity.policy_documents.store import policy
from nephos.kernel import clock
from nephos.kernel.db.engine import Tx
from nephos.kernel.http.call import Call, Reply
from nephos.kernel.http.routes import Handler, Route

COLUMNS = {name: policy.c[name] for name in ("id", "type")}


def index(call: Call) -> Reply:
    call.permit({})
    with call.cloud.database.read() as tx:
        listed = listing.fetch(tx, call, select(policy), COLUMNS, key=policy.c.id, sort="id")
    return Reply(shared.collection(call, "policies", [wire.policy(call, row) for row in listed.rows], listed.marker))


def create(call: Call) -> Reply:
    call.permit({})
    body, extra = shared.member(call, "policy", wire.PolicyCreate)
    values = {"id": clock.hex_id(), "type": body.type, "blob": wire.text(body.blob), "extra": extra or None}
    row = call.cloud.database.write(lambda tx: actions.create(tx, values))
    return Reply({"policy": wire.policy(call, row)})


def show(call: Call) -> Reply:
    call.permit({})
    with call.cloud.database.read() as tx:
        row = actions.find(tx, call.params["policy_id"])
    return Reply({"policy": wire.policy(call, row)})


def update(call: Call) -> Reply:
    call.permit({})
    body, extra = shared.member(call, "policy", wire.PolicyUpdate)
    shared.same_id(call, "policy", "policy_id")
    changes = shared.given(body)
    shared.something(changes, extra, "policy")
    if "blob" in changes:
        changes["blob"] = wire.text(changes["blob"])

    def work(tx: Tx) -> Row[Any]:
        return actions.change(tx, actions.find(tx, call.params["policy_id"]), dict(changes), extra)

    return Reply({"policy": wire.policy(call, call.cloud.database.write(work))})


def delete(call: Call) -> Reply:
    call.permit({})
    ident = call.params["policy_id"]
    call.cloud.database.write(lambda tx: actions.remove(tx, actions.find(tx, ident)))
    return Reply()


def _place(call: Call) -> tuple[str, dict[str, str]]:
    place = dict(call.params)
    return place.pop("policy_id"), place


def check(call: Call) -> Reply:
    call.permit({})
    ident, place = _place(call)
    with call.cloud.database.read() as tx:
        actions.check(tx, ident, place)
    return Reply()


def associate(call: Call) -> Reply:
    call.permit({})
    ident, place = _place(call)
    new_id = clock.hex_id()
    call.cloud.database.write(lambda tx: actions.associate(tx, new_id, ident, place))
    return Reply()


def dissociate(call: Call) -> Reply:
    call.permit({})
    ident, place = _place(call)
    call.cloud.database.write(lambda tx: actions.dissociate(tx, ident, place))
    return Reply()


def index_endpoints(call: Call) -> Reply:
    call.permit({})
    with call.cloud.database.read() as tx:
        rows = actions.endpoints_for(tx, call.params["policy_id"])
    return Reply(shared.collection(call, "endpoints", [catalog_wire.endpoint(call, row) for row in rows]))


def show_for_endpoint(call: Call) -> Reply:
    call.permit({})
    with call.cloud.database.read() as tx:
        row = actions.for_endpoint(tx, call.params["endpoint_id"])
    return Reply({"policy": wire.policy(call, row)})


_ONE = "/v3/policies/{policy_id}"
_OF = f"{_ONE}/OS-ENDPOINT-POLICY"
_VERBS: tuple[tuple[str, Handler, str], ...] = (
    ("GET", check, "check"),
    ("PUT", associate, "create"),
    ("DELETE", dissociate, "delete"),
)
_PLACES = (
    ("endpoints/{endpoint_id}", "endpoint"),
    ("services/{service_id}", "service"),
    ("services/{service_id}/regions/{region_id}", "region_and_service"),
)
ROUTES = (
    Route("GET", "/v3/policies", index, "identity:list_policies", target="later"),
    Route("POST", "/v3/policies", create, "identity:create_policy", 201, target="later"),
    Route("GET", _ONE, show, "identity:get_policy", target="later"),
    Route("PATCH", _ONE, update, "identity:update_policy", target="later"),
    Route("DELETE", _ONE, delete, "identity:delete_policy", 204, target="later"),
    Route("GET", f"{_OF}/endpoints", index_endpoints, "identity:list_endpoints_for_policy", target="later"),
    Route(
        "GET",
        "/v3/endpoints/{endpoint_id}/OS-ENDPOINT-POLICY/policy",
        show_for_endpoint,
        "identity:get_policy_for_endpoint",
        target="later",
    ),
    *(
        Route(verb, f"{_OF}/{path}", handler, f"identity:{word}_policy_association_for_{what}", 204, target="later")
        for path, what in _PLACES
        for verb, handler, word in _VERBS
    ),
)
