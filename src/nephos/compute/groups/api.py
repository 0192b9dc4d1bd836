"""`/os-server-groups`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, UnsetType
from sqlalchemy import select

from nephos import errors
from nephos.compute import wire as common
from nephos.compute.groups import actions, store
from nephos.compute.servers import store as servers
from nephos.kernel import clock
from nephos.kernel.db.engine import Tx
from nephos.kernel.http.call import Call, Reply
from nephos.kernel.http.routes import Route

Policy = Literal["anti-affinity", "affinity", "soft-anti-affinity", "soft-affinity"]
_RULE = "os_compute_api:os-server-groups"


class Rules(common.Strict):
    max_server_per_host: common.Whole | UnsetType = UNSET


class New(common.Strict):
    name: common.Name
    policies: Annotated[list[Policy], Meta(min_length=1, max_length=1)] | UnsetType = UNSET
    policy: Policy | UnsetType = UNSET
    rules: Rules | UnsetType = UNSET


class NewBody(common.Strict):
    """POST /os-server-groups: `policies` until 2.63, `policy` and `rules` from 2.64 on."""

    server_group: New


def create(call: Call) -> Reply:
    body = call.body(NewBody).server_group
    policy, rules = _policy(call, body)
    name = common.name(body.name)
    group_id = clock.uuid4()

    def work(tx: Tx) -> dict[str, Any]:
        settings = call.cloud.settings.quota
        row = actions.create(tx, settings, call.who, group_id=group_id, name=name, policy=policy, rules=rules)
        return _shown(tx, call, [row])[0]

    return Reply({"server_group": call.cloud.database.write(work)})


def _policy(call: Call, body: New) -> tuple[str, dict[str, int]]:
    if common.since(call, 64):
        common.refuse_earlier(body, call.version, {"policies": 63})
        if body.policy is UNSET:
            raise errors.BadRequest("Invalid input: Object missing required field `policy` - at `$.server_group`")
        rules: dict[str, int] = {}
        if body.rules is not UNSET and body.rules.max_server_per_host is not UNSET:
            rules["max_server_per_host"] = common.whole(body.rules.max_server_per_host, "max_server_per_host", least=1)
            if body.policy != "anti-affinity":
                raise errors.BadRequest("Only anti-affinity policy supports rules.")
        return body.policy, rules
    common.refuse_later(body, call.version, {"policy": 64, "rules": 64})
    if body.policies is UNSET:
        raise errors.BadRequest("Invalid input: Object missing required field `policies` - at `$.server_group`")
    chosen = body.policies[0]
    if chosen.startswith("soft-") and not common.since(call, 15):
        raise errors.BadRequest(f"Invalid input for field/attribute policies. Value: {chosen}. It is of version 2.15.")
    return chosen, {}


def index(call: Call) -> Reply:
    common.refuse_unknown(call, ("all_projects", "limit", "offset"), 75)
    group = store.group
    statement = select(group).order_by(group.c.number)
    if "all_projects" in call.query and call.allowed(f"{_RULE}:index:all_projects"):
        pass
    else:
        statement = statement.where(group.c.project_id == call.who.project_id)
    limit, offset = call.query.integer("limit"), call.query.integer("offset") or 0
    most = call.cloud.settings.api.max_limit
    statement = statement.limit(min(limit or most, most)).offset(offset)
    with call.cloud.database.read() as tx:
        return Reply({"server_groups": _shown(tx, call, tx.all(statement))})


def show(call: Call) -> Reply:
    with call.cloud.database.read() as tx:
        return Reply({"server_group": _shown(tx, call, [_find(tx, call)])[0]})


def delete(call: Call) -> Reply:
    call.cloud.database.write(lambda tx: actions.delete(tx, _find(tx, call).id))
    return Reply()


def _find(tx: Tx, call: Call) -> Any:
    row = actions.get(tx, call.params["id"])
    if not call.allowed(call.route.permission or "", {"project_id": row.project_id, "user_id": row.user_id}):
        raise errors.NotFound(f"Instance group {call.params['id']} could not be found.")
    return row


def _shown(tx: Tx, call: Call, rows: Any) -> list[dict[str, Any]]:
    members = servers.members_of(tx, [row.id for row in rows]) if rows else {}
    shown = []
    for row in rows:
        each: dict[str, Any] = {"id": row.id, "name": row.name, "members": members.get(row.id, [])}
        if common.since(call, 64):
            each |= {"policy": row.policy, "rules": row.rules or {}}
        else:
            each |= {"policies": [row.policy], "metadata": {}}
        if common.since(call, 13):
            each |= {"project_id": row.project_id, "user_id": row.user_id}
        shown.append(each)
    return shown


_ALL, _ONE = "/v2.1/os-server-groups", "/v2.1/os-server-groups/{id}"
ROUTES = (
    Route("GET", _ALL, index, f"{_RULE}:index"),
    Route("POST", _ALL, create, f"{_RULE}:create"),
    Route("GET", _ONE, show, f"{_RULE}:show", target="later"),
    Route("DELETE", _ONE, delete, f"{_RULE}:delete", 204, target="later"),
)
