"""What hosts report to the network service: that they are there, and which addresses guests really took."""

from __future__ import annotations

from typing import TypeVar

import msgspec
from sqlalchemy import Update, bindparam, delete, select, update

from nephos.hosts import actions as hosts
from nephos.hosts.wire import Seen
from nephos.kernel.cloud import Cloud
from nephos.kernel.db.engine import Tx
from nephos.network import notifications, touch
from nephos.network.agents import actions as agents
from nephos.network.agents.store import host as known
from nephos.network.metering import store as metering
from nephos.network.networks.store import network
from nephos.network.paths import actions as paths
from nephos.network.ports.store import port
from nephos.network.routers import edges, placing
from nephos.network.routers.store import router, silent_gateway

T = TypeVar("T")
_LONGEST = 8192
"""Characters that are kept of what a host says."""
_taken = (
    update(port)
    .where(port.c.id == bindparam("key"), port.c.host_id == bindparam("host"))
    .values(taken_address=bindparam("address"), taken_at=bindparam("at"))
)


def address_taken(tx: Tx, seen: Seen) -> None:
    """The address in the ledger and the one really taken are two facts (S2-54). A host speaks for its own ports."""
    tx.execute(_taken, {"key": seen.id, "host": seen.host, "address": seen.value, "at": seen.at})


def learned(tx: Tx, seen: Seen) -> None:
    """The addresses that a port's host saw behind it."""
    pairs = _decoded(seen, list[tuple[str, str]])
    if pairs is not None:
        tx.execute(_of_host(seen).values(learned=[list(pair) for pair in pairs]))


def rogue(tx: Tx, seen: Seen) -> None:
    """DHCP servers or router advertisements that a host blocked at a port, or before a network that it carries."""
    lines = _decoded(seen, list[tuple[str, str, str, int]])
    if lines is None:
        return
    values = {"rogue": [list(line) for line in lines], "rogue_at": seen.at}
    if tx.execute(_of_host(seen).values(values)).rowcount == 0 and seen.id in agents.carried(tx, seen.host):
        tx.execute(update(network).where(network.c.id == seen.id).values(values))


def wiring(tx: Tx, seen: Seen) -> None:
    """A port could not be wired (why), or is now (empty)."""
    tx.execute(_of_host(seen).values(wiring_error=seen.value[:_LONGEST] or None))


def _of_host(seen: Seen) -> Update:
    """A host speaks for its own ports."""
    return update(port).where(port.c.id == seen.id, port.c.host_id == seen.host)


def _decoded(seen: Seen, kind: type[T]) -> T | None:
    """What a host said, if it is of the right form and not too long."""
    try:
        found = msgspec.json.decode(seen.value, type=kind)
    except msgspec.DecodeError:
        return None
    return found if len(seen.value) <= _LONGEST else None


def gateway_silent(tx: Tx, seen: Seen) -> None:
    """The gateway that an external subnet names does not answer on the link that a router's leg is on."""
    gateway_answers(tx, seen)
    own = select(port.c.id).where(port.c.id == seen.id, port.c.host_id == seen.host)
    if tx.first(own) is not None and len(seen.value) <= 64:
        tx.insert(silent_gateway, {"port_id": seen.id, "address": seen.value, "host_id": seen.host, "since": seen.at})


def gateway_answers(tx: Tx, seen: Seen) -> None:
    """It is there, or again there."""
    one = (silent_gateway.c.port_id == seen.id, silent_gateway.c.address == seen.value)
    tx.execute(delete(silent_gateway).where(*one))


def meter(tx: Tx, seen: Seen) -> None:
    """What a metering label counted at a router that is on the host: it is told to who listens."""
    found = _decoded(seen, tuple[str, int, int, int])
    row = tx.first(select(router).where(router.c.id == found[0])) if found else None
    if found and row is not None and (seen.host in placing.hosts_of(tx, row) or row.id in edges.on(tx, seen.host)):
        label = tx.first(select(metering.label).where(metering.label.c.id == seen.id))
        if label is not None and (label.shared or label.project_id == row.project_id):
            host = hosts.get(tx, seen.host).name
            _, packets, octets, seconds = found
            notifications.metered(tx, label.id, row, host, packets, octets, seconds, seen.at)


def listen(cloud: Cloud) -> None:
    """Register with the cloud."""

    def arrived(tx: Tx, seen: Seen) -> None:
        row = hosts.get(tx, seen.id)
        before = tx.first(select(known).where(known.c.id == row.id))
        tunnels = {"tunnel_address": row.tunnel_address, "tunnel_fallback": row.tunnel_fallback}
        says = {**tunnels, "physical": row.physical or []}
        if before is None:
            tx.insert(known, {"id": row.id, **says})
        else:
            changed = {name for name, value in says.items() if getattr(before, name) != value}
            if changed:
                tx.execute(update(known).where(known.c.id == row.id).values(**says))
            if changed & tunnels.keys():
                touch.networks(tx, cloud, agents.carried(tx, row.id))
            if "physical" in changed:
                touch.reach(tx, cloud, row.id)
        placing.place_waiting(tx, cloud)

    def state_of_router(tx: Tx, seen: Seen) -> None:
        placing.became(tx, cloud, seen.id, seen.host, seen.value, seen.at)

    cloud.hosts.rounds.append(lambda tx: placing.rescue(tx, cloud))
    cloud.hosts.notice("router_state", state_of_router)
    cloud.hosts.notice("gateway_silent", gateway_silent)
    cloud.hosts.notice("gateway_answers", gateway_answers)
    cloud.hosts.notice("meter", meter)
    cloud.hosts.notice("host", arrived)
    cloud.hosts.notice("address_taken", address_taken)
    cloud.hosts.notice("learned", learned)
    cloud.hosts.notice("rogue", rogue)
    cloud.hosts.notice("port_wiring", wiring)
    cloud.hosts.notice("overlay", lambda tx, seen: paths.note(tx, cloud, seen))
    cloud.hosts.notice("detour", paths.note_detour)
