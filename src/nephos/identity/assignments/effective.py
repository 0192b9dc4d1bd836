"""Which roles a user has on a scope, groups and inheritance counted: the question behind every token."""

from __future__ import annotations

from sqlalchemy import and_, bindparam, or_, select

from nephos.identity.assignments.store import ALL, DOMAIN, GROUP, PROJECT, SYSTEM, USER, assignment
from nephos.identity.groups.store import membership
from nephos.identity.projects.store import project
from nephos.kernel.db.engine import Tx

_a = assignment.c
_groups = select(membership.c.group_id).where(membership.c.user_id == bindparam("user_id")).scalar_subquery()
_mine = or_(
    and_(_a.actor == USER, _a.actor_id == bindparam("user_id")),
    and_(_a.actor == GROUP, _a.actor_id.in_(_groups)),
)
_ON_PROJECT = (
    select(_a.role_id)
    .distinct()
    .where(
        _mine,
        or_(
            and_(_a.target == PROJECT, _a.target_id == bindparam("project_id"), _a.inherited.is_(False)),
            and_(_a.target_id.in_(bindparam("above", expanding=True)), _a.inherited.is_(True)),
        ),
    )
)
_ON = (
    select(_a.role_id)
    .distinct()
    .where(_mine, _a.target == bindparam("target"), _a.target_id == bindparam("target_id"), _a.inherited.is_(False))
)
_PARENT = select(project.c.parent_id).where(project.c.id == bindparam("id"))
_ALL_MINE = select(_a.target, _a.target_id, _a.inherited).distinct().where(_mine)
_CHILDREN = select(project.c.id).where(project.c.parent_id.in_(bindparam("ids", expanding=True)))


def above(tx: Tx, parent_id: str | None, domain_id: str) -> list[str]:
    """The projects above one, nearest first, with its domain last."""
    ids: list[str] = []
    while parent_id is not None and parent_id != domain_id:
        ids.append(parent_id)
        parent_id = tx.scalar(_PARENT, {"id": parent_id})
    return [*ids, domain_id]


def below(tx: Tx, ids: list[str]) -> list[str]:
    """All projects below any of these, at any depth."""
    found: list[str] = []
    while ids:
        ids = tx.column(_CHILDREN, {"ids": ids})
        found += ids
    return found


def on_project(tx: Tx, user_id: str, project_id: str, parent_id: str | None, domain_id: str) -> list[str]:
    """Role ids, not yet expanded by what they imply."""
    ancestors = above(tx, parent_id, domain_id)
    return tx.column(_ON_PROJECT, {"user_id": user_id, "project_id": project_id, "above": ancestors})


def on_domain(tx: Tx, user_id: str, domain_id: str) -> list[str]:
    return tx.column(_ON, {"user_id": user_id, "target": DOMAIN, "target_id": domain_id})


def on_system(tx: Tx, user_id: str) -> list[str]:
    return tx.column(_ON, {"user_id": user_id, "target": SYSTEM, "target_id": ALL})


def project_ids(tx: Tx, user_id: str) -> list[str]:
    """Every project that the user has a role on, directly, by a group or inherited."""
    rows = tx.all(_ALL_MINE, {"user_id": user_id})
    direct = {row.target_id for row in rows if row.target == PROJECT and not row.inherited}
    inheriting = [row.target_id for row in rows if row.inherited]
    return list(direct.union(below(tx, inheriting)))


def domain_ids(tx: Tx, user_id: str) -> list[str]:
    rows = tx.all(_ALL_MINE, {"user_id": user_id})
    return list({row.target_id for row in rows if row.target == DOMAIN and not row.inherited})
