"""What a host is told: the items that changed since its revision, or all; and a digest of all."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

import msgspec
from sqlalchemy import bindparam, select

from nephos.hosts import store, wire
from nephos.hosts.actions import Hosts
from nephos.kernel.db.engine import Tx

_revision = select(store.host.c.revision).where(store.host.c.id == bindparam("host"))
_changes = select(store.change.c.kind, store.change.c.item_id).where(
    store.change.c.host_id == bindparam("host"), store.change.c.revision > bindparam("since")
)
_tasks = (
    select(store.task.c.id, store.task.c.kind, store.task.c.body)
    .where(store.task.c.host_id == bindparam("host"), store.task.c.revision > bindparam("since"))
    .order_by(store.task.c.number)
)
_encode = msgspec.msgpack.Encoder().encode


def changes(tx: Tx, hosts: Hosts, name: str, host_id: str, since: int) -> wire.HostState:
    """The answer to one host's pull. `since` 0, or from another life of the ledger, means everything."""
    revision = tx.scalar(_revision, {"host": host_id}) or 0
    full = since == 0 or since > revision
    items: list[wire.Item] = []
    if full:
        for kind, key, body in _everything(tx, hosts, host_id):
            items.append(wire.Item(kind, key, body))
    elif since < revision:
        wanted: dict[str, list[str]] = {}
        for row in tx.all(_changes, {"host": host_id, "since": since}):
            wanted.setdefault(row.kind, []).append(row.item_id)
        for kind, ids in sorted(wanted.items()):
            found = hosts.providers[kind](tx, host_id, ids) if kind in hosts.providers else {}
            for key in ids:
                thing = found.get(key)
                items.append(wire.Item(kind, key, None if thing is None else _encode(thing)))
    tasks = tuple(
        wire.Task(row.id, row.kind, msgspec.Raw(_encode(row.body)))
        for row in tx.all(_tasks, {"host": host_id, "since": 0 if full else since})
    )
    return wire.HostState(name, revision, full, tuple(items), tasks)


def digest_of(tx: Tx, hosts: Hosts, host_id: str) -> bytes:
    """The digest of all that a host should have, as `digest` computes it from the agent's copy."""
    return digest({(kind, key): body for kind, key, body in _everything(tx, hosts, host_id)})


def digest(items: Mapping[tuple[str, str], bytes]) -> bytes:
    """Order-free digest of encoded items by (kind, id)."""
    total = hashlib.sha256()
    for (kind, key), body in sorted(items.items()):
        total.update(f"{kind}\0{key}\0{len(body)}\0".encode())
        total.update(body)
    return total.digest()


def _everything(tx: Tx, hosts: Hosts, host_id: str) -> Iterable[tuple[str, str, bytes]]:
    for kind, provide in sorted(hosts.providers.items()):
        for key, body in provide(tx, host_id, None).items():
            yield kind, key, _encode(body)
