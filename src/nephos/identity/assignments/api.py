"""Grants on projects, domains and the system, inherited or not; and /v3/role_assignments."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row

from nephos import errors
from nephos.identity import listing, part, targets
from nephos.identity import wire as shared
from nephos.identity.assignments import actions, wire
from nephos.identity.assignments.store import DOMAIN, GROUP, PROJECT, SYSTEM, USER
from nephos.identity.groups import actions as groups
from nephos.identity.projects import actions as projects
from nephos.identity.roles import actions as roles
from nephos.identity.roles import wire as role_wire
from nephos.identity.roles.store import GLOBAL
from nephos.identity.users import actions as users
from nephos.kernel.db.engine import Tx
from nephos.kernel.http.call import Call, Reply
from nephos.kernel.http.routes import Handler, Route


def _grant(call: Call) -> actions.Grant:
    """What the URL names."""
    params = call.params
    actor = USER if "user_id" in params else GROUP
    target = PROJECT if "project_id" in params else DOMAIN if "domain_id" in params else SYSTEM
    to = actions.Grant(actor, params[f"{actor}_id"], target, inherited="/OS-INHERIT/" in call.route.path)
    return to if target == SYSTEM else to._replace(target_id=params[f"{target}_id"])


def _permitted(tx: Tx, call: Call, *, gone: bool = False) -> tuple[actions.Grant, Row[Any] | None]:
    """The grant and the role of the URL, all of which exist; with `gone` the user or group need not.

    Raises Forbidden before NotFound, so that nobody learns more than they may.
    """
    to = _grant(call)
    things: dict[str, Row[Any] | None] = {
        to.actor: users.get(tx, to.actor_id) if to.actor == USER else groups.get(tx, to.actor_id)
    }
    if to.target != SYSTEM:
        things[to.target] = projects.get(tx, to.target_id)
    if "role_id" in call.params:
        things["role"] = roles.get(tx, call.params["role_id"])
    call.permit(targets.of(call, **things))
    place = things.get(to.target)
    if to.target != SYSTEM and (place is None or (to.target == DOMAIN and not place.is_domain)):
        raise errors.NotFound(f"Could not find {to.target}: {to.target_id}.")
    if things[to.actor] is None and not gone:
        raise errors.NotFound(f"Could not find {to.actor}: {to.actor_id}.")
    if "role_id" in call.params and things["role"] is None:
        raise errors.NotFound(f"Could not find role: {call.params['role_id']}.")
    return to, things.get("role")


def index(call: Call) -> Reply:
    with call.cloud.database.read() as tx:
        to, _ = _permitted(tx, call)
        rows = roles.roles_of(tx, actions.roles(tx, to))
    return Reply(shared.collection(call, "roles", [role_wire.role(call, row) for row in rows.values()]))


def check(call: Call) -> Reply:
    with call.cloud.database.read() as tx:
        to, role = _permitted(tx, call)
        assert role is not None
        if not actions.has(tx, to, role.id):
            raise errors.NotFound(f"Could not find role assignment with role: {role.id}, {to.actor}: {to.actor_id}, "
                                  f"{to.target}: {to.target_id}.")  # fmt: skip
    return Reply()


def create(call: Call) -> Reply:
    with call.cloud.database.read() as tx:
        to, role = _permitted(tx, call)
        assert role is not None
        if role.domain_id != GLOBAL:
            _fits(tx, to, role)
    part.change(call.cloud, lambda tx: actions.grant(tx, to, role.id))
    return Reply()


def _fits(tx: Tx, to: actions.Grant, role: Row[Any]) -> None:
    """A domain's own role is for that domain and its projects."""
    place = projects.get(tx, to.target_id) if to.target != SYSTEM else None
    if place is None or (place.id if place.is_domain else place.domain_id) != role.domain_id:
        raise errors.Forbidden(f"Role {role.id} is of domain {role.domain_id}: it cannot be assigned outside of it.")


def delete(call: Call) -> Reply:
    with call.cloud.database.read() as tx:
        to, role = _permitted(tx, call, gone=True)
    assert role is not None
    part.change(call.cloud, lambda tx: actions.revoke(tx, to, role.id))
    return Reply()


