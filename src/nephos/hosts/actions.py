"""What services do with hosts: look at them, tell them what changed, give them work."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import Select, bindparam, delete, select, text, update

from nephos import errors
from nephos.hosts import store, wire
from nephos.kernel import clock
from nephos.kernel.db.engine import Tx
from nephos.kernel.doorbell.base import Doorbell
from nephos.kernel.operations.model import Operation, Wait

UP_SECONDS = 30
"""A host that has not been heard of for so long counts as down."""

Provide = Callable[[Tx, str, Sequence[str] | None], Mapping[str, Any]]
"""(tx, host id, item ids or None for all that the host should have) → item id → its struct."""
Notice = Callable[[Tx, wire.Seen], None]

_h, _c, _t = store.host, store.change, store.task
_bump = update(_h).where(_h.c.id == bindparam("host")).values(revision=_h.c.revision + 1)
_bump_all = (
    update(_h)
    .where(_h.c.id.in_(bindparam("hosts", expanding=True)))
    .values(revision=_h.c.revision + 1)
)


class Hosts:
    """The registry of what hosts are told (`provide`) and of who listens to what they see (`notice`)."""

    def __init__(self, doorbell: Doorbell) -> None:
        self._doorbell = doorbell
        self.providers: dict[str, Provide] = {}
        self.notices: dict[str, list[Notice]] = {}
        self.rounds: list[Callable[[Tx], None]] = []
        """Called every ten seconds in a unit of work, as long as a host lives and the server itself does not lag: then a
        host that counts as down is really away."""
        self.asker: Callable[[str, str, str, int | None], Any] | None = None
        self.connected: Callable[[], set[str]] | None = None
        """The ids of the hosts whose agents are connected to this server."""

    def provide(self, kind: str, items: Provide) -> None:
        """`items` builds the desired items of a kind from the ledger, in batches."""
        self.providers[kind] = items

    def notice(self, kind: str, call: Notice) -> None:
        """Call when a host reports that it saw something of this kind."""
        self.notices.setdefault(kind, []).append(call)

    def touch(self, tx: Tx, host_ids: Iterable[str], kind: str, item_ids: Iterable[str]) -> None:
        """These items changed, appeared or went for these hosts: they pull them anew. To be called after the change."""
        ids = list(item_ids)
        for host_id in sorted(set(host_ids)):
            revision = _bumped(tx, host_id)
            if revision is None:
                continue
            if ids:
                _mark(tx, [{"host_id": host_id, "kind": kind, "item_id": each, "revision": revision} for each in ids])
            tx.after_commit(lambda host_id=host_id: self._doorbell.ring(host_id))  # type: ignore[misc]

    def touch_all(self, tx: Tx, items: Mapping[str, Iterable[tuple[str, str]]]) -> None:
        """Like `touch`, for many hosts at once: host id → (kind, item id) pairs; two statements for all of them."""
        if not items:
            return
        marks = [
            {"host_id": row.id, "kind": kind, "item_id": each, "revision": row.revision}
            for row in tx.updated(_bump_all, _h.c.id, _h.c.revision, parameters={"hosts": sorted(items)})
            for kind, each in items[row.id]
        ]
        if marks:
            _mark(tx, marks)

        def ring() -> None:
            for host_id in items:
                self._doorbell.ring(host_id)

        tx.after_commit(ring)

    def task(self, tx: Tx, operation: Operation, host_id: str, kind: str, body: Any, *, seconds: float = 600) -> Wait:
        """Give a host work and wait for its result: to be returned from a step.

        Again with the same attempt: the host is told once more, and one that did it already only repeats its answer.
        Raises HostFault when the host was removed from the cloud.
        """
        if not self.send(tx, operation.task, host_id, kind, body):
            raise errors.HostFault(f"Host {host_id} is not part of this cloud any more.")
        return Wait(operation.task, seconds)

    def send(self, tx: Tx, task_id: str, host_id: str, kind: str, body: Any) -> bool:
        """Give a host work that nobody waits for (a tombstone for a host that is away). False when there is no such host."""
        revision = _bumped(tx, host_id)
        if revision is None:
            return False
        values = {
            "id": task_id,
            "host_id": host_id,
            "kind": kind,
            "body": msgspec.to_builtins(body),
            "revision": revision,
            "created_at": tx.now,
        }
        tx.upsert(_t, values, key=("id",), put=("revision",))
        tx.after_commit(lambda: self._doorbell.ring(host_id))
        return True

    def cancel(self, tx: Tx, task_id: str) -> None:
        """Take back work that the host has not reported on; a late report is ignored."""
        tx.execute(delete(_t).where(_t.c.id == task_id))

    def is_here(self, host_id: str) -> bool:
        """Whether a host's agent is connected to this very server, so that what is asked of it takes no way round."""
        return self.connected is None or host_id in self.connected()

    def ask(self, host_id: str, kind: str, item_id: str = "", limit: int | None = None) -> Any:
        """A live question to a host's agent, outside of any transaction.

        Raises Unavailable when the agent is not connected or does not answer within 10 seconds, HostFault with the
        agent's own reason.
        """
        if self.asker is None:
            raise errors.Unavailable("No agent is connected to this server.")
        return self.asker(host_id, kind, item_id, limit)


