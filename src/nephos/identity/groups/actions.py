"""What groups can do. Source: Keystone API v3.14."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Row, bindparam, delete, select, update

from nephos import errors
from nephos.identity import notifications, removal
from nephos.identity.groups.store import group, membership
from nephos.identity.projects import actions as projects
from nephos.identity.wire import merged
from nephos.kernel.db.engine import Tx

_BY_ID = select(group).where(group.c.id == bindparam("id"))
_BY_NAME = select(group.c.id).where(group.c.domain_id == bindparam("domain_id"), group.c.name == bindparam("name"))
_NAMES = select(group.c.id, group.c.name, group.c.domain_id).where(group.c.id.in_(bindparam("ids", expanding=True)))
_MEMBERS = select(membership.c.group_id, membership.c.user_id).where(
    membership.c.group_id.in_(bindparam("ids", expanding=True))
)


def get(tx: Tx, group_id: str) -> Row[Any] | None:
    return tx.first(_BY_ID, {"id": group_id})


def find(tx: Tx, group_id: str) -> Row[Any]:
    """Raises NotFound."""
    row = get(tx, group_id)
    if row is None:
        raise errors.NotFound(f"Could not find group: {group_id}.")
    return row


def groups_of(tx: Tx, ids: Iterable[str]) -> dict[str, Row[Any]]:
    """Id, name and domain_id of groups, by id."""
    return {row.id: row for row in tx.all(_NAMES, {"ids": list(set(ids))})}


def members_of(tx: Tx, ids: Iterable[str]) -> dict[str, list[str]]:
    """User ids by group id."""
    members: dict[str, list[str]] = {}
    for row in tx.all(_MEMBERS, {"ids": list(set(ids))}):
        members.setdefault(row.group_id, []).append(row.user_id)
    return members


def create(tx: Tx, new: Mapping[str, Any]) -> Row[Any]:
    """Raises Conflict for a taken name, NotFound for the domain."""
    projects.find_domain(tx, new["domain_id"])
    _free(tx, new["domain_id"], new["name"])
    tx.insert(group, {"created_at": tx.now, **new})
    notifications.tell(tx, "group", notifications.CREATED, new["id"])
    return find(tx, new["id"])


def _free(tx: Tx, domain_id: str, name: str) -> None:
    if tx.first(_BY_NAME, {"domain_id": domain_id, "name": name}) is not None:
        raise errors.Conflict(f"Conflict occurred attempting to store group - Duplicate entry found with name {name}.")


def change(tx: Tx, old: Row[Any], changes: dict[str, Any], extra: Mapping[str, Any]) -> Row[Any]:
    """Raises Conflict for a taken name, BadRequest for another domain."""
    if changes.pop("domain_id", old.domain_id) != old.domain_id:
        raise errors.BadRequest("Cannot change Domain ID")
    if changes.get("name", old.name) != old.name:
        _free(tx, old.domain_id, changes["name"])
    if "description" in changes:
        changes["description"] = changes["description"] or ""
    if extra:
        changes["extra"] = merged(old.extra, extra)
    if changes:
        tx.execute(update(group).where(group.c.id == old.id).values(**changes))
    notifications.tell(tx, "group", notifications.UPDATED, old.id)
    return find(tx, old.id)


def remove(tx: Tx, row: Row[Any]) -> None:
    removal.groups(tx, [row.id])


def is_member(tx: Tx, group_id: str, user_id: str) -> bool:
    return (
        tx.first(select(membership).where(membership.c.group_id == group_id, membership.c.user_id == user_id))
        is not None
    )


def add_member(tx: Tx, group_id: str, user_id: str) -> None:
    """Again: nothing."""
    if not is_member(tx, group_id, user_id):
        tx.insert(membership, {"group_id": group_id, "user_id": user_id})
        notifications.tell(tx, "group", notifications.UPDATED, group_id, actor=("added", user_id))


def remove_member(tx: Tx, group_id: str, user_id: str) -> None:
    """Raises NotFound."""
    found = tx.execute(delete(membership).where(membership.c.group_id == group_id, membership.c.user_id == user_id))
    if found.rowcount == 0:
        raise errors.NotFound(f"User '{user_id}' not found in group '{group_id}'.")
    notifications.tell(tx, "group", notifications.UPDATED, group_id, actor=("removed", user_id))
