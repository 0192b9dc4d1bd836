"""Which host carries a router, or hosts: chosen when it has its first leg, given up with its last.

A router leaves a host that is down, or whose L3 agent an operator switched off, as soon as another can take it. The host
it left hears of it when it is back; until then forwarding entries of the other hosts lead to the new one.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import bindparam, delete, func, or_, select, update

from nephos.hosts import actions as hosts
from nephos.kernel.cloud import Cloud
from nephos.kernel.db.engine import Tx
from nephos.network import touch
from nephos.network.agents import disabled
from nephos.network.floatingips.store import floatingip
from nephos.network.networks.store import network
from nephos.network.ports import actions as ports
from nephos.network.ports.store import ACTIVE, DOWN, GATEWAY, ROUTER, port
from nephos.network.routers import ha
from nephos.network.routers.store import router, router_host

HOSTS_OF_ONE = 2
"""On how many hosts a highly available router is; on fewer where fewer reach its networks."""

_legs = (
    select(port, network.c.physical)
    .join(network, network.c.id == port.c.network_id)
    .where(port.c.device_id == bindparam("router"), port.c.device_owner.in_([ROUTER, GATEWAY]))
    .order_by(port.c.created_at, port.c.id)
)
_loads = (
    select(router.c.host_id, func.count().label("number"))
    .where(router.c.host_id.is_not(None))
    .group_by(router.c.host_id)
)
_waiting = (
    select(router)
    .where(router.c.host_id.is_(None))
    .where(
        select(port.c.id).where(port.c.device_id == router.c.id, port.c.device_owner.in_([ROUTER, GATEWAY])).exists()
    )
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
_here = select(router_host.c.router_id).where(router_host.c.host_id.in_(bindparam("hosts", expanding=True)))
_on_hosts = (
    select(router)
    .where(or_(router.c.host_id.in_(bindparam("hosts", expanding=True)), router.c.id.in_(_here)))
    .order_by(router.c.created_at, router.c.id)
)
_bindings = select(router_host).where(router_host.c.router_id == bindparam("router")).order_by(router_host.c.host_id)
_short = (
    select(router_host.c.router_id)
    .group_by(router_host.c.router_id)
    .having(func.count() < HOSTS_OF_ONE)
    .order_by(router_host.c.router_id)
)
_by_id = select(router).where(router.c.id == bindparam("router"))
_carried = (
    update(floatingip)
    .where(floatingip.c.router_id == bindparam("router"), floatingip.c.status != bindparam("shown"))
    .values(status=bindparam("shown"), revision=floatingip.c.revision + 1)
)
_move = update(router).where(router.c.id == bindparam("key")).values(host_id=bindparam("host"))


def place(tx: Tx, cloud: Cloud, row: Any, *, leaving: Collection[str] = ()) -> None:
    """After a leg came, went or changed: the router has hosts that reach all its networks, and they know it.

    `leaving` are hosts on which it should not stay. Again: nothing changes.
    """
    legs = tx.all(_legs, {"router": row.id})
    before = hosts_of(tx, row)
    wanted: list[str] = []
    if legs:
        needed = {leg.physical for leg in legs if leg.physical}
        wanted = choose(tx, cloud, row, needed, before, leaving)
    if row.ha:
        _bind(tx, cloud, row, wanted)
    active = row.host_id if row.host_id in wanted else next(iter(wanted), None)
    if active != row.host_id:
        tx.execute(_move, {"key": row.id, "host": active})
    _lead(tx, cloud, legs, active)
    tx.execute(_carried, {"router": row.id, "shown": ACTIVE if active else DOWN})
    for host_id in {*before, *wanted}:
        touch.router(tx, cloud, host_id, row.id)


def put(tx: Tx, cloud: Cloud, row: Any, host_id: str) -> None:
    """An operator puts a router that is nowhere on a host. One without legs waits there for them."""
    tx.execute(_move, {"key": row.id, "host": host_id})
    if tx.all(_legs, {"router": row.id}):
        placed: Any = tx.first(_by_id, {"router": row.id})
        place(tx, cloud, placed)
    else:
        touch.router(tx, cloud, host_id, row.id)


def _lead(tx: Tx, cloud: Cloud, legs: Sequence[Any], active: str | None) -> None:
    """Its legs are on this host from now on."""
    for leg in legs:
        if leg.host_id != active:
            ports.bind(tx, cloud, leg, active) if active else ports.unbind(tx, cloud, leg)
    if active is not None:
        ports.activate(tx, [leg.id for leg in legs])


def hosts_of(tx: Tx, row: Any) -> list[str]:
    """The hosts that have the router, the active one first."""
    found = [row.host_id] if row.host_id is not None else []
    if row.ha:
        found += [each.host_id for each in tx.all(_bindings, {"router": row.id}) if each.host_id != row.host_id]
    return found


def choose(
    tx: Tx, cloud: Cloud, row: Any, needed: set[str], present: Sequence[str], leaving: Collection[str] = ()
) -> list[str]:
    """Hosts that are up, reach these physical networks and have the fewest routers; none when none is up.

    It stays on the hosts where it is as long as no other would reach more, and leaves some only when others can take
    it. When no host says that it reaches the networks, any that is up gets it: its wiring then names what is missing.
    """
    count = max(HOSTS_OF_ONE, len([each for each in present if each not in leaving])) if row.ha else 1
    rows = hosts.all_hosts(tx)
    reaching = {each.id for each in rows if needed <= set(each.physical or ())}
    off = disabled.hosts(tx)
    free = [each for each in rows if hosts.up(each, tx.now) and not each.disabled and each.id not in off]
    free = [each for each in free if each.id not in leaving and each.id not in present]
    hints = set(row.zone_hints or ())
    if hints:
        free = [each for each in free if (each.zone or cloud.settings.compute.zone) in hints] or free
    loads = {each.host_id: each.number for each in tx.all(_loads)}
    free.sort(key=lambda each: (loads.get(each.id, 0), each.number))
    able = [each.id for each in free if each.id in reaching]
    known = {each.id for each in rows}
    stay = [each for each in present if each in reaching and each not in leaving]
    found = (stay + able)[:count]
    if len(found) < count:
        # Better on a host that is away, or that does not say that it reaches all, than nowhere.
        spare = [each for each in present if each in known and each not in found]
        found += spare[: count - len(found)]
    return found or [each.id for each in free][:1]


def _bind(tx: Tx, cloud: Cloud, row: Any, wanted: Sequence[str]) -> None:
    """Give each host its leg in the HA network, and take it from those that the router leaves."""
    bound = {each.host_id: each.port_id for each in tx.all(_bindings, {"router": row.id})}
    for host_id in wanted:
        if host_id not in bound:
            values = {"router_id": row.id, "host_id": host_id, "state": ha.STANDBY, "since": 0}
            tx.insert(router_host, {**values, "port_id": ha.leg(tx, cloud, row, host_id)})
            touch.networks_of_router(tx, cloud, row.id, host_id)
    for host_id in bound.keys() - set(wanted):
        unbind(tx, cloud, row, host_id, bound[host_id])


def unbind(tx: Tx, cloud: Cloud, row: Any, host_id: str, port_id: str) -> None:
    """Take a highly available router from a host."""
    touch.networks_of_router(tx, cloud, row.id, host_id)
    tx.execute(delete(router_host).where(router_host.c.router_id == row.id, router_host.c.host_id == host_id))
    ports.remove(tx, cloud, ports.get(tx, port_id))
    touch.router(tx, cloud, host_id, row.id)


def place_waiting(tx: Tx, cloud: Cloud) -> None:
    """A host came: routers that had none, too few, or one that does not reach their networks, may have one now."""
    for row in tx.all(_waiting):
        place(tx, cloud, row)
    for router_id in tx.column(_short):
        place(tx, cloud, tx.first(_by_id, {"router": router_id}))
    reach = {row.id: set(row.physical or ()) for row in hosts.all_hosts(tx)}
    for pair in tx.all(_reached):
        if pair.physical not in reach.get(pair.host_id, ()):
            for row in tx.all(_on, {"host": pair.host_id, "physical": pair.physical}):
                place(tx, cloud, row)


def rescue(tx: Tx, cloud: Cloud) -> None:
    """Move the routers off hosts that are down or whose L3 agent is switched off."""
    lost = {row.id for row in hosts.all_hosts(tx) if not hosts.up(row, tx.now)} | disabled.hosts(tx)
    if not lost:
        return
    for row in tx.all(_on_hosts, {"hosts": sorted(lost)}):
        before = set(hosts_of(tx, row))
        legs = tx.all(_legs, {"router": row.id})
        needed = {leg.physical for leg in legs if leg.physical}
        if legs and set(choose(tx, cloud, row, needed, hosts_of(tx, row), lost)) != before:
            place(tx, cloud, row, leaving=lost)


def became(tx: Tx, cloud: Cloud, router_id: str, host_id: str, state: str, at: int) -> None:
    """A host says that a highly available router is active or standby there, since `at`. Late news change nothing."""
    row = tx.first(_by_id, {"router": router_id})
    if row is None or not row.ha:
        return
    bindings = tx.all(_bindings, {"router": router_id})
    own = next((each for each in bindings if each.host_id == host_id), None)
    if own is None or own.since > at or any(state == ha.ACTIVE and each.since > at for each in bindings):
        return
    for each in bindings:
        now = state if each.host_id == host_id else ha.STANDBY if state == ha.ACTIVE else each.state
        if now != each.state or each.host_id == host_id:
            where = (router_host.c.router_id == router_id, router_host.c.host_id == each.host_id)
            since = at if each.host_id == host_id else each.since
            tx.execute(update(router_host).where(*where).values(state=now, since=since))
    if state == ha.ACTIVE and row.host_id != host_id:
        tx.execute(_move, {"key": router_id, "host": host_id})
        _lead(tx, cloud, tx.all(_legs, {"router": router_id}), host_id)


def add(tx: Tx, cloud: Cloud, row: Any, host_id: str) -> None:
    """One more host for a highly available router."""
    _bind(tx, cloud, row, [*hosts_of(tx, row), host_id])
    place(tx, cloud, row)


def drop(tx: Tx, cloud: Cloud, row: Any, host_id: str) -> None:
    """Take a highly available router from one of its hosts; another one carries it on."""
    (port_id,) = [each.port_id for each in tx.all(_bindings, {"router": row.id}) if each.host_id == host_id]
    unbind(tx, cloud, row, host_id, port_id)
    if row.host_id == host_id:
        following = next(each for each in hosts_of(tx, row) if each != host_id)
        tx.execute(_move, {"key": row.id, "host": following})
        _lead(tx, cloud, tx.all(_legs, {"router": row.id}), following)
        touch.router(tx, cloud, following, row.id)


def displace(tx: Tx, cloud: Cloud, row: Any) -> None:
    """The router lives nowhere until it is placed again."""
    legs = tx.all(_legs, {"router": row.id})
    for each in tx.all(_bindings, {"router": row.id}):
        unbind(tx, cloud, row, each.host_id, each.port_id)
    tx.execute(_move, {"key": row.id, "host": None})
    _lead(tx, cloud, legs, None)
    tx.execute(_carried, {"router": row.id, "shown": DOWN})
    touch.router(tx, cloud, row.host_id, row.id)
