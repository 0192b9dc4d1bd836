"""Default security group rules as the API shows and takes them (extension security-groups-default-rules)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta
from sqlalchemy import func, select

from nephos.network import resource
from nephos.network.default_rules.store import default_rule
from nephos.network.groups.wire import version_filter
from nephos.network.resource import Item, Loaded, Noun, View

Words = Annotated[str, Meta(max_length=1024)]


class Create(resource.Owned, kw_only=True):
    """POST /default-security-group-rules."""

    direction: Literal["ingress", "egress"]
    ethertype: str | None = None
    protocol: int | str | None = None
    port_range_min: int | None = None
    port_range_max: int | None = None
    remote_ip_prefix: str | None = None
    remote_group_id: str | None = None
    remote_address_group_id: str | None = None
    used_in_default_sg: bool = False
    used_in_non_default_sg: bool = True
    description: Words = ""


def _target(row: Any) -> dict[str, Any]:
    return {}


def _render(row: Any, loaded: Loaded, view: View) -> Item:
    return {
        "id": row.id,
        "direction": row.direction,
        "ethertype": f"IPv{row.version}",
        "protocol": row.protocol,
        "port_range_min": row.port_min,
        "port_range_max": row.port_max,
        "remote_ip_prefix": row.remote_prefix or row.remote_cidr,
        "remote_group_id": row.remote_group_id,
        "remote_address_group_id": row.remote_address_group_id,
        "used_in_default_sg": row.in_default,
        "used_in_non_default_sg": row.in_others,
        "description": row.description,
    }


_c = default_rule.c
_prefix = func.coalesce(_c.remote_prefix, _c.remote_cidr)
NOUN = Noun(
    name="default_security_group_rule",
    plural="default_security_group_rules",
    title="Default security group rule",
    table=default_rule,
    select=select(default_rule).where(_c.removed.is_(False)),
    scope=_c.removed.is_(False),
    render=_render,
    lacks=resource.NO_REVISIONS,
    target=_target,
    columns={
        "direction": _c.direction,
        "protocol": _c.protocol,
        "port_range_min": _c.port_min,
        "port_range_max": _c.port_max,
        "remote_ip_prefix": _prefix,
        "remote_group_id": _c.remote_group_id,
        "remote_address_group_id": _c.remote_address_group_id,
    },
    filters={
        "ethertype": version_filter(_c.version),
        "used_in_default_sg": _c.in_default,
        "used_in_non_default_sg": _c.in_others,
    },
    orders={"ethertype": _c.version},
)
