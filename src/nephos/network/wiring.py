"""What hosts are told: the desired networks, ports and groups, built from the ledger in batches.

Each provider answers for one host, for some ids or (None) for everything the host should have. The order within an
item never depends on the order in which it was asked for: hosts compare digests.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import BindParameter, bindparam, exists, select

from nephos.hosts import store as hosts
from nephos.kernel.db.engine import Tx
from nephos.network.addressgroups.store import address_group
from nephos.network.agents import actions as agents
from nephos.network.groups import protocols
from nephos.network.groups.store import group, rule
from nephos.network.localips import actions as localips
from nephos.network.localips.store import TRANSLATE, association
from nephos.network.networks.store import network
from nephos.network.paths import actions as paths
from nephos.network.ports.store import DHCP, port, port_group
from nephos.network.qos import actions as qos
from nephos.network.routers import edges
from nephos.network.routers.store import router_host, standby_networks
from nephos.network.segments import actions as segments
from nephos.network.segments.types import TUNNELS, VXLAN
from nephos.network.subnets.plan import LEAST_MTU
from nephos.network.subnets.store import address, subnet
from nephos.network.trunks.store import subport, trunk
from nephos.wiring import base

_in: BindParameter[Any] = bindparam("ids", expanding=True)
_carried = select(port.c.network_id).where(port.c.host_id == bindparam("host")).distinct()
_standing_by = (
    standby_networks.with_only_columns(port.c.network_id).where(router_host.c.host_id == bindparam("host")).distinct()
)
_stand_by = (
    standby_networks.add_columns(hosts.host.c.tunnel_address, hosts.host.c.physical)
    .join(hosts.host, hosts.host.c.id == router_host.c.host_id)
    .where(port.c.network_id.in_(_in))
)
"""(network, host, its tunnel address and physical networks) of hosts that may at any moment speak for a router."""
_own = select(hosts.host.c.id, hosts.host.c.tunnel_address, hosts.host.c.physical, hosts.host.c.tunnel_fallback).where(
    hosts.host.c.id == bindparam("host")
)
_networks = select(network).where(network.c.id.in_(_in))
_subnets = select(subnet).where(subnet.c.network_id.in_(_in)).order_by(subnet.c.id)
_bound = (
    select(
        port.c.id,
        port.c.network_id,
        port.c.mac,
        port.c.device_owner,
        port.c.host_id,
        port.c.dns_name,
        port.c.dhcp_options,
        port.c.admin_state_up,
        hosts.host.c.tunnel_address,
        hosts.host.c.physical,
    )
    .outerjoin(hosts.host, hosts.host.c.id == port.c.host_id)
    .where(port.c.network_id.in_(_in), (port.c.host_id.is_not(None)) | (port.c.device_owner == DHCP))
    .order_by(port.c.id)
)
_addresses = (
    select(address.c.port_id, address.c.address, address.c.subnet_id, subnet.c.cidr)
    .join(subnet, subnet.c.id == address.c.subnet_id)
    .where(address.c.port_id.in_(_in))
    .order_by(address.c.port_id, address.c.place, address.c.address)
)
_network_addresses = (
    select(address.c.port_id, address.c.address, address.c.subnet_id, subnet.c.cidr)
    .join(subnet, subnet.c.id == address.c.subnet_id)
    .where(subnet.c.network_id.in_(_in))
    .order_by(address.c.port_id, address.c.place, address.c.address)
)
_guest_ports = (
    select(
        port,
        network.c.qos_policy_id.label("network_policy_id"),
        trunk.c.port_id.label("trunk_port_id"),
        trunk.c.admin_state_up.label("trunk_up"),
        subport.c.number.label("tag"),
        exists().where(association.c.id == port.c.id).label("led_to"),
    )
    .join(network, network.c.id == port.c.network_id)
    .outerjoin(subport, subport.c.port_id == port.c.id)
    .outerjoin(trunk, trunk.c.id == subport.c.trunk_id)
    .where(port.c.host_id == bindparam("host"), port.c.host_index.is_not(None))
)
_port_groups = (
    select(port_group.c.port_id, port_group.c.group_id)
    .where(port_group.c.port_id.in_(_in))
    .order_by(port_group.c.group_id)
)
_host_groups = (
    select(port_group.c.group_id)
    .join(port, port.c.id == port_group.c.port_id)
    .where(port.c.host_id == bindparam("host"), port.c.host_index.is_not(None))
    .distinct()
)
_groups = select(group).where(group.c.id.in_(_in))
_rules = select(rule).where(rule.c.group_id.in_(_in)).order_by(rule.c.id)
_remote_ids = select(rule.c.remote_group_id, rule.c.remote_address_group_id).where(rule.c.group_id.in_(_in)).distinct()
_address_groups = select(address_group).where(address_group.c.id.in_(_in))
_members = (
    select(port_group.c.group_id, address.c.address)
    .join(port, port.c.id == port_group.c.port_id)
    .join(address, address.c.port_id == port.c.id)
    .where(port_group.c.group_id.in_(_in), port.c.host_id.is_not(None))
)
_member_pairs = (
    select(port_group.c.group_id, port.c.pairs)
    .join(port, port.c.id == port_group.c.port_id)
    .where(port_group.c.group_id.in_(_in), port.c.host_id.is_not(None), port.c.pairs != [])
)


def networks(tx: Tx, host_id: str, ids: Sequence[str] | None) -> Mapping[str, base.Network]:
    """The networks that a host carries, each with all its subnets and endpoints: at most ten queries."""
    carried = set(tx.column(_carried, {"host": host_id})) | set(tx.column(_standing_by, {"host": host_id}))
    carried |= edges.networks(tx, host_id)
    wanted = sorted(carried if ids is None else carried & set(ids))
    if not wanted:
        return {}
    silent = agents.silent(tx, host_id)
    own = tx.first(_own, {"host": host_id})
    detours = paths.detours(tx, own)
    # many hosts are told of one network at once: what is the same for all of them is read and made once
    ends = tx.once((networks, *wanted), lambda: _ends(tx, wanted))
    return {each.row.id: _network(each, own, detours, each.row.id in silent) for each in ends}


class _Ends(NamedTuple):
    """A network as the ledger has it, for whichever host; `near` and `far` are `ports`' endpoints, without and with a tunnel."""

    row: Any
    several: Sequence[Any] | None
    subnets: Sequence[Any]
    dhcp: Sequence[Any]
    dhcp_addresses: Mapping[str, Sequence[Any]]
    ports: Sequence[Any]
    near: Sequence[base.Endpoint]
    far: Sequence[base.Endpoint]
    standing_by: Sequence[Any]


