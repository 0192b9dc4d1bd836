"""What networks can do."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from sqlalchemy import bindparam, delete, func, select

from nephos.kernel import clock
from nephos.kernel.cloud import Cloud
from nephos.kernel.db.engine import Tx
from nephos.network import problems, resource, touch
from nephos.network.networks.store import EXTERNAL, SHARED, network, rbac
from nephos.network.ports import store as ports
from nephos.network.quotas import actions as quotas
from nephos.network.routers.store import router
from nephos.network.subnets.store import address, subnet

LOCAL, FLAT, VXLAN = "local", "flat", "vxlan"
KINDS = (LOCAL, FLAT, VXLAN)
_VXLAN_BYTES = 50
_TRIES = 16
_by_id = select(network).where(network.c.id == bindparam("id"))
_keys = select(network.c.segment_key).where(network.c.segment_key.in_(bindparam("keys", expanding=True)))
_ports = select(ports.port.c.id, ports.port.c.device_owner).where(ports.port.c.network_id == bindparam("network"))


class Segment(msgspec.Struct, frozen=True, kw_only=True):
    """What carries a network; None leaves the choice to the cloud."""

    kind: str | None = None
    physical: str | None = None
    number: int | None = None


class New(msgspec.Struct, frozen=True, kw_only=True):
    """A network to be made."""

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
    zone_hints: tuple[str, ...] = ()
    segment: Segment = Segment()


def get(tx: Tx, network_id: str) -> Any:
    """A network's row. Raises NetworkNotFound."""
    row = tx.first(_by_id, {"id": network_id})
    if row is None:
        raise problems.missing("Network", network_id)
    return row


def create(tx: Tx, cloud: Cloud, new: New) -> str:
    """Raises OverQuota, InvalidInput, and Conflict when the segment is taken."""
    quotas.take(tx, cloud, new.project_id, "network")
    _check_zones(tx, cloud, new.zone_hints)
    kind = new.segment.kind or cloud.settings.network.tenant_type
    physical, number, key = _segment(tx, cloud, kind, new.segment)
    mtu = _mtu(cloud, kind, new.mtu)
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
            "kind": kind,
            "physical": physical,
            "segment": number,
            "segment_key": key,
            "mtu": mtu,
            "port_security_enabled": new.port_security_enabled,
            "external": new.external,
            "is_default": new.is_default,
            "dns_domain": new.dns_domain,
            "zone_hints": list(new.zone_hints),
            "tags": [],
            "revision": 1,
            "created_at": tx.now,
            "updated_at": tx.now,
        },
    )
    if new.shared:
        share(tx, network_id, new.project_id, SHARED, "*")
    if new.external:
        share(tx, network_id, new.project_id, EXTERNAL, "*")
    return network_id


def share(tx: Tx, network_id: str, project_id: str, action: str, target: str) -> str:
    """Add a policy that shares a network; answers the policy's id."""
    policy_id = clock.uuid4()
    tx.insert(
        rbac,
        {
            "id": policy_id,
            "project_id": project_id,
            "object_type": "network",
            "object_id": network_id,
            "action": action,
            "target": target,
            "revision": 1,
            "created_at": tx.now,
            "updated_at": tx.now,
        },
    )
    return policy_id


def update(tx: Tx, cloud: Cloud, row: Any, values: dict[str, Any]) -> None:
    """Set columns, and `shared` and `external`, which are policies too."""
    shared = values.pop("shared", None)
    if shared is not None:
        _set_shared(tx, row, shared)
    if "external" in values and values["external"] != row.external:
        _set_external(tx, row, values["external"])
    if values.get("mtu") is not None:
        values["mtu"] = _mtu(cloud, row.kind, values["mtu"])
    if values.get("is_default"):
        _only_default(tx, row.id)
    resource.revise(tx, network, row.id, values)
    if {"mtu", "dns_domain", "external"} & values.keys():
        touch.networks(tx, cloud, [row.id])


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
        share(tx, row.id, row.project_id, SHARED, "*")
    elif not shared and policy is not None:
        check_unshared(tx, row, policy.id)
        tx.execute(delete(rbac).where(rbac.c.id == policy.id))


