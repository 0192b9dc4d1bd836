"""Role assignments as the API lists them. Source: Keystone API v3.14, "Role assignments"."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row

from nephos.identity.assignments.actions import Entry
from nephos.identity.assignments.store import GROUP, PROJECT, SYSTEM, USER
from nephos.identity.groups.actions import groups_of
from nephos.identity.projects.actions import projects_of
from nephos.identity.roles.actions import roles_of
from nephos.identity.roles.store import GLOBAL
from nephos.identity.users.actions import users_of
from nephos.kernel.db.engine import Tx


class Names:
    """The names of everything that a list of entries is about, in a constant number of queries."""

    def __init__(self, tx: Tx, entries: list[Entry]) -> None:
        self.users = users_of(tx, [one.actor_id for one in entries if one.actor == USER])
        self.groups = groups_of(tx, [one.actor_id for one in entries if one.actor == GROUP])
        self.roles = roles_of(tx, [one.role_id for one in entries])
        self.places = projects_of(tx, [one.target_id for one in entries if one.target != SYSTEM])
        rows: list[Row[Any]] = [
            *self.users.values(),
            *self.groups.values(),
            *self.roles.values(),
            *self.places.values(),
        ]
        self.domains = projects_of(tx, [row.domain_id for row in rows if row.domain_id])

    def domain(self, domain_id: str) -> dict[str, Any]:
        found = self.domains.get(domain_id)
        return {"id": domain_id, "name": found.name if found is not None else ""}


def entry(one: Entry, base: str, names: Names | None) -> dict[str, Any]:
    """`base` is the API's address; with `names` every id comes with its name and domain."""
    shown: dict[str, Any] = {"role": _role(one, names), "scope": _scope(one, names), "links": _links(one, base)}
    shown[one.actor] = _actor(one, names)
    return shown


def _role(one: Entry, names: Names | None) -> dict[str, Any]:
    row = names.roles.get(one.role_id) if names is not None else None
    if names is None or row is None:
        return {"id": one.role_id}
    shown = {"id": row.id, "name": row.name}
    if row.domain_id != GLOBAL:
        shown["domain"] = names.domain(row.domain_id)
    return shown


def _actor(one: Entry, names: Names | None) -> dict[str, Any]:
    if names is None:
        return {"id": one.actor_id}
    row = (names.users if one.actor == USER else names.groups).get(one.actor_id)
    if row is None:
        return {"id": one.actor_id, "name": "", "domain": {"id": "", "name": ""}}
    return {"id": row.id, "name": row.name, "domain": names.domain(row.domain_id)}


def _scope(one: Entry, names: Names | None) -> dict[str, Any]:
    if one.target == SYSTEM:
        return {"system": {"all": True}}
    place: dict[str, Any] = {"id": one.target_id}
    row = names.places.get(one.target_id) if names is not None else None
    if names is not None and row is not None:
        place["name"] = row.name
        if one.target == PROJECT:
            place["domain"] = names.domain(row.domain_id or row.id)
    scope: dict[str, Any] = {one.target: place}
    if one.inherited:
        scope["OS-INHERIT:inherited_to"] = "projects"
    return scope


def _links(one: Entry, base: str) -> dict[str, str]:
    kind, target_id = one.via_target or (one.target, one.target_id)
    path = "/system" if kind == SYSTEM else f"/{kind}s/{target_id}"
    path += f"/groups/{one.via_group}" if one.via_group is not None else f"/{one.actor}s/{one.actor_id}"
    path += f"/roles/{one.via_role or one.role_id}"
    if one.inherited:
        path = f"/OS-INHERIT{path}/inherited_to_projects"
    shown = {"assignment": base + path}
    if one.via_group is not None:
        shown["membership"] = f"{base}/groups/{one.via_group}/users/{one.actor_id}"
    if one.via_role is not None:
        shown["prior_role"] = f"{base}/prior_roles/{one.via_role}/implies/{one.role_id}"
    return shown