def _ends(tx: Tx, wanted: Sequence[str]) -> list[_Ends]:
    rows = tx.all(_networks, {"ids": wanted})
    several = segments.of_networks(tx, [row.id for row in rows if row.multi]) if any(row.multi for row in rows) else {}
    subnets = _by(tx.all(_subnets, {"ids": wanted}), "network_id")
    ports = _by(tx.all(_bound, {"ids": wanted}), "network_id")
    addresses = _by(tx.all(_network_addresses, {"ids": wanted}), "port_id")
    standing_by = _by(tx.all(_stand_by, {"ids": wanted}), "network_id")
    found = []
    for row in rows:
        all_ports = ports.get(row.id, ())
        dhcp = [each for each in all_ports if each.device_owner == DHCP]
        others = [each for each in all_ports if each.device_owner != DHCP]
        near = [
            base.Endpoint(
                port_id=each.id,
                mac=each.mac,
                addresses=_wired(addresses.get(each.id, ())),
                hostname=each.dns_name or None,
                dhcp_options=_options(each.dhcp_options, 4),
                dhcp6_options=_options(each.dhcp_options, 6),
            )
            for each in others
        ]
        far = [
            msgspec.structs.replace(one, tunnel=each.tunnel_address) if each.tunnel_address else one
            for one, each in zip(near, others, strict=True)
        ]
        served = {each.id: addresses.get(each.id, ()) for each in dhcp}
        found.append(
            _Ends(
                row,
                several.get(row.id),
                subnets.get(row.id, ()),
                dhcp,
                served,
                others,
                near,
                far,
                standing_by.get(row.id, ()),
            )
        )
    return found


