"""What subnet pools can do."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Any

from sqlalchemy import delete, select

from nephos.kernel import clock
from nephos.kernel.cloud import Cloud
from nephos.kernel.db.engine import Tx
from nephos.network import addressing, problems, resource
from nephos.network.addressscopes import actions as addressscopes
from nephos.network.networks.store import SHARED, rbac
from nephos.network.quotas import actions as quotas
from nephos.network.sharing.grants import share
from nephos.network.subnetpools.store import subnetpool
from nephos.network.subnets.store import subnet


def create(tx: Tx, cloud: Cloud, project_id: str, values: dict[str, Any], *, admin: bool = False) -> str:
    """`values` are columns; lengths not given follow the IP version. Raises BadRequest, OverQuota, and what
    `addressscopes.check_pool` raises."""
    quotas.take(tx, cloud, project_id, "subnetpool")
    prefixes = merged(values.pop("prefixes"))
    version = ipaddress.ip_network(prefixes[0]).version
    bits = 32 if version == 4 else 128
    low = values.pop("min_prefixlen", 8 if version == 4 else 64)
    high = values.pop("max_prefixlen", bits)
    standard = values.pop("default_prefixlen", low)
    _check_lengths(low, standard, high, bits)
    pool_id, shared = clock.uuid4(), values.pop("shared", False)
    if values.get("address_scope_id"):
        addressscopes.check_pool(
            tx,
            values["address_scope_id"],
            project_id=project_id,
            version=version,
            prefixes=prefixes,
            pool_id=None,
            shared=shared,
            admin=admin,
        )
    if values.get("is_default"):
        _only_default(tx, version, pool_id)
    tx.insert(
        subnetpool,
        {
            **values,
            "id": pool_id,
            "shared": False,
            "project_id": project_id,
            "prefixes": prefixes,
            "version": version,
            "min_prefixlen": low,
            "max_prefixlen": high,
            "default_prefixlen": standard,
            "tags": [],
            "revision": 1,
            "created_at": tx.now,
            "updated_at": tx.now,
        },
    )
    if shared:
        share(tx, "subnetpool", pool_id, project_id, SHARED, "*")
    return pool_id


def update(tx: Tx, row: Any, values: dict[str, Any], *, admin: bool = False) -> None:
    """Prefixes may only grow, and not by the pool's owner in an address scope of somebody else. Raises BadRequest, and
    what `addressscopes.check_pool` raises."""
    if row.address_scope_id is not None and not admin:
        addressscopes.check_owner(tx, row.address_scope_id, row.project_id)
    if "prefixes" in values:
        values["prefixes"] = merged(values["prefixes"])
        if ipaddress.ip_network(values["prefixes"][0]).version != row.version:
            raise problems.bad(
                "Illegal subnetpool update: the IP version of a subnetpool cannot change.", "IllegalSubnetPoolUpdate"
            )
        check_covers(values["prefixes"], row.prefixes)
    scope_id = values.get("address_scope_id", row.address_scope_id)
    if scope_id and ("prefixes" in values or scope_id != row.address_scope_id):
        addressscopes.check_pool(
            tx,
            scope_id,
            project_id=row.project_id,
            version=row.version,
            prefixes=values.get("prefixes", row.prefixes),
            pool_id=row.id,
            shared=row.shared or _is_public(tx, row.id),
            admin=admin,
        )
    bits = 32 if row.version == 4 else 128
    _check_lengths(
        values.get("min_prefixlen", row.min_prefixlen),
        values.get("default_prefixlen", row.default_prefixlen),
        values.get("max_prefixlen", row.max_prefixlen),
        bits,
    )
    if values.get("is_default"):
        _only_default(tx, row.version, row.id)
    resource.revise(tx, subnetpool, row.id, values)


def remove(tx: Tx, row: Any) -> None:
    """Raises SubnetPoolDeleteError (409) while subnets of it are there."""
    user = tx.scalar(select(subnet.c.id).where(subnet.c.pool_id == row.id).limit(1))
    if user is not None:
        raise problems.refused(
            f"Unable to delete subnet pool: Subnet pool has existing allocations: subnet {user}.",
            "SubnetPoolDeleteError",
        )
    tx.execute(delete(rbac).where(rbac.c.object_id == row.id))
    tx.execute(delete(subnetpool).where(subnetpool.c.id == row.id))


def add_prefixes(tx: Tx, row: Any, prefixes: Sequence[str], *, admin: bool) -> list[str]:
    """The prefixes after these were added. Raises as `update`."""
    if prefixes:
        values: dict[str, Any] = {"prefixes": [*row.prefixes, *prefixes]}
        update(tx, row, values, admin=admin)
        return list(values["prefixes"])
    return list(row.prefixes)


def remove_prefixes(tx: Tx, row: Any, prefixes: Sequence[str]) -> list[str]:
    """The prefixes after these ranges were taken out. Raises IllegalSubnetPoolPrefixUpdate naming a subnet inside."""
    gone = [ipaddress.ip_network(each) for each in merged(prefixes)] if prefixes else []
    left: list[addressing.IPNetwork] = [ipaddress.ip_network(each) for each in row.prefixes]
    if not any(one.overlaps(each) for one in gone for each in left):
        return list(row.prefixes)
    for each in tx.all(select(subnet.c.id, subnet.c.cidr).where(subnet.c.pool_id == row.id)):
        if any(ipaddress.ip_network(each.cidr).overlaps(one) for one in gone):
            raise problems.bad(
                "Illegal update to prefixes: One or more the prefixes to be removed is in use by a subnet: "
                f"{each.id}, {each.cidr}.",
                "IllegalSubnetPoolPrefixUpdate",
            )
    for one in gone:
        left = [part for each in left for part in _without(each, one)]
    if not left:
        raise problems.bad(
            "Illegal update to prefixes: a subnetpool keeps at least one.", "IllegalSubnetPoolPrefixUpdate"
        )
    found = merged([str(each) for each in left])
    resource.revise(tx, subnetpool, row.id, {"prefixes": found})
    return found


def _without(whole: addressing.IPNetwork, gone: addressing.IPNetwork) -> list[addressing.IPNetwork]:
    if not whole.overlaps(gone):
        return [whole]
    return [] if whole.subnet_of(gone) else list(whole.address_exclude(gone))  # type: ignore[arg-type]


def onboard(tx: Tx, row: Any, network_id: str, *, admin: bool) -> list[dict[str, str]]:
    """All subnets of a network with the pool's IP version become the pool's, their ranges its prefixes. Answers id and
    cidr of each. Raises IllegalSubnetPoolUpdate for a subnet of another pool and for a range that is the pool's
    already."""
    rows = tx.all(select(subnet).where(subnet.c.network_id == network_id, subnet.c.version == row.version))
    if not rows:
        return []
    have = [ipaddress.ip_network(each) for each in row.prefixes]
    for each in rows:
        range_ = ipaddress.ip_network(each.cidr)
        if each.pool_id is not None:
            raise problems.bad(
                f"Illegal subnetpool update: subnet {each.id} is of subnetpool {each.pool_id} already.",
                "IllegalSubnetPoolUpdate",
            )
        if any(range_.overlaps(one) for one in have):
            raise problems.bad(
                f"Illegal subnetpool update: the range {range_} of subnet {each.id} overlaps with the subnetpool's "
                "prefixes.",
                "IllegalSubnetPoolUpdate",
            )
    values: dict[str, Any] = {"prefixes": [*row.prefixes, *(each.cidr for each in rows)]}
    update(tx, row, values, admin=admin)
    for each in rows:
        resource.revise(tx, subnet, each.id, {"pool_id": row.id})
    return [{"id": each.id, "cidr": each.cidr} for each in rows]


def _is_public(tx: Tx, pool_id: str) -> bool:
    policy = select(rbac.c.id).where(rbac.c.object_id == pool_id, rbac.c.action == SHARED, rbac.c.target == "*")
    return tx.first(policy) is not None


def merged(prefixes: Sequence[str]) -> list[str]:
    """Prefixes of one IP version, neighbours joined. Raises BadRequest."""
    found = [ipaddress.ip_network(addressing.prefix("prefixes", each)) for each in prefixes]
    if not found:
        raise problems.invalid("prefixes", "at least one prefix is required")
    versions = {each.version for each in found}
    if len(versions) != 1:
        raise problems.bad("Cannot mix IPv4 and IPv6 prefixes in a subnet pool.", "PrefixVersionMismatch")
    return [str(each) for each in ipaddress.collapse_addresses(found)]  # type: ignore[type-var]


def check_covers(new: Sequence[str], old: Sequence[str]) -> None:
    """Raises IllegalSubnetPoolPrefixUpdate when an old prefix is in none of the new."""
    wider = [ipaddress.ip_network(each) for each in new]
    for each in old:
        if not any(ipaddress.ip_network(each).subnet_of(one) for one in wider):  # type: ignore[arg-type]
            raise problems.bad(
                f"Illegal update to prefixes: existing prefix {each} is not covered.", "IllegalSubnetPoolPrefixUpdate"
            )


def _check_lengths(low: int, standard: int, high: int, bits: int) -> None:
    for name, value in (("min_prefixlen", low), ("default_prefixlen", standard), ("max_prefixlen", high)):
        if value > bits:
            raise problems.bad(
                f"Illegal prefix bounds: {name} is {value}, the most is {bits}.", "IllegalSubnetPoolPrefixBounds"
            )
    if not low <= standard <= high:
        raise problems.bad(
            f"Illegal prefix bounds: min_prefixlen {low}, default_prefixlen {standard} and max_prefixlen {high} "
            "must be "
            "in this order.",
            "IllegalSubnetPoolPrefixBounds",
        )


def _only_default(tx: Tx, version: int, pool_id: str) -> None:
    other = tx.scalar(
        select(subnetpool.c.id).where(
            subnetpool.c.is_default.is_(True), subnetpool.c.version == version, subnetpool.c.id != pool_id
        )
    )
    if other is not None:
        raise problems.bad(
            "Invalid input for operation: A default subnetpool for this IP family has already been set. Only one "
            "default "
            f"may exist per IP family: {other}."
        )
