"""What trusts can do. Source: Keystone API, "OS-TRUST"; the refusals are Keystone's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Row, bindparam, delete, select, update

from nephos import errors
from nephos.identity import notifications
from nephos.identity.roles.actions import roles_of
from nephos.identity.trusts.store import trust, trust_role
from nephos.kernel.db.engine import Tx

DEEPEST = 3
"""How often a trust may be passed on; Keystone's default."""

_BY_ID = select(trust).where(trust.c.id == bindparam("id"))
_ROLES = select(trust_role.c.role_id).where(trust_role.c.trust_id == bindparam("id"))


def standing(tx: Tx, ident: str) -> Row[Any] | None:
    """A trust that has not expired, None when there is none; tokens that were got by it are good though it may have
    been used up."""
    row = tx.first(_BY_ID, {"id": ident})
    return None if row is None or (row.expires_at is not None and row.expires_at <= tx.now) else row


def get(tx: Tx, ident: str) -> Row[Any] | None:
    """A trust that may be used, None when there is none."""
    row = standing(tx, ident)
    return None if row is None or row.remaining_uses == 0 else row


def find(tx: Tx, ident: str) -> Row[Any]:
    """Raises NotFound."""
    row = get(tx, ident)
    if row is None:
        raise errors.NotFound(f"Could not find trust: {ident}.")
    return row


def role_ids(tx: Tx, ident: str) -> list[str]:
    return tx.column(_ROLES, {"id": ident})


def roles(tx: Tx, ident: str) -> list[Row[Any]]:
    return list(roles_of(tx, role_ids(tx, ident)).values())


def chain(tx: Tx, row: Row[Any]) -> list[Row[Any]]:
    """A trust and those that it was passed on from, the first one last. Raises Unauthorized when one does not hold."""
    rows = [row]
    while rows[-1].redelegated_trust_id is not None:
        before = standing(tx, rows[-1].redelegated_trust_id)
        if before is None:
            raise errors.Unauthorized("The trust that this one was passed on from does not hold any more.")
        rows.append(before)
    return rows


def create(
    tx: Tx, new: Mapping[str, Any], role_ids: Iterable[str], *, redelegable: bool, source: Row[Any] | None
) -> Row[Any]:
    """`source` is the trust that is passed on. Raises Forbidden for what it does not allow, BadRequest otherwise."""
    values = {"created_at": tx.now, **new}
    wanted = values.pop("redelegation_count")
    if redelegable and wanted != 0:
        if wanted is not None and wanted > DEEPEST:
            raise errors.Forbidden(f"Requested redelegation depth of {wanted} is greater than allowed {DEEPEST}")
        if values["remaining_uses"] is not None:
            raise errors.BadRequest("remaining_uses must not be set if redelegation is allowed")
    else:
        wanted = 0
    if source is not None:
        wanted = _pass_on(tx, source, values, list(role_ids), wanted)
    values["redelegation_count"] = DEEPEST if wanted is None else wanted
    tx.insert(trust, values)
    tx.insert(trust_role, [{"trust_id": values["id"], "role_id": one} for one in role_ids])
    notifications.tell(tx, "OS-TRUST:trust", notifications.CREATED, values["id"])
    return find(tx, values["id"])


def _pass_on(tx: Tx, source: Row[Any], values: dict[str, Any], wanted_roles: Sequence[str], wanted: int | None) -> int:
    """How often the new trust may be passed on in turn."""
    left = source.redelegation_count - 1
    if source.redelegation_count <= 0:
        raise errors.Forbidden("Remaining redelegation depth of 0 out of allowed range: this trust is not passed on.")
    if wanted is not None and wanted not in (0, left):
        raise errors.Forbidden('Modifying "redelegation_count" upon redelegation is forbidden.')
    if values["remaining_uses"] is not None:
        raise errors.Forbidden('Field "remaining_uses" must not be set in order to redelegate a trust')
    if source.expires_at is not None:
        if values["expires_at"] is not None and values["expires_at"] > source.expires_at:
            raise errors.Forbidden("Requested expiration time is more than redelegated trust can provide")
        values["expires_at"] = values["expires_at"] or source.expires_at
    if not set(wanted_roles) <= set(role_ids(tx, source.id)):
        raise errors.Forbidden("Some of requested roles are not in redelegated trust")
    if values["impersonation"] and not source.impersonation:
        raise errors.Forbidden("Impersonation is not allowed because redelegated trust does not specify impersonation.")
    if values["project_id"] != source.project_id:
        raise errors.Forbidden("A redelegated trust is for the same project.")
    values["redelegated_trust_id"] = source.id
    return left if wanted is None else wanted


def remove(tx: Tx, row: Row[Any]) -> None:
    """With those that were passed on from it."""
    ids, waiting = [row.id], [row.id]
    while waiting:
        waiting = tx.column(select(trust.c.id).where(trust.c.redelegated_trust_id.in_(waiting)))
        ids += waiting
    tx.execute(delete(trust).where(trust.c.id.in_(ids)))
    notifications.tell(tx, "OS-TRUST:trust", notifications.DELETED, *ids)


def use(tx: Tx, ident: str) -> None:
    """One use less, where they are counted. Raises Unauthorized when none is left."""
    row = get(tx, ident)
    if row is None:
        raise errors.Unauthorized(f"Could not find trust: {ident}.")
    if row.remaining_uses is not None:
        tx.execute(update(trust).where(trust.c.id == ident).values(remaining_uses=row.remaining_uses - 1))
