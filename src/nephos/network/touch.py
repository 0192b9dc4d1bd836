"""Tells hosts what changed for them, in the transaction that changed it.

A host carries a network when a port that is bound to it, or a leg of a router that lives on it, is in the network.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from sqlalchemy import and_, bindparam, func, or_, select

from nephos.hosts import actions as hosts
from nephos.kernel.cloud import Cloud
from nephos.kernel.db.engine import Tx
from nephos.network.floatingips.store import floatingip
from nephos.network.groups.store import rule
from nephos.network.networks.store import network
from nephos.network.ports.store import COMPUTE, FLOATING, GATEWAY, ROUTER, port, port_group
from nephos.network.routers.store import router as router_table
from nephos.network.routers.store import router_host, standby_networks
from nephos.network.segments.types import VXLAN

_carriers = (
    select(port.c.network_id, port.c.host_id)
    .where(port.c.network_id.in_(bindparam("networks", expanding=True)), port.c.host_id.is_not(None))
    .distinct()
)
_standing_by = standby_networks.where(port.c.network_id.in_(bindparam("networks", expanding=True))).distinct()
_tunnelled = (
    select(port.c.network_id)
    .join(network, network.c.id == port.c.network_id)
    .where(port.c.host_id == bindparam("host"), or_(network.c.kind == VXLAN, network.c.multi.is_(True)))
    .distinct()
)
_tunnelled_standing_by = (
    standby_networks.with_only_columns(port.c.network_id)
    .join(network, network.c.id == port.c.network_id)
    .where(router_host.c.host_id == bindparam("host"), or_(network.c.kind == VXLAN, network.c.multi.is_(True)))
    .distinct()
)
_networks_of_router = (
    select(port.c.network_id).where(port.c.device_id == bindparam("router"), port.c.device_owner.in_([ROUTER, GATEWAY])).distinct()
)
_router_hosts = select(router_host.c.host_id).where(router_host.c.router_id == bindparam("router"))
_direct = (
    select(port.c.host_id)
    .join(port_group, port.c.id == port_group.c.port_id)
    .where(port_group.c.group_id.in_(bindparam("groups", expanding=True)), port.c.host_id.is_not(None))
    .distinct()
)
_remotes = (
    select(rule.c.remote_group_id, rule.c.remote_address_group_id)
    .where(rule.c.group_id.in_(bindparam("groups", expanding=True)))
    .distinct()
)
_watchers = (
    select(rule.c.remote_group_id, port.c.host_id)
    .join(port_group, port_group.c.group_id == rule.c.group_id)
    .join(port, port.c.id == port_group.c.port_id)
    .where(rule.c.remote_group_id.in_(bindparam("groups", expanding=True)), port.c.host_id.is_not(None))
    .distinct()
)
_users = (
    select(port.c.host_id)
    .join(port_group, port_group.c.port_id == port.c.id)
    .join(rule, rule.c.group_id == port_group.c.group_id)
    .where(rule.c.remote_address_group_id == bindparam("group"), port.c.host_id.is_not(None))
    .distinct()
)
_has_policy = or_(
    port.c.qos_policy_id == bindparam("policy"),
    and_(port.c.qos_policy_id.is_(None), network.c.qos_policy_id == bindparam("policy")),
)
_limited = (
    select(port.c.id, port.c.host_id)
    .join(network, network.c.id == port.c.network_id)
    .where(port.c.host_index.is_not(None), _has_policy)
)
_limited_routers = (
    select(router_table.c.id, router_table.c.host_id)
    .select_from(port)
    .join(network, network.c.id == port.c.network_id)
    .outerjoin(floatingip, floatingip.c.port_id == port.c.id)
    .join(router_table, router_table.c.id == func.coalesce(floatingip.c.router_id, port.c.device_id))
    .where(port.c.device_owner.in_([FLOATING, GATEWAY]), _has_policy)
    .distinct()
)
_guests = select(port.c.device_id, port.c.host_id).where(
    port.c.id.in_(bindparam("ports", expanding=True)),
    port.c.host_id.is_not(None),
    port.c.device_owner.startswith(COMPUTE),
    port.c.device_id != "",
)
_legs = (
    select(port.c.device_id, port.c.host_id)
    .where(port.c.network_id == bindparam("network"), port.c.device_owner.in_([ROUTER, GATEWAY]))
    .distinct()
)


_edge_hosts = (
    select(router_table.c.gateway_network_id, port.c.host_id)
    .join(floatingip, floatingip.c.router_id == router_table.c.id)
    .join(port, port.c.id == floatingip.c.fixed_port_id)
    .where(router_table.c.id == bindparam("router"), router_table.c.distributed.is_(True), port.c.host_id.is_not(None))
    .distinct()
)
_edges_of = (
    select(router_table.c.id, router_table.c.host_id.label("own"), router_table.c.gateway_network_id, port.c.host_id)
    .join(floatingip, floatingip.c.router_id == router_table.c.id)
    .join(port, port.c.id == floatingip.c.fixed_port_id)
    .where(router_table.c.distributed.is_(True))
)
_edges_of_port = _edges_of.where(port.c.id == bindparam("port"))
_edges_on = _edges_of.where(port.c.host_id == bindparam("host")).distinct()
_several = (
    select(port.c.network_id)
    .join(network, network.c.id == port.c.network_id)
    .where(port.c.host_id == bindparam("host"), network.c.multi.is_(True))
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
            for statement in (_carriers, _standing_by):
                for row in self._tx.all(statement, {"networks": list(network_ids)}):
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
            remotes = [each for row in self._tx.all(_remotes, {"groups": list(group_ids)}) for each in row if each]
            self.add(host_id, "group", [*group_ids, *remotes])
        return self

    def send(self) -> None:
        self._cloud.hosts.touch_all(self._tx, self._items)
        self._items = {}


def networks(tx: Tx, cloud: Cloud, network_ids: Collection[str]) -> None:
    """The networks' items changed on every host that carries them."""
    Told(tx, cloud).networks(network_ids).send()


