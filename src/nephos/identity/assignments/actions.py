"""Granting roles and taking them back, and the list of who has which. Source: Keystone API v3.14, "Roles"."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from sqlalchemy import ColumnElement, and_, delete, or_, select

from nephos import errors
from nephos.identity import notifications
from nephos.identity.application_credentials.actions import forget
from nephos.identity.assignments.effective import above, below
from nephos.identity.assignments.store import ALL, DOMAIN, GROUP, PROJECT, SYSTEM, USER, assignment
from nephos.identity.groups.actions import members_of
from nephos.identity.groups.store import group, membership
from nephos.identity.projects.store import project
from nephos.identity.roles.graph import Graph
from nephos.identity.roles.store import GLOBAL
from nephos.identity.users.store import user
from nephos.kernel.db.engine import Tx

_a = assignment.c


class Grant(NamedTuple):
    """Who, on what, and whether it counts for the projects below only. `actor` is user or group; `target` project,
    domain or system."""

    actor: str
    actor_id: str
    target: str
    target_id: str = ALL
    inherited: bool = False

    def where(self) -> ColumnElement[bool]:
        return and_(
            _a.actor == self.actor,
            _a.actor_id == self.actor_id,
            _a.target == self.target,
            _a.target_id == self.target_id,
            _a.inherited.is_(self.inherited),
        )


def grant(tx: Tx, to: Grant, role_id: str) -> None:
    """Again: nothing. Raises NotFound when the actor or the target went meanwhile."""
    actors = user if to.actor == USER else group
    if tx.first(select(actors.c.id).where(actors.c.id == to.actor_id)) is None:
        raise errors.NotFound(f"Could not find {to.actor}: {to.actor_id}.")
    if to.target != SYSTEM and tx.first(select(project.c.id).where(project.c.id == to.target_id)) is None:
        raise errors.NotFound(f"Could not find {to.target}: {to.target_id}.")
    if not has(tx, to, role_id):
        tx.insert(assignment, {**to._asdict(), "role_id": role_id})
        _tell(tx, notifications.CREATED, to, role_id)


def has(tx: Tx, to: Grant, role_id: str) -> bool:
    return tx.first(select(_a.role_id).where(to.where(), _a.role_id == role_id)) is not None


def roles(tx: Tx, to: Grant) -> list[str]:
    """Role ids."""
    return tx.column(select(_a.role_id).where(to.where()))


def revoke(tx: Tx, to: Grant, role_id: str) -> None:
    """A user's application credentials on a project go with its role there. Raises NotFound."""
    if tx.execute(delete(assignment).where(to.where(), _a.role_id == role_id)).rowcount == 0:
        raise errors.NotFound(f"Could not find role assignment with role: {role_id}, {to.actor}: {to.actor_id}, "
                              f"{to.target}: {to.target_id}.")  # fmt: skip
    if to.actor == USER and to.target == PROJECT:
        forget(tx, to.actor_id, to.target_id)
    _tell(tx, notifications.DELETED, to, role_id)


def _tell(tx: Tx, operation: str, to: Grant, role_id: str) -> None:
    target = to.target, to.target_id if to.target != SYSTEM else None
    notifications.assigned(
        tx, operation, role_id, actor=(to.actor, to.actor_id), target=target, inherited=to.inherited
    )


class Asked(NamedTuple):
    """The filters of a list of assignments; None: any. `subtree` adds the projects below `project_id`."""

    user_id: str | None = None
    group_id: str | None = None
    role_id: str | None = None
    project_id: str | None = None
    domain_id: str | None = None
    system: bool = False
    inherited: bool | None = None
    subtree: bool = False


class Entry(NamedTuple):
    """One assignment as the API lists it. The `via` fields say which group, place or prior role it comes from when it
    is not there itself."""

    actor: str
    actor_id: str
    target: str
    target_id: str
    role_id: str
    inherited: bool
    via_group: str | None = None
    via_target: tuple[str, str] | None = None
    via_role: str | None = None


def listed(tx: Tx, asked: Asked) -> list[Entry]:
    """The assignments as they were granted."""
    conditions: list[ColumnElement[bool]] = []
    if asked.user_id is not None:
        conditions += [_a.actor == USER, _a.actor_id == asked.user_id]
    if asked.group_id is not None:
        conditions += [_a.actor == GROUP, _a.actor_id == asked.group_id]
    if asked.role_id is not None:
        conditions.append(_a.role_id == asked.role_id)
    if asked.project_id is not None:
        ids = [asked.project_id, *(below(tx, [asked.project_id]) if asked.subtree else ())]
        conditions += [_a.target == PROJECT, _a.target_id.in_(ids)]
    if asked.domain_id is not None:
        conditions += [_a.target == DOMAIN, _a.target_id == asked.domain_id]
    if asked.system:
        conditions.append(_a.target == SYSTEM)
    if asked.inherited is not None:
        conditions.append(_a.inherited.is_(asked.inherited))
    return _entries(tx, conditions)


