"""/v3/users."""

from __future__ import annotations

from typing import Any

from msgspec import UNSET
from sqlalchemy import Row, Select, select

from nephos import errors
from nephos.identity import listing, part, targets
from nephos.identity import wire as shared
from nephos.identity.assignments import effective
from nephos.identity.groups import wire as group_wire
from nephos.identity.groups.store import group, membership
from nephos.identity.projects import api as projects
from nephos.identity.projects.store import project
from nephos.identity.tokens import actions as login_actions
from nephos.identity.tokens import login
from nephos.identity.users import actions, compliance, wire
from nephos.identity.users.store import user
from nephos.kernel import clock
from nephos.kernel.db.engine import Tx
from nephos.kernel.http.call import Call, Reply
from nephos.kernel.http.routes import Route

COLUMNS = {name: user.c[name] for name in ("id", "name", "enabled", "domain_id", "default_project_id")}
_GROUP_COLUMNS = {name: group.c[name] for name in ("id", "name", "domain_id", "description")}
_COMPARISONS = {"lt": "__lt__", "lte": "__le__", "gt": "__gt__", "gte": "__ge__", "eq": "__eq__", "neq": "__ne__"}


def index(call: Call) -> Reply:
    call.permit(targets.of_domain(call))
    statement = select(user)
    if call.who.domain_id is not None:
        statement = statement.where(user.c.domain_id == call.who.domain_id)
    with call.cloud.database.read() as tx:
        listed = page(tx, call, statement)
    items = [wire.user(call, row) for row in listed.rows]
    return Reply(shared.collection(call, "users", items, listed.marker))


def page(tx: Tx, call: Call, statement: Select[Any]) -> listing.Listed:
    """The users of `statement` that the query asks for."""
    expiry = call.query.one("password_expires_at")
    if expiry is not None:
        statement = statement.where(_expires(expiry))
    return listing.fetch(tx, call, statement, COLUMNS, key=user.c.id)


def _expires(text: str) -> Any:
    """`lt:2016-12-08T22:02:00Z` and the like."""
    how, _, when = text.partition(":")
    if how not in _COMPARISONS:
        how, when = "eq", text
    moment = shared.parse_moment(when, "password_expires_at")
    return getattr(user.c.password_expires_at, _COMPARISONS[how])(moment)


def create(call: Call) -> Reply:
    body, extra = shared.member(call, "user", wire.UserCreate)
    domain_id = body.domain_id or call.who.domain_id or "default"
    call.permit(targets.of(call, user={"domain_id": domain_id, "name": body.name}))
    if body.description is not UNSET:
        extra["description"] = body.description
    values = {
        "id": clock.hex_id(),
        "name": body.name,
        "domain_id": domain_id,
        "enabled": body.enabled,
        "default_project_id": body.default_project_id,
        "options": shared.merged(None, wire.options(body.options)),
        "extra": extra or None,
        "password_hash": _hash(call, body.password),
    }
    row = part.change(call.cloud, lambda tx: actions.create(tx, values, call.cloud.settings.security))
    return Reply({"user": wire.user(call, row)})


def _hash(call: Call, password: str | None) -> str | None:
    if password is None:
        return None
    compliance.strong(call.cloud.settings.security, password)
    return part.of(call.cloud).passwords.hash(password)


def _permitted(tx: Tx, call: Call) -> Row[Any]:
    row = actions.get(tx, call.params["user_id"])
    call.permit(targets.of(call, user=row))
    return actions.find(tx, call.params["user_id"])


def show(call: Call) -> Reply:
    with call.cloud.database.read() as tx:
        row = _permitted(tx, call)
    return Reply({"user": wire.user(call, row)})


