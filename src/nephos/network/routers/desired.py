"""The desired item `router`: the routers that a host carries, or may have to carry at any moment."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import BindParameter, bindparam, func, or_, select

from nephos.kernel.db.engine import Tx
from nephos.network.conntrack.store import helper
from nephos.network.floatingips.store import floatingip
from nephos.network.forwardings.store import forwarding
from nephos.network.metering import store as metering
from nephos.network.ndpproxies.store import ndp_proxy
from nephos.network.networks.store import network
from nephos.network.ports.store import GATEWAY, HA, ROUTER, port
from nephos.network.qos import actions as qos
from nephos.network.routers import edges
from nephos.network.routers.store import router, router_host
from nephos.network.subnets.store import address, subnet
from nephos.wiring import base

_bound = select(router_host.c.router_id).where(router_host.c.host_id == bindparam("host"))
_here = select(router).where(or_(router.c.host_id == bindparam("host"), router.c.id.in_(_bound)))
_in: BindParameter[Any] = bindparam("ids", expanding=True)
_these = _here.where(router.c.id.in_(_in))
_by_id = select(router).where(router.c.id.in_(_in))
_legs = (
    select(
        port.c.id,
        port.c.device_id,
        port.c.device_owner,
        port.c.network_id,
        port.c.mac,
        port.c.host_id,
        func.coalesce(port.c.qos_policy_id, network.c.qos_policy_id).label("policy_id"),
    )
    .join(network, network.c.id == port.c.network_id)
    .where(port.c.device_id.in_(_in), port.c.device_owner.in_([ROUTER, GATEWAY, HA]))
    .order_by(port.c.created_at, port.c.id)
)
_addresses = (
    select(address.c.port_id, address.c.address, subnet.c.id, subnet.c.cidr, subnet.c.gateway, subnet.c.version)
    .join(subnet, subnet.c.id == address.c.subnet_id)
    .join(port, port.c.id == address.c.port_id)
    .where(port.c.device_id.in_(_in), port.c.device_owner.in_([ROUTER, GATEWAY, HA]))
    .order_by(address.c.port_id, address.c.place, address.c.address)
)
_floating = (
    select(
        floatingip.c.router_id,
        floatingip.c.address,
        floatingip.c.fixed_address,
        func.coalesce(port.c.qos_policy_id, network.c.qos_policy_id).label("policy_id"),
    )
    .join(port, port.c.id == floatingip.c.port_id)
    .join(network, network.c.id == floatingip.c.network_id)
    .where(floatingip.c.router_id.in_(_in), floatingip.c.fixed_address.is_not(None))
    .order_by(floatingip.c.address)
)
_forwardings = (
    select(forwarding, floatingip.c.router_id, floatingip.c.address.label("outside"))
    .join(floatingip, floatingip.c.id == forwarding.c.floatingip_id)
    .where(floatingip.c.router_id.in_(_in))
    .order_by(floatingip.c.address, forwarding.c.protocol, forwarding.c.outside_first)
)
_helpers = select(helper).where(helper.c.router_id.in_(_in)).order_by(helper.c.protocol, helper.c.port, helper.c.helper)
_proxied = (
    select(ndp_proxy.c.router_id, ndp_proxy.c.address)
    .where(ndp_proxy.c.router_id.in_(_in))
    .order_by(ndp_proxy.c.address)
)
_labels = select(metering.label.c.id, metering.label.c.project_id, metering.label.c.shared).order_by(
    metering.label.c.id
)
_meter_rules = select(metering.rule).order_by(metering.rule.c.label_id, metering.rule.c.created_at, metering.rule.c.id)
_bindings = select(router_host).where(router_host.c.router_id.in_(_in)).order_by(router_host.c.host_id)
Loaded = dict[str, list[Any]]


def routers(tx: Tx, host_id: str, ids: Sequence[str] | None) -> Mapping[str, base.Router]:
    """A host's routers, those of which it is an edge among them, in at most fourteen queries for all of them."""
    rows = tx.all(_here, {"host": host_id}) if ids is None else tx.all(_these, {"host": host_id, "ids": list(ids)})
    served = {key: each for key, each in edges.on(tx, host_id).items() if ids is None or key in ids}
    if served:
        rows = [*rows, *tx.all(_by_id, {"ids": sorted(served)})]
    elsewhere = edges.elsewhere(tx, [row.id for row in rows if row.distributed])
    if not rows:
        return {}
    keys = {"ids": [row.id for row in rows]}
    taken = _by(tx.all(_addresses, keys), "port_id")
    legs = _by(tx.all(_legs, keys), "device_id")
    floating = _by(tx.all(_floating, keys), "router_id")
    forwardings = _by(tx.all(_forwardings, keys), "router_id")
    helpers = _by(tx.all(_helpers, keys), "router_id")
    proxied = _by(tx.all(_proxied, keys), "router_id") if any(row.ndp_proxy for row in rows) else {}
    bindings = _by(tx.all(_bindings, keys), "router_id") if any(row.ha for row in rows) else {}
    meters = _meters(tx)
    limits = qos.limits_of(tx, _policies(legs, floating))
    found: dict[str, base.Router] = {}
    for row in rows:
        own = legs.get(row.id, [])
        if row.id in served:
            edge = _edge(row, host_id, own, taken, served[row.id], limits, floating[row.id])
            found[row.id] = msgspec.structs.replace(
                edge, helpers=_helpers_of(helpers.get(row.id, ())), meters=_meters_of(row, meters)
            )
            continue
        outer = sorted(
            (leg for leg in own if leg.device_owner == GATEWAY), key=lambda leg: leg.id != row.gateway_port_id
        )
        found[row.id] = base.Router(
            id=row.id,
            interfaces=tuple(_interface(leg, taken) for leg in own if leg.device_owner == ROUTER),
            gateways=tuple(_gateway(leg, taken, limits, snat=row.snat) for leg in outer),
            floating=tuple(
                base.Floating(address=one.address, fixed=one.fixed_address, limits=limits.get(one.policy_id))
                for one in floating.get(row.id, ())
                if (row.id, one.address) not in elsewhere
            ),
            routes=tuple(base.Route(destination=to, nexthop=by) for to, by in row.routes or ()),
            admin_up=row.admin_state_up,
            ha=_ha(row, host_id, own, taken, bindings.get(row.id, [])) if row.ha else None,
            forwardings=tuple(_forwarding(one) for one in forwardings.get(row.id, ())),
            helpers=_helpers_of(helpers.get(row.id, ())),
            proxied=tuple(one.address for one in proxied.get(row.id, ())) if row.ndp_proxy else None,
            ecmp=row.ecmp,
            meters=_meters_of(row, meters),
        )
    return found


