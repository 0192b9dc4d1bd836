"""Resource classes over HTTP."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from nephos import errors
from nephos.kernel.http.call import Call, Reply
from nephos.kernel.http.routes import Route
from nephos.kernel.http.versions import Version
from nephos.placement import wire
from nephos.placement.classes import actions


class NewClass(msgspec.Struct, forbid_unknown_fields=True):
    name: Annotated[str, msgspec.Meta(pattern=r"^CUSTOM_[A-Z0-9_]+\Z", max_length=255)]


def _path(name: str) -> str:
    return f"/resource_classes/{name}"


def _show(name: str) -> dict[str, Any]:
    return {"name": name, "links": [wire.link(_path(name))]}


def index(call: Call) -> Reply:
    wire.accepts(call)
    with call.cloud.database.read() as tx:
        customs = actions.customs(tx)
    names = (*actions.standard(), *customs)
    reply = Reply({"resource_classes": [_show(name) for name in names]})
    return wire.dated(call, reply, max(customs.values()) if customs else None)


def show(call: Call) -> Reply:
    wire.accepts(call)
    name = call.params["name"]
    with call.cloud.database.read() as tx:
        actions.check(tx, name)
        made = actions.customs(tx).get(name)
    return wire.dated(call, Reply(_show(name)), made)


def create(call: Call) -> Reply:
    name = wire.body(call, NewClass).name
    if not call.cloud.database.write(lambda tx: actions.create(tx, name)):
        raise errors.Conflict(f"Conflicting resource class already exists: {name}")
    return Reply(headers=wire.located(call, _path(name)))


def rename(call: Call) -> Reply:
    old, new = call.params["name"], wire.body(call, NewClass).name
    call.cloud.database.write(lambda tx: actions.rename(tx, old, new))
    return Reply(_show(new))


def ensure(call: Call) -> Reply:
    """From 1.7 on a PUT makes the class, or finds that it is there."""
    name = call.params["name"]
    if not wire.CUSTOM.fullmatch(name) or len(name) > 255:
        rule = "maxLength" if len(name) > 255 else "pattern"
        raise errors.BadRequest(
            f"JSON does not validate: {name!r} does not match '^CUSTOM_[A-Z0-9_]+$'. Failed validating '{rule}' in schema"
        )
    new = call.cloud.database.write(lambda tx: actions.create(tx, name))
    return Reply(status=201 if new else 204, headers=wire.located(call, _path(name)))


def remove(call: Call) -> Reply:
    call.cloud.database.write(lambda tx: actions.remove(tx, call.params["name"]))
    return Reply()


_RULE = "placement:resource_classes:"
_ONE = "/resource_classes/{name}"
_SINCE = Version(1, 2)
ROUTES = (
    Route("GET", "/resource_classes", index, _RULE + "list", since=_SINCE),
    Route("POST", "/resource_classes", create, _RULE + "create", 201, since=_SINCE),
    Route("GET", _ONE, show, _RULE + "show", since=_SINCE),
    Route("PUT", _ONE, rename, _RULE + "update", since=_SINCE, until=Version(1, 6)),
    Route("PUT", _ONE, ensure, _RULE + "update", since=Version(1, 7)),
    Route("DELETE", _ONE, remove, _RULE + "delete", 204, since=_SINCE),
)
