"""/v3/domains. A domain is a row of the projects' table; what it can do is in `projects.actions`."""

from __future__ import annotations

import re
from typing import Any

from sqlalchemy import Row, select

from nephos import errors
from nephos.identity import listing, part, targets
from nephos.identity import wire as shared
from nephos.identity.projects import actions, wire
from nephos.identity.projects.store import project
from nephos.kernel import clock
from nephos.kernel.db.engine import Tx
from nephos.kernel.http.call import Call, Reply
from nephos.kernel.http.routes import Route

COLUMNS = {name: project.c[name] for name in ("id", "name", "enabled", "description")}
_HEX = re.compile(r"[0-9a-f]{32}")


def index(call: Call) -> Reply:
    call.permit(targets.of_domain(call))
    statement = select(project).where(project.c.is_domain.is_(True))
    if call.who.domain_id is not None:
        statement = statement.where(project.c.id == call.who.domain_id)
    with call.cloud.database.read() as tx:
        listed = listing.fetch(tx, call, statement, COLUMNS, key=project.c.id)
        tags = actions.tags_of(tx, [row.id for row in listed.rows])
    items = [wire.domain(call, row, tags.get(row.id, ())) for row in listed.rows]
    return Reply(shared.collection(call, "domains", items, listed.marker))


def create(call: Call) -> Reply:
    call.permit()
    body, _ = shared.member(call, "domain", wire.DomainCreate)
    if body.explicit_domain_id is not None and not _HEX.fullmatch(body.explicit_domain_id):
        raise errors.BadRequest("Domain ID does not conform to required UUID format: 32 hexadecimal digits.")
    values = {
        "id": body.explicit_domain_id or clock.hex_id(),
        "name": body.name,
        "description": body.description or "",
        "enabled": body.enabled,
        "is_domain": True,
        "options": shared.merged(None, body.options),
    }
    row = part.change(call.cloud, lambda tx: actions.create(tx, values, body.tags))
    return Reply({"domain": wire.domain(call, row, sorted(body.tags))})


def show(call: Call) -> Reply:
    with call.cloud.database.read() as tx:
        row = _permitted(tx, call)
        tags = actions.tags_of(tx, [row.id]).get(row.id, [])
    return Reply({"domain": wire.domain(call, row, tags)})


def _permitted(tx: Tx, call: Call) -> Row[Any]:
    row = actions.get(tx, call.params["domain_id"])
    call.permit(targets.of(call, domain=row))
    return actions.find_domain(tx, call.params["domain_id"])


def update(call: Call) -> Reply:
    with call.cloud.database.read() as tx:
        _permitted(tx, call)
    body, _ = shared.member(call, "domain", wire.DomainUpdate)
    shared.same_id(call, "domain", "domain_id")
    changes = shared.given(body)
    shared.something(changes, {}, "domain")

    def work(tx: Tx) -> tuple[Row[Any], list[str]]:
        row = actions.change(tx, actions.find_domain(tx, call.params["domain_id"]), dict(changes), {})
        return row, actions.tags_of(tx, [row.id]).get(row.id, [])

    row, tags = part.change(call.cloud, work)
    return Reply({"domain": wire.domain(call, row, tags)})


def delete(call: Call) -> Reply:
    with call.cloud.database.read() as tx:
        _permitted(tx, call)
    part.change(call.cloud, lambda tx: actions.remove_domain(tx, actions.find_domain(tx, call.params["domain_id"])))
    return Reply()


_ONE = "/v3/domains/{domain_id}"
ROUTES = (
    Route("GET", "/v3/domains", index, "identity:list_domains", target="later"),
    Route("POST", "/v3/domains", create, "identity:create_domain", 201, target="later"),
    Route("GET", _ONE, show, "identity:get_domain", target="later"),
    Route("PATCH", _ONE, update, "identity:update_domain", target="later"),
    Route("DELETE", _ONE, delete, "identity:delete_domain", 204, target="later"),
)
