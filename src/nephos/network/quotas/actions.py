"""Limits of a project, counted from the rows themselves inside the transaction that adds to them."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Table, bindparam, delete, func, select

from nephos.kernel.cloud import Cloud
from nephos.kernel.db.engine import Tx
from nephos.network import problems
from nephos.network.addressgroups.store import address_group
from nephos.network.floatingips.store import floatingip
from nephos.network.groups.store import group, rule
from nephos.network.networks.store import network, rbac
from nephos.network.ports.store import port
from nephos.network.quotas.store import quota, taking
from nephos.network.routers.store import router
from nephos.network.subnetpools.store import subnetpool
from nephos.network.subnets.store import subnet
from nephos.network.trunks.store import trunk

TABLES: Mapping[str, Table] = {
    "network": network,
    "subnet": subnet,
    "subnetpool": subnetpool,
    "port": port,
    "router": router,
    "floatingip": floatingip,
    "security_group": group,
    "security_group_rule": rule,
    "rbac_policy": rbac,
    "address_group": address_group,
    "trunk": trunk,
}
_limit = select(quota.c.limit).where(
    quota.c.project_id == bindparam("project"), quota.c.resource == bindparam("resource")
)
_limits = select(quota.c.resource, quota.c.limit).where(quota.c.project_id == bindparam("project"))
_used = {
    name: select(func.count()).select_from(table).where(table.c.project_id == bindparam("project"))
    for name, table in TABLES.items()
}


def take(tx: Tx, cloud: Cloud, project_id: str, resource: str, count: int = 1) -> None:
    """To be called before `count` rows are added: it orders this transaction behind others that take from the project.

    Raises OverQuota (409) naming limit, use and request.
    """
    limit = _limit_of(tx, cloud, project_id, resource)
    if limit < 0 or not project_id:
        return
    tx.upsert(taking, {"project_id": project_id, "generation": 1}, key=("project_id",), count=("generation",))
    _check(tx, project_id, resource, limit, count)


def check(tx: Tx, cloud: Cloud, project_id: str, resource: str, count: int = 1) -> None:
    """As `take`, for a reader: whether `count` more would be refused as things are."""
    limit = _limit_of(tx, cloud, project_id, resource)
    if limit >= 0 and project_id:
        _check(tx, project_id, resource, limit, count)


def _limit_of(tx: Tx, cloud: Cloud, project_id: str, resource: str) -> int:
    limit = tx.scalar(_limit, {"project": project_id, "resource": resource})
    return default(cloud, resource) if limit is None else int(limit)


def _check(tx: Tx, project_id: str, resource: str, limit: int, count: int) -> None:
    in_use = used(tx, project_id, resource)
    if in_use + count > limit:
        raise problems.over_quota(resource, limit, in_use, count)


def used(tx: Tx, project_id: str, resource: str) -> int:
    """How many the project has now."""
    return int(tx.scalar(_used[resource], {"project": project_id}) or 0)


def default(cloud: Cloud, resource: str) -> int:
    """The limit of a project for which none was set; -1 is unlimited."""
    return int(getattr(cloud.settings.quota, resource))


def limits(tx: Tx, cloud: Cloud, project_id: str) -> dict[str, int]:
    """Every limit that holds for a project."""
    found = {name: default(cloud, name) for name in TABLES}
    found.update({row.resource: row.limit for row in tx.all(_limits, {"project": project_id}) if row.resource in found})
    return found


def put(tx: Tx, project_id: str, values: Mapping[str, int]) -> None:
    """Set limits; those not named stay."""
    for resource, limit in values.items():
        tx.execute(delete(quota).where(quota.c.project_id == project_id, quota.c.resource == resource))
        tx.insert(quota, {"project_id": project_id, "resource": resource, "limit": limit})


def reset(tx: Tx, project_id: str) -> bool:
    """Back to the defaults; whether any limit was set."""
    return tx.execute(delete(quota).where(quota.c.project_id == project_id)).rowcount > 0


def own_limits(tx: Tx) -> dict[str, dict[str, int]]:
    """The limits that were set, by project."""
    found: dict[str, dict[str, int]] = {}
    for row in tx.all(select(quota).order_by(quota.c.project_id)):
        found.setdefault(row.project_id, {})[row.resource] = row.limit
    return found
