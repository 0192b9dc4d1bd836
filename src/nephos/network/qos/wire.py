"""QoS policies, their rules and the kinds of rules as the API shows and takes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, UnsetType, field
from sqlalchemy import ColumnElement, bindparam, case, or_, select

from nephos.kernel.db.engine import Tx
from nephos.network import resource
from nephos.network.qos import actions
from nephos.network.qos.kinds import (
    ALL,
    BANDWIDTH,
    BY_NAME,
    DSCP,
    LEAST_BANDWIDTH,
    LEAST_PACKETS,
    MARKS,
    MOST,
    PACKETS,
    Kind,
)
from nephos.network.qos.store import policy, rule
from nephos.network.resource import Item, Loaded, Noun, View
from nephos.network.sharing import scope

Name = Annotated[str, Meta(max_length=255)]
Words = Annotated[str, Meta(max_length=255)]
Amount = Annotated[int, Meta(ge=0, le=MOST)]
Way = Literal["ingress", "egress"]
AnyWay = Literal["ingress", "egress", "any"]


class CreatePolicy(resource.Owned, kw_only=True):
    """POST /qos/policies."""

    name: Name = ""
    description: Words = ""
    shared: bool = False
    is_default: bool = False


class UpdatePolicy(resource.Base, kw_only=True):
    """PUT /qos/policies/{id}."""

    name: Name | UnsetType = UNSET
    description: Words | UnsetType = UNSET
    shared: bool | UnsetType = UNSET
    is_default: bool | UnsetType = UNSET


class Bandwidth(resource.Owned, kw_only=True):
    """POST …/bandwidth_limit_rules."""

    amount: Amount = field(name="max_kbps")
    burst: Amount = field(name="max_burst_kbps", default=0)
    direction: Way = "egress"


class Packets(resource.Owned, kw_only=True):
    """POST …/packet_rate_limit_rules."""

    amount: Amount = field(name="max_kpps")
    burst: Amount = field(name="max_burst_kpps", default=0)
    direction: Way = "egress"


class Dscp(resource.Owned, kw_only=True):
    """POST …/dscp_marking_rules."""

    amount: int = field(name="dscp_mark")


class LeastBandwidth(resource.Owned, kw_only=True):
    """POST …/minimum_bandwidth_rules."""

    amount: Amount = field(name="min_kbps")
    direction: Way = "egress"


class LeastPackets(resource.Owned, kw_only=True):
    """POST …/minimum_packet_rate_rules."""

    amount: Amount = field(name="min_kpps")
    direction: AnyWay = "egress"


class UpdateBandwidth(resource.Base, kw_only=True):
    """PUT …/bandwidth_limit_rules/{id}."""

    amount: Amount | UnsetType = field(name="max_kbps", default=UNSET)
    burst: Amount | UnsetType = field(name="max_burst_kbps", default=UNSET)
    direction: Way | UnsetType = UNSET


class UpdatePackets(resource.Base, kw_only=True):
    """PUT …/packet_rate_limit_rules/{id}."""

    amount: Amount | UnsetType = field(name="max_kpps", default=UNSET)
    burst: Amount | UnsetType = field(name="max_burst_kpps", default=UNSET)
    direction: Way | UnsetType = UNSET


class UpdateDscp(resource.Base, kw_only=True):
    """PUT …/dscp_marking_rules/{id}."""

    amount: int | UnsetType = field(name="dscp_mark", default=UNSET)


class UpdateLeastBandwidth(resource.Base, kw_only=True):
    """PUT …/minimum_bandwidth_rules/{id}."""

    amount: Amount | UnsetType = field(name="min_kbps", default=UNSET)
    direction: Way | UnsetType = UNSET


class UpdateLeastPackets(resource.Base, kw_only=True):
    """PUT …/minimum_packet_rate_rules/{id}."""

    amount: Amount | UnsetType = field(name="min_kpps", default=UNSET)
    direction: AnyWay | UnsetType = UNSET


MODELS: dict[Kind, tuple[type[Any], type[Any]]] = {
    BANDWIDTH: (Bandwidth, UpdateBandwidth),
    PACKETS: (Packets, UpdatePackets),
    DSCP: (Dscp, UpdateDscp),
    LEAST_BANDWIDTH: (LeastBandwidth, UpdateLeastBandwidth),
    LEAST_PACKETS: (LeastPackets, UpdateLeastPackets),
}


def _rule(row: Any, kind: Kind) -> Item:
    item: Item = {"id": row.id, kind.amount: row.amount}
    if kind.burst is not None:
        item[kind.burst] = row.burst
    if kind.directions:
        item["direction"] = row.direction
    return item


def _policy_target(row: Any) -> dict[str, Any]:
    return {"project_id": row.project_id, "tenant_id": row.project_id, "shared": bool(row.shared)}


def _render_policy(row: Any, loaded: Loaded, view: View) -> Item:
    return {
        "id": row.id,
        "name": row.name,
        "shared": bool(row.shared),
        "is_default": row.default_of is not None,
        "rules": [
            {**_rule(each, BY_NAME[each.kind]), "type": each.kind, "qos_policy_id": row.id}
            for each in loaded.get(row.id, ())
        ],
        **resource.standard(row),
    }


def _load(tx: Tx, rows: Sequence[Any], view: View) -> Loaded:
    return actions.rules_of(tx, [row.id for row in rows])


_p = policy.c
_seen = scope.shared_with(_p.id)
POLICY = Noun(
    name="policy",
    plural="policies",
    title="QoS policy",
    table=policy,
    select=select(policy, _seen.label("shared")),
    scope=or_(_p.project_id == resource.VIEWER, _seen),
    render=_render_policy,
    load=_load,
    target=_policy_target,
    filters={"shared": scope.flag(_seen), "is_default": case((_p.default_of.is_not(None), True), else_=False)},
    read_only=frozenset({"rules"}),
)


def _rule_target(row: Any) -> dict[str, Any]:
    return {"ext_parent:project_id": row.policy_project_id, "project_id": row.policy_project_id}


def _noun(kind: Kind, *, alias: bool) -> Noun:
    """Rules of a kind: below their policy, whose id the statements know as `policy`, or by their own id alone."""
    column = rule.c
    of_kind = select(rule, policy.c.project_id.label("policy_project_id")).join(policy, policy.c.id == column.policy_id)
    chosen = of_kind.where(column.kind == kind.name)
    columns: dict[str, ColumnElement[Any]] = {kind.amount: column.amount}
    if kind.burst is not None:
        columns[kind.burst] = column.burst
    if kind.directions:
        columns["direction"] = column.direction
    word = f"alias_{kind.noun}" if alias else kind.noun
    return Noun(
        name=word if alias else f"policy_{kind.noun}",
        word=word,
        plural=f"{word}s",
        title="QoS rule",
        table=rule,
        select=chosen if alias else chosen.where(column.policy_id == bindparam("policy")),
        scope=or_(policy.c.project_id == resource.VIEWER, scope.shared_with(policy.c.id)),
        render=lambda row, _loaded, _view: _rule(row, kind),
        lacks=resource.NO_REVISIONS,
        target=_rule_target,
        columns=columns,
        read_only=frozenset({"qos_policy_id", "type"}),
    )


RULES = {kind: _noun(kind, alias=False) for kind in ALL}
ALIASES = {kind: _noun(kind, alias=True) for kind in ALL if kind is not PACKETS}
"""Neutron has no alias for packet rate limits."""


def rule_type(kind: Kind) -> Item:
    """A kind of rules with what a driver supports of it (extension qos-rule-type-details)."""
    amounts: list[Item] = [_parameter(kind.amount, kind)]
    if kind.burst is not None:
        amounts.append(_parameter(kind.burst, kind))
    if kind.directions:
        amounts.append(_choices("direction", kind.directions))
    drivers = [{"name": "linux", "supported_parameters": amounts}] if kind.enforced else []
    return {"type": kind.name, "drivers": drivers}


def _parameter(name: str, kind: Kind) -> Item:
    if kind is DSCP:
        return _choices(name, MARKS)
    return {"parameter_name": name, "parameter_type": "range", "parameter_values": {"start": 0, "end": MOST}}


def _choices(name: str, values: Sequence[Any]) -> Item:
    return {"parameter_name": name, "parameter_type": "choices", "parameter_values": list(values)}
