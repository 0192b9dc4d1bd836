"""`/os-aggregates`."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import UNSET, Meta, UnsetType
from sqlalchemy import select

from nephos import errors
from nephos.compute import wire as common
from nephos.compute.aggregates import actions, store
from nephos.hosts import actions as hosts
from nephos.kernel.db.engine import Tx
from nephos.kernel.http.call import Call, Reply
from nephos.kernel.http.routes import Route

Text = Annotated[str, Meta(max_length=255)]


class New(common.Strict):
    name: common.Name
    availability_zone: Text | None = None


class NewBody(common.Strict):
    """POST /os-aggregates."""

    aggregate: New


class Change(common.Strict):
    name: common.Name | UnsetType = UNSET
    availability_zone: Text | UnsetType = UNSET


class ChangeBody(common.Strict):
    """PUT /os-aggregates/{id}."""

    aggregate: Change


class HostName(common.Strict):
    host: Annotated[str, Meta(min_length=1, max_length=255)]


class AddHost(common.Strict):
    add_host: HostName


class RemoveHost(common.Strict):
    remove_host: HostName


class Metadata(common.Strict):
    metadata: dict[common.MetadataKey, Text | None]


class SetMetadata(common.Strict):
    set_metadata: Metadata


def index(call: Call) -> Reply:
    with call.cloud.database.read() as tx:
        rows = tx.all(select(store.aggregate).order_by(store.aggregate.c.id))
        return Reply({"aggregates": [_shown(tx, call, row) for row in rows]})


def show(call: Call) -> Reply:
    with call.cloud.database.read() as tx:
        return Reply({"aggregate": _shown(tx, call, actions.get(tx, call.params["id"]))})


def _shown(tx: Tx, call: Call, row: Any) -> dict[str, Any]:
    names = {each.id: each.name for each in hosts.all_hosts(tx)}
    members = store.hosts_of(tx, [row.id]).get(row.id, [])
    about = row.metadata or {}
    shown = {
        "id": row.id,
        "name": row.name,
        "availability_zone": about.get(store.ZONE),
        "hosts": sorted(names[each] for each in members if each in names),
        "metadata": about,
        "created_at": common.fine_moment(row.created_at),
        "updated_at": common.fine_moment(row.updated_at),
        "deleted": False,
        "deleted_at": None,
    }
    if common.since(call, 41):
        shown["uuid"] = row.uuid
    return shown


def _write(call: Call, work: Any) -> Reply:
    def whole(tx: Tx) -> dict[str, Any]:
        shown = _shown(tx, call, work(tx))
        tx.after_commit(call.cloud.parts["compute"].building.forget_hosts)
        return shown

    return Reply({"aggregate": call.cloud.database.write(whole)})


def create(call: Call) -> Reply:
    body = call.body(NewBody).aggregate
    reply = _write(call, lambda tx: actions.create(tx, common.name(body.name), body.availability_zone))
    # As Nova does: the answer to a create has no hosts and metadata yet.
    reply.body["aggregate"] = {
        key: value for key, value in reply.body["aggregate"].items() if key not in ("hosts", "metadata")
    }
    return reply


def change(call: Call) -> Reply:
    body = call.body(ChangeBody).aggregate
    if body.name is UNSET and body.availability_zone is UNSET:
        raise errors.BadRequest("Invalid input for field/attribute aggregate: it must hold name or availability_zone.")
    name = None if body.name is UNSET else common.name(body.name)
    zone = None if body.availability_zone is UNSET else body.availability_zone
    return _write(call, lambda tx: actions.change(tx, actions.get(tx, call.params["id"]), name, zone))


def delete(call: Call) -> Reply:
    call.cloud.database.write(lambda tx: actions.delete(tx, actions.get(tx, call.params["id"])))
    return Reply(b"")


def add_host(call: Call) -> Reply:
    name = call.body(AddHost).add_host.host
    return _write(call, lambda tx: actions.add_host(tx, actions.get(tx, call.params["id"]), name))


def remove_host(call: Call) -> Reply:
    name = call.body(RemoveHost).remove_host.host
    return _write(call, lambda tx: actions.remove_host(tx, actions.get(tx, call.params["id"]), name))


def set_metadata(call: Call) -> Reply:
    given = call.body(SetMetadata).set_metadata.metadata
    return _write(call, lambda tx: actions.set_metadata(tx, actions.get(tx, call.params["id"]), given))


_ALL, _ONE, _ACT = "/v2.1/os-aggregates", "/v2.1/os-aggregates/{id}", "/v2.1/os-aggregates/{id}/action"
_RULE = "os_compute_api:os-aggregates"
ROUTES = (
    Route("GET", _ALL, index, f"{_RULE}:index"),
    Route("POST", _ALL, create, f"{_RULE}:create"),
    Route("GET", _ONE, show, f"{_RULE}:show"),
    Route("PUT", _ONE, change, f"{_RULE}:update"),
    Route("DELETE", _ONE, delete, f"{_RULE}:delete"),
    Route("POST", _ACT, add_host, f"{_RULE}:add_host", action="add_host"),
    Route("POST", _ACT, remove_host, f"{_RULE}:remove_host", action="remove_host"),
    Route("POST", _ACT, set_metadata, f"{_RULE}:set_metadata", action="set_metadata"),
)
