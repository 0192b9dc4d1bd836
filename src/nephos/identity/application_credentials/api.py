"""/v3/users/{user_id}/application_credentials and /v3/users/{user_id}/access_rules."""

from __future__ import annotations

import base64
from typing import Any

from sqlalchemy import Row, select

from nephos import errors
from nephos.identity import listing, part, targets
from nephos.identity import wire as shared
from nephos.identity.application_credentials import actions, wire
from nephos.identity.application_credentials.store import access_rule, application_credential
from nephos.identity.roles.actions import find_role
from nephos.identity.roles.graph import Role
from nephos.identity.users import actions as users
from nephos.kernel import clock
from nephos.kernel.db.engine import Tx
from nephos.kernel.http.call import Call, Reply
from nephos.kernel.http.routes import Route

COLUMNS = {name: application_credential.c[name] for name in ("id", "name", "project_id")}
RULE_COLUMNS = {name: access_rule.c[name] for name in ("id", "service", "method", "path")}


def _permit(call: Call) -> None:
    """An application credential outlives the trust or the EC2 key that it would be made by, so neither may see or make
    any. One that was made by another application credential is another matter: see `unrestricted`."""
    with call.cloud.database.read() as tx:
        call.permit(targets.of(call, user=users.get(tx, call.params["user_id"])))
        if "application_credential" not in call.who.methods and (call.who.delegated or call.who.trust_id is not None):
            raise errors.Forbidden("Cannot manage application credentials with a token issued via delegation.")
        users.find(tx, call.params["user_id"])


def _unrestricted(call: Call) -> None:
    if call.who.restricted:
        raise errors.Forbidden(
            "Using method 'application_credential' is not allowed for managing additional application credentials."
        )


def index(call: Call) -> Reply:
    _permit(call)
    statement = select(application_credential).where(application_credential.c.user_id == call.params["user_id"])
    with call.cloud.database.read() as tx:
        listed = listing.fetch(tx, call, statement, COLUMNS, key=application_credential.c.id)
        roles, rules = actions.described(tx, listed.rows)
    items = [wire.application_credential(call, row, roles.get(row.id, ()), rules) for row in listed.rows]
    return Reply(shared.collection(call, "application_credentials", items, listed.marker))


def create(call: Call) -> Reply:
    """For oneself and the project that one's token is for; the secret is shown this once."""
    _permit(call)
    _unrestricted(call)
    who, user_id = call.who, call.params["user_id"]
    body, _ = shared.member(call, "application_credential", wire.Create)
    if who.user_id != user_id:
        raise errors.Forbidden("Cannot create an application credential for another user.")
    if who.project_id is None:
        raise errors.BadRequest("An application credential is for a project: use a token that is scoped to one.")
    if body.project_id is not None and body.project_id != who.project_id:
        raise errors.BadRequest("An application credential is for the project of the token that makes it.")
    expires = shared.parse_moment(body.expires_at, "expires_at") if body.expires_at is not None else None
    if expires is not None and expires <= clock.now_us():
        raise errors.BadRequest("Invalid input for expires_at: it has passed.")
    role_ids = _roles(call, body.roles)
    secret = body.secret or base64.urlsafe_b64encode(clock.token_bytes(64)).rstrip(b"=").decode()
    values = {
        "id": clock.hex_id(),
        "user_id": user_id,
        "project_id": who.project_id,
        "name": body.name,
        "description": body.description,
        "secret_hash": part.of(call.cloud).passwords.hash(secret),
        "unrestricted": body.unrestricted is True,
        "expires_at": expires,
    }
    rules = None if body.access_rules is None else [(clock.hex_id(), ref) for ref in body.access_rules]

    def work(tx: Tx) -> tuple[Row[Any], list[Row[Any]], dict[str, Row[Any]]]:
        row = actions.create(tx, values, role_ids, rules)
        roles, known = actions.described(tx, [row])
        return row, roles.get(row.id, []), known

    row, roles, known = part.change(call.cloud, work)
    shown = {**wire.application_credential(call, row, roles, known), "secret": secret}
    return Reply({"application_credential": shown})


def _roles(call: Call, asked: list[wire.RoleRef]) -> list[str]:
    """Those asked for with what they imply, or all that the token has. Raises BadRequest for one it has not."""
    identity = part.of(call.cloud)
    held: tuple[Role, ...] = identity.subject(call.token or "").roles
    if not asked:
        return [role.id for role in held]
    with call.cloud.database.read() as tx:
        graph = identity.graph(tx)
        wanted: set[str] = set()
        for ref in asked:
            row = find_role(tx, ref.name) if ref.name is not None and ref.id is None else None
            role_id = row.id if row is not None else ref.id
            if role_id is None:
                raise errors.NotFound(f"Could not find role: {ref.name}.")
            wanted |= graph.closure.get(role_id, {role_id})
    if not wanted <= {role.id for role in held}:
        raise errors.BadRequest(
            "Invalid application credential: Cannot create an application credential with unassigned role"
        )
    return sorted(wanted)


def _mine(tx: Tx, call: Call) -> Row[Any]:
    return actions.find(tx, call.params["user_id"], call.params["application_credential_id"])


def show(call: Call) -> Reply:
    _permit(call)
    with call.cloud.database.read() as tx:
        row = _mine(tx, call)
        roles, rules = actions.described(tx, [row])
    return Reply({"application_credential": wire.application_credential(call, row, roles.get(row.id, ()), rules)})


def delete(call: Call) -> Reply:
    _permit(call)
    _unrestricted(call)
    part.change(call.cloud, lambda tx: actions.remove(tx, _mine(tx, call)))
    return Reply()


def index_rules(call: Call) -> Reply:
    _permit(call)
    statement = select(access_rule).where(access_rule.c.user_id == call.params["user_id"])
    with call.cloud.database.read() as tx:
        listed = listing.fetch(tx, call, statement, RULE_COLUMNS, key=access_rule.c.id, sort="path")
    return Reply(shared.collection(call, "access_rules", [wire.rule(call, row) for row in listed.rows], listed.marker))


def show_rule(call: Call) -> Reply:
    _permit(call)
    with call.cloud.database.read() as tx:
        row = actions.find_rule(tx, call.params["user_id"], call.params["access_rule_id"])
    return Reply({"access_rule": wire.rule(call, row)})


def delete_rule(call: Call) -> Reply:
    _permit(call)
    user_id, ident = call.params["user_id"], call.params["access_rule_id"]
    call.cloud.database.write(lambda tx: actions.remove_rule(tx, actions.find_rule(tx, user_id, ident)))
    return Reply()


_ALL = "/v3/users/{user_id}/application_credentials"
_RULES = "/v3/users/{user_id}/access_rules"
ROUTES = (
    Route("GET", _ALL, index, "identity:list_application_credentials", target="later"),
    Route("POST", _ALL, create, "identity:create_application_credential", 201, target="later"),
    Route("GET", f"{_ALL}/{{application_credential_id}}", show, "identity:get_application_credential", target="later"),
    Route(
        "DELETE",
        f"{_ALL}/{{application_credential_id}}",
        delete,
        "identity:delete_application_credential",
        204,
        target="later",
    ),
    Route("GET", _RULES, index_rules, "identity:list_access_rules", target="later"),
    Route("GET", f"{_RULES}/{{access_rule_id}}", show_rule, "identity:get_access_rule", target="later"),
    Route("DELETE", f"{_RULES}/{{access_rule_id}}", delete_rule, "identity:delete_access_rule", 204, target="later"),
)
