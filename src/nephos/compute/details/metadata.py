"""`/servers/{id}/metadata`: key and value pairs that the guest reads too."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from nephos import errors
from nephos.compute import notifications
from nephos.compute import wire as common
from nephos.compute.lifecycle.actions import require
from nephos.compute.servers import actions, states
from nephos.compute.servers.api import SERVER, seen
from nephos.compute.wire import Metadata, Strict
from nephos.kernel.db.engine import Tx
from nephos.kernel.http.call import Call, Reply
from nephos.kernel.http.routes import Route

Change = Callable[[dict[str, str]], Mapping[str, str]]
_STATES = frozenset({states.ACTIVE, states.PAUSED, states.SUSPENDED, states.STOPPED})


class MetadataBody(Strict):
    metadata: Metadata


class ItemBody(Strict):
    meta: Metadata


def _change(call: Call, action: str, change: Change) -> Mapping[str, str]:
    """Change the metadata in one unit of work; answers what it is then."""

    def work(tx: Tx) -> Mapping[str, str]:
        row = seen(call, tx)
        actions.refuse_locked(row, call.who, action)
        require(row, action, _STATES)
        new = change(dict(row.metadata or {}))
        actions.check_metadata(tx, call.cloud, row.project_id, new)
        actions.change(tx, call.cloud, row, metadata=dict(new))
        notifications.updated(tx, row)
        return new

    return call.cloud.database.write(work)  # type: ignore[no-any-return]


def index(call: Call) -> Reply:
    common.refuse_unknown(call, (), 102)
    with call.cloud.database.read() as tx:
        return Reply({"metadata": seen(call, tx).metadata or {}})


def merge(call: Call) -> Reply:
    given = call.body(MetadataBody).metadata
    return Reply({"metadata": _change(call, "update metadata", lambda old: {**old, **given})})


def replace(call: Call) -> Reply:
    given = call.body(MetadataBody).metadata
    return Reply({"metadata": _change(call, "update metadata", lambda old: given)})


def show(call: Call) -> Reply:
    common.refuse_unknown(call, (), 102)
    key = call.params["key"]
    with call.cloud.database.read() as tx:
        found = seen(call, tx).metadata or {}
    if key not in found:
        raise errors.NotFound("Metadata item was not found")
    return Reply({"meta": {key: found[key]}})


def put(call: Call) -> Reply:
    given, key = call.body(ItemBody).meta, call.params["key"]
    if len(given) != 1:
        raise errors.BadRequest("Request body contains too many items or none: exactly one is allowed.")
    if key not in given:
        raise errors.BadRequest("Request body and URI mismatch")
    _change(call, "update metadata", lambda old: {**old, **given})
    return Reply({"meta": given})


def delete(call: Call) -> Reply:
    key = call.params["key"]

    def without(old: dict[str, str]) -> Mapping[str, str]:
        if key not in old:
            raise errors.NotFound("Metadata item was not found")
        return {name: value for name, value in old.items() if name != key}

    _change(call, "delete metadata", without)
    return Reply()


_ALL, _ONE, _RULE = SERVER + "/metadata", SERVER + "/metadata/{key}", "os_compute_api:server-metadata"

ROUTES = (
    Route("GET", _ALL, index, f"{_RULE}:index", target="later"),
    Route("POST", _ALL, merge, f"{_RULE}:create", target="later"),
    Route("PUT", _ALL, replace, f"{_RULE}:update_all", target="later"),
    Route("GET", _ONE, show, f"{_RULE}:show", target="later"),
    Route("PUT", _ONE, put, f"{_RULE}:update", target="later"),
    Route("DELETE", _ONE, delete, f"{_RULE}:delete", 204, target="later"),
)
