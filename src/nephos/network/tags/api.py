"""Tags of resources: /networks/{id}/tags and the like."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from nephos.kernel.db.engine import Tx
from nephos.kernel.http.call import Call, Reply
from nephos.kernel.http.routes import Route
from nephos.network import problems, resource
from nephos.network.floatingips.wire import NOUN as FLOATINGIP
from nephos.network.groups.wire import GROUP
from nephos.network.networks.wire import NOUN as NETWORK
from nephos.network.ports.wire import NOUN as PORT
from nephos.network.qos.wire import POLICY
from nephos.network.resource import Noun, V, View
from nephos.network.routers.wire import NOUN as ROUTER
from nephos.network.subnetpools.wire import NOUN as SUBNETPOOL
from nephos.network.subnets.wire import NOUN as SUBNET
from nephos.network.trunks.wire import NOUN as TRUNK

MOST, LONGEST = 50, 255
TAGGED: dict[str, Noun] = {
    "networks": NETWORK,
    "subnets": SUBNET,
    "ports": PORT,
    "routers": ROUTER,
    "subnetpools": SUBNETPOOL,
    "floatingips": FLOATINGIP,
    "security-groups": GROUP,
    "trunks": TRUNK,
    "qos/policies": POLICY,
    "policies": POLICY,  # where openstacksdk writes a policy's tags, and Neutron takes them
}


class _Body(resource.Base, kw_only=True):
    tags: list[Annotated[str, Meta(min_length=1, max_length=LONGEST)]]


_body = msgspec.json.Decoder(_Body)


def index(noun: Noun, call: Call) -> Reply:
    with call.cloud.database.read() as tx:
        return Reply({"tags": _row(tx, noun, View(call), "get").tags or []})


def show(noun: Noun, call: Call) -> Reply:
    with call.cloud.database.read() as tx:
        row = _row(tx, noun, View(call), "get")
    _check_there(row, call.params["tag"])
    return Reply(status=204)


def put_all(noun: Noun, call: Call) -> Reply:
    wanted = _read(call)
    return Reply({"tags": _write(noun, call, "update", lambda _: wanted)})


def add_all(noun: Noun, call: Call) -> Reply:
    wanted = _read(call)
    return Reply({"tags": _write(noun, call, "create", lambda row: list(dict.fromkeys([*(row.tags or []), *wanted])))})


def _read(call: Call) -> list[str]:
    try:
        wanted = _body.decode(call.raw).tags
    except (msgspec.DecodeError, UnicodeDecodeError) as wrong:
        raise problems.bad(f"Invalid input for tags. Reason: {wrong}", "HTTPBadRequest") from wrong
    if len(set(wanted)) != len(wanted):
        raise problems.invalid("tags", f"Duplicate items in the list: {wanted}")
    return wanted


def put(noun: Noun, call: Call) -> Reply:
    tag = call.params["tag"]
    if len(tag) > LONGEST:
        raise problems.invalid("tags", f"'{tag}' exceeds maximum length of {LONGEST}")
    _write(noun, call, "update", lambda row: list(dict.fromkeys([*(row.tags or []), tag])))
    return Reply(status=201)


def delete(noun: Noun, call: Call) -> Reply:
    tag = call.params["tag"]

    def without(row: Any) -> list[str]:
        _check_there(row, tag)
        return [each for each in row.tags if each != tag]

    _write(noun, call, "delete", without)
    return Reply(status=204)


def delete_all(noun: Noun, call: Call) -> Reply:
    _write(noun, call, "delete", lambda _: [])
    return Reply(status=204)


def _row(tx: Tx, noun: Noun, view: View, verb: str) -> Any:
    return resource.fetch(tx, noun, view, view.call.params["id"], f"{verb}_{noun.name}:tags")


def _check_there(row: Any, tag: str) -> None:
    if tag not in (row.tags or ()):
        raise problems.missing("Tag", tag)


def _write(noun: Noun, call: Call, verb: str, tags: Callable[[Any], list[str]]) -> list[str]:
    view = View(call)

    def one(tx: Tx) -> list[str]:
        row = _row(tx, noun, view, verb)
        resource.if_match(call, noun, row)
        wanted = sorted(tags(row))  # as Neutron's clients find them: its table is ordered by tag
        if len(wanted) > MOST:
            raise problems.bad(
                f"Invalid input for operation: The number of tags exceed the per-resource limit of {MOST}."
            )
        if wanted != (row.tags or []):
            resource.revise(tx, noun.table, row.id, {"tags": wanted})
        return wanted

    return view.cloud.database.write(one)


def _routes(path: str, noun: Noun) -> tuple[Route, ...]:
    many, one = f"{V}/{path}/{{id}}/tags", f"{V}/{path}/{{id}}/tags/{{tag}}"
    reads, writes, drops = (f"{verb}_{noun.name}:tags" for verb in ("get", "update", "delete"))
    return (
        Route("GET", many, partial(index, noun), reads, target="later"),
        Route("PUT", many, partial(put_all, noun), writes, target="later"),
        Route("POST", many, partial(add_all, noun), f"create_{noun.name}:tags", 201, target="later"),
        Route("DELETE", many, partial(delete_all, noun), drops, 204, target="later"),
        Route("GET", one, partial(show, noun), reads, 204, target="later"),
        Route("PUT", one, partial(put, noun), writes, 201, target="later"),
        Route("DELETE", one, partial(delete, noun), drops, 204, target="later"),
    )


ROUTES = tuple(route for path, noun in TAGGED.items() for route in _routes(path, noun))
