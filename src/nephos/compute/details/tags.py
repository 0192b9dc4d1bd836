"""`/servers/{id}/tags`, since 2.26."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta

from nephos import errors
from nephos.compute.servers import actions, states, store
from nephos.compute.servers.api import SERVER, seen
from nephos.compute.wire import ROOT, Strict, Tag
from nephos.kernel.db.engine import Tx
from nephos.kernel.http.call import Call, Reply
from nephos.kernel.http.routes import Route
from nephos.kernel.http.versions import Version

MOST = 50
_STATES = frozenset({states.ACTIVE, states.PAUSED, states.SUSPENDED, states.STOPPED})


class TagsBody(Strict):
    tags: Annotated[list[Tag], Meta(max_length=MOST)]


def _of(tx: Tx, server_id: str) -> list[str]:
    return store.tags_of(tx, [server_id]).get(server_id, [])


def _changeable(call: Call, tx: Tx, action: str) -> Any:
    row = seen(call, tx)
    if row.vm_state not in _STATES:
        raise errors.Conflict(f"Cannot '{action}' instance {row.id} while it is in vm_state {row.vm_state}")
    return row


def index(call: Call) -> Reply:
    with call.cloud.database.read() as tx:
        return Reply({"tags": _of(tx, seen(call, tx).id)})


def show(call: Call) -> Reply:
    with call.cloud.database.read() as tx:
        _require(call, _of(tx, seen(call, tx).id))
    return Reply()


def _require(call: Call, tags: list[str]) -> None:
    if call.params["tag"] not in tags:
        raise errors.NotFound(f"Server {call.params['server']} has no tag '{call.params['tag']}'")


def replace(call: Call) -> Reply:
    given = sorted(set(call.body(TagsBody).tags))
    call.cloud.database.write(lambda tx: actions.set_tags(tx, _changeable(call, tx, "update tags"), given))
    return Reply({"tags": given})


def put(call: Call) -> Reply:
    """201 for a new tag, 204 for one that is there."""
    tag = call.params["tag"]
    if not tag or len(tag) > 60 or "," in tag or "/" in tag:
        raise errors.BadRequest(
            f"Tag '{tag}' is invalid. It must be a non empty string of at most 60 characters without '/' and ','."
        )

    def work(tx: Tx) -> bool:
        row = _changeable(call, tx, "update tag")
        tags = _of(tx, row.id)
        if tag in tags:
            return False
        if len(tags) >= MOST:
            raise errors.BadRequest(f"The number of tags exceeded the per-server limit {MOST}")
        actions.set_tags(tx, row, [*tags, tag])
        return True

    if not call.cloud.database.write(work):
        return Reply(status=204)
    location = f"{call.host_url}{ROOT}/servers/{call.params['server']}/tags/{tag}"
    return Reply(headers={"Location": location} if location.isascii() else {})


def delete(call: Call) -> Reply:
    def work(tx: Tx) -> None:
        row = _changeable(call, tx, "delete tag")
        tags = _of(tx, row.id)
        _require(call, tags)
        actions.set_tags(tx, row, [each for each in tags if each != call.params["tag"]])

    call.cloud.database.write(work)
    return Reply()


def delete_all(call: Call) -> Reply:
    call.cloud.database.write(lambda tx: actions.set_tags(tx, _changeable(call, tx, "delete tags"), ()))
    return Reply()


_ALL, _ONE, _RULE, _SINCE = SERVER + "/tags", SERVER + "/tags/{tag}", "os_compute_api:os-server-tags", Version(2, 26)

ROUTES = (
    Route("GET", _ALL, index, f"{_RULE}:index", target="later", since=_SINCE),
    Route("PUT", _ALL, replace, f"{_RULE}:update_all", target="later", since=_SINCE),
    Route("DELETE", _ALL, delete_all, f"{_RULE}:delete_all", 204, target="later", since=_SINCE),
    Route("GET", _ONE, show, f"{_RULE}:show", 204, target="later", since=_SINCE),
    Route("PUT", _ONE, put, f"{_RULE}:update", 201, target="later", since=_SINCE),
    Route("DELETE", _ONE, delete, f"{_RULE}:delete", 204, target="later", since=_SINCE),
)
