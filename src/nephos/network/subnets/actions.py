"""What subnets can do."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import bindparam, delete, select

from nephos.kernel import clock
from nephos.kernel.cloud import Cloud
from nephos.kernel.db.engine import Tx
from nephos.network import addressing, problems, resource, touch
from nephos.network.networks.store import network
from nephos.network.ports import dhcp
from nephos.network.ports import store as ports
from nephos.network.quotas import actions as quotas
from nephos.network.segments import actions as segments
from nephos.network.subnetpools import cutting
from nephos.network.subnets import addresses, plan
from nephos.network.subnets.store import address, subnet

_OWNER = re.compile(r"[a-z][a-z0-9_-]*:")
_by_id = select(subnet).where(subnet.c.id == bindparam("id"))
_users = (
    select(ports.port.c.id, ports.port.c.device_owner, address.c.address)
    .join(address, address.c.port_id == ports.port.c.id)
    .where(address.c.subnet_id == bindparam("subnet"), ports.port.c.device_owner != ports.DHCP)
)


class New(msgspec.Struct, frozen=True, kw_only=True):
    """A subnet to be made. `gateway` "" means the usual one, None none; `pools` None all but the gateway."""

    project_id: str
    network_id: str
    version: int
    cidr: str | None = None
    name: str = ""
    description: str = ""
    gateway: str | None = ""
    pools: tuple[tuple[str, str], ...] | None = None
    dhcp: bool = True
    dns: tuple[str, ...] = ()
    routes: tuple[tuple[str, str], ...] = ()
    ra_mode: str | None = None
    address_mode: str | None = None
    service_types: tuple[str, ...] = ()
    pool_id: str | None = None
    prefixlen: int | None = None
    segment_id: str | None = None


def get(tx: Tx, subnet_id: str) -> Any:
    """A subnet's row. Raises SubnetNotFound."""
    row = tx.first(_by_id, {"id": subnet_id})
    if row is None:
        raise problems.missing("Subnet", subnet_id)
    return row


def create(tx: Tx, cloud: Cloud, new: New) -> str:
    """Raises OverQuota, InvalidInput (a range that overlaps), and what `plan` and the subnet pool raise."""
    quotas.take(tx, cloud, new.project_id, "subnet")
    siblings = addresses.subnets_of(tx, new.network_id)
    segments.check_subnet(tx, new.network_id, new.segment_id, siblings)
    if new.pool_id is not None:
        range_ = cutting.cut(tx, new.pool_id, new.version, new.cidr, new.prefixlen, new.project_id)
    elif new.cidr is not None:
        range_ = addressing.network("cidr", new.cidr)
    else:
        raise problems.bad(
            "Bad subnets request: a subnetpool must be specified in the absence of a cidr.", "BadRequest"
        )
    if range_.version != new.version:
        raise problems.bad(
            f"Invalid input for operation: cidr '{range_}' does not match the ip_version '{new.version}'."
        )
    plan.check_range(range_, dhcp=new.dhcp)
    plan.check_modes(new.version, range_.prefixlen, dhcp=new.dhcp, ra=new.ra_mode, address=new.address_mode)
    _check_overlap(range_, siblings, new.network_id)
    _check_scope(tx, new, siblings)
    _check_mtu(tx, new)
    gateway = plan.gateway_of(range_, new.gateway, given=new.gateway != "")
    if new.pools is None:
        pools = plan.default_pools(range_, gateway)
    else:
        pools = plan.pools_of(range_, new.pools, None if new.gateway == "" else gateway)
        gateway = _unless_pooled(gateway, pools) if new.gateway == "" else gateway
    subnet_id = clock.uuid4()
    tx.insert(
        subnet,
        {
            "id": subnet_id,
            "network_id": new.network_id,
            "project_id": new.project_id,
            "name": new.name,
            "description": new.description,
            "version": new.version,
            "cidr": str(range_),
            "gateway": gateway,
            "pools": pools,
            "dhcp": new.dhcp,
            "dns": plan.nameservers(new.version, new.dns),
            "routes": plan.routes(new.version, new.routes),
            "ra_mode": new.ra_mode,
            "address_mode": new.address_mode,
            "service_types": _service_types(new.service_types),
            "pool_id": new.pool_id,
            "segment_id": new.segment_id,
            "next": 0,
            "tags": [],
            "revision": 1,
            "created_at": tx.now,
            "updated_at": tx.now,
        },
    )
    if new.address_mode in addresses.AUTO:
        _add_auto_addresses(tx, cloud, new.network_id, subnet_id)
    _changed(tx, cloud, new.network_id)
    return subnet_id