def _set_external(tx: Tx, row: Any, external: bool) -> None:
    if external:
        known = tx.first(select(rbac.c.id).where(rbac.c.object_id == row.id, rbac.c.action == EXTERNAL))
        if known is None:
            share(tx, row.id, row.project_id, EXTERNAL, "*")
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


def _mtu(cloud: Cloud, kind: str, wanted: int | None) -> int:
    """The network's MTU; 0 and None mean the most that its type carries."""
    most = cloud.settings.network.mtu - (_VXLAN_BYTES if kind == VXLAN else 0)
    if not wanted:
        return most
    if wanted > most:
        raise problems.bad(f"Invalid input for operation: Requested MTU is too big, maximum is {most}.")
    if wanted < 68:
        raise problems.bad("Invalid input for operation: Requested MTU is too small, minimum is 68 (RFC 791).")
    return wanted


def _segment(tx: Tx, cloud: Cloud, kind: str, wanted: Segment) -> tuple[str | None, int | None, str | None]:
    """(physical network, number, what must be unique) of a network's segment."""
    words = "Invalid input for operation: "
    if kind not in KINDS:
        raise problems.bad(f"{words}network_type value '{kind}' not supported: it is one of {', '.join(KINDS)}.")
    if kind == LOCAL:
        if wanted.physical or wanted.number is not None:
            raise problems.bad(f"{words}a local network has neither provider:physical_network nor segmentation_id.")
        return None, None, None
    if kind == FLAT:
        if not wanted.physical:
            raise problems.bad(f"{words}physical_network required for flat provider network.")
        if wanted.number is not None:
            raise problems.bad(f"{words}segmentation_id prohibited for flat provider network.")
        key = f"flat:{wanted.physical}"
        if tx.first(_keys, {"keys": [key]}) is not None:
            raise problems.refused(
                f"Unable to create the flat network. Physical network {wanted.physical} is in use.", "FlatNetworkInUse"
            )
        return wanted.physical, None, key
    if wanted.physical:
        raise problems.bad(f"{words}provider:physical_network specified for vxlan network.")
    if wanted.number is not None:
        if not 1 <= wanted.number < 1 << 24:
            raise problems.bad(f"{words}segmentation_id {wanted.number} is out of range (1 through {(1 << 24) - 1}).")
        if tx.first(_keys, {"keys": [f"vxlan:{wanted.number}"]}) is not None:
            raise problems.refused(
                f"Unable to create the network. The tunnel ID {wanted.number} is in use.", "TunnelIdInUse"
            )
        return None, wanted.number, f"vxlan:{wanted.number}"
    number = _free_vni(tx, cloud)
    return None, number, f"vxlan:{number}"


def _free_vni(tx: Tx, cloud: Cloud) -> int:
    ranges = cloud.settings.network
    count = ranges.vni_max - ranges.vni_min + 1
    for candidates in _candidates(count):
        by_key = {f"vxlan:{ranges.vni_min + each}": ranges.vni_min + each for each in candidates}
        taken = set(tx.column(_keys, {"keys": list(by_key)}))
        free = [number for key, number in by_key.items() if key not in taken]
        if free:
            return free[0]
    raise problems.refused(
        "Unable to create the network. No tenant network is available for allocation.", "NoNetworkAvailable"
    )


def _candidates(count: int) -> Iterable[list[int]]:
    """A few at random, then all in order."""
    yield [clock.pick(count) for _ in range(_TRIES)]
    for start in range(0, count, 500):
        yield list(range(start, min(start + 500, count)))


def _check_zones(tx: Tx, cloud: Cloud, hints: Iterable[str]) -> None:
    known = touch.zones(tx, cloud)
    for hint in hints:
        if hint not in known:
            raise problems.missing("AvailabilityZone", hint)