def _meters_of(row: Any, meters: Iterable[tuple[str, bool, base.Meter]]) -> tuple[base.Meter, ...]:
    return tuple(meter for owner, shared, meter in meters if shared or owner == row.project_id)


def _helpers_of(rows: Iterable[Any]) -> tuple[base.Helper, ...]:
    return tuple(base.Helper(helper=one.helper, protocol=one.protocol, port=one.port) for one in rows)


def _edge(
    row: Any, host_id: str, legs: Sequence[Any], taken: Loaded, served: Sequence[Any], limits: Any, floating: Any
) -> base.Router:
    """The router as far as it is on the host of ports with floating IPs."""
    policies = {one.address: one.policy_id for one in floating}
    inner = [leg for leg in legs if leg.device_owner == ROUTER]
    ranges = [one.cidr for leg in inner for one in taken.get(leg.id, ()) if one.version == 4]
    used = {one.inside for one in served}
    outer = next(leg for leg in legs if leg.id == row.gateway_port_id)
    around = [one for one in taken.get(outer.id, ()) if one.version == 4]
    return base.Router(
        id=row.id,
        interfaces=tuple(
            base.RouterInterface(
                port_id=leg.id,
                network_id=leg.network_id,
                mac=leg.mac,
                addresses=_wired(one for one in taken.get(leg.id, ()) if one.version == 4),
            )
            for leg in inner
            if leg.network_id in used
        ),
        gateways=(
            base.RouterGateway(
                port_id=outer.id,
                network_id=outer.network_id,
                mac=edges.mac(row.id, host_id),
                addresses=(),
                nexthops=tuple(sorted({one.gateway for one in around if one.gateway})[:1]),
                snat=False,
            ),
        ),
        floating=tuple(
            base.Floating(address=one.address, fixed=one.fixed_address, limits=limits.get(policies.get(one.address)))
            for one in served
        ),
        edge=base.RouterEdge(
            outside=tuple(dict.fromkeys(one.cidr for one in around)),
            central=(*dict.fromkeys(ranges), *(to for to, _ in row.routes or () if ":" not in to)),
            ports=tuple((one.fixed_address, one.fixed_port_id) for one in served),
        ),
    )