def index_assignments(call: Call) -> Reply:
    """Source: Keystone API v3.14, "List role assignments"; the refused combinations are Keystone's."""
    subtree = _flag(call, "include_subtree")
    asked = _asked(call, subtree=subtree)
    effective = _flag(call, "effective")
    with call.cloud.database.read() as tx:
        target = targets.of_domain(call)
        if subtree:
            row = projects.get(tx, asked.project_id) if asked.project_id is not None else None
            if row is not None:
                target = {**targets.of(call, project=row), "target.domain_id": row.domain_id or None}
            call.permit(target, rule="identity:list_role_assignments_for_tree")
            if asked.project_id is None:
                raise errors.BadRequest("scope.project.id must be specified if include_subtree is also specified")
        else:
            call.permit(target)
        _refuse(asked, effective=effective)
        entries = (
            actions.effective(tx, asked, part.of(call.cloud).graph(tx)) if effective else actions.listed(tx, asked)
        )
        if call.who.domain_id is not None:
            entries = _of_domain(tx, entries, call.who.domain_id)
        names = wire.Names(tx, entries) if _flag(call, "include_names") else None
    base = shared.base(call)
    return Reply(shared.collection(call, "role_assignments", [wire.entry(one, base, names) for one in entries]))


def _flag(call: Call, name: str) -> bool:
    value = call.query.one(name)
    return value is not None and listing.truth(value)


def _asked(call: Call, *, subtree: bool) -> actions.Asked:
    query = call.query
    inherited = query.one("scope.OS-INHERIT:inherited_to")
    return actions.Asked(
        user_id=query.one("user.id"),
        group_id=query.one("group.id"),
        role_id=query.one("role.id"),
        project_id=query.one("scope.project.id"),
        domain_id=query.one("scope.domain.id"),
        system=query.one("scope.system") is not None,
        inherited=None if inherited is None else inherited == "projects",
        subtree=subtree,
    )


def _refuse(asked: actions.Asked, *, effective: bool) -> None:
    if asked.domain_id is not None and asked.project_id is not None:
        raise errors.BadRequest("Specify a domain or project, not both")
    if asked.system and (asked.domain_id is not None or asked.project_id is not None):
        raise errors.BadRequest("Specify the system, a domain or a project, not two of them")
    if asked.user_id is not None and asked.group_id is not None:
        raise errors.BadRequest("Specify a user or group, not both")
    if effective and asked.group_id is not None:
        raise errors.BadRequest("Combining effective and group filter will always result in an empty list.")
    if effective and asked.inherited and asked.domain_id is not None:
        raise errors.BadRequest(
            "Combining effective, domain and inherited filters will always result in an empty list."
        )


def _of_domain(tx: Tx, entries: list[actions.Entry], domain_id: str) -> list[actions.Entry]:
    places = projects.projects_of(tx, [one.target_id for one in entries if one.target == PROJECT])
    return [
        one
        for one in entries
        if (one.target == DOMAIN and one.target_id == domain_id)
        or (one.target == PROJECT and one.target_id in places and places[one.target_id].domain_id == domain_id)
    ]


_VERBS: tuple[tuple[str, Handler, str], ...] = (
    ("GET", check, "check"),
    ("PUT", create, "create"),
    ("DELETE", delete, "revoke"),
)


def _routes() -> list[Route]:
    routes = [Route("GET", "/v3/role_assignments", index_assignments, "identity:list_role_assignments", target="later")]
    for place in ("projects/{project_id}", "domains/{domain_id}", "system"):
        for actor in ("user", "group"):
            here = f"{place}/{actor}s/{{{actor}_id}}/roles"
            system = f"_system_grant_for_{actor}"
            name = f"identity:list_system_grants_for_{actor}" if place == "system" else "identity:list_grants"
            routes.append(Route("GET", f"/v3/{here}", index, name, target="later"))
            one = f"{here}/{{role_id}}"
            for verb, handler, word in _VERBS:
                name = f"identity:{word}{system if place == 'system' else '_grant'}"
                routes.append(Route(verb, f"/v3/{one}", handler, name, 204, target="later"))
                if place != "system":
                    path = f"/v3/OS-INHERIT/{one}/inherited_to_projects"
                    routes.append(Route(verb, path, handler, name, 204, target="later"))
            if place != "system":
                path = f"/v3/OS-INHERIT/{here}/inherited_to_projects"
                routes.append(Route("GET", path, index, "identity:list_grants", target="later"))
    return routes


ROUTES = tuple(_routes())