def _entries(tx: Tx, conditions: list[ColumnElement[bool]]) -> list[Entry]:
    statement = select(_a.actor, _a.actor_id, _a.target, _a.target_id, _a.role_id, _a.inherited)
    statement = statement.where(*conditions).order_by(_a.actor_id, _a.target_id, _a.role_id)
    return [
        Entry(row.actor, row.actor_id, row.target, row.target_id, row.role_id, row.inherited)
        for row in tx.all(statement)
    ]


def effective(tx: Tx, asked: Asked, graph: Graph) -> list[Entry]:
    """What each user can do where: groups replaced by their members, inheritance by the projects it reaches, prior
    roles joined by those they imply."""
    projects = None
    if asked.project_id is not None:
        projects = {asked.project_id, *(below(tx, [asked.project_id]) if asked.subtree else ())}
    entries = _entries(tx, _reaching(tx, asked, projects))
    entries = _spread(tx, entries, projects)
    entries = _members(tx, entries, asked.user_id)
    entries = list(dict.fromkeys(_implied(entries, graph)))
    return [one for one in entries if asked.role_id is None or one.role_id == asked.role_id]


def _reaching(tx: Tx, asked: Asked, projects: set[str] | None) -> list[ColumnElement[bool]]:
    """What could end in an entry that is asked for."""
    conditions: list[ColumnElement[bool]] = []
    if asked.user_id is not None:
        groups = select(membership.c.group_id).where(membership.c.user_id == asked.user_id)
        conditions.append(
            or_(
                and_(_a.actor == USER, _a.actor_id == asked.user_id),
                and_(_a.actor == GROUP, _a.actor_id.in_(groups)),
            )
        )
    if projects is not None:
        over: set[str] = set()
        for row in tx.all(select(project.c.parent_id, project.c.domain_id).where(project.c.id.in_(projects))):
            over.update(above(tx, row.parent_id, row.domain_id))
        conditions.append(
            or_(
                and_(_a.target == PROJECT, _a.target_id.in_(projects), _a.inherited.is_(False)),
                and_(_a.target_id.in_(over), _a.inherited.is_(True)),
            )
        )
    if asked.domain_id is not None:
        conditions += [_a.target == DOMAIN, _a.target_id == asked.domain_id, _a.inherited.is_(False)]
    if asked.system:
        conditions.append(_a.target == SYSTEM)
    if asked.inherited is not None:
        conditions.append(_a.inherited.is_(asked.inherited))
    return conditions


def _spread(tx: Tx, entries: Iterable[Entry], projects: set[str] | None) -> list[Entry]:
    """Inherited entries to the projects below their target."""
    reach: dict[str, list[str]] = {}
    spread = []
    for one in entries:
        if not one.inherited:
            spread.append(one)
            continue
        if one.target_id not in reach:
            reach[one.target_id] = below(tx, [one.target_id])
        for project_id in reach[one.target_id]:
            if projects is None or project_id in projects:
                spread.append(
                    one._replace(target=PROJECT, target_id=project_id, via_target=(one.target, one.target_id))
                )
    return spread


def _members(tx: Tx, entries: list[Entry], user_id: str | None) -> list[Entry]:
    """Groups by their members; of one user only the groups it is in were read."""
    ids = [one.actor_id for one in entries if one.actor == GROUP]
    members = members_of(tx, ids) if user_id is None else {key: [user_id] for key in ids}
    found = []
    for one in entries:
        if one.actor == USER:
            found.append(one)
            continue
        for each in members.get(one.actor_id, ()):
            found.append(one._replace(actor=USER, actor_id=each, via_group=one.actor_id))
    return found


def _implied(entries: Iterable[Entry], graph: Graph) -> Iterable[Entry]:
    for one in entries:
        waiting, seen = [one], {one.role_id}
        while waiting:
            entry = waiting.pop()
            known = graph.roles.get(entry.role_id)
            if known is not None and known.domain_id == GLOBAL:
                yield entry
            for other in graph.direct.get(entry.role_id, ()):
                if other not in seen:
                    seen.add(other)
                    waiting.append(one._replace(role_id=other, via_role=entry.role_id))
