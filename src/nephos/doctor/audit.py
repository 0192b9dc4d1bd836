"""What is stuck, orphaned or left over, in the ledger and on the hosts. An empty list means nothing is.

Services add their own checks of the ledger (`cloud.audits`); here are those of operations, tasks and hosts.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from sqlalchemy import select

from nephos.errors import NephosError
from nephos.hosts import actions as hosts
from nephos.hosts import store as host_store
from nephos.kernel.cloud import Cloud, Finding
from nephos.kernel.db.engine import Tx
from nephos.kernel.operations import store
from nephos.kernel.operations.model import LIVE

GRACE = 10_000_000
"""Microseconds that an operation may be past its time before it counts as stuck."""


def audit(cloud: Cloud) -> list[Finding]:
    """Every finding, the ledger's first."""
    with cloud.database.read() as tx:
        found = list(_operations(tx))
        found += _tasks(tx)
        for check in cloud.audits:
            found += check(tx)
        rows = [row for row in hosts.all_hosts(tx) if hosts.up(row, tx.now)]
    for row in rows:
        found += _host(cloud, row.id, row.name)
    return found


def _operations(tx: Tx) -> Iterator[Finding]:
    table = store.operation
    for row in tx.all(select(table).where(table.c.state.in_(LIVE))):
        what = f"{row.kind} of {row.noun} {row.noun_id} at step {row.step!r}"
        if row.deadline + GRACE < tx.now:
            yield Finding("operation", row.id, f"{what} is past its deadline")
        elif row.due_at + GRACE < tx.now and row.after is None:
            yield Finding("operation", row.id, f"{what} is due and nobody looks at it")


def _tasks(tx: Tx) -> Iterator[Finding]:
    """A task of an operation that ended, for a host that is there to do it: nobody waits for it."""
    task, operation, host = host_store.task, store.operation, host_store.host
    statement = (
        select(task.c.id, task.c.kind, task.c.created_at, host)
        .join(host, host.c.id == task.c.host_id)
        .where(
            ~select(operation.c.id).where(task.c.id.startswith(operation.c.id), operation.c.state.in_(LIVE)).exists()
        )
    )
    for row in tx.all(statement):
        if hosts.up(row, tx.now) and row.created_at + GRACE < tx.now:
            yield Finding("task", row[0], f"{row.kind} waits on host {row.name} and no operation waits for it")


def _host(cloud: Cloud, host_id: str, name: str) -> Iterator[Finding]:
    try:
        left = cloud.hosts.ask(host_id, "leftovers")
    except NephosError as wrong:
        yield Finding("host", name, f"cannot be asked: {wrong.message}")
        return
    for _, kind, thing, why in left:
        yield Finding(kind, f"{name}/{thing}", why)


def plain(found: list[Finding]) -> list[dict[str, str]]:
    return [msgspec.to_builtins(each) for each in found]
