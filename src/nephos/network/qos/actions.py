"""What QoS policies and their rules can do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from msgspec import UnsetType
from sqlalchemy import and_, bindparam, delete, func, select

from nephos import errors
from nephos.kernel import clock
from nephos.kernel.cloud import Cloud
from nephos.kernel.db.engine import Tx
from nephos.network import problems, resource, touch
from nephos.network.floatingips.store import floatingip
from nephos.network.networks.store import SHARED, network, rbac
from nephos.network.ports.store import FLOATING, GATEWAY, port
from nephos.network.qos.kinds import (
    ANY,
    BANDWIDTH,
    BY_NAME,
    DSCP,
    EGRESS,
    INGRESS,
    LEAST_BANDWIDTH,
    MARKS,
    MOST,
    PACKETS,
    Kind,
)
from nephos.network.qos.store import policy, rule
from nephos.network.routers.store import router
from nephos.network.sharing.grants import share
from nephos.network.sharing.scope import shared_with
from nephos.wiring import base

_usable = select(policy.c.id, policy.c.project_id, shared_with(policy.c.id).label("shared")).where(
    policy.c.id == bindparam("id")
)
_rules = (
    select(rule).where(rule.c.policy_id.in_(bindparam("ids", expanding=True))).order_by(rule.c.created_at, rule.c.id)
)
_default = select(policy.c.id).where(policy.c.default_of == bindparam("project"))
_owner = func.coalesce(floatingip.c.project_id, router.c.project_id, port.c.project_id)
_ports_with = (
    select(port.c.id, port.c.device_id, port.c.device_owner)
    .outerjoin(floatingip, floatingip.c.port_id == port.c.id)
    .outerjoin(router, and_(router.c.id == port.c.device_id, port.c.device_owner == GATEWAY))
    .where(port.c.qos_policy_id == bindparam("policy"))
    .limit(1)
)
"""The ports of floating IPs and gateways, which are nobody's, count as those of whom the floating IP or router is."""
_networks_with = select(network.c.id).where(network.c.qos_policy_id == bindparam("policy")).limit(1)
_FLOORS = {"bandwidth_limit": "minimum_bandwidth", "packet_rate_limit": "minimum_packet_rate"}
"""A limit must not be below the rule of the kind that it is named with here."""


class NewRule(msgspec.Struct, frozen=True, kw_only=True):
    """A rule to be made, in the units of its kind."""

    kind: Kind
    amount: int
    burst: int = 0
    direction: str | None = None


def create(tx: Tx, *, project_id: str, name: str, description: str, shared: bool, default: bool) -> str:
    """Raises QoSPolicyDefaultAlreadyExists (409)."""
    policy_id = clock.uuid4()
    if default:
        _only_default(tx, project_id, policy_id)
    tx.insert(
        policy,
        {
            "id": policy_id,
            "project_id": project_id,
            "name": name,
            "description": description,
            "default_of": project_id if default else None,
            "tags": [],
            "revision": 1,
            "created_at": tx.now,
            "updated_at": tx.now,
        },
    )
    if shared:
        share(tx, "qos_policy", policy_id, project_id, SHARED, "*")
    return policy_id


def update(tx: Tx, row: Any, values: dict[str, Any]) -> None:
    """Set name, description, `is_default` and `shared`. Raises QoSPolicyDefaultAlreadyExists, and QosPolicyInUse when
    another project needs the sharing."""
    default = values.pop("is_default", None)
    if default is not None:
        if default:
            _only_default(tx, row.project_id, row.id)
        values["default_of"] = row.project_id if default else None
    shared = values.pop("shared", None)
    everyone = tx.scalar(
        select(rbac.c.id).where(rbac.c.object_id == row.id, rbac.c.action == SHARED, rbac.c.target == "*")
    )
    if shared and everyone is None:
        share(tx, "qos_policy", row.id, row.project_id, SHARED, "*")
    elif shared is False and everyone is not None:
        _check_unused(tx, row.id, but=row.project_id)
        tx.execute(delete(rbac).where(rbac.c.id == everyone))
    resource.revise(tx, policy, row.id, values)


