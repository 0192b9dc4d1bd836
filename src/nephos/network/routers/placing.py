"""Which host carries a router: chosen when it has its first leg, given up with its last."""

from __future__ import annotations

from typing import Any

from sqlalchemy import bindparam, func, select, update

from nephos.hosts import actions as hosts
from nephos.kernel.cloud import Cloud
from nephos.kernel.db.engine import Tx
from nephos.network import touch
from nephos.network.floatingips.store import floatingip
from nephos.network.networks.store import network
from nephos.network.ports import actions as ports
from nephos.network.ports.store import ACTIVE, DOWN, GATEWAY, ROUTER, port
from nephos.network.routers.store import router

_legs = (
    select(port, network.c.physical)
    .join(network, network.c.id == port.c.network_id)
    .where(port.c.device_id == bindparam("router"), port.c.device_owner.in_([ROUTER, GATEWAY]))
    .order_by(port.c.created_at, port.c.id)
)
_loads = select(router.c.host_id, func.count().label("number")).where(router.c.host_id.is_not(None)).group_by(router.c.host_id)
_waiting = (
    select(router)
    .where(router.c.host_id.is_(None))
    .where(select(port.c.id).where(port.c.device_id == router.c.id, port.c.device_owner.in_([ROUTER, GATEWAY])).exists())
)
_reached = (
    select(router.c.host_id, network.c.physical)
    .join(port, port.c.device_id == router.c.id)
    .join(network, network.c.id == port.c.network_id)
    .where(router.c.host_id.is_not(None), network.c.physical.is_not(None), port.c.device_owner.in_([ROUTER, GATEWAY]))
    .distinct()
)
_on = (
    select(router)
    .join(port, port.c.device_id == router.c.id)
    .join(network, network.c.id == port.c.network_id)
    .where(router.c.host_id == bindparam("host"), network.c.physical == bindparam("physical"))
    .where(port.c.device_owner.in_([ROUTER, GATEWAY]))
)
_awake = (
    update(floatingip)
    .where(floatingip.c.router_id == bindparam("router"), floatingip.c.status == DOWN)
    .values(status=ACTIVE, revision=floatingip.c.revision + 1)
)
_move = update(router).where(router.c.id == bindparam("key")).values(host_id=bindparam("host"))


def place(tx: Tx, cloud: Cloud, row: Any) -> None:
    """After a leg came, went or changed: the router has a host that reaches all its networks, and the host knows it."""
    legs = tx.all(_legs, {"router": row.id})
    host_id = row.host_id
    needed = {leg.physical for leg in legs if leg.physical}
    wanted = choose(tx, needed, host_id) if legs else None
    if wanted != host_id:
        tx.execute(_move, {"key": row.id, "host": wanted})
        if host_id is not None:
            touch.router(tx, cloud, host_id, row.id)
    for leg in legs:
        if leg.host_id != wanted:
            ports.bind(tx, cloud, leg, wanted) if wanted else ports.unbind(tx, cloud, leg)
    if wanted is not None:
        ports.activate(tx, [leg.id for leg in legs])
        tx.execute(_awake, {"router": row.id})
        touch.router(tx, cloud, wanted, row.id)


def choose(tx: Tx, needed: set[str], present: str | None) -> str | None:
    """The host that is up, reaches these physical networks and has the fewest routers; None when none is up.

    It stays where it is as long as no other would reach more. When no host says that it reaches them, any that is up
    gets it: its wiring then names what is missing.
    """
    rows = hosts.all_hosts(tx)
    reaching = [row for row in rows if needed <= set(row.physical or ())]
    up = [row for row in rows if hosts.up(row, tx.now) and not row.disabled]
    candidates = [row for row in reaching if row in up]
    if present is not None and (not candidates or any(row.id == present for row in reaching)):
        return present
    loads = {row.host_id: row.number for row in tx.all(_loads)}
    best = min(candidates or up, key=lambda row: (loads.get(row.id, 0), row.number), default=None)
    return None if best is None else str(best.id)


def place_waiting(tx: Tx, cloud: Cloud) -> None:
    """A host came: routers that had none, or one that does not reach their networks, may have one now."""
    for row in tx.all(_waiting):
        place(tx, cloud, row)
    reach = {row.id: set(row.physical or ()) for row in hosts.all_hosts(tx)}
    for pair in tx.all(_reached):
        if pair.physical not in reach.get(pair.host_id, ()):
            for row in tx.all(_on, {"host": pair.host_id, "physical": pair.physical}):
                place(tx, cloud, row)


def displace(tx: Tx, cloud: Cloud, row: Any) -> None:
    """The router lives nowhere until it is placed again."""
    tx.execute(_move, {"key": row.id, "host": None})
    for leg in tx.all(_legs, {"router": row.id}):
        ports.unbind(tx, cloud, leg)
    touch.router(tx, cloud, row.host_id, row.id)
