"""What networks can do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from sqlalchemy import bindparam, delete, func, select

from nephos.kernel import clock
from nephos.kernel.cloud import Cloud
from nephos.kernel.db.engine import Tx
from nephos.network import problems, resource, touch
from nephos.network.networks.store import EXTERNAL, SHARED, network, rbac
from nephos.network.paths import actions as paths
from nephos.network.ports import store as ports
from nephos.network.quotas import actions as quotas
from nephos.network.routers.store import router
from nephos.network.segments import actions as segments
from nephos.network.segments import types
from nephos.network.segments.types import Segment
from nephos.network.sharing.grants import share
from nephos.network.subnets.plan import LEAST_MTU
from nephos.network.subnets.store import address, subnet

_by_id = select(network).where(network.c.id == bindparam("id"))
_ports = select(ports.port.c.id, ports.port.c.device_owner).where(ports.port.c.network_id == bindparam("network"))


class New(msgspec.Struct, frozen=True, kw_only=True):
    """A network to be made; without `segments`, of the type that tenants' networks are of."""

    project_id: str
    name: str = ""
    description: str = ""
    admin_state_up: bool = True
    shared: bool = False
    external: bool = False
    is_default: bool = False
    mtu: int | None = None
    port_security_enabled: bool = True
    dns_domain: str = ""
    qos_policy_id: str | None = None
    zone_hints: tuple[str, ...] = ()
    segments: tuple[Segment, ...] = ()


def get(tx: Tx, network_id: str) -> Any:
    """A network's row. Raises NetworkNotFound."""
    row = tx.first(_by_id, {"id": network_id})
    if row is None:
        raise problems.missing("Network", network_id)
    return row


def create(tx: Tx, cloud: Cloud, new: New) -> str:
    """Raises OverQuota, InvalidInput, and Conflict when a segment is taken or none is left."""
    quotas.take(tx, cloud, new.project_id, "network")
    _check_zones(tx, cloud, new.zone_hints)
    wanted = new.segments or (_usual(tx, cloud, external=new.external),)
    reserved = [segments.reserve(tx, cloud, each, new.project_id) for each in wanted]
    mtu = _mtu(tx, cloud, [each.kind for each in reserved], new.mtu)
    network_id = clock.uuid4()
    if new.is_default:
        _only_default(tx, network_id)
    tx.insert(
        network,
        {
            "id": network_id,
            "project_id": new.project_id,
            "name": new.name,
            "description": new.description,
            "admin_state_up": new.admin_state_up,
            "kind": reserved[0].kind,
            "physical": reserved[0].physical,
            "segment": reserved[0].number,
            "segment_key": reserved[0].key,
            "multi": len(reserved) > 1,
            "mtu": mtu,
            "port_security_enabled": new.port_security_enabled,
            "external": new.external,
            "is_default": new.is_default,
            "dns_domain": new.dns_domain,
            "qos_policy_id": new.qos_policy_id,
            "zone_hints": list(new.zone_hints),
            "tags": [],
            "revision": 1,
            "created_at": tx.now,
            "updated_at": tx.now,
        },
    )
    for position, each in enumerate(reserved):
        segments.add(tx, network_id, each, position)
    if new.shared:
        share(tx, "network", network_id, new.project_id, SHARED, "*")
    if new.external:
        share(tx, "network", network_id, new.project_id, EXTERNAL, "*")
    return network_id


def update(tx: Tx, cloud: Cloud, row: Any, values: dict[str, Any]) -> None:
    """Set columns, and `shared` and `external`, which are policies too."""
    shared = values.pop("shared", None)
    if shared is not None:
        _set_shared(tx, row, shared)
    if "external" in values and values["external"] != row.external:
        _set_external(tx, row, values["external"])
    if values.get("mtu") is not None:
        found = segments.of_networks(tx, [row.id]).get(row.id, [row])
        values["mtu"] = _mtu(tx, cloud, [each.kind for each in found], values["mtu"])
        _check_subnets_fit(tx, row.id, values["mtu"])
    if values.get("is_default"):
        _only_default(tx, row.id)
    resource.revise(tx, network, row.id, values)
    if {"mtu", "dns_domain", "external"} & values.keys():
        touch.networks(tx, cloud, [row.id])
    if values.get("qos_policy_id", row.qos_policy_id) != row.qos_policy_id:
        touch.ports_of_network(tx, cloud, row.id)
        touch.routers_of_network(tx, cloud, row.id)


def delete_network(tx: Tx, cloud: Cloud, row: Any) -> None:
    """With its subnets and the DHCP port. Raises NetworkInUse naming the ports that are in the way."""
    found = tx.all(_ports, {"network": row.id})
    others = [each.id for each in found if each.device_owner != ports.DHCP]
    if others:
        raise problems.refused(
            f"Unable to complete operation on network {row.id}. There are one or more ports still in use on the "
            f"network, id for these ports is {','.join(sorted(others)[:50])}.",
            "NetworkInUse",
        )
    touch.networks(tx, cloud, [row.id])
    inner = select(subnet.c.id).where(subnet.c.network_id == row.id)
    tx.execute(delete(address).where(address.c.subnet_id.in_(inner)))
    tx.execute(delete(ports.port).where(ports.port.c.network_id == row.id))
    tx.execute(delete(subnet).where(subnet.c.network_id == row.id))
    segments.remove_all(tx, row.id)
    tx.execute(delete(rbac).where(rbac.c.object_id == row.id))
    tx.execute(delete(network).where(network.c.id == row.id))


