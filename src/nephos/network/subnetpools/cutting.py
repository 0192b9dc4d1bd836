"""Cutting a subnet's range out of a subnet pool."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import bindparam, select

from nephos.kernel.db.engine import Tx
from nephos.network import addressing, problems
from nephos.network.addressing import IPNetwork
from nephos.network.subnetpools.store import subnetpool
from nephos.network.subnetpools.wire import visible
from nephos.network.subnets.store import subnet

_by_id = select(subnetpool).where(subnetpool.c.id == bindparam("id"))
_used = select(subnet.c.cidr, subnet.c.project_id).where(subnet.c.pool_id == bindparam("pool"))


def get(tx: Tx, pool_id: str) -> Any:
    """A pool's row. Raises SubnetPoolNotFound."""
    row = tx.first(_by_id, {"id": pool_id})
    if row is None:
        raise problems.missing("Subnet pool", pool_id, "SubnetPoolNotFound")
    return row


def scopes_of(tx: Tx, pool_ids: Collection[str | None]) -> dict[str | None, str | None]:
    """The address scope of each pool that has one."""
    statement = select(subnetpool.c.id, subnetpool.c.address_scope_id).where(
        subnetpool.c.id.in_([each for each in pool_ids if each]), subnetpool.c.address_scope_id.is_not(None)
    )
    return {row.id: row.address_scope_id for row in tx.all(statement)}


def version_of(tx: Tx, pool_id: str) -> int:
    return int(get(tx, pool_id).version)


def check_visible(tx: Tx, pool_id: str, project_id: str, *, sees_all: bool) -> None:
    """Raises SubnetPoolNotFound for a pool that the project may not use."""
    row = get(tx, pool_id)
    shared = select(subnetpool.c.id).where(subnetpool.c.id == pool_id, visible(project_id))
    if not (sees_all or row.project_id == project_id or tx.first(shared) is not None):
        raise problems.missing("Subnet pool", pool_id, "SubnetPoolNotFound")


def default_pool(tx: Tx, version: int, project_id: str) -> str:
    """The default pool of an IP version. Raises BadRequest when there is none."""
    row = tx.first(select(subnetpool).where(subnetpool.c.is_default.is_(True), subnetpool.c.version == version))
    if row is None:
        raise problems.bad(f"No default subnetpool found for IPv{version}.", "DefaultSubnetPoolNotFound")
    return str(row.id)


def cut(tx: Tx, pool_id: str, version: int, cidr: str | None, prefixlen: int | None, project_id: str) -> IPNetwork:
    """A range of the pool: the one asked for, or the first free one of the length asked for.

    Raises BadRequest for a length outside the pool's bounds, SubnetAllocationError (409) when nothing is free and
    SubnetPoolQuotaExceeded (409).
    """
    pool = get(tx, pool_id)
    if pool.version != version:
        raise problems.bad(
            f"Bad subnets request: IPv{version} subnet cannot come from IPv{pool.version} subnetpool.", "BadRequest"
        )
    used = tx.all(_used, {"pool": pool_id})
    taken = [ipaddress.ip_network(row.cidr) for row in used]
    prefixes = [ipaddress.ip_network(each) for each in pool.prefixes]
    wanted = addressing.network("cidr", cidr) if cidr else None
    length = wanted.prefixlen if wanted is not None else pool.default_prefixlen if prefixlen is None else prefixlen
    _check_length(pool, length)
    if pool.default_quota is not None:
        mine = sum(_units(each) for each, row in zip(taken, used, strict=True) if row.project_id == project_id)
        new = _size(version, length)
        if mine + new > pool.default_quota:
            raise problems.refused("Per-tenant subnet pool prefix quota exceeded.", "SubnetPoolQuotaExceeded")
    if wanted is not None:
        same = [each for each in prefixes if each.version == wanted.version]
        inside = any(wanted.subnet_of(each) for each in same)  # type: ignore[arg-type]
        if not inside or any(wanted.overlaps(each) for each in taken):
            raise problems.refused(
                f"Failed to allocate subnet: Cannot allocate requested subnet {wanted} from the available set of "
                "prefixes.",
                "SubnetAllocationError",
            )
        return wanted
    found = _first_free(prefixes, taken, length)
    if found is None:
        raise problems.refused(
            f"Failed to allocate subnet: Insufficient prefix space to allocate subnet size /{length}.",
            "SubnetAllocationError",
        )
    return found


def _check_length(pool: Any, length: int) -> None:
    if length > pool.max_prefixlen:
        raise problems.bad(
            f"Unable to allocate subnet with prefix length {length}, maximum allowed prefix is {pool.max_prefixlen}.",
            "MaxPrefixSubnetAllocationError",
        )
    if length < pool.min_prefixlen:
        raise problems.bad(
            f"Unable to allocate subnet with prefix length {length}, minimum allowed prefix is {pool.min_prefixlen}.",
            "MinPrefixSubnetAllocationError",
        )


def _units(range_: IPNetwork) -> int:
    return _size(range_.version, range_.prefixlen)


def _size(version: int, length: int) -> int:
    """Quota counts IPv4 addresses and IPv6 /64 networks."""
    bits = (32 if version == 4 else 64) - length
    return 1 << bits if bits > 0 else 1


def _first_free(prefixes: Sequence[IPNetwork], taken: Sequence[IPNetwork], length: int) -> IPNetwork | None:
    for prefix in sorted(prefixes, key=lambda each: int(each.network_address)):
        if length < prefix.prefixlen:
            continue
        bits = prefix.max_prefixlen
        step = 1 << (bits - length)
        at, end = int(prefix.network_address), int(prefix.broadcast_address)
        inner = sorted(
            (int(each.network_address), int(each.broadcast_address)) for each in taken if each.overlaps(prefix)
        )
        for low, high in inner:
            if at + step <= low:
                break
            if high >= at:
                at = (high // step + 1) * step
        if at + step - 1 <= end:
            kind: type[addressing.IPAddress] = ipaddress.IPv4Address if bits == 32 else ipaddress.IPv6Address
            return ipaddress.ip_network(f"{kind(at)}/{length}")
    return None
