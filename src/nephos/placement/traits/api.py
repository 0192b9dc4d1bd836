"""Traits over HTTP."""

from __future__ import annotations

from nephos import errors
from nephos.hosts import actions as hosts
from nephos.kernel.http.call import Call, Reply
from nephos.kernel.http.routes import Route
from nephos.kernel.http.versions import Version
from nephos.placement import wire
from nephos.placement.traits import actions


def index(call: Call) -> Reply:
    wire.accepts(call)
    wire.query_names(call, {"name", "associated"})
    with call.cloud.database.read() as tx:
        customs = actions.customs(tx)
        used = actions.associated(tx)
        rows = hosts.all_hosts(tx)
    if rows:
        used.add(actions.COMPUTE_NODE)
    if any(row.disabled for row in rows):
        used.add(actions.COMPUTE_STATUS_DISABLED)
    names = sorted(actions.standard().union(customs))
    wanted = call.query.one("name")
    if wanted is not None:
        operator, colon, value = wanted.partition(":")
        if not colon:
            raise errors.BadRequest(
                "Badly formatted name parameter. Expected name query string parameter in form: "
                f'?name=[in|startswith]:[name1,name2|prefix]. Got: "{wanted}"'
            )
        if operator == "in":
            names = [name for name in names if name in value.split(",")]
        elif operator == "startswith":
            names = [name for name in names if name.startswith(value)]
    associated = call.query.one("associated")
    if associated is not None:
        if associated.lower() not in ("true", "false"):
            raise errors.BadRequest('The query parameter "associated" only accepts "true" or "false"')
        names = [name for name in names if (name in used) == (associated.lower() == "true")]
    return wire.dated(call, Reply({"traits": names}))


def show(call: Call) -> Reply:
    name = call.params["name"]
    with call.cloud.database.read() as tx:
        actions.check(tx, name)
        made = actions.customs(tx).get(name)
    return wire.dated(call, Reply(), made)


def create(call: Call) -> Reply:
    name = call.params["name"]
    if not wire.CUSTOM.fullmatch(name) or len(name) > 255:
        raise errors.BadRequest(
            "The trait is invalid. A valid trait must be no longer than 255 characters, start with the prefix "
            '"CUSTOM_" and use following characters: "A"-"Z", "0"-"9" and "_"'
        )
    new = call.cloud.database.write(lambda tx: actions.create(tx, name))
    return wire.dated(call, Reply(status=201 if new else 204, headers=wire.located(call, f"/traits/{name}")))


def remove(call: Call) -> Reply:
    call.cloud.database.write(lambda tx: actions.remove(tx, call.params["name"]))
    return Reply()


_RULE = "placement:traits:"
_SINCE = Version(1, 6)
ROUTES = (
    Route("GET", "/traits", index, _RULE + "list", since=_SINCE),
    Route("GET", "/traits/{name}", show, _RULE + "show", 204, since=_SINCE),
    Route("PUT", "/traits/{name}", create, _RULE + "update", since=_SINCE),
    Route("DELETE", "/traits/{name}", remove, _RULE + "delete", 204, since=_SINCE),
)
