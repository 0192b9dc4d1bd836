"""What roles can do. Source: Keystone API v3.14."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Row, bindparam, delete, select, update

from nephos import errors
from nephos.identity import notifications, removal
from nephos.identity.projects import actions as projects
from nephos.identity.roles.graph import load
from nephos.identity.roles.store import GLOBAL, implied, role
from nephos.identity.wire import merged
from nephos.kernel.db.engine import Tx

NEVER_IMPLIED = "admin"
"""Keystone forbids that any role imply this one."""

_BY_ID = select(role).where(role.c.id == bindparam("id"))
_BY_IDS = select(role).where(role.c.id.in_(bindparam("ids", expanding=True))).order_by(role.c.name)
_BY_NAME = select(role).where(role.c.domain_id == bindparam("domain_id"), role.c.name == bindparam("name"))
_IMPLIED = select(implied.c.implied_id).where(implied.c.prior_id == bindparam("id"))


def get(tx: Tx, role_id: str) -> Row[Any] | None:
    return tx.first(_BY_ID, {"id": role_id})


def find(tx: Tx, role_id: str) -> Row[Any]:
    """Raises NotFound."""
    row = get(tx, role_id)
    if row is None:
        raise errors.NotFound(f"Could not find role: {role_id}.")
    return row


def find_role(tx: Tx, name: str) -> Row[Any] | None:
    """A global role by its name."""
    return tx.first(_BY_NAME, {"domain_id": GLOBAL, "name": name})


def roles_of(tx: Tx, ids: Iterable[str]) -> dict[str, Row[Any]]:
    """Whole rows by id, in the order of their names."""
    return {row.id: row for row in tx.all(_BY_IDS, {"ids": list(set(ids))})}


def create(tx: Tx, new: Mapping[str, Any]) -> Row[Any]:
    """Raises Conflict for a taken name, BadRequest for a domain that does not exist."""
    if new["domain_id"] != GLOBAL:
        home = projects.get(tx, new["domain_id"])
        if home is None or not home.is_domain:
            raise errors.BadRequest(f"Could not find domain: {new['domain_id']}.")
    _free(tx, new["domain_id"], new["name"])
    tx.insert(role, {"created_at": tx.now, **new})
    notifications.tell(tx, "role", notifications.CREATED, new["id"])
    return find(tx, new["id"])


def _free(tx: Tx, domain_id: str, name: str) -> None:
    if tx.first(_BY_NAME, {"domain_id": domain_id, "name": name}) is not None:
        raise errors.Conflict(f"Conflict occurred attempting to store role - Duplicate entry found with name {name}.")


def change(tx: Tx, old: Row[Any], changes: dict[str, Any], extra: Mapping[str, Any]) -> Row[Any]:
    """Raises Conflict for a taken name, Forbidden for an immutable role, BadRequest for another domain."""
    locked = (old.options or {}).get("immutable") is True
    if locked and changes.get("options", {}).get("immutable", True) is not False:
        raise errors.Forbidden(f"Cannot change role {old.id}: it has the option `immutable`.")
    if (changes.pop("domain_id", old.domain_id) or GLOBAL) != old.domain_id:
        raise errors.BadRequest("Update of `domain_id` is not allowed.")
    if changes.get("name", old.name) != old.name:
        _free(tx, old.domain_id, changes["name"])
    if "options" in changes:
        changes["options"] = merged(old.options, changes["options"])
    if extra:
        changes["extra"] = merged(old.extra, extra)
    if changes:
        tx.execute(update(role).where(role.c.id == old.id).values(**changes))
    notifications.tell(tx, "role", notifications.UPDATED, old.id)
    return find(tx, old.id)


def remove(tx: Tx, row: Row[Any]) -> None:
    """Raises Forbidden for an immutable role."""
    if (row.options or {}).get("immutable") is True:
        raise errors.Forbidden(f"Cannot delete role {row.id}: it has the option `immutable`.")
    removal.roles(tx, [row.id])


def implied_by(tx: Tx, prior_id: str) -> list[Row[Any]]:
    return list(roles_of(tx, tx.column(_IMPLIED, {"id": prior_id})).values())


def implies(tx: Tx, prior_id: str, implied_id: str) -> bool:
    return implied_id in tx.column(_IMPLIED, {"id": prior_id})


def imply(tx: Tx, prior: Row[Any], other: Row[Any]) -> None:
    """Again: nothing. Raises Forbidden for `admin`, a domain's role implied by a global one, and a circle."""
    if other.name == NEVER_IMPLIED:
        raise errors.Forbidden(f"{other.id} cannot be an implied role.")
    if prior.domain_id == GLOBAL and other.domain_id != GLOBAL:
        raise errors.Forbidden(f"{other.id} cannot be an implied role: it belongs to a domain and {prior.id} does not.")
    if prior.id in load(tx).closure[other.id]:
        raise errors.Forbidden(f"{other.id} cannot be an implied role: it implies {prior.id} itself.")
    if not implies(tx, prior.id, other.id):
        tx.insert(implied, {"prior_id": prior.id, "implied_id": other.id})


def unimply(tx: Tx, prior_id: str, implied_id: str) -> None:
    """Raises NotFound."""
    found = tx.execute(delete(implied).where(implied.c.prior_id == prior_id, implied.c.implied_id == implied_id))
    if found.rowcount == 0:
        raise errors.NotFound(f"{prior_id} does not imply {implied_id}")
