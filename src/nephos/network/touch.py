"""Tells hosts what changed for them, in the transaction that changed it.

A host carries a network when a port that is bound to it, or a leg of a router that lives on it, is in the network.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from sqlalchemy import bindparam, select

from nephos.hosts import actions as hosts
from nephos.kernel.cloud import Cloud
from nephos.kernel.db.engine import Tx
from nephos.network.groups.store import rule
from nephos.network.ports.store import GATEWAY, ROUTER, port, port_group

_carriers = (
    select(port.c.network_id, port.c.host_id)
    .where(port.c.network_id.in_(bindparam("networks", expanding=True)), port.c.host_id.is_not(None))
    .distinct()
)
_direct = (
    select(port_group.c.group_id, port.c.host_id)
    .join(port, port.c.id == port_group.c.port_id)
    .where(port_group.c.group_id.in_(bindparam("groups", expanding=True)), port.c.host_id.is_not(None))
    .distinct()
)
_remotes = (
    select(rule.c.remote_group_id)
    .where(rule.c.group_id.in_(bindparam("groups", expanding=True)), rule.c.remote_group_id.is_not(None))
    .distinct()
)
_watchers = (
    select(rule.c.remote_group_id, port.c.host_id)
    .join(port_group, port_group.c.group_id == rule.c.group_id)
    .join(port, port.c.id == port_group.c.port_id)
    .where(rule.c.remote_group_id.in_(bindparam("groups", expanding=True)), port.c.host_id.is_not(None))
    .distinct()
)
_legs = (
    select(port.c.device_id, port.c.host_id)
    .where(port.c.network_id == bindparam("network"), port.c.device_owner.in_([ROUTER, GATEWAY]))
    .distinct()
)


def networks(tx: Tx, cloud: Cloud, network_ids: Collection[str], also: Iterable[str] = ()) -> None:
    """The networks' items changed on every host that carries them, and on hosts in `also` that perhaps no longer do."""
    if not network_ids:
        return
    told: dict[str, set[str]] = {host_id: set(network_ids) for host_id in also}
    for row in tx.all(_carriers, {"networks": list(network_ids)}):
        told.setdefault(row.host_id, set()).add(row.network_id)
    for host_id, ids in told.items():
        cloud.hosts.touch(tx, [host_id], "network", sorted(ids))


def ports(tx: Tx, cloud: Cloud, host_id: str | None, port_ids: Iterable[str]) -> None:
    """Ports of a host changed, appeared or went."""
    if host_id is not None:
        cloud.hosts.touch(tx, [host_id], "port", port_ids)


def rules(tx: Tx, cloud: Cloud, group_id: str, remotes: Iterable[str | None] = ()) -> None:
    """The rules of a group changed; `remotes` are remote groups of the rules that came or went."""
    ids = [group_id, *(each for each in remotes if each)]
    for row in tx.all(_direct, {"groups": [group_id]}):
        cloud.hosts.touch(tx, [row.host_id], "group", dict.fromkeys(ids))


def members(tx: Tx, cloud: Cloud, group_ids: Collection[str]) -> None:
    """Ports or addresses of these groups changed: hosts that use them as remote groups need to know."""
    if not group_ids:
        return
    told: dict[str, set[str]] = {}
    for row in tx.all(_watchers, {"groups": list(group_ids)}):
        told.setdefault(row.host_id, set()).add(row.remote_group_id)
    for host_id, ids in told.items():
        cloud.hosts.touch(tx, [host_id], "group", sorted(ids))


def groups_of_host(tx: Tx, cloud: Cloud, host_id: str | None, group_ids: Collection[str]) -> None:
    """A port with these groups came to a host or left it: the groups and their remote groups appear there or go."""
    if host_id is None or not group_ids:
        return
    remotes = tx.column(_remotes, {"groups": list(group_ids)})
    cloud.hosts.touch(tx, [host_id], "group", sorted({*group_ids, *remotes}))


def router(tx: Tx, cloud: Cloud, host_id: str | None, router_id: str) -> None:
    """A router changed."""
    if host_id is not None:
        cloud.hosts.touch(tx, [host_id], "router", [router_id])


def zones(tx: Tx, cloud: Cloud) -> set[str]:
    """The availability zones that networks and routers know."""
    return {cloud.settings.compute.zone} | {row.zone for row in hosts.all_hosts(tx) if row.zone}


def routers_of_network(tx: Tx, cloud: Cloud, network_id: str) -> None:
    """A subnet of the network changed: so did the routers with a leg there."""
    for row in tx.all(_legs, {"network": network_id}):
        router(tx, cloud, row.host_id, row.device_id)
