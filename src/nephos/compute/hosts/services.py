"""`/os-services`: nova-compute of every host, and the scheduler and conductor that live in the server."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, UnsetType

from nephos import errors
from nephos.compute import wire as common
from nephos.compute.moving import store as migrations
from nephos.compute.servers import store as servers
from nephos.hosts import actions as hosts
from nephos.kernel.db.engine import Tx
from nephos.kernel.http.call import Call, Reply
from nephos.kernel.http.routes import Route
from nephos.kernel.http.versions import Version

COMPUTE = "nova-compute"
INTERNAL = "internal"
"""The zone of services that are no hosts for guests."""
_OWN = ("nova-scheduler", "nova-conductor")
_NAMESPACE = uuid.UUID("0d7f7d55-53b5-4d22-8b1a-27d3a1b4f6a0")
Reason = Annotated[str, Meta(min_length=1, max_length=255)]


class Named(common.Strict):
    """PUT /os-services/enable, disable, force-down, before 2.53."""

    host: Annotated[str, Meta(min_length=1, max_length=255)]
    binary: Annotated[str, Meta(min_length=1, max_length=255)]
    disabled_reason: Reason | UnsetType = UNSET
    forced_down: common.Truth | UnsetType = UNSET


class Change(common.Strict):
    """PUT /os-services/{id} from 2.53 on."""

    status: Literal["enabled", "disabled"] | UnsetType = UNSET
    disabled_reason: Reason | UnsetType = UNSET
    forced_down: common.Truth | UnsetType = UNSET


def index(call: Call) -> Reply:
    common.refuse_unknown(call, ("host", "binary"), 75)
    host, binary = call.query.one("host"), call.query.one("binary")
    with call.cloud.database.read() as tx:
        found = [
            each
            for each in _services(tx, call)
            if (host is None or each["host"] == host) and (binary is None or each["binary"] == binary)
        ]
    return Reply({"services": found})


def _services(tx: Tx, call: Call) -> Iterator[dict[str, Any]]:
    own = call.cloud.settings.host.name or "server"
    for number, binary in enumerate(_OWN, 1):
        key = str(uuid.uuid5(_NAMESPACE, binary))
        shown: dict[str, Any] = {
            "id": key if common.since(call, 53) else number,
            "binary": binary,
            "host": own,
            "zone": INTERNAL,
            "status": "enabled",
            "state": "up",
            "updated_at": common.fine_moment(tx.now),
            "disabled_reason": None,
        }
        if common.since(call, 11):
            shown["forced_down"] = False
        yield shown
    for row in hosts.all_hosts(tx):
        yield _compute(row, tx.now, call)


def _compute(row: Any, now: int, call: Call) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "id": row.service_id if common.since(call, 53) else row.number + len(_OWN),
        "binary": COMPUTE,
        "host": row.name,
        "zone": row.zone or call.cloud.settings.compute.zone,
        "status": "disabled" if row.disabled else "enabled",
        "state": "up" if hosts.up(row, now) else "down",
        "updated_at": common.fine_moment(row.last_seen),
        "disabled_reason": row.disabled_reason,
    }
    if common.since(call, 11):
        shown["forced_down"] = row.forced_down
    return shown


# --- changes -------------------------------------------------------------------------------------------------


def enable(call: Call) -> Reply:
    body = call.body(Named)
    _set(call, body, disabled=False, disabled_reason=None)
    return Reply({"service": {"host": body.host, "binary": body.binary, "status": "enabled"}})


def disable(call: Call) -> Reply:
    body = call.body(Named)
    _set(call, body, disabled=True)
    return Reply({"service": {"host": body.host, "binary": body.binary, "status": "disabled"}})


def disable_with_reason(call: Call) -> Reply:
    body = call.body(Named)
    if body.disabled_reason is UNSET:
        raise errors.BadRequest("Invalid input: Object missing required field `disabled_reason`")
    _set(call, body, disabled=True, disabled_reason=body.disabled_reason)
    shown = {"host": body.host, "binary": body.binary, "status": "disabled", "disabled_reason": body.disabled_reason}
    return Reply({"service": shown})


def force_down(call: Call) -> Reply:
    body = call.body(Named)
    if body.forced_down is UNSET:
        raise errors.BadRequest("Invalid input: Object missing required field `forced_down`")
    down = common.truth(body.forced_down)
    _set(call, body, forced_down=down)
    return Reply({"service": {"host": body.host, "binary": body.binary, "forced_down": down}})


def _set(call: Call, body: Named, **values: Any) -> None:
    def work(tx: Tx) -> None:
        row = _by_name(tx, body.host) if body.binary == COMPUTE else None
        if row is None:
            raise errors.NotFound(f"Could not find binary {body.binary} on host {body.host}.")
        hosts.change(tx, row.id, **values)
        tx.after_commit(call.cloud.parts["compute"].building.forget_hosts)

    call.cloud.database.write(work)


def change(call: Call) -> Reply:
    body = call.body(Change)
    values: dict[str, Any] = {}
    if body.status is not UNSET:
        values["disabled"] = body.status == "disabled"
        if not values["disabled"]:
            values["disabled_reason"] = None
    if body.disabled_reason is not UNSET:
        if body.status != "disabled":
            raise errors.BadRequest("Specifying disabled_reason requires that status is 'disabled'.")
        values["disabled_reason"] = body.disabled_reason
    if body.forced_down is not UNSET:
        values["forced_down"] = common.truth(body.forced_down)
    if not values:
        raise errors.BadRequest("No updates were requested. Fields 'status' or 'forced_down' should be specified.")

    def work(tx: Tx) -> dict[str, Any]:
        row = _by_service(tx, call.params["id"])
        hosts.change(tx, row.id, **values)
        tx.after_commit(call.cloud.parts["compute"].building.forget_hosts)
        return _compute(hosts.get(tx, row.id), tx.now, call)

    return Reply({"service": call.cloud.database.write(work)})


def delete(call: Call) -> Reply:
    """Forget a host that is down and holds no server (S4-15). Raises Conflict for one that is alive or in use."""

    def work(tx: Tx) -> None:
        row = _by_service(tx, call.params["id"])
        if hosts.up(row, tx.now):
            raise errors.Conflict(f"Host {row.name} is up; stop its agent before its service is removed.")
        if servers.of_host(tx, row.id):
            raise errors.Conflict(
                f"Host {row.name} still holds servers; move or delete them before its service is removed."
            )
        if migrations.aside_on(tx, row.id):
            raise errors.Conflict(
                f"Host {row.name} keeps servers that moved until somebody confirms or reverts it; do so before its service "
                "is removed."
            )
        hosts.forget(tx, row.id)
        tx.after_commit(call.cloud.parts["compute"].building.forget_hosts)

    call.cloud.database.write(work)
    return Reply()


def _by_name(tx: Tx, name: str) -> Any | None:
    return next((row for row in hosts.all_hosts(tx) if row.name == name), None)


def _by_service(tx: Tx, key: str) -> Any:
    for row in hosts.all_hosts(tx):
        if key in (row.service_id, str(row.number + len(_OWN))):
            return row
    raise errors.NotFound(f"Service {key} could not be found.")


_PATH = "/v2.1/os-services"
_LIST, _UPDATE, _DELETE = (f"os_compute_api:os-services:{verb}" for verb in ("list", "update", "delete"))
_LAST = Version(2, 52)
ROUTES = (
    Route("GET", _PATH, index, _LIST),
    Route("PUT", _PATH + "/enable", enable, _UPDATE, until=_LAST),
    Route("PUT", _PATH + "/disable", disable, _UPDATE, until=_LAST),
    Route("PUT", _PATH + "/disable-log-reason", disable_with_reason, _UPDATE, until=_LAST),
    Route("PUT", _PATH + "/force-down", force_down, _UPDATE, since=Version(2, 11), until=_LAST),
    Route("PUT", _PATH + "/{id}", change, _UPDATE, since=Version(2, 53)),
    Route("DELETE", _PATH + "/{id}", delete, _DELETE, 204),
)
