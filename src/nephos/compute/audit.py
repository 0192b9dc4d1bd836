"""What compute finds stuck or orphaned in the ledger: it alone knows which servers there are."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import select

from nephos.compute.moving import store as migrations
from nephos.compute.servers.store import NOUN, server
from nephos.kernel.cloud import Finding
from nephos.kernel.db.engine import Tx
from nephos.kernel.operations.store import operation
from nephos.network import audit as network
from nephos.placement.allocations import actions as allocations

_LIVE = ("running", "undoing")


def check(tx: Tx) -> Iterator[Finding]:
    """Servers that change and nobody works on; capacity and ports of servers that are not there."""
    present = set(tx.column(select(server.c.id).where(~server.c.deleted)))
    busy = set(tx.column(select(operation.c.noun_id).where(operation.c.noun == NOUN, operation.c.state.in_(_LIVE))))
    changing = (server.c.task_state.is_not(None)) | (server.c.vm_state == "building")
    for row in tx.all(select(server.c.id, server.c.vm_state, server.c.task_state).where(~server.c.deleted, changing)):
        if row.id not in busy:
            yield Finding(NOUN, row.id, f"is {row.vm_state}/{row.task_state} and no operation works on it")
    for row in migrations.going_on(tx):
        if row.server_id not in busy:
            yield Finding("migration", row.id, f"is {row.status} and no operation works on server {row.server_id}")
    for consumer in sorted(allocations.consumers(tx) - present - busy - migrations.holding(tx)):
        yield Finding("allocation", consumer, "holds capacity for a server that is not there")
    for port_id, server_id in network.guest_ports(tx):
        if server_id not in present | busy:
            yield Finding("port", port_id, f"belongs to server {server_id}, which is not there")
