"""What policies can share: for each kind its noun, and who must not lose it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, select

from nephos.network.addressgroups.wire import NOUN as ADDRESS_GROUP
from nephos.network.addressscopes.wire import NOUN as ADDRESS_SCOPE
from nephos.network.groups.store import rule
from nephos.network.groups.wire import GROUP
from nephos.network.networks.store import EXTERNAL, SHARED, network
from nephos.network.networks.wire import NOUN as NETWORK
from nephos.network.ports.store import port, port_group
from nephos.network.qos.wire import POLICY
from nephos.network.resource import Noun
from nephos.network.subnetpools.store import subnetpool
from nephos.network.subnetpools.wire import NOUN as SUBNETPOOL
from nephos.network.subnets.store import subnet

Users = Callable[[str], Select[*tuple[Any, ...]]]
"""Of a resource's id: the `id` of what uses it, and the `project_id` of each."""


@dataclass(frozen=True)
class Kind:
    """Something that can be shared. A network's users are for `networks` to know."""

    noun: Noun
    users: tuple[Users, ...] = ()
    actions: Collection[str] = (SHARED,)


def _users(key: ColumnElement[str], project: ColumnElement[str], uses: ColumnElement[str]) -> Users:
    return lambda object_id: select(key, project).where(uses == object_id)


def _on_ports(object_id: str) -> Select[*tuple[Any, ...]]:
    joined = select(port.c.id, port.c.project_id).join(port_group, port_group.c.port_id == port.c.id)
    return joined.where(port_group.c.group_id == object_id)


KINDS = {
    "network": Kind(NETWORK, actions=(SHARED, EXTERNAL)),
    "security_group": Kind(GROUP, (_on_ports, _users(rule.c.id, rule.c.project_id, rule.c.remote_group_id))),
    "address_group": Kind(ADDRESS_GROUP, (_users(rule.c.id, rule.c.project_id, rule.c.remote_address_group_id),)),
    "address_scope": Kind(
        ADDRESS_SCOPE, (_users(subnetpool.c.id, subnetpool.c.project_id, subnetpool.c.address_scope_id),)
    ),
    "subnetpool": Kind(SUBNETPOOL, (_users(subnet.c.id, subnet.c.project_id, subnet.c.pool_id),)),
    "qos_policy": Kind(
        POLICY,
        (
            _users(port.c.id, port.c.project_id, port.c.qos_policy_id),
            _users(network.c.id, network.c.project_id, network.c.qos_policy_id),
        ),
    ),
}