def remove(tx: Tx, row: Any) -> None:
    """With its rules. Raises QosPolicyInUse (409) naming what uses it."""
    _check_unused(tx, row.id)
    tx.execute(delete(rule).where(rule.c.policy_id == row.id))
    tx.execute(delete(rbac).where(rbac.c.object_id == row.id))
    tx.execute(delete(policy).where(policy.c.id == row.id))


def check_usable(tx: Tx, policy_id: str, project_id: str, *, admin: bool) -> None:
    """Raises QosPolicyNotFound for a policy that the project may not use."""
    row = tx.first(_usable, {"id": policy_id, "viewer": project_id})
    if row is None or not (admin or row.project_id == project_id or row.shared):
        raise problems.missing("QoS policy", policy_id, "QosPolicyNotFound")


def check_removable(tx: Tx, policy_id: str | None, project_id: str, *, admin: bool) -> None:
    """Raises Forbidden: what an administrator has put under a policy that the project may not use stays under it."""
    if policy_id is None:
        return
    try:
        check_usable(tx, policy_id, project_id, admin=admin)
    except errors.NotFound as hidden:
        raise errors.Forbidden(
            f"Failed to remove provided policy {policy_id} because you are not authorized.",
            code="PolicyRemoveAuthorizationError",
        ) from hidden


def usable(tx: Tx, policy_id: str | UnsetType | None, project_id: str, *, admin: bool) -> str | None:
    """The policy of a request, None when it names none. Raises as `check_usable`."""
    if policy_id:
        check_usable(tx, policy_id, project_id, admin=admin)
    return policy_id or None


def default_of(tx: Tx, project_id: str) -> str | None:
    """The policy that new networks of a project get."""
    found: str | None = tx.scalar(_default, {"project": project_id})
    return found


def rules_of(tx: Tx, policy_ids: Iterable[str]) -> dict[str, list[Any]]:
    """Every policy's rules, oldest first."""
    found: dict[str, list[Any]] = {}
    for row in tx.all(_rules, {"ids": list(policy_ids)}):
        found.setdefault(row.policy_id, []).append(row)
    return found


def limits_of(tx: Tx, policy_ids: Iterable[str]) -> dict[str, base.Limits]:
    """What hosts enforce of policies' rules; of a policy without such rules there is nothing."""
    policies = set(policy_ids)
    found = {key: _limits(rules) for key, rules in rules_of(tx, policies).items()} if policies else {}
    return {key: limits for key, limits in found.items() if limits is not None}


def _limits(rules: Iterable[Any]) -> base.Limits | None:
    found: dict[str, int] = {}
    for each in rules:
        side = "to" if each.direction == INGRESS else "sent"
        if each.kind == BANDWIDTH.name:
            found |= {f"{side}_kbits": each.amount, f"{side}_burst": each.burst}
        elif each.kind == PACKETS.name:
            found |= {f"{side}_packets": each.amount * 1000, f"{side}_packets_burst": each.burst * 1000}
        elif each.kind == DSCP.name:
            found["dscp"] = each.amount
        elif each.kind == LEAST_BANDWIDTH.name and each.direction == EGRESS:
            found["least_sent_kbits"] = each.amount
    return base.Limits(**found) if found else None


def add_rule(tx: Tx, cloud: Cloud, policy_id: str, new: NewRule) -> str:
    """Raises BadRequest, QoSRulesConflict for a second rule of a kind and direction, QoSRuleParameterConflict (409)."""
    _check(tx, policy_id, new, None)
    rule_id = clock.uuid4()
    tx.insert(
        rule,
        {
            "id": rule_id,
            "policy_id": policy_id,
            "kind": new.kind.name,
            "direction": new.direction,
            "amount": new.amount,
            "burst": new.burst,
            "revision": 1,
            "created_at": tx.now,
            "updated_at": tx.now,
        },
    )
    _changed(tx, cloud, policy_id)
    return rule_id