def carried(tx: Tx, cloud: Cloud, host_ids: Iterable[str]) -> None:
    """Something changed between hosts, for all VXLAN networks that they carry."""
    told = Told(tx, cloud)
    for host_id in host_ids:
        told.add(host_id, "network", tx.column(_tunnelled, {"host": host_id}))
        told.add(host_id, "network", tx.column(_tunnelled_standing_by, {"host": host_id}))
    told.send()


def ports(tx: Tx, cloud: Cloud, host_id: str | None, port_ids: Iterable[str]) -> None:
    """Ports of a host changed, appeared or went."""
    Told(tx, cloud).add(host_id, "port", port_ids).send()


def ports_of_network(tx: Tx, cloud: Cloud, network_id: str) -> None:
    """Something that the guests' ports of a network take from it changed."""
    told = Told(tx, cloud)
    of_guests = select(port.c.id, port.c.host_id).where(port.c.network_id == network_id, port.c.host_index.is_not(None))
    for row in tx.all(of_guests):
        told.add(row.host_id, "port", [row.id])
    told.send()


def rules(tx: Tx, cloud: Cloud, group_id: str, remotes: Iterable[str | None] = ()) -> None:
    """The rules of a group changed; `remotes` are remote and address groups of the rules that came or went."""
    told = Told(tx, cloud)
    ids = [group_id, *(each for each in remotes if each)]
    for row in tx.all(_direct, {"groups": [group_id]}):
        told.add(row.host_id, "group", ids)
    told.send()


def address_group(tx: Tx, cloud: Cloud, group_id: str) -> None:
    """The addresses of an address group changed: hosts with a port whose rules refer to it need to know."""
    told = Told(tx, cloud)
    for host_id in tx.column(_users, {"group": group_id}):
        told.add(host_id, "group", [group_id])
    told.send()


