"""What a server that is deleted leaves of its moves."""

from __future__ import annotations

from nephos.compute.moving import store as migrations
from nephos.hosts.guest import ForgetGuest, UnexpectGuest
from nephos.kernel.cloud import Cloud
from nephos.kernel.db.engine import Tx
from nephos.placement.allocations import actions as allocations


def let_go(tx: Tx, cloud: Cloud, server_id: str) -> None:
    """The server is being deleted: nothing of its moves stays, on a host that is away as soon as it is back."""
    for found in migrations.kept(tx, server_id):
        if found.kind == migrations.LIVE:  # it is one host's, or nobody knows whose
            for host_id in (found.source_id, found.target_id):
                task = f"{found.id}:forget {host_id}:0"
                cloud.hosts.send(tx, task, host_id, "guest.unexpect", UnexpectGuest(id=server_id))
        else:
            cloud.hosts.send(tx, f"{found.id}:forget:0", found.source_id, "guest.forget", ForgetGuest(id=server_id))
        allocations.release(tx, found.id)
        status = migrations.CONFIRMED if found.status == migrations.FINISHED else migrations.ERROR
        migrations.change(tx, found.id, kept=False, status=status)
        cloud.hosts.touch(tx, [found.source_id], "guest", [server_id])
