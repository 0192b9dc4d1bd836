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
from nephos.network.quotas import actions as quotas
from nephos.network.subnetpools.store import subnetpool
from nephos.network.subnets.store import subnet


def create(tx: Tx, cloud: Cloud, project_id: str, values: dict[str, Any]) -> str:
    """`values` are columns; lengths not given follow the IP version. Raises BadRequest, OverQuota."""
    quotas.take(tx, cloud, project_id, "subnetpool")
    prefixes = merged(values.pop("prefixes"))
    version = ipaddress.ip_network(prefixes[0]).version
    bits = 32 if version == 4 else 128
    low = values.pop("min_prefixlen", 8 if version == 4 else 64)
    high = values.pop("max_prefixlen", bits)
    standard = values.pop("default_prefixlen", low)
    _check_lengths(low, standard, high, bits)
    pool_id = clock.uuid4()
    if values.get("is_default"):
        _only_default(tx, version, pool_id)
    tx.insert(
        subnetpool,
        {
            **values,
            "id": pool_id,
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
    return pool_id


def update(tx: Tx, row: Any, values: dict[str, Any]) -> None:
    """Prefixes may only grow. Raises BadRequest."""
    if "prefixes" in values:
        values["prefixes"] = merged(values["prefixes"])
        if ipaddress.ip_network(values["prefixes"][0]).version != row.version:
            raise problems.bad(
                "Illegal subnetpool update: the IP version of a subnetpool cannot change.", "IllegalSubnetPoolUpdate"
            )
        check_covers(values["prefixes"], row.prefixes)
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
    tx.execute(delete(subnetpool).where(subnetpool.c.id == row.id))


def merged(prefixes: Sequence[str]) -> list[str]:
    """Prefixes of one IP version, neighbours joined. Raises BadRequest."""
    found = [addressing.network("prefixes", each) for each in prefixes]
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
