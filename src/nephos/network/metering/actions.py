"""What metering labels and rules can do.

Every router of the label's project counts what crosses its gateways by the label's rules; with `shared` every router of
the cloud does.
"""

from __future__ import annotations

import ipaddress
from typing import Any

from sqlalchemy import bindparam, delete, select

from nephos.kernel import clock
from nephos.kernel.cloud import Cloud
from nephos.kernel.db.engine import Tx
from nephos.network import problems, touch
from nephos.network.metering.store import label, rule
from nephos.network.routers.store import router

_rules = select(rule).where(rule.c.label_id == bindparam("label"), rule.c.direction == bindparam("direction"))
_routers = select(router.c.id, router.c.host_id).where(router.c.host_id.is_not(None))


def create_label(tx: Tx, values: dict[str, Any]) -> str:
    """It counts nothing as long as it has no rule."""
    label_id = clock.uuid4()
    tx.insert(label, {"id": label_id, **values, "revision": 1, "created_at": tx.now, "updated_at": tx.now})
    return label_id


def remove_label(tx: Tx, cloud: Cloud, row: Any) -> None:
    """With its rules."""
    tx.execute(delete(rule).where(rule.c.label_id == row.id))
    tx.execute(delete(label).where(label.c.id == row.id))
    _tell(tx, cloud, row)


def create_rule(tx: Tx, cloud: Cloud, above: Any, values: dict[str, Any]) -> str:
    """Raises MeteringLabelRuleOverlaps for a remote range that overlaps one of the label's."""
    remote = values["remote"]
    if remote is not None:
        for row in tx.all(_rules, {"label": above.id, "direction": values["direction"]}):
            if row.remote is not None and _overlap(remote, row.remote):
                raise problems.refused(
                    f"Metering label rule with remote_ip_prefix '{remote}' overlaps another: {row.id}, {row.remote}.",
                    "MeteringLabelRuleOverlaps",
                )
    rule_id = clock.uuid4()
    times = {"revision": 1, "created_at": tx.now, "updated_at": tx.now}
    tx.insert(rule, {"id": rule_id, "label_id": above.id, **values, **times})
    _tell(tx, cloud, above)
    return rule_id


def remove_rule(tx: Tx, cloud: Cloud, row: Any) -> None:
    tx.execute(delete(rule).where(rule.c.id == row.id))
    above = tx.first(select(label).where(label.c.id == row.label_id))
    if above is not None:
        _tell(tx, cloud, above)


def _overlap(one: str, other: str) -> bool:
    first, second = ipaddress.ip_network(one), ipaddress.ip_network(other)
    return first.version == second.version and first.overlaps(second)


def _tell(tx: Tx, cloud: Cloud, row: Any) -> None:
    chosen = _routers if row.shared else _routers.where(router.c.project_id == row.project_id)
    for each in tx.all(chosen):
        touch.router(tx, cloud, each.host_id, each.id)
