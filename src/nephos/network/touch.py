"""Tells hosts what changed for them, in the transaction that changed it.

A host carries a network when a port that is bound to it, or a leg of a router that lives on it, is in the network.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

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
    select(port.c.host_id)
    .join(port_group, port.c.id == port_group.c.port_id)
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


class Told:
    """What is to be told to which host; `send` tells it."""

    def __init__(self, tx: Tx, cloud: Cloud) -> None:
        self._tx, self._cloud = tx, cloud
        self._items: dict[str, dict[tuple[str, str], None]] = {}

    def add(self, host_id: str | None, kind: str, ids: Iterable[Any]) -> Told:
        """Items of a kind changed for a host; None is no host."""
        if host_id is not None:
            self._items.setdefault(host_id, {}).update(dict.fromkeys((kind, each) for each in ids))
        return self

    def networks(self, network_ids: Collection[str]) -> Told:
        """Networks changed on every host that carries them."""
        if network_ids:
            for row in self._tx.all(_carriers, {"networks": list(network_ids)}):
                self.add(row.host_id, "network", [row.network_id])
        return self

    def members(self, group_ids: Collection[str]) -> Told:
        """Ports or addresses of these groups changed: hosts that use them as remote groups need to know."""
        if group_ids:
            for row in self._tx.all(_watchers, {"groups": list(group_ids)}):
                self.add(row.host_id, "group", [row.remote_group_id])
        return self

    def groups_of_host(self, host_id: str | None, group_ids: Collection[str]) -> Told:
        """A port with these groups came to a host or left it: the groups and their remote groups appear there or go."""
        if host_id is not None and group_ids:
            remotes = self._tx.column(_remotes, {"groups": list(group_ids)})
            self.add(host_id, "group", [*group_ids, *remotes])
        return self

    def send(self) -> None:
        self._cloud.hosts.touch_all(self._tx, self._items)
        self._items = {}


def networks(tx: Tx, cloud: Cloud, network_ids: Collection[str]) -> None:
    """The networks' items changed on every host that carries them."""
    Told(tx, cloud).networks(network_ids).send()


def ports(tx: Tx, cloud: Cloud, host_id: str | None, port_ids: Iterable[str]) -> None:
    """Ports of a host changed, appeared or went."""
    Told(tx, cloud).add(host_id, "port", port_ids).send()


def rules(tx: Tx, cloud: Cloud, group_id: str, remotes: Iterable[str | None] = ()) -> None:
    """The rules of a group changed; `remotes` are remote groups of the rules that came or went."""
    told = Told(tx, cloud)
    ids = [group_id, *(each for each in remotes if each)]
    for row in tx.all(_direct, {"groups": [group_id]}):
        told.add(row.host_id, "group", ids)
    told.send()


def router(tx: Tx, cloud: Cloud, host_id: str | None, router_id: str) -> None:
    """A router changed."""
    Told(tx, cloud).add(host_id, "router", [router_id]).send()


def routers_of_network(tx: Tx, cloud: Cloud, network_id: str) -> None:
    """A subnet of the network changed: so did the routers with a leg there."""
    told = Told(tx, cloud)
    for row in tx.all(_legs, {"network": network_id}):
        told.add(row.host_id, "router", [row.device_id])
    told.send()


def zones(tx: Tx, cloud: Cloud) -> set[str]:
    """The availability zones that networks and routers know."""
    return {cloud.settings.compute.zone} | {row.zone for row in hosts.all_hosts(tx) if row.zone}