def _network(ends: _Ends, host: Any, detours: frozenset[str], silent: bool) -> base.Network:
    """`host` is a row with id, tunnel_address and physical. What is on another segment of a network of several than the
    host's is not for the host to know."""
    row, several, subnets = ends.row, ends.several, ends.subnets
    carried = _carried_by(several, host.physical)
    kind, physical, number = (row.kind, row.physical, row.segment)
    if carried is not None:
        kind, physical, number = (carried.kind, carried.physical, carried.number)
    tunnelled = kind in TUNNELS
    peers: set[str | None] = set()
    endpoints = []
    for each, near, far in zip(ends.ports, ends.near, ends.far, strict=True):
        if several and _carried_by(several, each.physical) is not carried:
            continue
        if each.host_id == host.id:
            endpoints.append(near)
        else:
            endpoints.append(far if tunnelled else near)
            peers.add(each.tunnel_address)
    for each in ends.standing_by:
        # Whoever becomes active is believed at once, and is sent what is for everybody before the ledger names it.
        if each.host_id != host.id and not (several and _carried_by(several, each.physical) is not carried):
            peers.add(each.tunnel_address)
    if several:
        subnets = [one for one in subnets if one.segment_id in (None, carried.id)]
    here = {one.id for one in subnets}
    dhcp = ends.dhcp[0] if ends.dhcp else None
    served: dict[str, str] = {}
    if dhcp is not None and dhcp.admin_state_up and not silent:
        served = {one.subnet_id: one.address for one in ends.dhcp_addresses[dhcp.id] if one.subnet_id in here}
        if dhcp.host_id not in (None, host.id):
            peers.add(dhcp.tunnel_address)
    others = sorted(each for each in peers if each and each != host.tunnel_address) if tunnelled else []
    return base.Network(
        id=row.id,
        kind=kind,
        segment=number,
        physical=physical,
        mtu=max(row.mtu, LEAST_MTU[4]),
        external=row.external,
        subnets=tuple(_subnet(each, served) for each in subnets),
        dhcp_port_id=dhcp.id if dhcp is not None and served else None,
        dhcp_mac=dhcp.mac if dhcp is not None and served else None,
        domain=row.dns_domain or "",
        endpoints=tuple(endpoints),
        peers=tuple(others),
        detours=tuple(each for each in others if each in detours) if kind == VXLAN else (),
    )


def _carried_by(several: Sequence[Any] | None, physical: Sequence[str] | None) -> Any:
    return segments.carried(several, physical) if several else None


def _options(options: Sequence[Mapping[str, Any]] | None, version: int) -> tuple[tuple[str, str], ...]:
    return tuple((one["opt_name"], one["opt_value"]) for one in options or () if one.get("ip_version", 4) == version)


def _subnet(row: Any, served: Mapping[str, str]) -> base.Subnet:
    return base.Subnet(
        id=row.id,
        cidr=row.cidr,
        version=row.version,
        gateway=row.gateway,
        dhcp=row.dhcp and row.id in served,
        dhcp_address=served.get(row.id) if row.dhcp else None,
        dns=tuple(row.dns or ()),
        routes=tuple(base.Route(destination=to, nexthop=by) for to, by in row.routes or ()),
        ra_mode=row.ra_mode,
        address_mode=row.address_mode,
    )


