"""Ports as the API shows and takes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType, field
from sqlalchemy import ColumnElement, and_, exists, or_, select

from nephos.hosts import actions as hosts
from nephos.kernel import clock
from nephos.kernel.db.engine import Tx
from nephos.network import addressing, problems, resource
from nephos.network.networks.store import network
from nephos.network.ports import actions
from nephos.network.ports.store import COMPUTE, port, port_group
from nephos.network.qos import actions as qos
from nephos.network.qos import needs
from nephos.network.qos.needs import Need
from nephos.network.resource import Item, Loaded, Noun, View
from nephos.network.sharing import scope
from nephos.network.subnets import addresses
from nephos.network.subnets.store import address
from nephos.network.trunks import actions as trunks
from nephos.network.trunks.store import in_trunk

Name = Annotated[str, Meta(max_length=255)]
Words = Annotated[str, Meta(max_length=255)]


Affinity = Literal["required", "preferred", "legacy", "socket"]
Tags = Annotated[list[Annotated[str, Meta(min_length=1, max_length=255)]], Meta(max_length=50)]


class Steering(resource.Base, kw_only=True):
    """other_config of an Open vSwitch interface."""

    steering: Literal["thread", "hash"] = field(name="tx-steering")


class SwitchHint(resource.Base, kw_only=True):
    """What Open vSwitch is hinted."""

    other_config: Steering


class Hints(resource.Base, kw_only=True):
    """Hints for a switch (extension port-hints)."""

    openvswitch: SwitchHint


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
    qos_policy_id: str | UnsetType | None = UNSET
    tags: Tags | UnsetType = UNSET
    dns_domain: Words | UnsetType = UNSET
    propagate_uplink_status: bool | UnsetType = UNSET
    numa_affinity_policy: Affinity | UnsetType | None = UNSET
    hints: Hints | UnsetType | None = UNSET
    trusted: bool | UnsetType | None = UNSET


class Update(resource.Base, kw_only=True):
    """PUT /ports/{id}."""

    name: Name | UnsetType = UNSET
    description: Words | UnsetType = UNSET
    admin_state_up: bool | UnsetType = UNSET
    mac_address: str | UnsetType | None = UNSET
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
    qos_policy_id: str | UnsetType | None = UNSET
    dns_domain: Words | UnsetType = UNSET
    propagate_uplink_status: bool | UnsetType = UNSET
    numa_affinity_policy: Affinity | UnsetType | None = UNSET
    hints: Hints | UnsetType | None = UNSET
    trusted: bool | UnsetType | None = UNSET
    data_plane_status: Literal["ACTIVE", "DOWN"] | UnsetType | None = UNSET


EXTRAS = (
    "dns_domain",
    "propagate_uplink_status",
    "numa_affinity_policy",
    "hints",
    "trusted",
    "data_plane_status",
)
"""Attributes that are kept as they were set and change nothing on a host."""


class Page(msgspec.Struct):
    """What hangs on a page of ports."""

    addresses: dict[str, list[addresses.Taken]]
    groups: dict[str, list[str]]
    hosts: dict[str, str]
    trunks: dict[str, tuple[str, list[Any]]]
    limits: dict[str, list[Any]]


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
    stacked = [row.id for row in rows if row.in_trunk]
    names: dict[str, str] = {}
    if any(row.host_id for row in rows):
        names = {row.id: row.name for row in hosts.all_hosts(tx)}
    policies = {row.qos_policy_id or row.network_policy_id for row in rows} - {None}
    limits = qos.rules_of(tx, policies) if policies and view.admin else {}
    page = Page(
        addresses.of_ports(tx, ids),
        actions.groups_of(tx, ids),
        names,
        trunks.of_parents(tx, stacked) if stacked else {},
        limits,
    )
    return {"page": page}


def _render(row: Any, loaded: Loaded, view: View) -> Item:
    page: Page = loaded["page"]
    fixed = page.addresses.get(row.id, ())
    bound = row.host_id is not None
    rules = page.limits.get(row.qos_policy_id or row.network_policy_id, ())
    groups = needs.of_port(row.id, row.vnic_type, row.network_physical, rules)
    taken = needs.of_port(row.id, row.vnic_type, row.network_physical, needs.counted(row, rules))
    item: Item = {
        "id": row.id,
        "name": row.name,
        "network_id": row.network_id,
        "admin_state_up": row.admin_state_up,
        "status": row.status,
        "mac_address": row.mac,
        "fixed_ips": [{"subnet_id": one.subnet_id, "ip_address": one.address} for one in fixed],
        "ip_allocation": "deferred" if row.deferred else "immediate" if fixed else "none",
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
        "binding:profile": {**(row.profile or {}), **_allocation(row, taken)},
        "binding:vif_type": ("binding_failed" if row.wiring_error else "bridge") if bound else "unbound",
        "binding:vif_details": vif_details(row) if bound else {},
        "qos_policy_id": row.qos_policy_id,
        "qos_network_policy_id": row.network_policy_id,
        "resource_request": _request(groups),
        **_extras(row.extras or {}),
        **resource.standard(row),
    }
    if row.id in page.trunks:
        trunk_id, behind = page.trunks[row.id]
        item["trunk_details"] = {
            "trunk_id": trunk_id,
            "sub_ports": [
                {
                    "port_id": each.port_id,
                    "segmentation_type": each.kind,
                    "segmentation_id": each.number,
                    "mac_address": each.mac,
                }
                for each in behind
            ],
        }
    if view.admin and row.taken_at is not None:
        item["nephos:address_taken"] = row.taken_address
        item["nephos:address_taken_at"] = clock.iso(row.taken_at)
    if view.admin:
        item |= _seen_there(row)
    return item


def _seen_there(row: Any) -> Item:
    """What a port's host told of it, for operators."""
    item: Item = {}
    if row.learned:
        item["nephos:learned_addresses"] = [{"mac_address": mac, "ip_address": address} for mac, address in row.learned]
    if row.rogue:
        item["nephos:blocked_servers"] = [
            {"what": what, "mac_address": mac, "ip_address": address, "frames": frames}
            for what, mac, address, frames in row.rogue
        ]
        item["nephos:blocked_servers_at"] = clock.iso(row.rogue_at)
    if row.wiring_error:
        item["nephos:wiring_error"] = row.wiring_error
    return item


