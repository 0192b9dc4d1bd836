"""What can be done with server groups."""

from __future__ import annotations

from typing import Any

from sqlalchemy import delete as delete_from
from sqlalchemy import func, select, update

from nephos import errors
from nephos.compute.groups import store
from nephos.compute.quotas import actions as quotas
from nephos.compute.servers import store as servers
from nephos.kernel.auth.who import Who
from nephos.kernel.db.engine import Tx
from nephos.settings import Quota

_g = store.group
POLICIES = ("anti-affinity", "affinity", "soft-anti-affinity", "soft-affinity")


def get(tx: Tx, group_id: str) -> Any:
    """Raises NotFound."""
    row = tx.first(select(_g).where(_g.c.id == group_id))
    if row is None:
        raise errors.NotFound(f"Instance group {group_id} could not be found.")
    return row


def create(tx: Tx, settings: Quota, who: Who, *, group_id: str, name: str, policy: str, rules: dict[str, int]) -> Any:
    """Raises OverQuota beyond the project's server_groups."""
    project_id = who.project_id or ""
    limit = quotas.limits(tx, settings, project_id)["server_groups"]
    used = int(tx.scalar(select(func.count()).select_from(_g).where(_g.c.project_id == project_id)))
    if 0 <= limit <= used:
        raise errors.OverQuota("server_groups", limit=limit, used=used, requested=1)
    values = {
        "id": group_id,
        "project_id": project_id,
        "user_id": who.user_id,
        "name": name,
        "policy": policy,
        "rules": rules,
        "created_at": tx.now,
    }
    tx.insert(_g, values)
    return get(tx, group_id)


def delete(tx: Tx, group_id: str) -> None:
    """Its servers stay, in no group. Raises NotFound."""
    get(tx, group_id)
    member = servers.server
    tx.execute(
        update(member).where(member.c.group_id == group_id).values(group_id=None, generation=member.c.generation + 1)
    )
    tx.execute(delete_from(_g).where(_g.c.id == group_id))


def admit(tx: Tx, settings: Quota, group_id: str, who: Who, count: int) -> None:
    """Check that servers may be made in a group. Raises BadRequest when it is not there, OverQuota when it is full."""
    row = tx.first(select(_g).where(_g.c.id == group_id))
    if row is None or row.project_id != who.project_id:
        raise errors.BadRequest(f"Instance group {group_id} could not be found.")
    limit = quotas.limits(tx, settings, row.project_id)["server_group_members"]
    used = len(servers.members_of(tx, [group_id]).get(group_id, ()))
    if 0 <= limit < used + count:
        raise errors.OverQuota("server_group_members", limit=limit, used=used, requested=count)
