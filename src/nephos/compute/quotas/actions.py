"""Limits, what is used of them, and taking some: counted from the rows in the transaction that takes (S3-32 … S3-35)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import bindparam, func, select
from sqlalchemy import delete as delete_from

from nephos import errors
from nephos.compute.groups.store import group
from nephos.compute.keypairs import actions as keypairs
from nephos.compute.quotas import store
from nephos.compute.servers import store as servers
from nephos.kernel.db.engine import Tx
from nephos.settings import Quota

RESOURCES = (
    "instances",
    "cores",
    "ram",
    "metadata_items",
    "injected_files",
    "injected_file_content_bytes",
    "injected_file_path_bytes",
    "key_pairs",
    "server_groups",
    "server_group_members",
)
PROXIED = {"fixed_ips": -1, "floating_ips": -1, "security_groups": -1, "security_group_rules": -1}
"""Limits that Nova had while networks were its own; the network service's quotas count, these are only shown."""

_q, _c, _t = store.quota, store.quota_class, store.taking
_of_project = select(_q.c.resource, _q.c.amount).where(_q.c.project_id == bindparam("project"), _q.c.user_id == "")
_of_user = select(_q.c.resource, _q.c.amount).where(
    _q.c.project_id == bindparam("project"), _q.c.user_id == bindparam("user")
)
_of_class = select(_c.c.resource, _c.c.amount).where(_c.c.name == bindparam("name"))


def defaults(tx: Tx, settings: Quota, name: str = "default") -> dict[str, int]:
    """The limits of a class: the settings', with what an operator set for the class over them."""
    found = {each: int(getattr(settings, each)) for each in RESOURCES} | PROXIED
    for row in tx.all(_of_class, {"name": name}):
        found[row.resource] = int(row.amount)
    return found


def limits(tx: Tx, settings: Quota, project_id: str, user_id: str | None = None) -> dict[str, int]:
    """A project's limits, or those of one user in it; -1 is unlimited."""
    found = defaults(tx, settings)
    for row in tx.all(_of_project, {"project": project_id}):
        found[row.resource] = int(row.amount)
    if user_id:
        for row in tx.all(_of_user, {"project": project_id, "user": user_id}):
            found[row.resource] = int(row.amount)
    return found


def usage(tx: Tx, project_id: str, user_id: str | None = None) -> dict[str, int]:
    """What is used, by resource; a resource that is only a limit of one request counts 0."""
    count, vcpus, ram_mb = servers.usage(tx, project_id, user_id)
    chosen = select(func.count()).select_from(group).where(group.c.project_id == project_id)
    if user_id is not None:
        chosen = chosen.where(group.c.user_id == user_id)
    found = dict.fromkeys((*RESOURCES, *PROXIED), 0)
    found |= {"instances": count, "cores": vcpus, "ram": ram_mb, "server_groups": int(tx.scalar(chosen))}
    if user_id is not None:
        found["key_pairs"] = keypairs.count(tx, user_id)
    return found


def take(tx: Tx, settings: Quota, project_id: str, user_id: str, wanted: Mapping[str, int]) -> None:
    """Check that a project may have so many more instances, cores and ram. Raises OverQuota naming the first that is short.

    To be called before the rows are written: it orders this transaction behind others that take from the project.
    """
    tx.upsert(_t, {"project_id": project_id, "generation": 1}, key=("project_id",), count=("generation",))
    allowed = limits(tx, settings, project_id)
    _compare(allowed, dict(zip(("instances", "cores", "ram"), servers.usage(tx, project_id), strict=True)), wanted)
    own = tx.all(_of_user, {"project": project_id, "user": user_id})
    if own:
        used = servers.usage(tx, project_id, user_id)
        _compare(
            {row.resource: row.amount for row in own},
            dict(zip(("instances", "cores", "ram"), used, strict=True)),
            wanted,
        )


def _compare(allowed: Mapping[str, int], used: Mapping[str, int], wanted: Mapping[str, int]) -> None:
    for resource, amount in wanted.items():
        limit = allowed.get(resource, -1)
        if 0 <= limit < used[resource] + amount and amount > 0:
            raise errors.OverQuota(resource, limit=limit, used=used[resource], requested=amount)


def put(tx: Tx, project_id: str, user_id: str, amounts: Mapping[str, int]) -> None:
    """Set limits of a project, or of one user in it."""
    rows = [{"project_id": project_id, "user_id": user_id, **each} for each in _amounts(amounts)]
    tx.upsert(_q, rows, key=("project_id", "user_id", "resource"), put=("amount",))


def put_class(tx: Tx, name: str, amounts: Mapping[str, int]) -> None:
    rows = [{"name": name, **each} for each in _amounts(amounts)]
    tx.upsert(_c, rows, key=("name", "resource"), put=("amount",))


def forget(tx: Tx, project_id: str, user_id: str | None = None) -> None:
    """Back to the defaults."""
    chosen = delete_from(_q).where(_q.c.project_id == project_id)
    tx.execute(chosen if user_id is None else chosen.where(_q.c.user_id == user_id))


def _amounts(amounts: Mapping[str, int]) -> list[dict[str, Any]]:
    return [{"resource": resource, "amount": amount} for resource, amount in amounts.items()]
