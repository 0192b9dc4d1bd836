"""The outbox: a notification is a row, written by the very unit of work that makes the change it tells of.

So none is lost and none tells of what was rolled back. `delivery` carries the rows out after the commit. Where no sink
is set there is no outbox (`Tx.outbox` is None), and nobody spends time on payloads.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from sqlalchemy import Text, bindparam, delete, func, select, type_coerce, update

from nephos.kernel import clock
from nephos.kernel.db.engine import Tx
from nephos.kernel.notifications.origin import Origin, caused_by
from nephos.kernel.notifications.store import notification, sink

INFO, ERROR = "INFO", "ERROR"
HOST = socket.gethostname()
"""Part of the publisher's name, where it is not the host of a guest."""
SECRETS = frozenset(
    {
        "admin_pass",
        "adminPass",
        "auth_token",
        "blob",
        "original_password",
        "password",
        "password_hash",
        "private_key",
        "psk",
        "secret",
        "secret_hash",
        "user_data",
    }
)
"""Keys that no payload keeps, whoever made it."""
MOST_REASON = 1000
_n = notification
_waiting = (
    select(
        _n.c.id,
        _n.c.service,
        _n.c.topic,
        _n.c.event_type,
        type_coerce(_n.c.message, Text).label("message"),
        _n.c.created_at,
    )
    .where(_n.c.sink == bindparam("sink"), _n.c.dead.is_(False))
    .order_by(_n.c.id)
    .limit(bindparam("most"))
)
_gone = delete(_n).where(_n.c.id.in_(bindparam("ids", expanding=True)))
_refuse = update(_n).where(_n.c.id == bindparam("key")).values(dead=True, reason=bindparam("why"))


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened, as the service's own listeners know it.

    `service` is the exchange (nova, neutron, keystone, glance), `resource` orders: what is told of one resource arrives
    in the order in which it happened. Versioned ones go to `versioned_notifications`, as Nova's do.
    """

    service: str
    publisher: str
    event: str
    payload: Any
    resource: str
    priority: str = INFO
    versioned: bool = False


class Waiting(msgspec.Struct, frozen=True):
    """A notification on its way to one sink. `message` is its JSON text, `created` microseconds since the epoch."""

    id: int
    service: str
    topic: str
    event: str
    message: str
    created: int


class Outbox:
    """`sinks` are the names of all that get everything; `omit` the event types that nobody gets. `basic` asks identity
    for Keystone's basic notifications in place of CADF events."""

    def __init__(
        self, sinks: Sequence[str], omit: Collection[str], ring: Callable[[], None], *, basic: bool = False
    ) -> None:
        self.sinks, self.basic = tuple(sinks), basic
        self._omit, self._ring = frozenset(omit), ring

    def wants(self, event: str) -> bool:
        return event not in self._omit

    def put(self, tx: Tx, *notices: Notice) -> None:
        """Write notices in their order; they leave when the unit of work is durable."""
        context = _context(caused_by.get()())
        stamp = str(datetime.fromtimestamp(tx.now / 1_000_000, UTC).replace(tzinfo=None))
        rows = []
        for notice in notices:
            if not self.wants(notice.event):
                continue
            topic = "versioned_notifications" if notice.versioned else "notifications"
            message_id = clock.uuid4()
            message = {
                "message_id": message_id,
                "publisher_id": notice.publisher,
                "event_type": notice.event,
                "priority": notice.priority,
                "payload": without_secrets(notice.payload),
                "timestamp": stamp,
                "_unique_id": message_id.replace("-", ""),
                **context,
            }
            encoded = msgspec.Raw(msgspec.json.encode(message))
            rows += [
                {
                    "sink": name,
                    "service": notice.service,
                    "topic": f"{topic}.{notice.priority.lower()}",
                    "event_type": notice.event,
                    "resource": notice.resource,
                    "message": encoded,
                    "created_at": tx.now,
                    "dead": False,
                }
                for name in self.sinks
            ]
        if rows:
            tx.insert(_n, rows)
            tx.after_commit(self._ring)