def update(tx: Tx, cloud: Cloud, row: Any, values: dict[str, Any]) -> None:
    """Set gateway, pools, dns, routes, dhcp, service_types, name and description. Raises as `create`, and
    GatewayIpInUse when a router has the present gateway's address."""
    range_ = ipaddress.ip_network(row.cidr)
    if "gateway" in values:
        values["gateway"] = plan.gateway_of(range_, values["gateway"], given=True)
        if values["gateway"] != row.gateway:
            _check_gateway_unused(tx, row)
    gateway = values.get("gateway", row.gateway)
    if "pools" in values:
        values["pools"] = plan.pools_of(range_, values["pools"], gateway)
        values["next"] = 0
    elif "gateway" in values:
        plan.check_gateway_free(gateway, row.pools)
    if "dns" in values:
        values["dns"] = plan.nameservers(row.version, values["dns"] or ())
    if "routes" in values:
        values["routes"] = plan.routes(row.version, values["routes"] or ())
    if "service_types" in values:
        values["service_types"] = _service_types(values["service_types"])
    if values.get("segment_id", row.segment_id) != row.segment_id:
        _check_segment(tx, row, values["segment_id"])
    if values.get("dhcp") and not row.dhcp:
        plan.check_range(range_, dhcp=True)
    if values.get("dhcp") is False:
        plan.check_modes(row.version, range_.prefixlen, dhcp=False, ra=row.ra_mode, address=row.address_mode)
    resource.revise(tx, subnet, row.id, values)
    _changed(tx, cloud, row.network_id)


def remove(tx: Tx, cloud: Cloud, row: Any) -> None:
    """Raises SubnetInUse naming the ports that have addresses of it; addresses that guests gave themselves go."""
    users = tx.all(_users, {"subnet": row.id})
    blocking = [
        each for each in users if not addresses.is_auto(row) or each.device_owner in (ports.ROUTER, ports.GATEWAY)
    ]
    if blocking:
        names = ", ".join(sorted({each.id for each in blocking})[:20])
        raise problems.refused(
            f"Unable to complete operation on subnet {row.id}: One or more ports have an IP allocation from this "
            "subnet: "
            f"{names}.",
            "SubnetInUse",
        )
    tx.execute(delete(address).where(address.c.subnet_id == row.id))
    tx.execute(delete(subnet).where(subnet.c.id == row.id))
    _changed(tx, cloud, row.network_id)


def _check_segment(tx: Tx, row: Any, segment_id: str | None) -> None:
    """Only the only subnet of a network with one segment may join it later, and none leaves (Neutron's rule)."""
    if row.segment_id is not None:
        raise problems.bad(
            "A subnet that is already associated with a segment cannot have its segment association changed.",
            "SubnetSegmentAssociationChangeNotAllowed",
        )
    if len(segments.of_networks(tx, [row.network_id]).get(row.network_id, ())) > 1:
        raise problems.bad(
            f"The network '{row.network_id}' has multiple segments, it is only possible to associate an existing "
            "subnet with a segment on networks with a single segment.",
            "NoUpdateSubnetWhenMultipleSegmentsOnNetwork",
        )
    others = [each for each in addresses.subnets_of(tx, row.network_id) if each.id != row.id]
    segments.check_subnet(tx, row.network_id, segment_id, others)


