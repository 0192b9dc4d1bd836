"""What application credentials and access rules can do. Source: Keystone API v3.14."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Row, bindparam, delete, select

from nephos import errors
from nephos.identity import notifications
from nephos.identity.application_credentials.store import access_rule, application_credential, application_role
from nephos.identity.application_credentials.wire import RuleRef
from nephos.identity.roles.actions import roles_of
from nephos.kernel.db.engine import Tx

_ac = application_credential.c
_BY_ID = select(application_credential).where(_ac.id == bindparam("id"))
_BY_NAME = select(application_credential).where(_ac.user_id == bindparam("user_id"), _ac.name == bindparam("name"))
_ROLES = select(application_role).where(
    application_role.c.application_credential_id.in_(bindparam("ids", expanding=True))
)
_RULES = select(access_rule).where(access_rule.c.id.in_(bindparam("ids", expanding=True)))


def get(tx: Tx, ident: str) -> Row[Any] | None:
    return tx.first(_BY_ID, {"id": ident})


def find(tx: Tx, user_id: str, ident: str) -> Row[Any]:
    """Raises NotFound, also for one of another user."""
    row = get(tx, ident)
    if row is None or row.user_id != user_id:
        raise errors.NotFound(f"Could not find Application Credential: {ident}.")
    return row


def by_name(tx: Tx, user_id: str, name: str) -> Row[Any] | None:
    return tx.first(_BY_NAME, {"user_id": user_id, "name": name})


def role_ids_of(tx: Tx, ids: Iterable[str]) -> dict[str, list[str]]:
    """Role ids by application credential id."""
    found: dict[str, list[str]] = {}
    for row in tx.all(_ROLES, {"ids": list(ids)}):
        found.setdefault(row.application_credential_id, []).append(row.role_id)
    return found


def described(tx: Tx, rows: Sequence[Row[Any]]) -> tuple[dict[str, list[Row[Any]]], dict[str, Row[Any]]]:
    """Roles by application credential id, and access rules by their own."""
    ids = role_ids_of(tx, [row.id for row in rows])
    roles = roles_of(tx, [one for some in ids.values() for one in some])
    rules = rules_of(tx, [one for row in rows for one in row.access_rule_ids or ()])
    return {key: [roles[one] for one in some] for key, some in ids.items()}, rules


def create(
    tx: Tx, new: Mapping[str, Any], role_ids: Sequence[str], rules: Sequence[tuple[str, RuleRef]] | None
) -> Row[Any]:
    """`rules` come with an id each, for those that must be made. Raises Conflict for a taken name, BadRequest for a
    rule that does not exist or says too little."""
    if by_name(tx, new["user_id"], new["name"]) is not None:
        raise errors.Conflict(
            f"Conflict occurred attempting to store application_credential - Duplicate entry found with name {new['name']}."
        )
    rule_ids = None if rules is None else [_rule(tx, new["user_id"], ident, ref) for ident, ref in rules]
    tx.insert(application_credential, {"created_at": tx.now, "access_rule_ids": rule_ids, **new})
    tx.insert(application_role, [{"application_credential_id": new["id"], "role_id": one} for one in role_ids])
    notifications.tell(tx, "application_credential", notifications.CREATED, new["id"])
    return find(tx, new["user_id"], new["id"])


def _rule(tx: Tx, user_id: str, new_id: str, ref: RuleRef) -> str:
    """The id of the user's rule that says this; made when there is none."""
    if ref.id is not None:
        return str(find_rule(tx, user_id, ref.id, wrong=errors.BadRequest).id)
    if ref.service is None or ref.method is None or ref.path is None:
        raise errors.BadRequest("Invalid input for access_rules: each needs service, method and path, or an id.")
    values = {"user_id": user_id, "service": ref.service, "method": ref.method, "path": ref.path}
    same: str | None = tx.scalar(
        select(access_rule.c.id).where(*[access_rule.c[name] == value for name, value in values.items()])
    )
    if same is None:
        tx.insert(access_rule, {"id": new_id, "created_at": tx.now, **values})
    return same or new_id


def remove(tx: Tx, row: Row[Any]) -> None:
    tx.execute(delete(application_credential).where(_ac.id == row.id))
    notifications.tell(tx, "application_credential", notifications.DELETED, row.id)


def forget(tx: Tx, user_id: str, project_id: str) -> None:
    """A user that loses a role on a project loses the application credentials there, as Keystone has it."""
    there = _ac.user_id == user_id, _ac.project_id == project_id
    ids = tx.column(select(_ac.id).where(*there))
    tx.execute(delete(application_credential).where(*there))
    notifications.tell(tx, "application_credential", notifications.DELETED, *ids)


def rules_of(tx: Tx, ids: Iterable[str]) -> dict[str, Row[Any]]:
    return {row.id: row for row in tx.all(_RULES, {"ids": list(set(ids))})}


def find_rule(tx: Tx, user_id: str, ident: str, *, wrong: type[errors.NephosError] = errors.NotFound) -> Row[Any]:
    row = rules_of(tx, [ident]).get(ident)
    if row is None or row.user_id != user_id:
        raise wrong(f"Could not find Access Rule: {ident}.")
    return row


def remove_rule(tx: Tx, row: Row[Any]) -> None:
    """Raises Forbidden while an application credential has it."""
    for other in tx.all(select(_ac.id, _ac.access_rule_ids).where(_ac.user_id == row.user_id)):
        if row.id in (other.access_rule_ids or ()):
            raise errors.Forbidden(f"Access Rule {row.id} is used by application credential {other.id}.")
    tx.execute(delete(access_rule).where(access_rule.c.id == row.id))
    notifications.tell(tx, "access_rule", notifications.DELETED, row.id)