def without_secrets(value: Any) -> Any:
    """The same without the keys that listeners must not see, at any depth."""
    if isinstance(value, dict):
        return {name: without_secrets(item) for name, item in value.items() if name not in SECRETS}
    if isinstance(value, list | tuple):
        return [without_secrets(item) for item in value]
    return value


def _context(origin: Origin) -> dict[str, Any]:
    """The caller as oslo.context names it, with the prefix that oslo.messaging packs it under."""
    found = {
        "user": origin.user_id,
        "user_id": origin.user_id,
        "user_name": origin.user_name,
        "user_domain": origin.user_domain_id,
        "project": origin.project_id,
        "project_id": origin.project_id,
        "tenant": origin.project_id,
        "project_domain": origin.project_domain_id,
        "domain": origin.domain_id,
        "system_scope": origin.system_scope,
        "roles": sorted(origin.roles),
        "request_id": origin.request_id,
        "global_request_id": origin.global_request_id,
    }
    return {f"_context_{name}": value for name, value in found.items() if value}


# --- what delivery needs ---------------------------------------------------------------------------------------------


def waiting(tx: Tx, name: str, most: int) -> list[Waiting]:
    """The next ones of a sink, oldest first."""
    rows = tx.all(_waiting, {"sink": name, "most": most})
    return [Waiting(row.id, row.service, row.topic, row.event_type, row.message, row.created_at) for row in rows]


def delivered(tx: Tx, ids: Sequence[int]) -> None:
    if ids:
        tx.execute(_gone, {"ids": list(ids)})


def refused(tx: Tx, reasons: Sequence[tuple[int, str]]) -> None:
    """These are not tried again; they are kept as dead letters with the reason."""
    for number, why in reasons:
        tx.execute(_refuse, {"key": number, "why": why[:MOST_REASON]})


def expire(tx: Tx, name: str, before: int, why: str) -> None:
    """What has waited since before a moment becomes a dead letter."""
    tx.execute(
        update(_n)
        .where(_n.c.sink == name, _n.c.dead.is_(False), _n.c.created_at < before)
        .values(dead=True, reason=why[:MOST_REASON])
    )


def purge(tx: Tx, name: str, before: int) -> None:
    """Forget a sink's dead letters from before a moment."""
    tx.execute(delete(_n).where(_n.c.sink == name, _n.c.dead.is_(True), _n.c.created_at < before))


def forget_others(tx: Tx, names: Sequence[str], before: int) -> None:
    """Forget what waits since before a moment for a sink that is set no more."""
    tx.execute(delete(_n).where(_n.c.sink.not_in(names), _n.c.created_at < before))
    tx.execute(delete(sink).where(sink.c.name.not_in(names), func.coalesce(sink.c.lease_until, 0) < before))


def abandon(tx: Tx) -> None:
    """End all leases: for a server at its start, where it is the only one and so nobody holds any."""
    tx.execute(update(sink).values(lease_owner=None, lease_until=None))


class Backlog(msgspec.Struct, frozen=True):
    """How one sink does: what waits since when (microseconds), dead letters, and why nothing gets through."""

    name: str
    waiting: int
    since: int | None
    dead: int
    error: str | None


def backlogs(tx: Tx, names: Sequence[str]) -> list[Backlog]:
    counted = select(
        _n.c.sink, _n.c.dead, func.count().label("many"), func.min(_n.c.created_at).label("since")
    ).group_by(_n.c.sink, _n.c.dead)
    found = {(row.sink, bool(row.dead)): (int(row.many), row.since) for row in tx.all(counted)}
    wrong = {row.name: row.error for row in tx.all(select(sink.c.name, sink.c.error))}
    answers = []
    for name in sorted({*names, *(pair[0] for pair in found)}):
        count, since = found.get((name, False), (0, None))
        dead = found.get((name, True), (0, None))[0]
        answers.append(Backlog(name, count, since, dead, wrong.get(name)))
    return answers
