"""Security groups and their rules as the API shows and takes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, UnsetType
from sqlalchemy import ColumnElement, case, func, or_, select

from nephos.kernel.db.engine import Tx
from nephos.network import resource
from nephos.network.filters import Filter
from nephos.network.groups import actions
from nephos.network.groups.store import group, rule
from nephos.network.resource import Item, Loaded, Noun, View
from nephos.network.sharing import scope

Name = Annotated[str, Meta(max_length=255)]
Words = Annotated[str, Meta(max_length=255)]


class CreateGroup(resource.Owned, kw_only=True):
    """POST /security-groups."""

    name: Name = ""
    description: Words = ""
    stateful: bool | UnsetType = UNSET


class UpdateGroup(resource.Base, kw_only=True):
    """PUT /security-groups/{id}."""

    name: Name | UnsetType = UNSET
    description: Words | UnsetType = UNSET
    stateful: bool | UnsetType = UNSET


class CreateRule(resource.Owned, kw_only=True):
    """POST /security-group-rules."""

    security_group_id: str
    direction: Literal["ingress", "egress"]
    ethertype: str | None = None
    protocol: int | str | None = None
    port_range_min: int | None = None
    port_range_max: int | None = None
    remote_ip_prefix: str | None = None
    remote_group_id: str | None = None
    remote_address_group_id: str | None = None
    description: Words = ""


def render_rule(row: Any, default: bool) -> Item:
    """A rule; `default` is whether it is of a project's default group."""
    return {
        "id": row.id,
        "security_group_id": row.group_id,
        "direction": row.direction,
        "ethertype": f"IPv{row.version}",
        "protocol": row.protocol,
        "port_range_min": row.port_min,
        "port_range_max": row.port_max,
        "remote_ip_prefix": row.remote_prefix or row.remote_cidr,
        "remote_group_id": row.remote_group_id,
        "remote_address_group_id": row.remote_address_group_id,
        "belongs_to_default_sg": default,
        "normalized_cidr": row.remote_cidr,
        **resource.standard(row),
    }


def _render_group(row: Any, loaded: Loaded, view: View) -> Item:
    return {
        "id": row.id,
        "name": row.name,
        "stateful": row.stateful,
        "shared": bool(row.shared),
        "security_group_rules": [render_rule(each, row.default_of is not None) for each in loaded.get(row.id, ())],
        **resource.standard(row),
    }


def _load_rules(tx: Tx, rows: Sequence[Any], view: View) -> Loaded:
    return actions.rules_of(tx, [row.id for row in rows])


def _target_group(row: Any) -> dict[str, Any]:
    return {"project_id": row.project_id, "tenant_id": row.project_id, "shared": bool(row.shared)}


_seen = scope.shared_with(group.c.id)
GROUP = Noun(
    name="security_group",
    plural="security_groups",
    title="Security group",
    table=group,
    select=select(group, _seen.label("shared")),
    scope=or_(group.c.project_id == resource.VIEWER, _seen),
    target=_target_group,
    render=_render_group,
    load=_load_rules,
    filters={"stateful": group.c.stateful, "shared": scope.flag(_seen)},
    read_only=frozenset({"security_group_rules"}),
)


def _target_rule(row: Any) -> dict[str, Any]:
    return {
        "project_id": row.project_id,
        "tenant_id": row.project_id,
        "security_group:project_id": row.group_project_id,
        "belongs_to_default_sg": row.in_default,
    }


def _render_any_rule(row: Any, loaded: Loaded, view: View) -> Item:
    return render_rule(row, bool(row.in_default))


def version_filter(column: ColumnElement[Any]) -> Filter:
    """The filter `ethertype` on a column of 4 and 6."""
    known = {"ipv4": 4, "ipv6": 6, "4": 4, "6": 6}
    return lambda values, _view: column.in_([known[value.lower()] for value in values if value.lower() in known])


_default = case((group.c.default_of.is_not(None), True), else_=False)
_r = rule.c
_prefix = func.coalesce(_r.remote_prefix, _r.remote_cidr)
RULE = Noun(
    name="security_group_rule",
    plural="security_group_rules",
    title="Security group rule",
    table=rule,
    select=select(rule, group.c.project_id.label("group_project_id"), _default.label("in_default")).join(
        group, group.c.id == rule.c.group_id
    ),
    scope=or_(rule.c.project_id == resource.VIEWER, group.c.project_id == resource.VIEWER),
    render=_render_any_rule,
    target=_target_rule,
    columns={
        "security_group_id": _r.group_id,
        "direction": _r.direction,
        "protocol": _r.protocol,
        "port_range_min": _r.port_min,
        "port_range_max": _r.port_max,
        "remote_ip_prefix": _prefix,
        "remote_group_id": _r.remote_group_id,
        "remote_address_group_id": _r.remote_address_group_id,
    },
    filters={"ethertype": version_filter(_r.version), "belongs_to_default_sg": _default},
    orders={"ethertype": _r.version},
)