def _changed(tx: Tx, cloud: Cloud, network_id: str) -> None:
    resource.revise(tx, network, network_id)
    dhcp.ensure(tx, cloud, network_id)
    touch.networks(tx, cloud, [network_id])
    touch.routers_of_network(tx, cloud, network_id)


def _check_overlap(range_: addressing.IPNetwork, siblings: Sequence[Any], network_id: str) -> None:
    for row in siblings:
        if row.version == range_.version and ipaddress.ip_network(row.cidr).overlaps(range_):
            raise problems.bad(
                f"Invalid input for operation: Requested subnet with cidr: {range_} for network: {network_id} overlaps "
                f"with another subnet: {row.cidr} of subnet {row.id}."
            )


def _check_scope(tx: Tx, new: New, siblings: Sequence[Any]) -> None:
    """Subnets of one version on a network are of one address scope, or of none."""
    if not any(row.version == new.version for row in siblings):
        return
    pools = {row.pool_id for row in siblings if row.version == new.version}
    if pools == {new.pool_id}:
        return
    scopes = cutting.scopes_of(tx, {*pools, new.pool_id})
    if len({scopes.get(pool_id) for pool_id in (*pools, new.pool_id)}) > 1:
        raise problems.bad(
            "Subnets of the same address family hosted on the same network must all be allocated from subnet pools "
            "of the same address scope.",
            "NetworkAddressScopeAffinityError",
        )


def _check_mtu(tx: Tx, new: New) -> None:
    """Raises NetworkMTUSubnetConflict (409): RFC 791 and RFC 8200 say how narrow a link may be."""
    least = plan.LEAST_MTU[new.version]
    if (tx.scalar(select(network.c.mtu).where(network.c.id == new.network_id)) or least) < least:
        raise problems.refused(
            f"Cannot create an IPv{new.version} subnet in network {new.network_id}: its MTU is below {least}.",
            "NetworkMTUSubnetConflict",
        )


def _unless_pooled(gateway: str | None, pools: Sequence[Sequence[str]]) -> str | None:
    """The usual gateway, if the given pools leave it room. Raises GatewayConflictWithAllocationPools."""
    plan.check_gateway_free(gateway, pools)
    return gateway


def _service_types(wanted: Sequence[str]) -> list[str]:
    """Beginnings of ports' device owners, which clients make up as they like. Raises InvalidSubnetServiceType."""
    for each in wanted:
        if not isinstance(each, str) or len(each) > 255 or not _OWNER.match(each):
            raise problems.bad(
                f"Subnet service type {each!r} does not correspond to a valid device owner.", "InvalidSubnetServiceType"
            )
    return list(dict.fromkeys(wanted))


def _check_gateway_unused(tx: Tx, row: Any) -> None:
    user = tx.first(
        _users.where(ports.port.c.device_owner == ports.ROUTER, address.c.address == row.gateway), {"subnet": row.id}
    )
    if user is not None and row.gateway is not None:
        raise problems.refused(
            f"Current gateway ip {row.gateway} already in use by port {user.id}. Unable to update.", "GatewayIpInUse"
        )


def _add_auto_addresses(tx: Tx, cloud: Cloud, network_id: str, subnet_id: str) -> None:
    """Guests that are there already give themselves addresses of the new subnet too."""
    row = get(tx, subnet_id)
    others = (ports.ROUTER, ports.GATEWAY, ports.FLOATING, ports.DHCP)
    found = tx.all(
        select(ports.port.c.id, ports.port.c.mac, ports.port.c.device_owner, ports.port.c.host_id).where(
            ports.port.c.network_id == network_id, ports.port.c.device_owner.not_in(others)
        )
    )
    for each in found:
        addresses.take(
            tx,
            port_id=each.id,
            network_id=network_id,
            owner=each.device_owner,
            mac=each.mac,
            wanted=(),
            subnets=[row],
            place=99,
        )
        touch.ports(tx, cloud, each.host_id, [each.id])
