"""What the rules that new security groups start with can do."""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import delete, select, update

from nephos.kernel import clock
from nephos.kernel.cloud import Cloud
from nephos.kernel.db.engine import Tx
from nephos.network import problems
from nephos.network.default_rules.store import PARENT, default_rule
from nephos.network.groups.rules import NewRule, checked, identity

_live = select(default_rule).where(default_rule.c.removed.is_(False)).order_by(default_rule.c.id)
_FIRST = {
    "d0000000-0000-4000-8000-000000000004": ("egress", 4, None, True),
    "d0000000-0000-4000-8000-000000000006": ("egress", 6, None, True),
    "d0000000-0000-4000-8000-000000000014": ("ingress", 4, PARENT, False),
    "d0000000-0000-4000-8000-000000000016": ("ingress", 6, PARENT, False),
}
"""id → direction, IP version, remote group, whether also in groups other than the default: as a new Neutron has them."""


def seed(cloud: Cloud) -> None:
    """The first rules, which let all out and members of the default group in. Again: nothing."""
    with cloud.database.read() as tx:
        known = set(tx.column(select(default_rule.c.id).where(default_rule.c.id.in_(list(_FIRST)))))

    def work(tx: Tx) -> None:
        for rule_id, (direction, version, remote, others) in _FIRST.items():
            if rule_id not in known:
                words = f"Legacy default SG rule for {direction} traffic"
                new = NewRule(direction=direction, version=version, remote_group_id=remote, description=words)
                _insert(tx, rule_id, new, in_default=True, in_others=others)

    if known != _FIRST.keys():
        cloud.database.write(work)


def rules_for(tx: Tx, group_id: str, *, default: bool) -> list[NewRule]:
    """The rules of a new group; their descriptions stay behind, as Neutron leaves them."""
    found = []
    for row in tx.all(_live):
        if row.in_default if default else row.in_others:
            remote = group_id if row.remote_group_id == PARENT else row.remote_group_id
            found.append(
                NewRule(
                    direction=row.direction,
                    version=row.version,
                    protocol=row.protocol,
                    port_min=row.port_min,
                    port_max=row.port_max,
                    remote_cidr=row.remote_cidr,
                    remote_prefix=row.remote_prefix,
                    remote_group_id=remote,
                    remote_address_group_id=row.remote_address_group_id,
                )
            )
    return found


def create(tx: Tx, new: NewRule, *, in_default: bool, in_others: bool) -> str:
    """Raises BadRequest, DefaultSecurityGroupRuleExists (409) naming the rule that is the same."""
    good = checked(new)
    for row in tx.all(_live):
        same = (row.direction, *identity(row)) == (good.direction, *identity(good))
        if same and ((row.in_default and in_default) or (row.in_others and in_others)):
            raise problems.refused(
                f"Default Security group rule already exists. Rule id is {row.id}.", "DefaultSecurityGroupRuleExists"
            )
    rule_id = clock.uuid4()
    _insert(tx, rule_id, good, in_default=in_default, in_others=in_others)
    return rule_id


def remove(tx: Tx, row: Any) -> None:
    """New groups do not get it any more; those that have it keep it."""
    if row.id in _FIRST:
        tx.execute(update(default_rule).where(default_rule.c.id == row.id).values(removed=True))
    else:
        tx.execute(delete(default_rule).where(default_rule.c.id == row.id))


def _insert(tx: Tx, rule_id: str, new: NewRule, *, in_default: bool, in_others: bool) -> None:
    tx.insert(
        default_rule,
        {
            **msgspec.structs.asdict(new),
            "id": rule_id,
            "in_default": in_default,
            "in_others": in_others,
            "removed": False,
            "revision": 1,
            "created_at": tx.now,
            "updated_at": tx.now,
        },
    )