def change_rule(tx: Tx, cloud: Cloud, row: Any, values: dict[str, Any]) -> None:
    """Set amount, burst and direction. Raises as `add_rule`."""
    new = NewRule(
        kind=BY_NAME[row.kind],
        amount=values.get("amount", row.amount),
        burst=values.get("burst", row.burst),
        direction=values.get("direction", row.direction),
    )
    _check(tx, row.policy_id, new, row.id)
    resource.revise(tx, rule, row.id, values)
    _changed(tx, cloud, row.policy_id)


def remove_rule(tx: Tx, cloud: Cloud, row: Any) -> None:
    tx.execute(delete(rule).where(rule.c.id == row.id))
    _changed(tx, cloud, row.policy_id)


def _changed(tx: Tx, cloud: Cloud, policy_id: str) -> None:
    resource.revise(tx, policy, policy_id)
    touch.qos(tx, cloud, policy_id)


def _check(tx: Tx, policy_id: str, new: NewRule, itself: str | None) -> None:
    if new.kind is DSCP and new.amount not in MARKS:
        raise problems.invalid("dscp_mark", f"'{new.amount}' is not in {list(MARKS)}")
    if not 0 <= new.amount <= MOST or not 0 <= new.burst <= MOST:
        raise problems.invalid(new.kind.amount, f"'{new.amount}' is not from 0 to {MOST}")
    for row in rules_of(tx, [policy_id]).get(policy_id, ()):
        if row.id == itself:
            continue
        same = row.kind == new.kind.name
        if same and (row.direction == new.direction or ANY in (row.direction, new.direction)):
            raise problems.refused(
                f"Rule {new.kind.name} conflicts with rule {row.id} which already exists in QoS Policy {policy_id}.",
                "QoSRulesConflict",
            )
        kinds = (new.kind.name, row.kind)
        if _FLOORS.get(kinds[0]) == kinds[1]:
            low, high = row.amount, new.amount
        elif _FLOORS.get(kinds[1]) == kinds[0]:
            low, high = new.amount, row.amount
        else:
            continue
        if low > high and (row.direction == new.direction or ANY in (row.direction, new.direction)):
            raise problems.refused(
                f"Unable to add the rule with value {new.amount} to the policy {policy_id} as the existing rule of "
                f"type {row.kind} has value {row.amount}.",
                "QoSRuleParameterConflict",
            )


def _only_default(tx: Tx, project_id: str, policy_id: str) -> None:
    other = default_of(tx, project_id)
    if other not in (None, policy_id):
        raise problems.refused(
            f"A default QoS policy exists for project {project_id}: {other}.", "QoSPolicyDefaultAlreadyExists"
        )


def _check_unused(tx: Tx, policy_id: str, *, but: str | None = None) -> None:
    """Raises QosPolicyInUse (409) naming a user of the policy; those of project `but` do not count."""
    chosen = _ports_with if but is None else _ports_with.where(_owner != but)
    leaf = tx.first(chosen, {"policy": policy_id})
    user = None
    if leaf is not None:
        found: Mapping[str, str] = {FLOATING: "floatingip", GATEWAY: "router"}
        what = found.get(leaf.device_owner)
        user = f"{what} {leaf.device_id}" if what else f"port {leaf.id}"
    else:
        chosen = _networks_with if but is None else _networks_with.where(network.c.project_id != but)
        network_id = tx.scalar(chosen, {"policy": policy_id})
        user = f"network {network_id}" if network_id is not None else None
    if user is not None:
        raise problems.refused(f"QoS Policy {policy_id} is used by {user}.", "QosPolicyInUse")
