"""Ports as the API shows and takes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType, field
from sqlalchemy import ColumnElement, and_, exists, or_, select

from nephos.hosts import actions as hosts
from nephos.kernel import clock
from nephos.kernel.db.engine import Tx
from nephos.network import addressing, problems, resource
from nephos.network.networks.store import network
from nephos.network.networks.wire import shared_with
from nephos.network.ports import actions
from nephos.network.ports.store import port, port_group
from nephos.network.resource import Item, Loaded, Noun, View
from nephos.network.subnets import addresses
from nephos.network.subnets.store import address

Name = Annotated[str, Meta(max_length=255)]
Words = Annotated[str, Meta(max_length=255)]


class FixedIp(resource.Base, kw_only=True):
    """An address that is asked for."""

    subnet_id: str | UnsetType = UNSET
    ip_address: str | UnsetType = UNSET


class Pair(resource.Base, kw_only=True):
    """An address pair that the port may use too."""

    ip_address: str
    mac_address: str | UnsetType | None = UNSET


class DhcpOption(resource.Base, kw_only=True):
    """An extra DHCP option; on update a null value removes it."""

    opt_name: Annotated[str, Meta(min_length=1, max_length=64)]
    opt_value: Annotated[str, Meta(max_length=255)] | None = None
    ip_version: int | UnsetType = UNSET


class Create(resource.Owned, kw_only=True):
    """POST /ports."""

    network_id: str
    name: Name = ""
    description: Words = ""
    admin_state_up: bool = True
    mac_address: str | UnsetType | None = UNSET
    fixed_ips: list[FixedIp] | UnsetType | None = UNSET
    device_id: Name = ""
    device_owner: Name = ""
    security_groups: list[str] | UnsetType | None = UNSET
    allowed_address_pairs: list[Pair] | UnsetType | None = UNSET
    extra_dhcp_opts: list[DhcpOption] | UnsetType | None = UNSET
    port_security_enabled: bool | UnsetType = UNSET
    dns_name: Name = ""
    vnic_type: Name = field(name="binding:vnic_type", default="normal")
    host_id: Name | UnsetType | None = field(name="binding:host_id", default=UNSET)
    profile: dict[str, Any] | UnsetType | None = field(name="binding:profile", default=UNSET)


class Update(resource.Base, kw_only=True):
    """PUT /ports/{id}."""

    name: Name | UnsetType = UNSET
    description: Words | UnsetType = UNSET
    admin_state_up: bool | UnsetType = UNSET
    mac_address: str | UnsetType = UNSET
    fixed_ips: list[FixedIp] | UnsetType | None = UNSET
    device_id: Name | UnsetType = UNSET
    device_owner: Name | UnsetType = UNSET
    security_groups: list[str] | UnsetType | None = UNSET
    allowed_address_pairs: list[Pair] | UnsetType | None = UNSET
    extra_dhcp_opts: list[DhcpOption] | UnsetType | None = UNSET
    port_security_enabled: bool | UnsetType = UNSET
    dns_name: Name | UnsetType = UNSET
    vnic_type: Name | UnsetType = field(name="binding:vnic_type", default=UNSET)
    host_id: Name | UnsetType | None = field(name="binding:host_id", default=UNSET)
    profile: dict[str, Any] | UnsetType | None = field(name="binding:profile", default=UNSET)


class Page(msgspec.Struct):
    """What hangs on a page of ports."""

    addresses: dict[str, list[addresses.Taken]]
    groups: dict[str, list[str]]
    hosts: dict[str, str]


def _target(row: Any) -> dict[str, Any]:
    return {
        "project_id": row.project_id,
        "tenant_id": row.project_id,
        "network:project_id": row.network_project_id,
        "network:shared": bool(row.network_shared),
        "device_owner": row.device_owner,
    }


def _load(tx: Tx, rows: Sequence[Any], view: View) -> Loaded:
    ids = [row.id for row in rows]
    names: dict[str, str] = {}
    if any(row.host_id for row in rows):
        names = {row.id: row.name for row in hosts.all_hosts(tx)}
    return {"page": Page(addresses.of_ports(tx, ids), actions.groups_of(tx, ids), names)}


def _render(row: Any, loaded: Loaded, view: View) -> Item:
    page: Page = loaded["page"]
    fixed = page.addresses.get(row.id, ())
    bound = row.host_id is not None
    item: Item = {
        "id": row.id,
        "name": row.name,
        "network_id": row.network_id,
        "admin_state_up": row.admin_state_up,
        "status": row.status,
        "mac_address": row.mac,
        "fixed_ips": [{"subnet_id": one.subnet_id, "ip_address": one.address} for one in fixed],
        "device_id": row.device_id,
        "device_owner": row.device_owner,
        "security_groups": sorted(page.groups.get(row.id, ())),
        "allowed_address_pairs": [{"mac_address": mac or row.mac, "ip_address": cidr} for cidr, mac in row.pairs or ()],
        "extra_dhcp_opts": row.dhcp_options or [],
        "port_security_enabled": row.port_security_enabled,
        "dns_name": row.dns_name,
        "dns_assignment": _assignment(row, fixed, view.cloud.settings.network.dns_domain),
        "binding:vnic_type": row.vnic_type,
        "binding:host_id": page.hosts.get(row.host_id, "") if bound else "",
        "binding:profile": row.profile or {},
        "binding:vif_type": "bridge" if bound else "unbound",
        "binding:vif_details": _details(row) if bound else {},
        **resource.standard(row),
    }
    if view.admin and row.taken_at is not None:
        item["nephos:address_taken"] = row.taken_address
        item["nephos:address_taken_at"] = clock.iso(row.taken_at)
    return item


def _details(row: Any) -> dict[str, Any]:
    return {"port_filter": row.port_security_enabled, "connectivity": "l2", "bridge_name": f"brq{row.network_id[:11]}"}


def _assignment(row: Any, fixed: Sequence[addresses.Taken], domain: str) -> list[dict[str, str]]:
    found = []
    for one in fixed:
        name = row.dns_name or addressing.default_hostname(one.address)
        full = name if name.endswith(".") else f"{name}.{domain}"
        found.append({"ip_address": one.address, "hostname": name.split(".")[0], "fqdn": full})
    return found


def _fixed(values: list[str], view: View) -> ColumnElement[bool]:
    """`ip_address=…`, `subnet_id=…`, `ip_address_substr=…`: those of a kind are alternatives, kinds must all hold."""
    kinds: dict[str, list[str]] = {}
    for value in values:
        kind, equals, wanted = value.partition("=")
        if not equals or kind not in ("ip_address", "subnet_id", "ip_address_substr"):
            raise problems.bad(f"Invalid filter for fixed_ips: {value!r}", "HTTPBadRequest")
        kinds.setdefault(kind, []).append(wanted)
    clauses = [address.c.port_id == port.c.id]
    if "ip_address" in kinds:
        clauses.append(address.c.address.in_([_plain(each) for each in kinds["ip_address"]]))
    if "subnet_id" in kinds:
        clauses.append(address.c.subnet_id.in_(kinds["subnet_id"]))
    if "ip_address_substr" in kinds:
        clauses.append(or_(*[address.c.address.contains(each, autoescape=True) for each in kinds["ip_address_substr"]]))
    return exists().where(and_(*clauses))


def _plain(text: str) -> str:
    try:
        return str(addressing.address("fixed_ips", text))
    except Exception:
        return text


def _groups(values: list[str], view: View) -> ColumnElement[bool]:
    return exists().where(port_group.c.port_id == port.c.id, port_group.c.group_id.in_(values))


def _host(values: list[str], view: View) -> ColumnElement[bool]:
    with view.cloud.database.read() as tx:
        ids = [row.id for row in hosts.all_hosts(tx) if row.name in values]
    return port.c.host_id.in_(ids) if "" not in values else or_(port.c.host_id.is_(None), port.c.host_id.in_(ids))


_c = port.c
NOUN = Noun(
    name="port",
    plural="ports",
    title="Port",
    table=port,
    select=select(
        port,
        network.c.project_id.label("network_project_id"),
        shared_with().label("network_shared"),
    ).join(network, network.c.id == port.c.network_id),
    scope=or_(port.c.project_id == resource.VIEWER, network.c.project_id == resource.VIEWER),
    render=_render,
    load=_load,
    target=_target,
    hidden=("binding:vif_type", "binding:vif_details", "binding:host_id", "binding:profile"),
    guarded=frozenset(
        {
            "device_id",
            "device_owner",
            "mac_address",
            "fixed_ips",
            "port_security_enabled",
            "binding:host_id",
            "binding:profile",
            "binding:vnic_type",
            "allowed_address_pairs",
        }
    ),
    filters={
        **resource.standard_filters(port),
        "network_id": resource.equals(_c.network_id),
        "admin_state_up": resource.flag(_c.admin_state_up),
        "status": resource.equals(_c.status),
        "mac_address": lambda values, _: _c.mac.in_([value.lower() for value in values]),
        "device_id": resource.equals(_c.device_id),
        "device_owner": resource.equals(_c.device_owner),
        "fixed_ips": _fixed,
        "security_groups": _groups,
        "port_security_enabled": resource.flag(_c.port_security_enabled),
        "dns_name": resource.equals(_c.dns_name),
        "binding:host_id": _host,
        "binding:vnic_type": resource.equals(_c.vnic_type),
    },
    sorts=resource.standard_sorts(
        port,
        network_id=_c.network_id,
        admin_state_up=_c.admin_state_up,
        status=_c.status,
        mac_address=_c.mac,
        device_id=_c.device_id,
        device_owner=_c.device_owner,
    ),
    read_only=frozenset(
        {
            "id",
            "status",
            "network_id",
            "created_at",
            "updated_at",
            "revision_number",
            "tags",
            "tenant_id",
            "project_id",
            "dns_assignment",
            "binding:vif_type",
            "binding:vif_details",
        }
    ),
)
