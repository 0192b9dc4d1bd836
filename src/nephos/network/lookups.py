"""Small questions that compute asks: whose a port is, what subnets say, which groups a project has."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import bindparam, select

from nephos.kernel.db.engine import Tx
from nephos.network.groups.store import group, rule
from nephos.network.networks import store as _networks  # noqa: F401
from nephos.network.ports.store import COMPUTE, port
from nephos.network.subnets.store import subnet

_owner = select(port.c.device_id, port.c.device_owner).where(port.c.id == bindparam("port"))
_subnets = select(subnet).where(subnet.c.id.in_(bindparam("ids", expanding=True)))

_of_project = select(group).where(group.c.project_id == bindparam("project")).order_by(group.c.name, group.c.id)
_rule = select(rule).where(rule.c.id == bindparam("id"))


def server_of(tx: Tx, port_id: str) -> str | None:
    """The server that a port belongs to; None for a port of nothing, of a router or of DHCP."""
    row = tx.first(_owner, {"port": port_id})
    return str(row.device_id) if row is not None and row.device_owner.startswith(COMPUTE) and row.device_id else None


def subnets_of(tx: Tx, subnet_ids: Collection[str]) -> dict[str, Any]:
    """subnet id → its row (cidr, gateway, dns, routes, dhcp, address_mode), in one query."""
    return {row.id: row for row in tx.all(_subnets, {"ids": list(subnet_ids)})} if subnet_ids else {}


def groups_of_project(tx: Tx, project_id: str) -> list[Any]:
    """A project's security groups, by name."""
    return list(tx.all(_of_project, {"project": project_id}))


def rule_of(tx: Tx, rule_id: str) -> Any | None:
    """A security group rule's row."""
    return tx.first(_rule, {"id": rule_id})
