"""/v3/OS-TRUST/trusts."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row, select

from nephos import errors
from nephos.identity import listing, part, targets
from nephos.identity import wire as shared
from nephos.identity.assignments import effective
from nephos.identity.projects import actions as projects
from nephos.identity.roles import actions as roles
from nephos.identity.trusts import actions, wire
from nephos.identity.trusts.store import trust
from nephos.identity.users import actions as users
from nephos.kernel import clock
from nephos.kernel.db.engine import Tx
from nephos.kernel.http.call import Call, Reply
from nephos.kernel.http.routes import Route

COLUMNS = {name: trust.c[name] for name in ("id", "trustor_user_id", "trustee_user_id")}


def _own_hands(call: Call) -> None:
    """What is narrower than its user neither sees nor makes trusts; a trust may be passed on."""
    if call.who.delegated:
        raise errors.Forbidden("Delegated tokens cannot manage trusts.")


def index(call: Call) -> Reply:
    trustor, trustee = call.query.one("trustor_user_id"), call.query.one("trustee_user_id")
    if trustor:
        call.permit({"target.trust.trustor_user_id": trustor}, rule="identity:list_trusts_for_trustor")
    elif trustee:
        call.permit({"target.trust.trustee_user_id": trustee}, rule="identity:list_trusts_for_trustee")
    else:
        call.permit({})
    _own_hands(call)
    with call.cloud.database.read() as tx:
        listed = listing.fetch(tx, call, select(trust), COLUMNS, key=trust.c.id, sort="id")
        rows = [row for row in listed.rows if actions.get(tx, row.id) is not None]
    return Reply(shared.collection(call, "trusts", [wire.trust(call, row, None) for row in rows], listed.marker))


def create(call: Call) -> Reply:
    """By the trustor itself, for roles that it has."""
    body, _ = shared.member(call, "trust", wire.Create)
    call.permit({"target.trust.trustor_user_id": body.trustor_user_id})
    _own_hands(call)
    if call.who.user_id != body.trustor_user_id:
        raise errors.Forbidden("The authenticated user should match the trustor")
    if body.project_id is not None and not body.roles:
        raise errors.Forbidden("At least one role should be specified")
    expires = shared.parse_moment(body.expires_at, "expires_at") if body.expires_at is not None else None
    if expires is not None and expires <= clock.now_us():
        raise errors.BadRequest("The expiration date of the trust has passed.")
    subject = part.of(call.cloud).subject(call.token or "")
    source_id = subject.token.trust_id
    values = {
        "id": clock.hex_id(),
        "trustor_user_id": body.trustor_user_id,
        "trustee_user_id": body.trustee_user_id,
        "project_id": body.project_id,
        "impersonation": body.impersonation,
        "remaining_uses": body.remaining_uses,
        "redelegation_count": body.redelegation_count,
        "expires_at": expires,
    }
    with call.cloud.database.read() as tx:
        users.find(tx, body.trustee_user_id)
        role_ids = _held(tx, call, body, source_id)

    def work(tx: Tx) -> tuple[Row[Any], list[Row[Any]]]:
        source = actions.find(tx, source_id) if source_id is not None else None
        row = actions.create(tx, values, role_ids, redelegable=body.allow_redelegation is True, source=source)
        return row, actions.roles(tx, row.id)

    row, carried = call.cloud.database.write(work)
    return Reply({"trust": wire.trust(call, row, carried)})


def _held(tx: Tx, call: Call, body: wire.Create, source_id: str | None) -> list[str]:
    """The ids of the roles asked for. Raises NotFound for one that the (first) trustor has not on the project."""
    if body.project_id is None:
        if body.roles:
            raise errors.BadRequest("A trust with roles is for a project.")
        return []
    place = projects.find(tx, body.project_id)
    trustor = body.trustor_user_id
    if source_id is not None:
        trustor = actions.chain(tx, actions.find(tx, source_id))[-1].trustor_user_id
    domain_id = place.domain_id or place.id
    graph = part.of(call.cloud).graph(tx)
    held = {one.id for one in graph.expand(effective.on_project(tx, trustor, place.id, place.parent_id, domain_id))}
    wanted = []
    for ref in body.roles:
        row = roles.find_role(tx, ref.name) if ref.id is None and ref.name is not None else None
        ident = row.id if row is not None else ref.id
        if ident is None or ident not in held:
            raise errors.NotFound(f"Could not find role: {ref.id or ref.name}.")
        wanted.append(ident)
    return list(dict.fromkeys(wanted))


def _permitted(tx: Tx, call: Call) -> Row[Any]:
    """A trust that is not there, or not any more, is a 404 to everybody, as in Keystone."""
    row = actions.find(tx, call.params["trust_id"])
    target = targets.of(call)
    target["target.trust.trustor_user_id"] = row.trustor_user_id
    target["target.trust.trustee_user_id"] = row.trustee_user_id
    call.permit(target)
    _own_hands(call)
    return row


def show(call: Call) -> Reply:
    with call.cloud.database.read() as tx:
        row = _permitted(tx, call)
        carried = actions.roles(tx, row.id)
    return Reply({"trust": wire.trust(call, row, carried)})


def delete(call: Call) -> Reply:
    with call.cloud.database.read() as tx:
        row = _permitted(tx, call)
    part.change(call.cloud, lambda tx: actions.remove(tx, row))
    return Reply()


def index_roles(call: Call) -> Reply:
    with call.cloud.database.read() as tx:
        row = _permitted(tx, call)
        carried = actions.roles(tx, row.id)
    return Reply(shared.collection(call, "roles", [wire.role(call, one) for one in carried]))


def show_role(call: Call) -> Reply:
    with call.cloud.database.read() as tx:
        row = _permitted(tx, call)
        for one in actions.roles(tx, row.id):
            if one.id == call.params["role_id"]:
                return Reply({"role": wire.role(call, one)})
    raise errors.NotFound(f"Could not find role: {call.params['role_id']}.")


_ALL, _ONE = "/v3/OS-TRUST/trusts", "/v3/OS-TRUST/trusts/{trust_id}"
ROUTES = (
    Route("GET", _ALL, index, "identity:list_trusts", target="later"),
    Route("POST", _ALL, create, "identity:create_trust", 201, target="later"),
    Route("GET", _ONE, show, "identity:get_trust", target="later"),
    Route("DELETE", _ONE, delete, "identity:delete_trust", 204, target="later"),
    Route("GET", f"{_ONE}/roles", index_roles, "identity:list_roles_for_trust", target="later"),
    Route("GET", f"{_ONE}/roles/{{role_id}}", show_role, "identity:get_role_for_trust", target="later"),
)