def _extras(given: dict[str, Any]) -> Item:
    return {
        "dns_domain": given.get("dns_domain", ""),
        "propagate_uplink_status": given.get("propagate_uplink_status", True),
        "numa_affinity_policy": given.get("numa_affinity_policy"),
        "hints": given.get("hints"),
        "trusted": given.get("trusted"),
        "data_plane_status": given.get("data_plane_status"),
    }


def _request(found: Sequence[Need]) -> Item | None:
    """What a scheduler has to find for the port's minimum rules (extension port-resource-request-groups)."""
    if not found:
        return None
    groups = [{"id": each.id, "required": list(each.required), "resources": each.resources} for each in found]
    return {"request_groups": groups, "same_subtree": [each.id for each in found]}


def _allocation(row: Any, found: Sequence[Need]) -> Item:
    """Which resource provider gives each group to the port of a server on a host, where Nova tells it (2.72)."""
    if not found or row.host_id is None or not row.device_owner.startswith(COMPUTE):
        return {}
    return {"allocation": {each.id: needs.provider_id(row.host_id, each.provider) for each in found}}


def vif_details(row: Any) -> dict[str, Any]:
    """binding:vif_details of a port on a Linux bridge."""
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
    there = port.c.host_id.in_(hosts.named(values))
    return there if "" not in values else or_(port.c.host_id.is_(None), there)


_c = port.c
NOUN = Noun(
    name="port",
    plural="ports",
    title="Port",
    table=port,
    select=select(
        port,
        network.c.project_id.label("network_project_id"),
        network.c.qos_policy_id.label("network_policy_id"),
        network.c.physical.label("network_physical"),
        in_trunk(port.c.id).label("in_trunk"),
        scope.shared_with(network.c.id).label("network_shared"),
    ).join(network, network.c.id == port.c.network_id),
    scope=or_(port.c.project_id == resource.VIEWER, network.c.project_id == resource.VIEWER),
    render=_render,
    load=_load,
    target=_target,
    hidden=(
        "binding:vif_type",
        "binding:vif_details",
        "binding:host_id",
        "binding:profile",
        "resource_request",
        "hints",
        "trusted",
    ),
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
            "hints",
            "trusted",
            "data_plane_status",
            "tags",
        }
    ),
    columns={
        "network_id": _c.network_id,
        "admin_state_up": _c.admin_state_up,
        "status": _c.status,
        "device_id": _c.device_id,
        "device_owner": _c.device_owner,
    },
    filters={
        "mac_address": lambda values, _: _c.mac.in_([value.lower() for value in values]),
        "fixed_ips": _fixed,
        "security_groups": _groups,
        "port_security_enabled": _c.port_security_enabled,
        "dns_name": _c.dns_name,
        "qos_policy_id": _c.qos_policy_id,
        "qos_network_policy_id": network.c.qos_policy_id,
        "binding:host_id": _host,
        "binding:vnic_type": _c.vnic_type,
    },
    orders={"mac_address": _c.mac},
    read_only=frozenset({"binding:vif_details", "binding:vif_type", "dns_assignment", "resource_request", "trunk_details"}),
)
