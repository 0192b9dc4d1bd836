"""`/os-keypairs`."""

from __future__ import annotations

from typing import Any

from msgspec import UNSET
from sqlalchemy import select

from nephos import errors
from nephos.compute import notifications
from nephos.compute import wire as common
from nephos.compute.keypairs import actions, keys, store, wire
from nephos.compute.quotas import actions as quotas
from nephos.kernel.db.engine import Tx
from nephos.kernel.db.paging import paginate
from nephos.kernel.http.call import Call, Reply
from nephos.kernel.http.query import Page
from nephos.kernel.http.routes import Route
from nephos.kernel.http.versions import Version


def _owner(call: Call) -> str:
    """Whose keys: the caller's, or from 2.10 on those of a user that is named. Raises Forbidden."""
    common.refuse_unknown(call, {"user_id", "limit", "marker"} if call.route.path == _KEYS else {"user_id"}, 75)
    user_id = call.query.one("user_id") if common.since(call, 10) else None
    owner = user_id or call.who.user_id
    call.permit({"user_id": owner})
    return owner


def index(call: Call) -> Reply:
    owner = _owner(call)
    key = store.keypair
    wanted = Page()
    if common.since(call, 35):
        most = call.cloud.settings.api.max_limit
        wanted = Page(min(call.query.integer("limit") or most, most), call.query.one("marker"))
    statement = select(key).where(key.c.user_id == owner)
    with call.cloud.database.read() as tx:
        rows = tx.all(paginate(tx, statement, wanted, {}, key=key.c.name))
    body: dict[str, Any] = {"keypairs": [{"keypair": wire.listed(call, row)} for row in rows]}
    if wanted.limit is not None:
        following = common.next_links(call, "os-keypairs", [row.name for row in rows], wanted)
        if following:
            body["keypairs_links"] = following
    return Reply(body)


def show(call: Call) -> Reply:
    owner = _owner(call)
    with call.cloud.database.read() as tx:
        return Reply({"keypair": wire.shown(call, actions.get(tx, owner, call.params["name"]))})


def create(call: Call) -> Reply:
    body = call.body(wire.NewKeypairBody).keypair
    common.refuse_later(body, call.version, {"type": 2, "user_id": 10})
    owner = call.who.user_id if body.user_id is UNSET else body.user_id
    call.permit({"user_id": owner})
    name = wire.check_name(body.name, wide=common.since(call, 92))
    kind = "ssh" if body.type is UNSET else body.type
    if body.public_key is UNSET:
        if common.since(call, 92):
            raise errors.BadRequest("Invalid input for field/attribute keypair: 'public_key' is a required property.")
        key = keys.make(kind, owner)
    else:
        key = keys.read(kind, body.public_key)

    def work(tx: Tx) -> Any:
        limit = quotas.limits(tx, call.cloud.settings.quota, call.who.project_id or "")["key_pairs"]
        row = actions.create(tx, owner, name, kind, key, limit)
        notifications.keypair(tx, "create" if key.private else "import", row)
        return row

    row = call.cloud.database.write(work)
    return Reply({"keypair": wire.created(call, row, key.private)}, status=201 if common.since(call, 2) else 200)


def delete(call: Call) -> Reply:
    owner = _owner(call)

    def work(tx: Tx) -> None:
        row = actions.get(tx, owner, call.params["name"])
        actions.delete(tx, owner, row.name)
        notifications.keypair(tx, "delete", row)

    call.cloud.database.write(work)
    return Reply()


_KEYS, _KEY, _RULE = "/v2.1/os-keypairs", "/v2.1/os-keypairs/{name}", "os_compute_api:os-keypairs"

ROUTES = (
    Route("GET", _KEYS, index, f"{_RULE}:index", target="later"),
    Route("POST", _KEYS, create, f"{_RULE}:create", target="later"),
    Route("GET", _KEY, show, f"{_RULE}:show", target="later"),
    Route("DELETE", _KEY, delete, f"{_RULE}:delete", 202, target="later", until=Version(2, 1)),
    Route("DELETE", _KEY, delete, f"{_RULE}:delete", 204, target="later", since=Version(2, 2)),
)
