"""Small questions that compute asks: whose a port is, what subnets say, what a project has of groups and addresses."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import bindparam, or_, select

from nephos.kernel.db.engine import Tx
from nephos.network.floatingips.store import floatingip
from nephos.network.groups.store import group, rule
from nephos.network.networks.store import SHARED, network, rbac
from nephos.network.ports.store import COMPUTE, port
from nephos.network.subnets.store import subnet

_owner = select(port.c.device_id, port.c.device_owner).where(port.c.id == bindparam("port"))
_subnets = select(subnet).where(subnet.c.id.in_(bindparam("ids", expanding=True)))

_groups = select(group).order_by(group.c.name, group.c.id)
_of_project = _groups.where(group.c.project_id == bindparam("project"))
_rule = select(rule).where(rule.c.id == bindparam("id"))

_floating = (
    select(
        floatingip.c.id,
        floatingip.c.address,
        floatingip.c.fixed_address,
        network.c.name.label("pool"),
        port.c.device_id,
    )
    .join(network, network.c.id == floatingip.c.network_id)
    .outerjoin(port, port.c.id == floatingip.c.fixed_port_id)
)


def server_of(tx: Tx, port_id: str) -> str | None:
    """The server that a port belongs to; None for a port of nothing, of a router or of DHCP."""
    row = tx.first(_owner, {"port": port_id})
    return str(row.device_id) if row is not None and row.device_owner.startswith(COMPUTE) and row.device_id else None


def subnets_of(tx: Tx, subnet_ids: Collection[str]) -> dict[str, Any]:
    """subnet id → its row (cidr, gateway, dns, routes, dhcp, address_mode), in one query."""
    return {row.id: row for row in tx.all(_subnets, {"ids": list(subnet_ids)})} if subnet_ids else {}


def groups_of_project(tx: Tx, project_id: str | None) -> list[Any]:
    """A project's security groups, or everybody's, by name."""
    return list(tx.all(_groups) if project_id is None else tx.all(_of_project, {"project": project_id}))


def rule_of(tx: Tx, rule_id: str) -> Any | None:
    """A security group rule's row."""
    return tx.first(_rule, {"id": rule_id})


def floating_of_project(tx: Tx, project_id: str, floating_id: str | None = None) -> list[Any]:
    """A project's floating IPs as Nova shows them: id, address, fixed_address, pool (the network's name), device_id."""
    chosen = _floating.where(floatingip.c.project_id == project_id)
    if floating_id is not None:
        chosen = chosen.where(floatingip.c.id == floating_id)
    return list(tx.all(chosen.order_by(floatingip.c.created_at, floatingip.c.id)))


def external_networks(tx: Tx) -> list[Any]:
    """Id and name of every external network, the default one first."""
    chosen = (
        select(network.c.id, network.c.name).where(network.c.external).order_by(~network.c.is_default, network.c.name)
    )
    return list(tx.all(chosen))


def networks_of_project(tx: Tx, project_id: str) -> list[Any]:
    """Id and name of a project's networks and of those that are shared with it."""
    shared = select(rbac.c.object_id).where(
        rbac.c.object_type == "network", rbac.c.action == SHARED, rbac.c.target.in_((project_id, "*"))
    )
    chosen = select(network.c.id, network.c.name).where(
        or_(network.c.project_id == project_id, network.c.id.in_(shared))
    )
    return list(tx.all(chosen.order_by(network.c.name, network.c.id)))
