"""What users can do. Hashes are made before and passed in. Source: Keystone API v3.14."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Row, bindparam, select, update

from nephos import errors
from nephos.identity import notifications, removal
from nephos.identity.projects import actions as projects
from nephos.identity.users import compliance
from nephos.identity.users.store import password, user
from nephos.identity.wire import merged
from nephos.kernel.db.engine import Tx
from nephos.settings import Security

_BY_ID = select(user).where(user.c.id == bindparam("id"))
_BY_NAME = select(user).where(user.c.domain_id == bindparam("domain_id"), user.c.name == bindparam("name"))
_NAMES = select(user.c.id, user.c.name, user.c.domain_id).where(user.c.id.in_(bindparam("ids", expanding=True)))
_RENEW = (
    update(user)
    .where(user.c.id == bindparam("user_id"), user.c.password_hash == bindparam("old"))
    .values(password_hash=bindparam("new"))
)


def get(tx: Tx, user_id: str) -> Row[Any] | None:
    return tx.first(_BY_ID, {"id": user_id})


def find(tx: Tx, user_id: str) -> Row[Any]:
    """Raises NotFound."""
    row = get(tx, user_id)
    if row is None:
        raise errors.NotFound(f"Could not find user: {user_id}.")
    return row


def users_of(tx: Tx, ids: Iterable[str]) -> dict[str, Row[Any]]:
    """Id, name and domain_id of users, by id; unknown ids are left out."""
    return {row.id: row for row in tx.all(_NAMES, {"ids": list(set(ids))})}


def find_user(tx: Tx, name: str, domain: str = "default") -> Row[Any] | None:
    """A user by its name and its domain's id."""
    return tx.first(_BY_NAME, {"name": name, "domain_id": domain})


def create(tx: Tx, new: Mapping[str, Any], rules: Security) -> Row[Any]:
    """A user from the columns of its row. Raises Conflict for a taken name, NotFound for the domain."""
    projects.find_domain(tx, new["domain_id"])
    _free(tx, new["domain_id"], new["name"])
    _default_project(tx, new.get("default_project_id"))
    values = {"created_at": tx.now, **new}
    if values.get("password_hash") is not None:
        values["password_changed_at"] = tx.now
        values["password_expires_at"] = compliance.expiry(rules, values.get("options") or {}, tx.now, by_user=False)
    tx.insert(user, values)
    notifications.tell(tx, "user", notifications.CREATED, new["id"])
    return find(tx, new["id"])


def _free(tx: Tx, domain_id: str, name: str) -> None:
    if tx.first(_BY_NAME, {"domain_id": domain_id, "name": name}) is not None:
        raise errors.Conflict(f"Conflict occurred attempting to store user - Duplicate entry found with name {name}.")


def _default_project(tx: Tx, project_id: str | None) -> None:
    """It need not exist, but it cannot be a domain."""
    if project_id is None:
        return
    row = projects.get(tx, project_id)
    if row is not None and row.is_domain:
        raise errors.BadRequest(f"User's default project ID cannot be a domain ID: {project_id}")


def change(tx: Tx, old: Row[Any], changes: dict[str, Any], extra: Mapping[str, Any], rules: Security) -> Row[Any]:
    """`password_hash` among the changes is a new password. A new password and a disabled user end their tokens.

    Raises Conflict for a taken name, BadRequest for another domain, Forbidden for a locked user.
    """
    if changes.pop("domain_id", old.domain_id) != old.domain_id:
        raise errors.BadRequest("Cannot change Domain ID")
    if changes.get("name", old.name) != old.name:
        _free(tx, old.domain_id, changes["name"])
    if "default_project_id" in changes:
        _default_project(tx, changes["default_project_id"])
    if "options" in changes:
        changes["options"] = merged(old.options, changes["options"])
    if extra:
        changes["extra"] = merged(old.extra, extra)
    if changes.get("password_hash") is not None:
        set_password(tx, old, changes.pop("password_hash"), rules, options=changes.get("options"), by_user=False)
    if changes.get("enabled") is False and old.enabled:
        changes["revoked_before"] = tx.now
    if changes.get("enabled") is True:
        changes["failures"], changes["failed_at"] = 0, None
    if changes:
        tx.execute(update(user).where(user.c.id == old.id).values(**changes))
    notifications.tell(tx, "user", notifications.UPDATED, old.id)
    return find(tx, old.id)


def set_password(
    tx: Tx, old: Row[Any], new_hash: str, rules: Security, *, by_user: bool, options: dict[str, Any] | None = None
) -> None:
    """The former one is remembered as long as the settings ask, and tokens that were got with it end."""
    if old.password_hash is not None and rules.password_history > 1:
        tx.insert(password, {"user_id": old.id, "hash": old.password_hash, "created_at": tx.now})
    compliance.forget(tx, rules, old.id)
    chosen = options if options is not None else old.options or {}
    tx.execute(
        update(user)
        .where(user.c.id == old.id)
        .values(
            password_hash=new_hash,
            password_changed_at=tx.now,
            password_expires_at=compliance.expiry(rules, chosen, tx.now, by_user=by_user),
            revoked_before=tx.now,
        )
    )
    if by_user:
        notifications.tell(tx, "user", notifications.UPDATED, old.id)


def revoke_tokens(tx: Tx, row: Row[Any]) -> None:
    tx.execute(update(user).where(user.c.id == row.id).values(revoked_before=tx.now))


def renew(tx: Tx, user_id: str, old: str, new: str) -> None:
    """Put a hash of the same password in place of an older form, unless the password was changed meanwhile."""
    tx.execute(_RENEW, {"user_id": user_id, "old": old, "new": new})


def remove(tx: Tx, row: Row[Any]) -> None:
    removal.users(tx, [row.id])
