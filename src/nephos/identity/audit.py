"""What audit looks for in identity: assignments of roles to what is no more."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import select

from nephos.identity.assignments.store import DOMAIN, GROUP, PROJECT, USER, assignment
from nephos.identity.groups.store import group
from nephos.identity.projects.store import project
from nephos.identity.users.store import user
from nephos.kernel.cloud import Finding
from nephos.kernel.db.engine import Tx

_a = assignment.c
_CHECKS = (
    (select(_a.actor_id).where(_a.actor == USER, _a.actor_id.not_in(select(user.c.id))), "user"),
    (select(_a.actor_id).where(_a.actor == GROUP, _a.actor_id.not_in(select(group.c.id))), "group"),
    (
        select(_a.target_id).where(_a.target.in_((PROJECT, DOMAIN)), _a.target_id.not_in(select(project.c.id))),
        "project",
    ),
)


def assignments(tx: Tx) -> Iterator[Finding]:
    for statement, kind in _CHECKS:
        for ident in tx.column(statement.distinct()):
            yield Finding("role assignment", ident, f"a role is assigned to or on {kind} {ident}, which does not exist")
