"""Subnets as the API shows and takes them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, UnsetType
from sqlalchemy import or_, select

from nephos.network import resource
from nephos.network.networks.store import network
from nephos.network.resource import Item, Loaded, Noun, View
from nephos.network.sharing import scope
from nephos.network.subnets.store import subnet

Name = Annotated[str, Meta(max_length=255)]
Words = Annotated[str, Meta(max_length=255)]
Mode = Literal["slaac", "dhcpv6-stateful", "dhcpv6-stateless"]
_Version = Literal[4, 6]


class Pool(resource.Base, kw_only=True):
    """An allocation pool, both ends included."""

    start: str
    end: str


class HostRoute(resource.Base, kw_only=True):
    """A route that guests are told."""

    destination: str
    nexthop: str


class Create(resource.Owned, kw_only=True):
    """POST /subnets."""

    network_id: str
    ip_version: _Version | UnsetType = UNSET
    cidr: str | UnsetType | None = UNSET
    name: Name = ""
    description: Words = ""
    gateway_ip: str | UnsetType | None = UNSET
    allocation_pools: list[Pool] | UnsetType | None = UNSET
    enable_dhcp: bool = True
    dns_nameservers: list[str] | UnsetType | None = UNSET
    host_routes: list[HostRoute] | UnsetType | None = UNSET
    ipv6_ra_mode: Mode | UnsetType | None = UNSET
    ipv6_address_mode: Mode | UnsetType | None = UNSET
    subnetpool_id: str | UnsetType | None = UNSET
    use_default_subnetpool: bool = False
    prefixlen: Annotated[int, Meta(ge=0, le=128)] | UnsetType | None = UNSET
    service_types: list[str] | UnsetType = UNSET
    segment_id: str | UnsetType | None = UNSET


class Update(resource.Base, kw_only=True):
    """PUT /subnets/{id}."""

    name: Name | UnsetType = UNSET
    description: Words | UnsetType = UNSET
    gateway_ip: str | UnsetType | None = UNSET
    allocation_pools: list[Pool] | UnsetType = UNSET
    enable_dhcp: bool | UnsetType = UNSET
    dns_nameservers: list[str] | UnsetType | None = UNSET
    host_routes: list[HostRoute] | UnsetType | None = UNSET
    service_types: list[str] | UnsetType = UNSET
    segment_id: str | UnsetType | None = UNSET


def _target(row: Any) -> dict[str, Any]:
    return {
        "project_id": row.project_id,
        "tenant_id": row.project_id,
        "network:project_id": row.network_project_id,
        "shared": bool(row.shared),
        "router:external": row.external,
    }


def _render(row: Any, loaded: Loaded, view: View) -> Item:
    return {
        "id": row.id,
        "name": row.name,
        "network_id": row.network_id,
        "ip_version": row.version,
        "cidr": row.cidr,
        "gateway_ip": row.gateway,
        "allocation_pools": [{"start": first, "end": last} for first, last in row.pools],
        "enable_dhcp": row.dhcp,
        "dns_nameservers": row.dns or [],
        "host_routes": [{"destination": to, "nexthop": by} for to, by in row.routes or []],
        "ipv6_ra_mode": row.ra_mode,
        "ipv6_address_mode": row.address_mode,
        "subnetpool_id": row.pool_id,
        "service_types": row.service_types or [],
        "router:external": row.external,
        "segment_id": row.segment_id,
        **resource.standard(row),
    }


_c = subnet.c
_seen = scope.shared_with(network.c.id)
NOUN = Noun(
    name="subnet",
    plural="subnets",
    title="Subnet",
    table=subnet,
    select=select(
        subnet,
        network.c.project_id.label("network_project_id"),
        network.c.external.label("external"),
        _seen.label("shared"),
    ).join(network, network.c.id == subnet.c.network_id),
    scope=or_(
        subnet.c.project_id == resource.VIEWER, network.c.project_id == resource.VIEWER, scope.seen_by(network.c.id)
    ),
    render=_render,
    target=_target,
    hidden=("segment_id",),
    guarded=frozenset({"segment_id"}),
    columns={
        "network_id": _c.network_id,
        "ip_version": _c.version,
        "cidr": _c.cidr,
        "gateway_ip": _c.gateway,
        "enable_dhcp": _c.dhcp,
        "ipv6_ra_mode": _c.ra_mode,
        "ipv6_address_mode": _c.address_mode,
    },
    filters={
        "subnetpool_id": _c.pool_id,
        "segment_id": _c.segment_id,
        "router:external": network.c.external,
        "shared": scope.flag(_seen),
    },
    read_only=frozenset({"prefixlen", "use_default_subnetpool"}),
)
