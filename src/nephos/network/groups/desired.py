"""The desired item `group`: the security groups that a host's ports have, and those that their rules name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import bindparam, select

from nephos.kernel.db.engine import Tx
from nephos.network.groups import actions
from nephos.network.groups.store import group, rule
from nephos.network.ports.store import port, port_group
from nephos.network.subnets.store import address
from nephos.wiring.base import Group, Rule

_direct = (
    select(port_group.c.group_id)
    .join(port, port.c.id == port_group.c.port_id)
    .where(port.c.host_id == bindparam("host"))
    .distinct()
)
_remotes = (
    select(rule.c.remote_group_id)
    .where(rule.c.group_id.in_(bindparam("ids", expanding=True)), rule.c.remote_group_id.is_not(None))
    .distinct()
)
_stateful = select(group.c.id, group.c.stateful).where(group.c.id.in_(bindparam("ids", expanding=True)))
_members = (
    select(port_group.c.group_id, address.c.address)
    .join(address, address.c.port_id == port_group.c.port_id)
    .where(port_group.c.group_id.in_(bindparam("ids", expanding=True)))
)
_pairs = (
    select(port_group.c.group_id, port.c.pairs)
    .join(port, port.c.id == port_group.c.port_id)
    .where(port_group.c.group_id.in_(bindparam("ids", expanding=True)), port.c.pairs.is_not(None))
)


def groups(tx: Tx, host_id: str, ids: Sequence[str] | None) -> Mapping[str, Group]:
    """Groups in use on a host. Rules come with those that its ports have, members with those that rules name."""
    direct = set(tx.column(_direct, {"host": host_id}))
    remote = set(tx.column(_remotes, {"ids": list(direct)})) if direct else set()
    wanted = (direct | remote) if ids is None else (direct | remote) & set(ids)
    if not wanted:
        return {}
    rules = actions.rules_of(tx, sorted(wanted & direct))
    members: dict[str, set[str]] = {}
    named = sorted(wanted & remote)
    if named:
        for row in tx.all(_members, {"ids": named}):
            members.setdefault(row.group_id, set()).add(row.address)
        for row in tx.all(_pairs, {"ids": named}):
            members.setdefault(row.group_id, set()).update(pair["ip_address"] for pair in row.pairs or ())
    return {
        row.id: Group(
            id=row.id,
            rules=tuple(_rule(each) for each in rules.get(row.id, ())),
            members=tuple(sorted(members.get(row.id, ()))),
            stateful=row.stateful,
        )
        for row in tx.all(_stateful, {"ids": sorted(wanted)})
    }


def _rule(row: Any) -> Rule:
    number = actions.number_of(row.protocol)
    return Rule(
        direction=row.direction,
        version=row.version,
        protocol=None if number is None or row.protocol == "ip" else str(number),
        port_min=row.port_min,
        port_max=row.port_max,
        remote_cidr=row.remote_cidr,
        remote_group_id=row.remote_group_id,
    )