def qos(tx: Tx, cloud: Cloud, policy_id: str) -> None:
    """A QoS policy changed: so did what has it, itself or by its network: guests' ports, and the routers of gateways and
    floating IPs."""
    told = Told(tx, cloud)
    for row in tx.all(_limited, {"policy": policy_id}):
        told.add(row.host_id, "port", [row.id])
    for row in tx.all(_limited_routers, {"policy": policy_id}):
        told.add(row.host_id, "router", [row.id])
        for each in tx.column(_router_hosts, {"router": row.id}):
            told.add(each, "router", [row.id])
    told.send()


def router(tx: Tx, cloud: Cloud, host_id: str | None, router_id: str) -> None:
    """A router changed: its host knows, those that stand by for it, and those that serve floating IPs for it."""
    told = Told(tx, cloud).add(host_id, "router", [router_id])
    for each in tx.column(_router_hosts, {"router": router_id}):
        told.add(each, "router", [router_id])
    for row in tx.all(_edge_hosts, {"router": router_id}):
        told.add(row.host_id, "router", [router_id]).add(row.host_id, "network", [row.gateway_network_id])
    told.send()


def edges(tx: Tx, cloud: Cloud, port_id: str) -> None:
    """To be called before and after a port's floating IPs, or its host, change: distributed routers serve them there."""
    _tell_edges(tx, cloud, tx.all(_edges_of_port, {"port": port_id}))


def edges_on(tx: Tx, cloud: Cloud, host_id: str) -> None:
    """Whether a host may serve floating IPs of distributed routers changed: what it reaches, or its L3 agent's state."""
    _tell_edges(tx, cloud, tx.all(_edges_on, {"host": host_id}))


def _tell_edges(tx: Tx, cloud: Cloud, rows: Iterable[Any]) -> None:
    told = Told(tx, cloud)
    for row in rows:
        told.add(row.own, "router", [row.id])
        told.add(row.host_id, "router", [row.id]).add(row.host_id, "network", [row.gateway_network_id])
    told.send()


def reach(tx: Tx, cloud: Cloud, host_id: str) -> None:
    """A host is on other physical networks than before: so are its edges, and its part of networks of several segments."""
    edges_on(tx, cloud, host_id)
    networks(tx, cloud, tx.column(_several, {"host": host_id}))


def networks_of_router(tx: Tx, cloud: Cloud, router_id: str, host_id: str) -> None:
    """A host begins or ceases to stand by for a router: the router's networks come there or go, and it becomes, or is no
    more, a peer of the hosts that carry them."""
    found = tx.column(_networks_of_router, {"router": router_id})
    Told(tx, cloud).add(host_id, "network", found).networks(found).send()


def routers_of_network(tx: Tx, cloud: Cloud, network_id: str) -> None:
    """A subnet of the network changed: so did the routers with a leg there."""
    told = Told(tx, cloud)
    for row in tx.all(_legs, {"network": network_id}):
        told.add(row.host_id, "router", [row.device_id])
        for each in tx.column(_router_hosts, {"router": row.device_id}):
            told.add(each, "router", [row.device_id])
        for edge in tx.all(_edge_hosts, {"router": row.device_id}):
            told.add(edge.host_id, "router", [row.device_id])
    told.send()


def zones(tx: Tx, cloud: Cloud) -> set[str]:
    """The availability zones that networks and routers know."""
    return {cloud.settings.compute.zone} | {row.zone for row in hosts.all_hosts(tx) if row.zone}


def guests(tx: Tx, cloud: Cloud, port_ids: Collection[str]) -> None:
    """What metadata says of these ports changed: the guests that they are of know it at once."""
    told = Told(tx, cloud)
    for row in tx.all(_guests, {"ports": list(port_ids)}):
        told.add(row.host_id, "guest", [row.device_id])
    told.send()
