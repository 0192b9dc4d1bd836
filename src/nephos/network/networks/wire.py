"""Networks as the API shows and takes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from msgspec import UNSET, Meta, UnsetType, field
from sqlalchemy import ColumnElement, Row, and_, bindparam, case, func, literal_column, or_, select

from nephos.kernel.db.engine import Tx
from nephos.network import resource
from nephos.network.networks.store import network
from nephos.network.resource import Item, Loaded, Noun, View
from nephos.network.segments import actions as segments
from nephos.network.sharing import scope
from nephos.network.subnetpools.store import subnetpool
from nephos.network.subnets.store import subnet

Name = Annotated[str, Meta(max_length=255)]
Words = Annotated[str, Meta(max_length=255)]
_MTU = Annotated[int, Meta(ge=0, le=65535)]


class Part(resource.Base, kw_only=True):
    """One segment of a network of several (extension multi-provider)."""

    kind: str | None = field(name="provider:network_type", default=None)
    physical: str | None = field(name="provider:physical_network", default=None)
    segment: int | None = field(name="provider:segmentation_id", default=None)


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
    qos_policy_id: str | UnsetType | None = UNSET
    availability_zone_hints: list[str] = []
    kind: str | UnsetType | None = field(name="provider:network_type", default=UNSET)
    physical: str | UnsetType | None = field(name="provider:physical_network", default=UNSET)
    segment: int | UnsetType | None = field(name="provider:segmentation_id", default=UNSET)
    segments: list[Part] | UnsetType | None = UNSET


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
    qos_policy_id: str | UnsetType | None = UNSET
    kind: str | UnsetType | None = field(name="provider:network_type", default=UNSET)
    physical: str | UnsetType | None = field(name="provider:physical_network", default=UNSET)
    segment: int | UnsetType | None = field(name="provider:segmentation_id", default=UNSET)
    segments: list[Part] | UnsetType | None = UNSET


_subnets = (
    # An asterisk marks those of a subnet pool, which may have an address scope.
    # The comma is written out: as a value it would be put into the statement anew on every run.
    select(
        func.aggregate_strings(
            case((subnet.c.pool_id.is_(None), subnet.c.id), else_=subnet.c.id.concat("*")),
            literal_column("','"),  # type: ignore[arg-type]
        )
    )
    .where(subnet.c.network_id == network.c.id)
    .scalar_subquery()
    .label("subnet_ids")
)


_scopes = (
    select(subnet.c.network_id, subnet.c.version, subnetpool.c.address_scope_id)
    .join(subnetpool, subnetpool.c.id == subnet.c.pool_id)
    .where(subnet.c.network_id.in_(bindparam("networks", expanding=True)), subnetpool.c.address_scope_id.is_not(None))
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
    scopes = loaded["scopes"]
    subnets = row.subnet_ids.replace("*", "").split(",") if row.subnet_ids else []
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
        "qos_policy_id": row.qos_policy_id,
        "availability_zone_hints": row.zone_hints or [],
        "availability_zones": [view.cloud.settings.compute.zone] if subnets else [],
        "ipv4_address_scope": scopes.get((row.id, 4)),
        "ipv6_address_scope": scopes.get((row.id, 6)),
    }
    if row.multi:
        item["segments"] = [_provider(each.kind, each.physical, each.number) for each in loaded["segments"][row.id]]
    else:
        item.update(_provider(row.kind, row.physical, row.segment))
    if row.external:
        item["is_default"] = row.is_default
    item.update(resource.standard(row))
    return item


def _provider(kind: str, physical: str | None, number: int | None) -> Item:
    return {
        "provider:network_type": kind,
        "provider:physical_network": physical,
        "provider:segmentation_id": number,
    }


def _load(tx: Tx, rows: Sequence[Row[Any]], view: View) -> Loaded:
    several = [row.id for row in rows if row.multi]
    pooled = [row.id for row in rows if row.subnet_ids and "*" in row.subnet_ids]
    scopes = tx.all(_scopes, {"networks": pooled}) if pooled else ()
    return {
        "segments": segments.of_networks(tx, several) if several else {},
        "scopes": {(each.network_id, each.version): each.address_scope_id for each in scopes},
    }


def _status(values: list[str], view: View) -> ColumnElement[bool]:
    return network.c.id.is_not(None) if "ACTIVE" in values else and_(network.c.id.is_(None))


_c = network.c
_seen = scope.shared_with(_c.id)
NOUN = Noun(
    name="network",
    plural="networks",
    title="Network",
    table=network,
    select=select(network, _seen.label("shared"), _subnets),
    scope=or_(network.c.project_id == resource.VIEWER, scope.seen_by(_c.id)),
    render=_render,
    load=_load,
    target=_target,
    hidden=("provider:network_type", "provider:physical_network", "provider:segmentation_id", "segments"),
    guarded=frozenset(
        {
            "shared",
            "router:external",
            "is_default",
            "port_security_enabled",
            "provider:network_type",
            "provider:physical_network",
            "provider:segmentation_id",
            "segments",
        }
    ),
    columns={"admin_state_up": _c.admin_state_up, "mtu": _c.mtu},
    filters={
        "status": _status,
        "shared": scope.flag(_seen),
        "router:external": _c.external,
        "is_default": _c.is_default,
        "dns_domain": _c.dns_domain,
        "qos_policy_id": _c.qos_policy_id,
        "provider:network_type": _c.kind,
        "provider:physical_network": _c.physical,
        "provider:segmentation_id": _c.segment,
    },
    orders={"status": _c.admin_state_up},
    read_only=frozenset({"availability_zone_hints", "availability_zones", "ipv4_address_scope", "ipv6_address_scope", "subnets"}),
)
