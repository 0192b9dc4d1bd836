"""What hosts report to the network service: that they are there, and which addresses guests really took."""

from __future__ import annotations

from sqlalchemy import bindparam, select, update

from nephos.hosts import actions as hosts
from nephos.hosts.wire import Seen
from nephos.kernel.cloud import Cloud
from nephos.kernel.db.engine import Tx
from nephos.network import touch
from nephos.network.agents import actions as agents
from nephos.network.agents.store import host as known
from nephos.network.paths import actions as paths
from nephos.network.ports.store import port
from nephos.network.routers import placing

_taken = (
    update(port)
    .where(port.c.id == bindparam("key"), port.c.host_id == bindparam("host"))
    .values(taken_address=bindparam("address"), taken_at=bindparam("at"))
)


def address_taken(tx: Tx, seen: Seen) -> None:
    """The address in the ledger and the one really taken are two facts (S2-54). A host speaks for its own ports."""
    tx.execute(_taken, {"key": seen.id, "host": seen.host, "address": seen.value, "at": seen.at})


def listen(cloud: Cloud) -> None:
    """Register with the cloud."""

    def arrived(tx: Tx, seen: Seen) -> None:
        row = hosts.get(tx, seen.id)
        before = tx.first(select(known).where(known.c.id == row.id))
        if before is None:
            tx.insert(known, {"id": row.id, "tunnel_address": row.tunnel_address})
        elif before.tunnel_address != row.tunnel_address:
            tx.execute(update(known).where(known.c.id == row.id).values(tunnel_address=row.tunnel_address))
            touch.networks(tx, cloud, agents.carried(tx, row.id))
        placing.place_waiting(tx, cloud)

    def state_of_router(tx: Tx, seen: Seen) -> None:
        placing.became(tx, cloud, seen.id, seen.host, seen.value, seen.at)

    cloud.hosts.rounds.append(lambda tx: placing.rescue(tx, cloud))
    cloud.hosts.notice("router_state", state_of_router)
    cloud.hosts.notice("host", arrived)
    cloud.hosts.notice("address_taken", address_taken)
    cloud.hosts.notice("overlay", paths.note)