def update(call: Call) -> Reply:
    with call.cloud.database.read() as tx:
        _permitted(tx, call)
    body, extra = shared.member(call, "user", wire.UserUpdate)
    shared.same_id(call, "user", "user_id")
    changes = shared.given(body)
    shared.something(changes, extra, "user")
    if "description" in changes:
        extra["description"] = changes.pop("description")
    if "options" in changes:
        changes["options"] = wire.options(changes["options"])
    new_hash = _hash(call, changes.pop("password", None))
    if new_hash is not None:
        changes["password_hash"] = new_hash

    def work(tx: Tx) -> Row[Any]:
        old = actions.find(tx, call.params["user_id"])
        return actions.change(tx, old, dict(changes), extra, call.cloud.settings.security)

    return Reply({"user": wire.user(call, part.change(call.cloud, work))})


def delete(call: Call) -> Reply:
    with call.cloud.database.read() as tx:
        _permitted(tx, call)
    part.change(call.cloud, lambda tx: actions.remove(tx, actions.find(tx, call.params["user_id"])))
    return Reply()


def change_password(call: Call) -> Reply:
    """By the user itself, with the present password for proof; no token is needed, because it may have expired."""
    body, _ = shared.member(call, "user", wire.PasswordChange)
    identity, rules = part.of(call.cloud), call.cloud.settings.security
    with call.cloud.database.read() as tx:
        who = login_actions.by_id(tx, call.params["user_id"])
    login.check_password(call.cloud, identity, who, body.original_password)
    with call.cloud.database.read() as tx:
        row = actions.find(tx, call.params["user_id"])
        hashes = compliance.former(tx, rules, row)
    compliance.changeable(rules, row)
    compliance.strong(rules, body.password)
    if body.password == body.original_password:
        raise errors.BadRequest("The new password must differ from the present one.")
    compliance.unused(rules, identity.passwords, hashes, body.password)
    new_hash = identity.passwords.hash(body.password)

    def work(tx: Tx) -> None:
        now = actions.find(tx, row.id)
        if now.password_hash != row.password_hash:
            raise errors.Conflict("The password was changed meanwhile.")
        actions.set_password(tx, now, new_hash, rules, by_user=True)

    part.change(call.cloud, work)
    return Reply()


def revoke_tokens(call: Call) -> Reply:
    """All of a user's tokens count no more."""
    with call.cloud.database.read() as tx:
        _permitted(tx, call)
    part.change(call.cloud, lambda tx: actions.revoke_tokens(tx, actions.find(tx, call.params["user_id"])))
    return Reply()


def index_projects(call: Call) -> Reply:
    with call.cloud.database.read() as tx:
        _permitted(tx, call)
        ids = effective.project_ids(tx, call.params["user_id"])
        return Reply(projects.page(tx, call, select(project).where(project.c.id.in_(ids))))


def index_groups(call: Call) -> Reply:
    with call.cloud.database.read() as tx:
        _permitted(tx, call)
        mine = select(membership.c.group_id).where(membership.c.user_id == call.params["user_id"])
        listed = listing.fetch(tx, call, select(group).where(group.c.id.in_(mine)), _GROUP_COLUMNS, key=group.c.id)
    items = [group_wire.group(call, row) for row in listed.rows]
    return Reply(shared.collection(call, "groups", items, listed.marker))


_ONE = "/v3/users/{user_id}"
ROUTES = (
    Route("GET", "/v3/users", index, "identity:list_users", target="later"),
    Route("POST", "/v3/users", create, "identity:create_user", 201, target="later"),
    Route("GET", _ONE, show, "identity:get_user", target="later"),
    Route("PATCH", _ONE, update, "identity:update_user", target="later"),
    Route("DELETE", _ONE, delete, "identity:delete_user", 204, target="later"),
    Route("POST", f"{_ONE}/password", change_password, None, 204),
    Route("DELETE", f"{_ONE}/tokens", revoke_tokens, "identity:revoke_tokens_for_user", 204, target="later"),
    Route("GET", f"{_ONE}/projects", index_projects, "identity:list_user_projects", target="later"),
    Route("GET", f"{_ONE}/groups", index_groups, "identity:list_groups_for_user", target="later"),
)