def check_unshared(tx: Tx, row: Any, without: str) -> None:
    """Raises InvalidSharedSetting when somebody uses the network whom only the policy `without` lets in."""
    kept = tx.column(
        select(rbac.c.target).where(rbac.c.object_id == row.id, rbac.c.action == SHARED, rbac.c.id != without)
    )
    if "*" in kept:
        return
    users = select(ports.port.c.project_id).where(
        ports.port.c.network_id == row.id,
        ports.port.c.project_id.not_in([row.project_id, "", *kept]),
        ports.port.c.device_owner.not_in([ports.DHCP, ports.GATEWAY, ports.FLOATING]),
    )
    if tx.first(users.limit(1)) is not None:
        raise problems.refused(
            f"Unable to reconfigure sharing settings for network {row.id}. Multiple tenants are using it.",
            "InvalidSharedSetting",
        )


def _set_shared(tx: Tx, row: Any, shared: bool) -> None:
    policy = tx.first(
        select(rbac.c.id).where(rbac.c.object_id == row.id, rbac.c.action == SHARED, rbac.c.target == "*")
    )
    if shared and policy is None:
        share(tx, "network", row.id, row.project_id, SHARED, "*")
    elif not shared and policy is not None:
        check_unshared(tx, row, policy.id)
        tx.execute(delete(rbac).where(rbac.c.id == policy.id))


def _set_external(tx: Tx, row: Any, external: bool) -> None:
    if external:
        known = tx.first(select(rbac.c.id).where(rbac.c.object_id == row.id, rbac.c.action == EXTERNAL))
        if known is None:
            share(tx, "network", row.id, row.project_id, EXTERNAL, "*")
        return
    legs = select(func.count()).where(
        ports.port.c.network_id == row.id, ports.port.c.device_owner.in_([ports.GATEWAY, ports.FLOATING])
    )
    gateways = select(func.count()).where(router.c.gateway_network_id == row.id)
    if tx.scalar(legs) or tx.scalar(gateways):
        raise problems.refused(
            f"External network {row.id} cannot be updated to be made non-external, since it has existing gateway "
            "ports.",
            "ExternalNetworkInUse",
        )
    tx.execute(delete(rbac).where(rbac.c.object_id == row.id, rbac.c.action == EXTERNAL))


def _only_default(tx: Tx, network_id: str) -> None:
    other = tx.first(select(network.c.id).where(network.c.is_default.is_(True), network.c.id != network_id))
    if other is not None:
        raise problems.refused(
            f"A default external network already exists: {other.id}.", "DefaultExternalNetworkExists"
        )


def _usual(tx: Tx, cloud: Cloud, *, external: bool) -> Segment:
    """What carries a network of which nobody says it: the physical network that leads outside where that is free and
    some host has it, for an external one; else what tenants' networks are of."""
    outside = Segment(kind=types.FLAT, physical=cloud.settings.network.external or None)
    if external and outside.physical is not None and segments.is_free(tx, outside):
        return outside
    return Segment(kind=cloud.settings.network.tenant_type)


def _mtu(tx: Tx, cloud: Cloud, kinds: Sequence[str], wanted: int | None) -> int:
    """The network's MTU; 0 and None mean the most that all its types carry, and that the hosts found to pass (S0-32)."""
    ranges = cloud.settings.network
    most = min(types.most_mtu(kind, ranges.mtu, ranges.tunnel_ip) for kind in kinds)
    if not wanted:
        tunnels = [kind for kind in kinds if types.TYPES[kind].overhead]
        measured = paths.narrowest(tx) if tunnels else None
        if measured is None:
            return most
        return min(most, *(types.most_mtu(kind, measured, ranges.tunnel_ip) for kind in tunnels))
    if wanted > most:
        raise problems.bad(f"Invalid input for operation: Requested MTU is too big, maximum is {most}.")
    return wanted


def _check_subnets_fit(tx: Tx, network_id: str, mtu: int) -> None:
    """Raises NetworkMTUSubnetConflict (409) for subnets that are there and need more."""
    for version in tx.column(select(subnet.c.version).where(subnet.c.network_id == network_id).distinct()):
        if mtu < LEAST_MTU[version]:
            raise problems.refused(
                f"Cannot use an MTU of {mtu} for network {network_id}: its IPv{version} subnets need "
                f"{LEAST_MTU[version]}.",
                "NetworkMTUSubnetConflict",
            )


def _check_zones(tx: Tx, cloud: Cloud, hints: Iterable[str]) -> None:
    known = touch.zones(tx, cloud)
    for hint in hints:
        if hint not in known:
            raise problems.missing("AvailabilityZone", hint)
