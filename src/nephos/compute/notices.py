"""What hosts report by themselves: power that changed, addresses that guests took, metadata that was served, passwords that
guests posted."""

from __future__ import annotations

from sqlalchemy import select

from nephos.agent.guestdata import PASSWORD_MOST
from nephos.compute import notifications
from nephos.compute.interfaces.steps import claim_networks
from nephos.compute.servers import actions, states, store
from nephos.hosts.wire import Seen
from nephos.kernel.cloud import Cloud
from nephos.kernel.db.engine import Tx
from nephos.kernel.operations.store import event, operation
from nephos.network import lookups as network

_SETTLED = frozenset({states.ACTIVE, states.STOPPED, states.PAUSED, states.SUSPENDED, states.RESIZED})
_FOLLOWED = frozenset({None, *states.IMAGING})
"""A guest whose disk is copied may well shut down meanwhile."""
_STOPPED_BY_ITSELF = frozenset({states.SHUTDOWN, states.CRASHED})


def power(cloud: Cloud, tx: Tx, seen: Seen) -> None:
    """Follow the guest's power, as Nova's sync does: only while nothing is being done with the server.

    A guest that shut itself down, or crashed, is a server that is stopped; one that somebody started on the host is
    active again.
    """
    row = store.by_id(tx, seen.id)
    if row is None or row.deleted or row.host_id != seen.host or row.task_state not in _FOLLOWED:
        return
    now = states.POWER.get(seen.value)
    if now is None or row.vm_state not in _SETTLED:
        return
    vm_state = row.vm_state
    if now in _STOPPED_BY_ITSELF and row.vm_state in (states.ACTIVE, states.PAUSED):
        vm_state = states.STOPPED
    elif now == states.RUNNING and row.vm_state == states.STOPPED:
        vm_state = states.ACTIVE
    if (now, vm_state) != (row.power_state, row.vm_state):
        actions.change(tx, cloud, row, power_state=now, vm_state=vm_state)
        notifications.updated(tx, row)


def password(cloud: Cloud, tx: Tx, seen: Seen) -> None:
    """Keep what a guest posted as its password; the first one stays until it is cleared."""
    row = store.by_id(tx, seen.id)
    if row is None or row.deleted or row.host_id != seen.host or row.guest_password is not None:
        return
    if seen.value and len(seen.value) <= PASSWORD_MOST:
        actions.change(tx, cloud, row, guest_password=seen.value)


def needs_changed(tx: Tx, seen: Seen) -> None:
    """The minimum rules of a server's ports changed. Raises Conflict naming what its host has too little of."""
    row = store.by_id(tx, seen.id)
    if row is not None and not row.deleted and row.host_id == seen.host:
        claim_networks(tx, row)


def marked(name: str, cloud: Cloud, tx: Tx, seen: Seen) -> None:
    """Put what a guest did with a port on the timeline of its server's create, once a port."""
    server_id = network.server_of(tx, seen.id)
    if server_id is None:
        return
    chosen = (
        select(operation.c.id, operation.c.created_at)
        .where(operation.c.noun == store.NOUN, operation.c.noun_id == server_id, operation.c.kind == actions.CREATE)
        .order_by(operation.c.created_at.desc())
        .limit(1)
    )
    found = tx.first(chosen)
    row = store.by_id(tx, server_id)
    if found is None or row is None:
        return
    detail = f"{seen.value} (port {seen.id})"
    again = select(event.c.id).where(
        event.c.operation_id == found.id, event.c.name == name, event.c.detail.like(f"%{seen.id})")
    )
    if tx.first(again) is None:
        values = {
            "operation_id": found.id,
            "name": name,
            "host": row.host_name,
            "started_at": row.launched_at or found.created_at,
            "finished_at": seen.at,
            "result": "Success",
            "detail": detail,
        }
        tx.insert(event, values)
