"""What the asker's token may be exchanged for: /v3/auth/catalog, projects, domains and system."""

from __future__ import annotations

from sqlalchemy import select

from nephos import errors
from nephos.identity import part
from nephos.identity import wire as shared
from nephos.identity.assignments import effective
from nephos.identity.projects import actions as projects
from nephos.identity.projects import wire as project_wire
from nephos.identity.projects.store import project
from nephos.kernel.http.call import Call, Reply
from nephos.kernel.http.routes import Route


def catalog(call: Call) -> Reply:
    """Raises Forbidden for a token without a scope, which has none."""
    call.permit({})
    who = call.who
    if who.project_id is None and who.domain_id is None and who.system_scope is None:
        raise errors.Forbidden("A project-scoped token is required to produce a service catalog.")
    with call.cloud.database.read() as tx:
        shown = part.of(call.cloud).catalog(tx).encoded(who.user_id, who.project_id)
    return Reply({"catalog": shown, "links": {"self": shared.url(call)}})


def index_projects(call: Call) -> Reply:
    call.permit({})
    with call.cloud.database.read() as tx:
        ids = effective.project_ids(tx, call.who.user_id)
        usable = project.c.id.in_(ids), project.c.enabled.is_(True), project.c.is_domain.is_(False)
        rows = tx.all(select(project).where(*usable).order_by(project.c.name))
        tags = projects.tags_of(tx, ids)
    shown = [project_wire.project(call, row, tags.get(row.id, ())) for row in rows]
    return Reply(shared.collection(call, "projects", shown))


def index_domains(call: Call) -> Reply:
    call.permit({})
    with call.cloud.database.read() as tx:
        ids = effective.domain_ids(tx, call.who.user_id)
        usable = project.c.id.in_(ids), project.c.enabled.is_(True), project.c.is_domain.is_(True)
        rows = tx.all(select(project).where(*usable).order_by(project.c.name))
    return Reply(shared.collection(call, "domains", [project_wire.domain(call, row, ()) for row in rows]))


def show_system(call: Call) -> Reply:
    call.permit({})
    with call.cloud.database.read() as tx:
        held = effective.on_system(tx, call.who.user_id)
    return Reply({"system": [{"all": True}] if held else [], "links": {"self": shared.url(call)}})


ROUTES = (
    Route("GET", "/v3/auth/catalog", catalog, "identity:get_auth_catalog", target="later"),
    Route("GET", "/v3/auth/projects", index_projects, "identity:get_auth_projects", target="later"),
    Route("GET", "/v3/auth/domains", index_domains, "identity:get_auth_domains", target="later"),
    Route("GET", "/v3/auth/system", show_system, "identity:get_auth_system", target="later"),
)
