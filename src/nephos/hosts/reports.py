"""What a host tells: who it is, results of tasks, sightings."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from sqlalchemy import bindparam, delete, select, update

from nephos import errors
from nephos.hosts import store, wire
from nephos.kernel.cloud import Cloud
from nephos.kernel.db.engine import Tx
from nephos.kernel.operations.model import Mark

log = logging.getLogger(__name__)
SIGNED = b"nephos-agent:"
_owner = select(store.task.c.host_id).where(store.task.c.id == bindparam("task"))
_forget = delete(store.task).where(store.task.c.id == bindparam("task"))
_prune = delete(store.change).where(
    store.change.c.host_id == bindparam("host"), store.change.c.revision <= bindparam("pulled")
)


def prove(cloud: Cloud, nonce: bytes, hello: wire.Hello, certified: str | None = None) -> dict[str, str]:
    """Check every host's signature. Answers host name → id; raises Unauthorized naming the host that fails.

    `certified` is the key of the certificate that opened the connection, where there was one: it must be the hosts' own.
    """
    if not hello.hosts:
        raise errors.Unauthorized("An agent speaks for at least one host.")
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
        if certified is not None and certified != row.public_key:
            raise errors.Unauthorized(f"Host {host.name} presents a certificate of another host.")
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
                "switch": host.switch,
                "tunnel_fallback": host.tunnel_fallback,
                "network_capacity": host.network_capacity,
                "trusts": list(host.trusts) or None,
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


def alive(cloud: Cloud, pulled: Mapping[str, int], *, steady: bool = False) -> None:
    """These hosts (by id) were heard of just now, and have what changed up to these revisions.

    A host that connects pulls everything, so nobody needs to know of those changes any more. `steady` is that the
    server has listened without a gap for longer than a host may be silent.
    """

    def work(tx: Tx) -> None:
        tx.execute(
            update(store.host).where(store.host.c.id.in_(list(pulled))).values(last_seen=tx.now, updated_at=tx.now)
        )
        rows = [{"host": host_id, "pulled": revision} for host_id, revision in pulled.items() if revision]
        if rows:
            tx.execute(_prune, rows)

    cloud.database.write(work)
    for turn in cloud.hosts.rounds if steady else ():
        cloud.database.write(turn)


def take(cloud: Cloud, report: wire.Report, ids: dict[str, str]) -> None:
    """Put a report into the ledger, each result in a unit of work of its own, many to a commit.

    A host speaks only for itself: what names a host that the connection did not prove is dropped. What the ledger
    cannot take for a reason of its own fails its operation, so that it does not come again for ever. Raises Unavailable
    when the ledger cannot be written: then the host keeps the report.
    """
    results = [
        (each, cloud.database.submit(partial(_result, cloud, each, ids[each.host])))
        for each in report.results
        if each.host in ids
    ]
    sightings = [
        cloud.database.submit(partial(_seen, cloud, wire.Seen(ids[each.host], each.kind, each.id, each.value, each.at)))
        for each in report.seen
        if each.host in ids
    ]
    for result, future in results:
        try:
            future.result()
        except errors.Unavailable:
            raise
        except Exception as wrong:
            log.exception("the result of task %s", result.task)
            _refuse(cloud, result, ids[result.host], f"{type(wrong).__name__}: {wrong}")
    for sighting in sightings:
        try:
            sighting.result()
        except errors.Unavailable:
            raise
        except Exception:
            log.exception("a sighting")


def _result(cloud: Cloud, result: wire.Result, host_id: str, tx: Tx) -> None:
    if tx.scalar(_owner, {"task": result.task}) != host_id:
        return
    tx.execute(_forget, {"task": result.task})
    marks = [Mark(mark.name, mark.started, mark.finished, mark.detail) for mark in result.marks]
    cloud.operations.resume(tx, result.task, result.value, result.error, marks, result.host)


def _refuse(cloud: Cloud, result: wire.Result, host_id: str, why: str) -> None:
    failed = wire.Result(result.task, result.host, f"The server could not take the host's result: {why}")
    try:
        cloud.database.write(partial(_result, cloud, failed, host_id))
    except errors.Unavailable:
        raise
    except Exception:
        log.exception("the failure of task %s", result.task)


def _seen(cloud: Cloud, seen: wire.Seen, tx: Tx) -> None:
    for call in cloud.hosts.notices.get(seen.kind, ()):
        call(tx, seen)
