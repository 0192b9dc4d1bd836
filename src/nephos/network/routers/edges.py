"""Edges of distributed routers: on which hosts floating IPs are served.

A floating IP of a distributed router is served where its port is, when that host reaches the external physical network;
else, and on the router's own host, by the router itself, as everything else is. Nothing of it is kept: it follows from
where the ports are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import bindparam, exists, select

from nephos.hosts.store import host
from nephos.kernel.db.engine import Tx
from nephos.network.agents import disabled
from nephos.network.floatingips.store import floatingip
from nephos.network.networks.store import network
from nephos.network.ports.store import port
from nephos.network.routers.store import router

_served = (
    select(
        router.c.id.label("router_id"),
        floatingip.c.address,
        floatingip.c.fixed_address,
        floatingip.c.fixed_port_id,
        port.c.host_id,
        port.c.network_id.label("inside"),
        network.c.id.label("outside"),
        network.c.physical,
        host.c.physical.label("reached"),
    )
    .select_from(floatingip)
    .join(router, router.c.id == floatingip.c.router_id)
    .join(port, port.c.id == floatingip.c.fixed_port_id)
    .join(network, network.c.id == router.c.gateway_network_id)
    .join(host, host.c.id == port.c.host_id)
    .where(
        router.c.distributed.is_(True),
        router.c.admin_state_up.is_(True),
        router.c.host_id.is_not(None),
        router.c.host_id != port.c.host_id,
        port.c.host_index.is_not(None),
        floatingip.c.network_id == router.c.gateway_network_id,
        network.c.physical.is_not(None),
    )
    .order_by(floatingip.c.address)
)
_on_host = _served.where(port.c.host_id == bindparam("host"))
_of_routers = _served.where(router.c.id.in_(bindparam("routers", expanding=True)))
_any = select(exists().where(router.c.distributed.is_(True)))
_to_port = _served.where(port.c.id == bindparam("port"))


def _able(tx: Tx, rows: Sequence[Any]) -> list[Any]:
    """Those on hosts that reach the router's external physical network and whose L3 agent nobody switched off."""
    found = [row for row in rows if row.physical in (row.reached or ())]
    off = disabled.hosts(tx) if found else ()
    return [row for row in found if row.host_id not in off]


def _none(tx: Tx) -> bool:
    """Whether there is no distributed router, so that nothing need be looked for."""
    return bool(tx.once((_none,), lambda: not tx.scalar(_any)))


def on(tx: Tx, host_id: str) -> dict[str, list[Any]]:
    """Router → the floating IPs that a host serves for it."""
    if _none(tx):
        return {}
    found: dict[str, list[Any]] = {}
    for row in _able(tx, tx.all(_on_host, {"host": host_id})):
        found.setdefault(row.router_id, []).append(row)
    return found


def networks(tx: Tx, host_id: str) -> set[str]:
    """The external networks that a host carries for its edges."""
    if _none(tx):
        return set()
    return {row.outside for row in _able(tx, tx.all(_on_host, {"host": host_id}))}


def elsewhere(tx: Tx, router_ids: Collection[str]) -> set[tuple[str, str]]:
    """(router, floating IP) of what these routers do not serve themselves."""
    if not router_ids:
        return set()
    return {(row.router_id, row.address) for row in _able(tx, tx.all(_of_routers, {"routers": list(router_ids)}))}


def serving(tx: Tx, port_id: str) -> Any | None:
    """How a port's floating IP is served on the port's own host; None when it is not, or there is none."""
    return next(iter(_able(tx, tx.all(_to_port, {"port": port_id}))), None)


def mac(router_id: str, host_id: str) -> str:
    """The MAC by which a router's edge on a host is known outside: locally administered, and alike after every restart."""
    return "06:" + hashlib.sha256(f"{router_id}/{host_id}".encode()).digest()[:5].hex(":")
