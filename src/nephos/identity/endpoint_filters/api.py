"""/v3/OS-EP-FILTER: endpoint groups, and which endpoints a project's catalog shows."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row, Table, select

from nephos import errors
from nephos.identity import listing, part
from nephos.identity import wire as shared
from nephos.identity.catalog import actions as catalog
from nephos.identity.catalog import wire as catalog_wire
from nephos.identity.catalog.store import endpoint
from nephos.identity.endpoint_filters import actions, wire
from nephos.identity.endpoint_filters.store import endpoint_group, group_project, project_endpoint
from nephos.identity.projects import actions as projects
from nephos.identity.projects import wire as project_wire
from nephos.kernel import clock
from nephos.kernel.db.engine import Tx
from nephos.kernel.http.call import Call, Reply
from nephos.kernel.http.routes import Route

COLUMNS = {name: endpoint_group.c[name] for name in ("id", "name")}


def index(call: Call) -> Reply:
    call.permit({})
    with call.cloud.database.read() as tx:
        listed = listing.fetch(tx, call, select(endpoint_group), COLUMNS, key=endpoint_group.c.id)
    items = [wire.endpoint_group(call, row) for row in listed.rows]
    return Reply(shared.collection(call, "endpoint_groups", items, listed.marker))


def create(call: Call) -> Reply:
    call.permit({})
    body, _ = shared.member(call, "endpoint_group", wire.GroupCreate)
    filters = shared.given(body.filters)
    if not filters:
        raise errors.BadRequest("Invalid input for endpoint_group: filters are empty.")
    values = {"id": clock.hex_id(), "name": body.name, "description": body.description, "filters": filters}
    row = call.cloud.database.write(lambda tx: actions.create(tx, values))
    return Reply({"endpoint_group": wire.endpoint_group(call, row)})


def show(call: Call) -> Reply:
    call.permit({})
    with call.cloud.database.read() as tx:
        row = actions.find(tx, call.params["endpoint_group_id"])
    return Reply({"endpoint_group": wire.endpoint_group(call, row)})


def update(call: Call) -> Reply:
    call.permit({})
    body, _ = shared.member(call, "endpoint_group", wire.GroupUpdate)
    shared.same_id(call, "endpoint_group", "endpoint_group_id")
    changes = {name: value for name, value in shared.given(body).items() if value is not None}
    shared.something(changes, {}, "endpoint_group")
    if "filters" in changes:
        changes["filters"] = shared.given(changes["filters"])

    def work(tx: Tx) -> Row[Any]:
        return actions.change(tx, actions.find(tx, call.params["endpoint_group_id"]), dict(changes))

    return Reply({"endpoint_group": wire.endpoint_group(call, part.change(call.cloud, work))})


def delete(call: Call) -> Reply:
    call.permit({})
    ident = call.params["endpoint_group_id"]
    part.change(call.cloud, lambda tx: actions.remove(tx, actions.find(tx, ident)))
    return Reply()


def index_group_endpoints(call: Call) -> Reply:
    call.permit({})
    with call.cloud.database.read() as tx:
        rows = tx.all(actions.matching(actions.find(tx, call.params["endpoint_group_id"]).filters))
    return Reply(shared.collection(call, "endpoints", [catalog_wire.endpoint(call, row) for row in rows]))


def index_group_projects(call: Call) -> Reply:
    call.permit({})
    with call.cloud.database.read() as tx:
        row = actions.find(tx, call.params["endpoint_group_id"])
        ids = tx.column(select(group_project.c.project_id).where(group_project.c.endpoint_group_id == row.id))
        shown = [project_wire.project(call, one, ()) for one in projects.rows_of(tx, ids)]
    return Reply(shared.collection(call, "projects", shown))


def index_endpoint_projects(call: Call) -> Reply:
    call.permit({})
    with call.cloud.database.read() as tx:
        row = catalog.find(tx, endpoint, call.params["endpoint_id"])
        ids = tx.column(select(project_endpoint.c.project_id).where(project_endpoint.c.endpoint_id == row.id))
        shown = [project_wire.project(call, one, ()) for one in projects.rows_of(tx, ids)]
    return Reply(shared.collection(call, "projects", shown))


def index_project_endpoints(call: Call) -> Reply:
    call.permit({})
    with call.cloud.database.read() as tx:
        ids = actions.endpoint_ids(tx, projects.find(tx, call.params["project_id"]).id)
        rows = tx.all(select(endpoint).where(endpoint.c.id.in_(ids)))
    return Reply(shared.collection(call, "endpoints", [catalog_wire.endpoint(call, row) for row in rows]))


def index_project_groups(call: Call) -> Reply:
    call.permit({})
    with call.cloud.database.read() as tx:
        rows = actions.groups_of(tx, projects.find(tx, call.params["project_id"]).id)
    return Reply(shared.collection(call, "endpoint_groups", [wire.endpoint_group(call, row) for row in rows]))


def _pair(tx: Tx, call: Call) -> tuple[Table, dict[str, str]]:
    """What the URL joins, both of which exist."""
    pair = dict(call.params)
    projects.find(tx, pair["project_id"])
    if "endpoint_id" in pair:
        catalog.find(tx, endpoint, pair["endpoint_id"])
        return project_endpoint, pair
    actions.find(tx, pair["endpoint_group_id"])
    return group_project, pair


def check(call: Call) -> Reply:
    call.permit({})
    with call.cloud.database.read() as tx:
        table, pair = _pair(tx, call)
        if not actions.associated(tx, table, **pair):
            raise errors.NotFound(f"Could not find an association of {' and '.join(pair.values())}.")
    if table is project_endpoint:
        return Reply(status=204)
    link = f"{shared.base(call)}/OS-EP-FILTER/endpoint_groups/{pair['endpoint_group_id']}/projects/{pair['project_id']}"
    return Reply({"project_endpoint_group": {**pair, "links": {"self": link}}})


def add(call: Call) -> Reply:
    call.permit({})

    def work(tx: Tx) -> None:
        table, pair = _pair(tx, call)
        actions.associate(tx, table, **pair)

    part.change(call.cloud, work)
    return Reply()


def remove(call: Call) -> Reply:
    call.permit({})

    def work(tx: Tx) -> None:
        table, pair = _pair(tx, call)
        actions.dissociate(tx, table, **pair)

    part.change(call.cloud, work)
    return Reply()


_BASE = "/v3/OS-EP-FILTER"
_GROUP, _IN = f"{_BASE}/endpoint_groups/{{endpoint_group_id}}", f"{_BASE}/projects/{{project_id}}"
_ENDPOINT = f"{_IN}/endpoints/{{endpoint_id}}"
ROUTES = (
    Route("GET", f"{_BASE}/endpoint_groups", index, "identity:list_endpoint_groups", target="later"),
    Route("POST", f"{_BASE}/endpoint_groups", create, "identity:create_endpoint_group", 201, target="later"),
    Route("GET", _GROUP, show, "identity:get_endpoint_group", target="later"),
    Route("PATCH", _GROUP, update, "identity:update_endpoint_group", target="later"),
    Route("DELETE", _GROUP, delete, "identity:delete_endpoint_group", 204, target="later"),
    Route(
        "GET",
        f"{_GROUP}/endpoints",
        index_group_endpoints,
        "identity:list_endpoints_associated_with_endpoint_group",
        target="later",
    ),
    Route(
        "GET",
        f"{_GROUP}/projects",
        index_group_projects,
        "identity:list_projects_associated_with_endpoint_group",
        target="later",
    ),
    Route("GET", f"{_GROUP}/projects/{{project_id}}", check, "identity:get_endpoint_group_in_project", target="later"),
    Route(
        "PUT", f"{_GROUP}/projects/{{project_id}}", add, "identity:add_endpoint_group_to_project", 204, target="later"
    ),
    Route(
        "DELETE",
        f"{_GROUP}/projects/{{project_id}}",
        remove,
        "identity:remove_endpoint_group_from_project",
        204,
        target="later",
    ),
    Route(
        "GET",
        f"{_BASE}/endpoints/{{endpoint_id}}/projects",
        index_endpoint_projects,
        "identity:list_projects_for_endpoint",
        target="later",
    ),
    Route("GET", f"{_IN}/endpoints", index_project_endpoints, "identity:list_endpoints_for_project", target="later"),
    Route(
        "GET",
        f"{_IN}/endpoint_groups",
        index_project_groups,
        "identity:list_endpoint_groups_for_project",
        target="later",
    ),
    Route("GET", _ENDPOINT, check, "identity:check_endpoint_in_project", target="later"),
    Route("PUT", _ENDPOINT, add, "identity:add_endpoint_to_project", 204, target="later"),
    Route("DELETE", _ENDPOINT, remove, "identity:remove_endpoint_from_project", 204, target="later"),
)