def _policies(legs: Loaded, floating: Loaded) -> set[str]:
    """The QoS policies of gateways and floating IPs."""
    outer = (leg for own in legs.values() for leg in own if leg.device_owner == GATEWAY)
    return {each.policy_id for each in (*outer, *(one for own in floating.values() for one in own))} - {None}


def _interface(leg: Any, taken: Loaded) -> base.RouterInterface:
    return base.RouterInterface(
        port_id=leg.id, network_id=leg.network_id, mac=leg.mac, addresses=_wired(taken.get(leg.id, []))
    )


def _gateway(leg: Any, taken: Loaded, limits: Mapping[str, base.Limits], *, snat: bool) -> base.RouterGateway:
    rows = taken.get(leg.id, [])
    nexthops = {row.version: row.gateway for row in reversed(rows) if row.gateway is not None}
    return base.RouterGateway(
        port_id=leg.id,
        network_id=leg.network_id,
        mac=leg.mac,
        addresses=_wired(rows),
        nexthops=tuple(nexthops[version] for version in sorted(nexthops)),
        snat=snat,
        limits=limits.get(leg.policy_id),
    )


def _ha(row: Any, host_id: str, legs: Sequence[Any], taken: Loaded, bindings: Sequence[Any]) -> base.RouterHa | None:
    own = {binding.host_id: binding.port_id for binding in bindings}.get(host_id)
    priorities = {binding.host_id: binding.priority for binding in bindings if binding.priority is not None}
    leg = next((leg for leg in legs if leg.id == own), None)
    if leg is None or row.ha_number is None:
        return None
    return base.RouterHa(
        leg=_interface(leg, taken),
        number=row.ha_number,
        virtual=base.Address(address=f"169.254.0.{row.ha_number}", prefix=24, subnet_id=""),
        rank=_rank(priorities, host_id) if priorities else None,
    )


def _rank(priorities: Mapping[str, int], host_id: str) -> int:
    """How many hosts come after this one; those without a priority are the last."""
    own = priorities.get(host_id)
    return 0 if own is None else 1 + sum(each < own for each in priorities.values())


def _forwarding(row: Any) -> base.Forwarding:
    return base.Forwarding(
        protocol=row.protocol,
        address=row.outside,
        outside=(row.outside_first, row.outside_last),
        fixed=row.address,
        inside=(row.inside_first, row.inside_last),
    )


def _meters(tx: Tx) -> list[tuple[str, bool, base.Meter]]:
    """Every metering label that has rules: (project, shared, what to count)."""
    labels = tx.all(_labels)
    rules = _by(tx.all(_meter_rules), "label_id") if labels else {}
    found = []
    for row in labels:
        if row.id in rules:
            wired = tuple(_meter_rule(one) for one in rules[row.id])
            found.append((row.project_id, row.shared, base.Meter(id=row.id, rules=wired)))
    return found


def _meter_rule(row: Any) -> tuple[str, bool, str | None, str | None]:
    incoming = row.direction == "ingress"
    source = row.source or (row.remote if incoming else None)
    destination = row.destination or (None if incoming else row.remote)
    return row.direction, row.excluded, source, destination


def _wired(rows: Iterable[Any]) -> tuple[base.Address, ...]:
    return tuple(
        base.Address(address=row.address, prefix=ipaddress.ip_network(row.cidr).prefixlen, subnet_id=row.id)
        for row in rows
    )


def _by(rows: Iterable[Any], column: str) -> Loaded:
    found: Loaded = {}
    for row in rows:
        found.setdefault(getattr(row, column), []).append(row)
    return found