def ports(tx: Tx, host_id: str, ids: Sequence[str] | None) -> Mapping[str, base.Port]:
    """The guests' ports on a host: at most five queries."""
    statement = _guest_ports if ids is None else _guest_ports.where(port.c.id.in_(list(ids)))
    rows = tx.all(statement, {"host": host_id})
    if not rows:
        return {}
    keys = [row.id for row in rows]
    addresses = _by(tx.all(_addresses, {"ids": keys}), "port_id")
    groups = _by(tx.all(_port_groups, {"ids": keys}), "port_id")
    led_to = [row.id for row in rows if row.led_to]
    local = localips.of_ports(tx, led_to) if led_to else {}
    policies = {row.qos_policy_id or row.network_policy_id for row in rows} - {None}
    limits = qos.limits_of(tx, policies)
    return {
        row.id: base.Port(
            id=row.id,
            network_id=row.network_id,
            mac=row.mac,
            index=row.host_index,
            addresses=_wired(addresses.get(row.id, ())),
            pairs=tuple((cidr, mac) for cidr, mac in row.pairs or ()),
            groups=tuple(each.group_id for each in groups.get(row.id, ())),
            port_security=row.port_security_enabled,
            admin_up=row.admin_state_up and row.trunk_up is not False,
            device_id=row.device_id,
            trunk=row.trunk_port_id,
            tag=row.tag,
            limits=limits.get(row.qos_policy_id or row.network_policy_id),
            local=tuple(_local(each) for each in local.get(row.id, ())),
        )
        for row in rows
    }


def _local(row: Any) -> base.LocalIp:
    return base.LocalIp(address=row.address, fixed=row.fixed_address, translated=row.ip_mode == TRANSLATE)


def groups(tx: Tx, host_id: str, ids: Sequence[str] | None) -> Mapping[str, base.Group]:
    """Groups of a host's ports, with rules; the groups and address groups that those rules name, with members:
    at most seven queries."""
    direct = set(tx.column(_host_groups, {"host": host_id}))
    if not direct:
        return {}
    pairs = tx.all(_remote_ids, {"ids": sorted(direct)})
    remote = {row.remote_group_id for row in pairs if row.remote_group_id}
    lists = {row.remote_address_group_id for row in pairs if row.remote_address_group_id}
    wanted = sorted((direct | remote) if ids is None else (direct | remote) & set(ids))
    listed = sorted(lists if ids is None else lists & set(ids))
    found: dict[str, base.Group] = {}
    if listed:
        for row in tx.all(_address_groups, {"ids": listed}):
            found[row.id] = base.Group(id=row.id, members=tuple(row.addresses))
    if not wanted:
        return found
    rules = _by(tx.all(_rules, {"ids": [each for each in wanted if each in direct]}), "group_id")
    members = _members_of(tx, [each for each in wanted if each in remote])
    for row in tx.all(_groups, {"ids": wanted}):
        found[row.id] = base.Group(
            id=row.id,
            rules=tuple(_rule(each) for each in rules.get(row.id, ())),
            members=tuple(sorted(members.get(row.id, ()))),
            stateful=row.stateful,
        )
    return found


def _members_of(tx: Tx, named: Sequence[str]) -> dict[str, set[str]]:
    """The addresses of the ports of groups, allowed pairs included."""
    members: dict[str, set[str]] = {}
    if named:
        for row in tx.all(_members, {"ids": named}):
            members.setdefault(row.group_id, set()).add(row.address)
        for row in tx.all(_member_pairs, {"ids": named}):
            members.setdefault(row.group_id, set()).update(cidr for cidr, _ in row.pairs or ())
    return members


def _rule(row: Any) -> base.Rule:
    return base.Rule(
        direction=row.direction,
        version=row.version,
        protocol=protocols.number_of(row.protocol),
        port_min=row.port_min,
        port_max=row.port_max,
        remote_cidr=row.remote_cidr,
        remote_group_id=row.remote_group_id or row.remote_address_group_id,
    )


def _wired(rows: Iterable[Any]) -> tuple[base.Address, ...]:
    return tuple(
        base.Address(address=row.address, prefix=int(row.cidr.rpartition("/")[2]), subnet_id=row.subnet_id)
        for row in rows
    )


def _by(rows: Iterable[Any], column: str) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for row in rows:
        found.setdefault(getattr(row, column), []).append(row)
    return found
