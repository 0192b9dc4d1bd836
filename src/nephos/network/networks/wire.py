"""Networks as the API shows and takes them."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import UNSET, Meta, UnsetType, field
from sqlalchemy import ColumnElement, and_, exists, func, or_, select

from nephos.network import resource
from nephos.network.networks.store import EXTERNAL, SHARED, network, rbac
from nephos.network.resource import Item, Loaded, Noun, View
from nephos.network.subnets.store import subnet

Name = Annotated[str, Meta(max_length=255)]
Words = Annotated[str, Meta(max_length=255)]
_MTU = Annotated[int, Meta(ge=0, le=65535)]


class Create(resource.Owned, kw_only=True):
    """POST /networks."""

    name: Name = ""
    description: Words = ""
    admin_state_up: bool = True
    shared: bool = False
    external: bool = field(name="router:external", default=False)
    is_default: bool = False
    mtu: _MTU | UnsetType = UNSET
    port_security_enabled: bool = True
    dns_domain: Words = ""
    availability_zone_hints: list[str] = []
    kind: str | UnsetType | None = field(name="provider:network_type", default=UNSET)
    physical: str | UnsetType | None = field(name="provider:physical_network", default=UNSET)
    segment: int | UnsetType | None = field(name="provider:segmentation_id", default=UNSET)


class Update(resource.Base, kw_only=True):
    """PUT /networks/{id}."""

    name: Name | UnsetType = UNSET
    description: Words | UnsetType = UNSET
    admin_state_up: bool | UnsetType = UNSET
    shared: bool | UnsetType = UNSET
    external: bool | UnsetType = field(name="router:external", default=UNSET)
    is_default: bool | UnsetType = UNSET
    mtu: _MTU | UnsetType = UNSET
    port_security_enabled: bool | UnsetType = UNSET
    dns_domain: Words | UnsetType = UNSET
    kind: str | UnsetType | None = field(name="provider:network_type", default=UNSET)
    physical: str | UnsetType | None = field(name="provider:physical_network", default=UNSET)
    segment: int | UnsetType | None = field(name="provider:segmentation_id", default=UNSET)


def shared_with(project_id: str | ColumnElement[str] = resource.VIEWER) -> ColumnElement[bool]:
    """Whether a network is shared with a project, or with all."""
    whom = or_(rbac.c.target == "*", rbac.c.target == project_id)
    return exists().where(rbac.c.object_id == network.c.id, rbac.c.action == SHARED, whom)


def seen_by(project_id: str | ColumnElement[str] = resource.VIEWER) -> ColumnElement[bool]:
    """Whether a policy lets the project see a network: to use it, or as an external one."""
    whom = or_(rbac.c.target == "*", rbac.c.target == project_id)
    what = or_(rbac.c.action == SHARED, rbac.c.action == EXTERNAL)
    return exists().where(rbac.c.object_id == network.c.id, what, whom)


_subnets = (
    select(func.aggregate_strings(subnet.c.id, ","))
    .where(subnet.c.network_id == network.c.id)
    .scalar_subquery()
    .label("subnet_ids")
)


def _target(row: Any) -> dict[str, Any]:
    return {
        "project_id": row.project_id,
        "tenant_id": row.project_id,
        "network:project_id": row.project_id,
        "shared": bool(row.shared),
        "router:external": row.external,
    }


def _render(row: Any, loaded: Loaded, view: View) -> Item:
    subnets = row.subnet_ids.split(",") if row.subnet_ids else []
    item: Item = {
        "id": row.id,
        "name": row.name,
        "admin_state_up": row.admin_state_up,
        "status": "ACTIVE",
        "subnets": subnets,
        "shared": bool(row.shared),
        "router:external": row.external,
        "mtu": row.mtu,
        "port_security_enabled": row.port_security_enabled,
        "dns_domain": row.dns_domain,
        "availability_zone_hints": row.zone_hints or [],
        "availability_zones": [view.cloud.settings.compute.zone] if subnets else [],
        "ipv4_address_scope": None,
        "ipv6_address_scope": None,
        "provider:network_type": row.kind,
        "provider:physical_network": row.physical,
        "provider:segmentation_id": row.segment,
    }
    if row.external:
        item["is_default"] = row.is_default
    item.update(resource.standard(row))
    return item


def _shared(values: list[str], view: View) -> ColumnElement[bool]:
    wanted = {resource.boolean(value) for value in values}
    clause = shared_with()
    return or_(*[clause if each else ~clause for each in sorted(wanted)])


def _status(values: list[str], view: View) -> ColumnElement[bool]:
    return network.c.id.is_not(None) if "ACTIVE" in values else and_(network.c.id.is_(None))


_c = network.c
NOUN = Noun(
    name="network",
    plural="networks",
    title="Network",
    table=network,
    select=select(network, shared_with().label("shared"), _subnets),
    scope=or_(network.c.project_id == resource.VIEWER, seen_by()),
    render=_render,
    target=_target,
    hidden=("provider:network_type", "provider:physical_network", "provider:segmentation_id"),
    guarded=frozenset(
        {
            "shared",
            "router:external",
            "is_default",
            "port_security_enabled",
            "provider:network_type",
            "provider:physical_network",
            "provider:segmentation_id",
        }
    ),
    filters={
        **resource.standard_filters(network),
        "admin_state_up": resource.flag(_c.admin_state_up),
        "status": _status,
        "shared": _shared,
        "router:external": resource.flag(_c.external),
        "is_default": resource.flag(_c.is_default),
        "mtu": resource.number(_c.mtu),
        "dns_domain": resource.equals(_c.dns_domain),
        "provider:network_type": resource.equals(_c.kind),
        "provider:physical_network": resource.equals(_c.physical),
        "provider:segmentation_id": resource.number(_c.segment),
    },
    sorts=resource.standard_sorts(
        network,
        admin_state_up=_c.admin_state_up,
        mtu=_c.mtu,
        status=_c.admin_state_up,
    ),
    read_only=frozenset(
        {
            "id",
            "status",
            "subnets",
            "created_at",
            "updated_at",
            "revision_number",
            "tags",
            "availability_zones",
            "availability_zone_hints",
            "ipv4_address_scope",
            "ipv6_address_scope",
            "tenant_id",
            "project_id",
        }
    ),
)
