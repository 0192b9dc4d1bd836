"""/v3/groups and who is in them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row, select

from nephos import errors
from nephos.identity import listing, part, targets
from nephos.identity import wire as shared
from nephos.identity.groups import actions, wire
from nephos.identity.groups.store import group, membership
from nephos.identity.users import actions as users
from nephos.identity.users import api as users_api
from nephos.identity.users import wire as user_wire
from nephos.identity.users.store import user
from nephos.kernel import clock
from nephos.kernel.db.engine import Tx
from nephos.kernel.http.call import Call, Reply
from nephos.kernel.http.routes import Route

COLUMNS = {name: group.c[name] for name in ("id", "name", "domain_id", "description")}


def index(call: Call) -> Reply:
    call.permit(targets.of_domain(call))
    statement = select(group)
    if call.who.domain_id is not None:
        statement = statement.where(group.c.domain_id == call.who.domain_id)
    with call.cloud.database.read() as tx:
        listed = listing.fetch(tx, call, statement, COLUMNS, key=group.c.id)
    items = [wire.group(call, row) for row in listed.rows]
    return Reply(shared.collection(call, "groups", items, listed.marker))


def create(call: Call) -> Reply:
    body, extra = shared.member(call, "group", wire.GroupCreate)
    domain_id = body.domain_id or call.who.domain_id or "default"
    call.permit(targets.of(call, group={"domain_id": domain_id, "name": body.name}))
    values = {
        "id": clock.hex_id(),
        "name": body.name,
        "domain_id": domain_id,
        "description": body.description or "",
        "extra": extra or None,
    }
    row = part.change(call.cloud, lambda tx: actions.create(tx, values))
    return Reply({"group": wire.group(call, row)})


def _permitted(tx: Tx, call: Call) -> Row[Any]:
    row = actions.get(tx, call.params["group_id"])
    call.permit(targets.of(call, group=row))
    return actions.find(tx, call.params["group_id"])


def show(call: Call) -> Reply:
    with call.cloud.database.read() as tx:
        row = _permitted(tx, call)
    return Reply({"group": wire.group(call, row)})


def update(call: Call) -> Reply:
    with call.cloud.database.read() as tx:
        _permitted(tx, call)
    body, extra = shared.member(call, "group", wire.GroupUpdate)
    shared.same_id(call, "group", "group_id")
    changes = shared.given(body)
    shared.something(changes, extra, "group")

    def work(tx: Tx) -> Row[Any]:
        return actions.change(tx, actions.find(tx, call.params["group_id"]), dict(changes), extra)

    return Reply({"group": wire.group(call, part.change(call.cloud, work))})


def delete(call: Call) -> Reply:
    with call.cloud.database.read() as tx:
        _permitted(tx, call)
    part.change(call.cloud, lambda tx: actions.remove(tx, actions.find(tx, call.params["group_id"])))
    return Reply()


def index_members(call: Call) -> Reply:
    with call.cloud.database.read() as tx:
        row = _permitted(tx, call)
        inside = select(membership.c.user_id).where(membership.c.group_id == row.id)
        listed = users_api.page(tx, call, select(user).where(user.c.id.in_(inside)))
    items = [user_wire.user(call, one) for one in listed.rows]
    return Reply(shared.collection(call, "users", items, listed.marker))


def _pair(tx: Tx, call: Call) -> tuple[str, str]:
    group_id, user_id = call.params["group_id"], call.params["user_id"]
    call.permit(targets.of(call, group=actions.get(tx, group_id), user=users.get(tx, user_id)))
    return actions.find(tx, group_id).id, users.find(tx, user_id).id


def check_member(call: Call) -> Reply:
    with call.cloud.database.read() as tx:
        group_id, user_id = _pair(tx, call)
        if not actions.is_member(tx, group_id, user_id):
            raise errors.NotFound(f"User '{user_id}' not found in group '{group_id}'.")
    return Reply()


def add_member(call: Call) -> Reply:
    with call.cloud.database.read() as tx:
        group_id, user_id = _pair(tx, call)
    part.change(call.cloud, lambda tx: actions.add_member(tx, group_id, user_id))
    return Reply()


def remove_member(call: Call) -> Reply:
    with call.cloud.database.read() as tx:
        group_id, user_id = _pair(tx, call)
    part.change(call.cloud, lambda tx: actions.remove_member(tx, group_id, user_id))
    return Reply()


_ONE, _MEMBER = "/v3/groups/{group_id}", "/v3/groups/{group_id}/users/{user_id}"
ROUTES = (
    Route("GET", "/v3/groups", index, "identity:list_groups", target="later"),
    Route("POST", "/v3/groups", create, "identity:create_group", 201, target="later"),
    Route("GET", _ONE, show, "identity:get_group", target="later"),
    Route("PATCH", _ONE, update, "identity:update_group", target="later"),
    Route("DELETE", _ONE, delete, "identity:delete_group", 204, target="later"),
    Route("GET", f"{_ONE}/users", index_members, "identity:list_users_in_group", target="later"),
    Route("GET", _MEMBER, check_member, "identity:check_user_in_group", 204, target="later"),
    Route("PUT", _MEMBER, add_member, "identity:add_user_to_group", 204, target="later"),
    Route("DELETE", _MEMBER, remove_member, "identity:remove_user_from_group", 204, target="later"),
)
