"""What goes when a user, a group, a project or a role goes. One place, so that nothing is left pointing at nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import BindParameter, bindparam, delete, select, update

from nephos.identity import notifications
from nephos.identity.application_credentials.store import application_credential
from nephos.identity.assignments.store import DOMAIN, GROUP, PROJECT, USER, assignment
from nephos.identity.credentials.store import credential
from nephos.identity.groups.store import group
from nephos.identity.projects.store import project
from nephos.identity.roles.store import role
from nephos.identity.users.store import user
from nephos.kernel.db.engine import Tx

_ids: BindParameter[Any] = bindparam("ids", expanding=True)
_a = assignment.c


def users(tx: Tx, ids: Sequence[str]) -> None:
    """With their memberships, assignments and credentials."""
    some = {"ids": list(ids)}
    tx.execute(delete(assignment).where(_a.actor == USER, _a.actor_id.in_(_ids)), some)
    tx.execute(delete(user).where(user.c.id.in_(_ids)), some)
    notifications.tell(tx, "user", notifications.DELETED, *ids)


def groups(tx: Tx, ids: Sequence[str]) -> None:
    some = {"ids": list(ids)}
    tx.execute(delete(assignment).where(_a.actor == GROUP, _a.actor_id.in_(_ids)), some)
    tx.execute(delete(group).where(group.c.id.in_(_ids)), some)
    notifications.tell(tx, "group", notifications.DELETED, *ids)


def projects(tx: Tx, ids: Sequence[str]) -> None:
    """Projects or domains themselves, with the assignments on them and the credentials for them."""
    some = {"ids": list(ids)}
    tx.execute(delete(assignment).where(_a.target.in_((PROJECT, DOMAIN)), _a.target_id.in_(_ids)), some)
    tx.execute(delete(credential).where(credential.c.project_id.in_(_ids)), some)
    tx.execute(delete(application_credential).where(application_credential.c.project_id.in_(_ids)), some)
    tx.execute(update(user).where(user.c.default_project_id.in_(_ids)).values(default_project_id=None), some)
    domains = set(tx.column(select(project.c.id).where(project.c.id.in_(_ids), project.c.is_domain), some))
    tx.execute(delete(project).where(project.c.id.in_(_ids)), some)
    notifications.tell(tx, "project", notifications.DELETED, *ids)
    notifications.tell(tx, "domain", notifications.DELETED, *domains)


def roles(tx: Tx, ids: Sequence[str]) -> None:
    """The ledger's own references take assignments, implications and application credentials' roles with them."""
    tx.execute(delete(role).where(role.c.id.in_(_ids)), {"ids": list(ids)})
    notifications.tell(tx, "role", notifications.DELETED, *ids)
