"""The desired item `router`: the routers that a host carries."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import bindparam, select

from nephos.kernel.db.engine import Tx
from nephos.network.floatingips.store import floatingip
from nephos.network.ports.store import GATEWAY, ROUTER, port
from nephos.network.routers.store import router
from nephos.network.subnets.store import address, subnet
from nephos.wiring.base import Address, Floating, Route, Router, RouterGateway, RouterInterface

_here = select(router).where(router.c.host_id == bindparam("host"))
_these = _here.where(router.c.id.in_(bindparam("ids", expanding=True)))
_legs = (
    select(port.c.id, port.c.device_id, port.c.device_owner, port.c.network_id, port.c.mac)
    .where(port.c.device_id.in_(bindparam("ids", expanding=True)), port.c.device_owner.in_([ROUTER, GATEWAY]))
    .order_by(port.c.id)
)
_addresses = (
    select(address.c.port_id, address.c.address, subnet.c.id, subnet.c.cidr, subnet.c.gateway, subnet.c.version)
    .join(subnet, subnet.c.id == address.c.subnet_id)
    .join(port, port.c.id == address.c.port_id)
    .where(port.c.device_id.in_(bindparam("ids", expanding=True)), port.c.device_owner.in_([ROUTER, GATEWAY]))
    .order_by(address.c.port_id, address.c.place, address.c.address)
)
_floating = (
    select(floatingip.c.router_id, floatingip.c.address, floatingip.c.fixed_address)
    .where(floatingip.c.router_id.in_(bindparam("ids", expanding=True)), floatingip.c.fixed_address.is_not(None))
    .order_by(floatingip.c.address)
)


def routers(tx: Tx, host_id: str, ids: Sequence[str] | None) -> Mapping[str, Router]:
    """A host's routers, in four queries for all of them."""
    rows = tx.all(_here, {"host": host_id}) if ids is None else tx.all(_these, {"host": host_id, "ids": list(ids)})
    if not rows:
        return {}
    keys = {"ids": [row.id for row in rows]}
    taken: dict[str, list[Any]] = {}
    for row in tx.all(_addresses, keys):
        taken.setdefault(row.port_id, []).append(row)
    interfaces: dict[str, list[RouterInterface]] = {}
    gateways: dict[str, Any] = {}
    for leg in tx.all(_legs, keys):
        if leg.device_owner == GATEWAY:
            gateways[leg.device_id] = leg
            continue
        interface = RouterInterface(
            port_id=leg.id, network_id=leg.network_id, mac=leg.mac, addresses=_wired(taken.get(leg.id, ()))
        )
        interfaces.setdefault(leg.device_id, []).append(interface)
    floating: dict[str, list[Floating]] = {}
    for row in tx.all(_floating, keys):
        floating.setdefault(row.router_id, []).append(Floating(address=row.address, fixed=row.fixed_address))
    return {
        row.id: Router(
            id=row.id,
            interfaces=tuple(interfaces.get(row.id, ())),
            gateway=_gateway(gateways[row.id], taken, snat=row.snat) if row.id in gateways else None,
            floating=tuple(floating.get(row.id, ())),
            routes=tuple(Route(destination=to, nexthop=by) for to, by in row.routes or ()),
            admin_up=row.admin_state_up,
        )
        for row in rows
    }


def _gateway(leg: Any, taken: Mapping[str, Sequence[Any]], *, snat: bool) -> RouterGateway:
    rows = taken.get(leg.id, ())
    nexthops = {row.version: row.gateway for row in reversed(rows) if row.gateway is not None}
    return RouterGateway(
        port_id=leg.id,
        network_id=leg.network_id,
        mac=leg.mac,
        addresses=_wired(rows),
        nexthops=tuple(nexthops[version] for version in sorted(nexthops)),
        snat=snat,
    )


def _wired(rows: Sequence[Any]) -> tuple[Address, ...]:
    return tuple(
        Address(address=row.address, prefix=ipaddress.ip_network(row.cidr).prefixlen, subnet_id=row.id) for row in rows
    )
