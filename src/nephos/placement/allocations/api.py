"""Allocations and usages over HTTP."""

from __future__ import annotations

import re
from typing import Any

from sqlalchemy import func, select

from nephos import errors
from nephos.kernel.db.engine import Tx
from nephos.kernel.http.call import Call, Reply
from nephos.kernel.http.routes import Route
from nephos.kernel.http.versions import Version
from nephos.placement import wire
from nephos.placement.allocations import actions, store
from nephos.placement.allocations.replace import Wanted, replace, rows_of
from nephos.placement.allocations.reshape import reshape as actions_reshape
from nephos.placement.allocations.wire import read_many, read_one, read_reshape
from nephos.placement.providers import actions as providers
from nephos.placement.providers.api import one, overcommit

UNKNOWN = "unknown"
_a = store.allocation


def show(call: Call) -> Reply:
    """All that a consumer has; nothing for one that has nothing."""
    wire.accepts(call)
    consumer_id = call.params["consumer_uuid"]
    with call.cloud.database.read() as tx:
        rows = rows_of(tx, [consumer_id])[consumer_id]
        known = providers.load(tx, overcommit(call), {row.provider_id for row in rows})
    shown: dict[str, Any] = {}
    for row in rows:
        if row.provider_id in known:
            held = shown.setdefault(row.provider_id, {"resources": {}, "generation": known[row.provider_id].generation})
            held["resources"][row.resource_class] = row.used
    body: dict[str, Any] = {"allocations": shown}
    if rows and wire.at_least(call, 12):
        body["project_id"], body["user_id"] = rows[0].project_id, rows[0].user_id
        if wire.at_least(call, 28):
            body["consumer_generation"] = rows[0].consumer_generation
        if wire.at_least(call, 38):
            body["consumer_type"] = rows[0].consumer_type or UNKNOWN
    return wire.dated(call, Reply(body), max((row.updated_at for row in rows), default=None))


def of_provider(call: Call) -> Reply:
    """What every consumer has of a provider."""
    wire.accepts(call)
    provider = one(call)
    with call.cloud.database.read() as tx:
        rows = tx.all(select(_a).where(_a.c.provider_id == provider.id))
    shown: dict[str, Any] = {}
    for row in rows:
        held = shown.setdefault(row.consumer_id, {"resources": {}})
        held["resources"][row.resource_class] = row.used
        if wire.at_least(call, 28):
            held["consumer_generation"] = row.consumer_generation
    body = {"allocations": shown, "resource_provider_generation": provider.generation}
    return wire.dated(call, Reply(body), max((row.updated_at for row in rows), default=None))


def put(call: Call) -> Reply:
    consumer_id = call.params["consumer_uuid"]
    if not wire.is_uuid(consumer_id):
        raise errors.BadRequest(f"Malformed consumer_uuid: {consumer_id}")
    _replace(call, [read_one(call, wire.uuid(consumer_id, "consumer_uuid"))])
    return Reply()


def post(call: Call) -> Reply:
    _replace(call, read_many(call))
    return Reply()


def _replace(call: Call, wanted: list[Wanted]) -> None:
    call.cloud.database.write(lambda tx: replace(tx, overcommit(call), wanted))


def reshape(call: Call) -> Reply:
    """Move inventories and allocations between providers, all at once."""
    inventories, wanted = read_reshape(call)
    call.cloud.database.write(lambda tx: actions_reshape(tx, overcommit(call), inventories, wanted))
    return Reply()


def remove(call: Call) -> Reply:
    consumer_id = call.params["consumer_uuid"]

    def work(tx: Tx) -> None:
        if not rows_of(tx, [consumer_id])[consumer_id]:
            raise errors.NotFound(f"No allocations for consumer '{consumer_id}'")
        actions.release(tx, consumer_id)

    call.cloud.database.write(work)
    return Reply()


def usages(call: Call) -> Reply:
    """What a project, or one user of it, uses; from 1.38 on by type of consumer, with their number."""
    wire.accepts(call)
    by_type = wire.at_least(call, 38)
    project_id = call.query.one("project_id")
    call.permit({"project_id": project_id})
    wire.query_names(call, {"project_id", "user_id", "consumer_type"} if by_type else {"project_id", "user_id"})
    if project_id is None:
        raise errors.BadRequest("Invalid query string parameters: 'project_id' is a required property")
    for name in ("project_id", "user_id", "consumer_type"):
        value = call.query.one(name)
        if value is not None and not 1 <= len(value) <= 255:
            rule = "maxLength" if value else "minLength"
            raise errors.BadRequest(
                f"Invalid query string parameters: {name} has 1 to 255 characters. Failed validating '{rule}'"
            )
    wanted = call.query.one("consumer_type")
    if wanted is not None and not re.fullmatch(r"[A-Z0-9_]+|all|unknown", wanted, re.ASCII):
        raise errors.BadRequest(
            f"Invalid query string parameters: {wanted!r} does not match '^[A-Z0-9_]+$|^all|^unknown$'"
        )
    with call.cloud.database.read() as tx:
        body = _by_type(tx, call, project_id, wanted) if by_type else _in_all(tx, call, project_id)
    return wire.dated(call, Reply({"usages": body}))


def _chosen(call: Call, project_id: str) -> Any:
    user_id = call.query.one("user_id")
    chosen = _a.c.project_id == project_id
    return chosen if user_id is None else chosen & (_a.c.user_id == user_id)


def _in_all(tx: Tx, call: Call, project_id: str) -> dict[str, Any]:
    sums = select(_a.c.resource_class, func.sum(_a.c.used).label("used")).group_by(_a.c.resource_class)
    return {row.resource_class: int(row.used) for row in tx.execute(sums.where(_chosen(call, project_id)))}


def _by_type(tx: Tx, call: Call, project_id: str, wanted: str | None) -> dict[str, Any]:
    found: dict[str, Any] = {}
    consumers: dict[str, set[str]] = {}
    for row in tx.execute(select(_a).where(_chosen(call, project_id))):
        kind = "all" if wanted == "all" else row.consumer_type or UNKNOWN
        if wanted in (None, "all", kind):
            sums = found.setdefault(kind, {})
            sums[row.resource_class] = sums.get(row.resource_class, 0) + row.used
            consumers.setdefault(kind, set()).add(row.consumer_id)
    for kind, sums in found.items():
        sums["consumer_count"] = len(consumers[kind])
    return found


_RULE = "placement:allocations:"
_ONE = "/allocations/{consumer_uuid}"
ROUTES = (
    Route("GET", _ONE, show, _RULE + "list"),
    Route("PUT", _ONE, put, _RULE + "update", 204),
    Route("DELETE", _ONE, remove, _RULE + "delete", 204),
    Route("POST", "/allocations", post, _RULE + "manage", 204, since=Version(1, 13)),
    Route("POST", "/reshaper", reshape, "placement:reshaper:reshape", 204, since=Version(1, 30)),
    Route(
        "GET", "/resource_providers/{uuid}/allocations", of_provider, "placement:resource_providers:allocations:list"
    ),
    Route("GET", "/usages", usages, "placement:usages", target="later", since=Version(1, 9)),
)
