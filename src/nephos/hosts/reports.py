"""What a host tells: who it is, results of tasks, sightings."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from sqlalchemy import bindparam, delete, select, update

from nephos import errors
from nephos.hosts import store, wire
from nephos.kernel.cloud import Cloud
from nephos.kernel.db.engine import Tx
from nephos.kernel.operations.model import Mark

SIGNED = b"nephos-agent:"
_forget = delete(store.task).where(store.task.c.id == bindparam("task"))


def prove(cloud: Cloud, nonce: bytes, hello: wire.Hello) -> dict[str, str]:
    """Check every host's signature. Answers host name → id; raises Unauthorized naming the host that fails."""
    with cloud.database.read() as tx:
        rows = {row.name: row for row in tx.all(select(store.host.c.id, store.host.c.name, store.host.c.public_key))}
    ids: dict[str, str] = {}
    for host in hello.hosts:
        row = rows.get(host.name)
        if row is None:
            raise errors.Unauthorized(f"Host {host.name} is not enrolled in this cloud.")
        try:
            key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(row.public_key))
            key.verify(host.signature, SIGNED + nonce + host.name.encode())
        except (InvalidSignature, ValueError) as wrong:
            raise errors.Unauthorized(f"Host {host.name} does not prove that it is itself.") from wrong
        ids[host.name] = row.id
    return ids


def arrive(cloud: Cloud, hello: wire.Hello, ids: dict[str, str]) -> None:
    """Keep what the hosts say of themselves. Services hear of it by the notice `host` (value: the host's name)."""

    def work(tx: Tx) -> None:
        for host in hello.hosts:
            values = {
                "hypervisor_type": host.hypervisor_type,
                "hypervisor_version": host.hypervisor_version,
                "vcpus": host.vcpus,
                "ram_mb": host.ram_mb,
                "disk_gb": host.disk_gb,
                "cpu_info": host.cpu_info,
                "tunnel_address": host.tunnel_address,
                "physical": list(host.physical),
            }
            table = store.host
            old = tx.first(select(table).where(table.c.id == ids[host.name]))
            changed = old is not None and any(getattr(old, name) != value for name, value in values.items())
            more = {"generation": table.c.generation + 1} if changed else {}
            tx.execute(
                update(table)
                .where(table.c.id == ids[host.name])
                .values(**values, **more, last_seen=tx.now, updated_at=tx.now)
            )
            seen = wire.Seen(ids[host.name], "host", ids[host.name], host.name, tx.now)
            for call in cloud.hosts.notices.get("host", ()):
                call(tx, seen)

    cloud.database.write(work)


def alive(cloud: Cloud, host_ids: list[str]) -> None:
    """These hosts were heard of just now."""

    def work(tx: Tx) -> None:
        tx.execute(update(store.host).where(store.host.c.id.in_(host_ids)).values(last_seen=tx.now, updated_at=tx.now))

    cloud.database.write(work)


def take(cloud: Cloud, report: wire.Report, ids: dict[str, str]) -> None:
    """Put a report into the ledger, each result in a unit of work of its own, many to a commit.

    A host speaks only for itself: what names a host that the connection did not prove is dropped.
    """
    works: list[Callable[[Tx], None]] = []
    for result in report.results:
        if result.host in ids:
            works.append(partial(_result, cloud, result, ids[result.host]))
    for seen in report.seen:
        if seen.host in ids:
            works.append(partial(_seen, cloud, wire.Seen(ids[seen.host], seen.kind, seen.id, seen.value, seen.at)))
    for future in [cloud.database.submit(work) for work in works]:
        future.result()


def _result(cloud: Cloud, result: wire.Result, host_id: str, tx: Tx) -> None:
    row = tx.first(select(store.task.c.host_id).where(store.task.c.id == result.task))
    if row is None or row.host_id != host_id:
        return
    tx.execute(_forget, {"task": result.task})
    marks = [Mark(mark.name, mark.started, mark.finished, mark.detail) for mark in result.marks]
    cloud.operations.resume(tx, result.task, result.value, result.error, marks, result.host)


def _seen(cloud: Cloud, seen: wire.Seen, tx: Tx) -> None:
    for call in cloud.hosts.notices.get(seen.kind, ()):
        call(tx, seen)
