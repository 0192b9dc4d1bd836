"""/v3/projects and their tags."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row, Select, select

from nephos import errors
from nephos.identity import listing, part, targets
from nephos.identity import wire as shared
from nephos.identity.assignments import effective
from nephos.identity.limits import models
from nephos.identity.projects import actions, wire
from nephos.identity.projects.store import project
from nephos.kernel import clock
from nephos.kernel.db.engine import Tx
from nephos.kernel.http.call import Call, Reply
from nephos.kernel.http.routes import Route

COLUMNS = {name: project.c[name] for name in ("id", "name", "enabled", "domain_id", "parent_id", "description")}
_TAG_FILTERS = ("tags", "tags-any", "not-tags", "not-tags-any")


def index(call: Call) -> Reply:
    call.permit(targets.of_domain(call))
    statement = select(project).where(project.c.is_domain.is_(listing.truth(call.query.one("is_domain") or "0")))
    if call.who.domain_id is not None:
        statement = statement.where(project.c.domain_id == call.who.domain_id)
    with call.cloud.database.read() as tx:
        return Reply(page(tx, call, statement))


def page(tx: Tx, call: Call, statement: Select[Any]) -> dict[str, Any]:
    """The projects of a statement as the list that the query asks for."""
    for mode in _TAG_FILTERS:
        names = call.query.one(mode)
        if names is not None:
            statement = statement.where(actions.tagged(tx, mode, names.split(",")))
    listed = listing.fetch(tx, call, statement, COLUMNS, key=project.c.id)
    tags = actions.tags_of(tx, [row.id for row in listed.rows])
    items = [wire.project(call, row, tags.get(row.id, ())) for row in listed.rows]
    return shared.collection(call, "projects", items, listed.marker)


def create(call: Call) -> Reply:
    body, extra = shared.member(call, "project", wire.ProjectCreate)
    domain_id = body.domain_id
    if domain_id is None and not body.is_domain and body.parent_id is None:
        domain_id = call.who.domain_id or "default"
    if domain_id is None and body.parent_id is not None:
        with call.cloud.database.read() as tx:
            parent = actions.get(tx, body.parent_id)
            domain_id = (parent.domain_id or parent.id) if parent is not None else None
    call.permit(targets.of(call, project={"domain_id": domain_id, "name": body.name, "parent_id": body.parent_id}))
    values = {
        "id": clock.hex_id(),
        "name": body.name,
        "description": body.description or "",
        "domain_id": domain_id,
        "parent_id": body.parent_id,
        "enabled": body.enabled,
        "is_domain": body.is_domain,
        "options": shared.merged(None, body.options),
        "extra": extra or None,
    }
    deepest = models.deepest(call.cloud.settings)
    row = part.change(call.cloud, lambda tx: actions.create(tx, values, body.tags, deepest=deepest))
    return Reply({"project": wire.project(call, row, sorted(body.tags))})


def show(call: Call) -> Reply:
    with call.cloud.database.read() as tx:
        row = _permitted(tx, call)
        tags = actions.tags_of(tx, [row.id]).get(row.id, [])
        shown = wire.project(call, row, tags)
        _expand(tx, call, row, shown)
    return Reply({"project": shown})


def _permitted(tx: Tx, call: Call) -> Row[Any]:
    """The project of the URL; the rule is asked first, so that nobody learns more than they may."""
    row = actions.get(tx, call.params["project_id"])
    call.permit(targets.of(call, project=row))
    if row is None:
        raise errors.NotFound(f"Could not find project: {call.params['project_id']}.")
    return row


def _expand(tx: Tx, call: Call, row: Row[Any], shown: dict[str, Any]) -> None:
    """`parents` and `subtree`, as ids or as the projects that the asker has a role on."""
    wanted = {
        name: listing.truth(call.query.one(name) or "1")
        for name in ("parents_as_list", "parents_as_ids", "subtree_as_list", "subtree_as_ids")
        if name in call.query
    }
    for kind in ("parents", "subtree"):
        if wanted.get(f"{kind}_as_list") and wanted.get(f"{kind}_as_ids"):
            raise errors.BadRequest(f"Cannot use {kind}_as_list and {kind}_as_ids query params at the same time.")
    domain_id = row.domain_id or row.id
    if wanted.get("parents_as_ids"):
        shown["parents"] = _nest(effective.above(tx, row.parent_id, domain_id) if row.parent_id else [])
    if wanted.get("parents_as_list"):
        shown["parents"] = _visible(tx, call, effective.above(tx, row.parent_id, domain_id))
    if wanted.get("subtree_as_ids"):
        shown["subtree"] = _tree(tx, row.id)
    if wanted.get("subtree_as_list"):
        shown["subtree"] = _visible(tx, call, effective.below(tx, [row.id]))


def _nest(ids: list[str]) -> dict[str, Any] | None:
    nested: dict[str, Any] | None = None
    for one in reversed(ids):
        nested = {one: nested}
    return nested


def _tree(tx: Tx, root: str) -> dict[str, Any] | None:
    children: dict[str, list[str]] = {}
    for row in actions.rows_of(tx, effective.below(tx, [root])):
        children.setdefault(row.parent_id, []).append(row.id)

    def below(one: str) -> dict[str, Any] | None:
        return {child: below(child) for child in children.get(one, ())} or None

    return below(root)


def _visible(tx: Tx, call: Call, ids: list[str]) -> list[dict[str, Any]]:
    mine = set(effective.project_ids(tx, call.who.user_id))
    rows = {row.id: row for row in actions.rows_of(tx, [one for one in ids if one in mine])}
    tags = actions.tags_of(tx, rows)
    return [{"project": wire.project(call, rows[one], tags.get(one, ()))} for one in ids if one in rows]


def update(call: Call) -> Reply:
    with call.cloud.database.read() as tx:
        _permitted(tx, call)
    body, extra = shared.member(call, "project", wire.ProjectUpdate)
    shared.same_id(call, "project", "project_id")
    changes = shared.given(body)
    shared.something(changes, extra, "project")

    def work(tx: Tx) -> tuple[Row[Any], list[str]]:
        row = actions.change(tx, actions.find(tx, call.params["project_id"]), dict(changes), extra)
        return row, actions.tags_of(tx, [row.id]).get(row.id, [])

    row, tags = part.change(call.cloud, work)
    return Reply({"project": wire.project(call, row, tags)})


def delete(call: Call) -> Reply:
    with call.cloud.database.read() as tx:
        _permitted(tx, call)
    part.change(call.cloud, lambda tx: actions.remove(tx, actions.find(tx, call.params["project_id"])))
    return Reply()


def index_tags(call: Call) -> Reply:
    with call.cloud.database.read() as tx:
        row = _permitted(tx, call)
        return _tags_reply(call, actions.tags_of(tx, [row.id]).get(row.id, []))


def _tags_reply(call: Call, tags: list[str]) -> Reply:
    return Reply({"tags": tags, "links": {"self": shared.url(call)}})


def replace_tags(call: Call) -> Reply:
    with call.cloud.database.read() as tx:
        row = _permitted(tx, call)
    body = call.body(wire.TagsBody)
    _change(call, lambda tx: actions.set_tags(tx, row.id, body.tags))
    return _tags_reply(call, sorted(body.tags))


def delete_tags(call: Call) -> Reply:
    with call.cloud.database.read() as tx:
        row = _permitted(tx, call)
    _change(call, lambda tx: actions.set_tags(tx, row.id, []))
    return Reply()


def show_tag(call: Call) -> Reply:
    with call.cloud.database.read() as tx:
        row = _permitted(tx, call)
        if call.params["value"] not in actions.tags_of(tx, [row.id]).get(row.id, []):
            raise errors.NotFound(f"Could not find project tag: {call.params['value']}.")
    return Reply()


def create_tag(call: Call) -> Reply:
    with call.cloud.database.read() as tx:
        row = _permitted(tx, call)
    name = call.params["value"]
    shared.typed({"tags": [name]}, wire.TagsBody, "project tag")
    _change(call, lambda tx: actions.add_tag(tx, row.id, name))
    return Reply(headers={"Location": f"{shared.base(call)}/projects/{row.id}/tags/{name}".encode().decode("latin-1")})


def delete_tag(call: Call) -> Reply:
    with call.cloud.database.read() as tx:
        row = _permitted(tx, call)
    _change(call, lambda tx: actions.remove_tag(tx, row.id, call.params["value"]))
    return Reply()


def _change(call: Call, work: Any) -> None:
    """Tags mean nothing to tokens: no new epoch."""
    call.cloud.database.write(work)


_ONE, _TAGS, _TAG = (
    "/v3/projects/{project_id}",
    "/v3/projects/{project_id}/tags",
    "/v3/projects/{project_id}/tags/{value}",
)
ROUTES = (
    Route("GET", "/v3/projects", index, "identity:list_projects", target="later"),
    Route("POST", "/v3/projects", create, "identity:create_project", 201, target="later"),
    Route("GET", _ONE, show, "identity:get_project", target="later"),
    Route("PATCH", _ONE, update, "identity:update_project", target="later"),
    Route("DELETE", _ONE, delete, "identity:delete_project", 204, target="later"),
    Route("GET", _TAGS, index_tags, "identity:list_project_tags", target="later"),
    Route("PUT", _TAGS, replace_tags, "identity:update_project_tags", target="later"),
    Route("DELETE", _TAGS, delete_tags, "identity:delete_project_tags", 204, target="later"),
    Route("GET", _TAG, show_tag, "identity:get_project_tag", 204, target="later"),
    Route("PUT", _TAG, create_tag, "identity:create_project_tag", 201, target="later"),
    Route("DELETE", _TAG, delete_tag, "identity:delete_project_tag", 204, target="later"),
)