def _bumped(tx: Tx, host_id: str) -> int | None:
    """Count a host's revision up; None when there is no such host."""
    rows = tx.updated(_bump, _h.c.revision, parameters={"host": host_id})
    return int(rows[0].revision) if rows else None


def _mark(tx: Tx, rows: list[dict[str, Any]]) -> None:
    tx.upsert(_c, rows, key=("host_id", "kind", "item_id"), put=("revision",))


def enrol(tx: Tx, name: str, public_key: str) -> str:
    """Make a host, or give a known one a new key. Answers its id."""
    known = tx.first(select(_h.c.id).where(_h.c.name == name))
    if known is not None:
        tx.execute(update(_h).where(_h.c.id == known.id).values(public_key=public_key, updated_at=tx.now))
        return str(known.id)
    host_id = clock.uuid4()
    number = (tx.scalar(select(text("max(number)")).select_from(_h)) or 0) + 1
    tx.insert(
        _h,
        {
            "id": host_id,
            "number": number,
            "name": name,
            "public_key": public_key,
            "service_id": clock.uuid4(),
            "physical": [],
            "created_at": tx.now,
            "updated_at": tx.now,
        },
    )
    return host_id


def all_hosts(tx: Tx) -> Sequence[Any]:
    """Every host row, by name. `up(row, now)` tells whether it is there."""
    return tx.all(select(_h).order_by(_h.c.name))


def named(names: Sequence[str]) -> Select[Any]:
    """The ids of the hosts that have these names, for use in a statement."""
    return select(_h.c.id).where(_h.c.name.in_(names))


def get(tx: Tx, host_id: str) -> Any:
    """A host row. Raises NotFound."""
    row = tx.first(select(_h).where(_h.c.id == host_id))
    if row is None:
        raise errors.NotFound(f"Host {host_id} could not be found.")
    return row


def by_name(tx: Tx, name: str) -> Any:
    """A host row. Raises NotFound."""
    row = tx.first(select(_h).where(_h.c.name == name))
    if row is None:
        raise errors.NotFound(f"Host {name} could not be found.")
    return row


def up(row: Any, now: int) -> bool:
    """Whether a host counts as up at `now` (microseconds)."""
    return not row.forced_down and row.last_seen is not None and now - row.last_seen < UP_SECONDS * 1_000_000


def change(tx: Tx, host_id: str, **values: Any) -> None:
    """Set an operator's columns: disabled, disabled_reason, forced_down, zone."""
    tx.execute(update(_h).where(_h.c.id == host_id).values(updated_at=tx.now, generation=_h.c.generation + 1, **values))


def forget(tx: Tx, host_id: str) -> None:
    """Remove a host from the cloud, with the work that waited for it. The caller knows that nothing lives there."""
    tx.execute(delete(_t).where(_t.c.host_id == host_id))
    tx.execute(delete(_c).where(_c.c.host_id == host_id))
    tx.execute(delete(_h).where(_h.c.id == host_id))
