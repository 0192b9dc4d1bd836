"""The operation that makes a server anew on the host where it is, with the flavor, the ports and the addresses that it has.

The host fetches the image before it gives up the old disk, and gives that up in the same task that makes the new one: a
refusal before is one after which the old guest is whole. A server that was stopped stays stopped.
"""

from __future__ import annotations

from typing import Any

from nephos import errors
from nephos.compute.building import guests
from nephos.compute.building.steps import LOOK_SECONDS, Building, set_error
from nephos.compute.rebuilding.actions import REBUILD
from nephos.compute.servers import actions, states, store
from nephos.hosts.guest import RebuildGuest
from nephos.kernel.cloud import Cloud
from nephos.kernel.db.engine import Tx
from nephos.kernel.operations.model import Kind, Operation, Outcome, Step
from nephos.network import guests as network


class Rebuilding:
    """The steps. An operation's `data` holds the image's parts, what the image was before, and what to keep."""

    def __init__(self, cloud: Cloud, building: Building) -> None:
        self.cloud, self.building = cloud, building

    def kinds(self) -> tuple[Kind, ...]:
        return (
            Kind(
                REBUILD,
                "rebuild",
                (
                    Step("filters", self.check, undo=self.put_back),
                    Step("rebuilt", self.spawn, after=self.spawned),
                ),
                deadline=float(self.cloud.settings.compute.build_timeout),
                failed=self.failed,
            ),
        )

    def check(self, tx: Tx, operation: Operation) -> Outcome:
        """Another image may want what the host does not have."""
        if operation.data["checked"]:
            return None
        from nephos.compute.scheduler.claim import refusal
        from nephos.compute.scheduler.filters import Request, run

        row = actions.get(tx, operation.noun_id)
        request = Request(resources={}, host=row.host_name, image=(row.image or {}).get("properties", {}), forced=False)
        snapshot, _ = self.building.cache.get(tx, self.cloud.settings.compute, fresh=True)
        mask, removed = run(snapshot, request, only=REBUILT)
        if not mask.any():
            raise errors.NoValidHost(refusal(snapshot, removed))
        return None

    def put_back(self, tx: Tx, operation: Operation) -> Outcome:
        """Undo of `check`: as long as no host was told, the guest is what it was, and the server says so."""
        row = store.by_id(tx, operation.noun_id)
        if row is not None and not row.deleted and "told" not in operation.data:
            actions.change(tx, self.cloud, row, **operation.data["before"])
        return None

    def spawn(self, tx: Tx, operation: Operation) -> Outcome:
        row = actions.get(tx, operation.noun_id)
        if row.host_id is None or not self.building.is_up(tx, row.host_id):
            raise errors.HostFault(f"Host {row.host_name} went away.")
        if operation.data.get("told") != operation.task:
            operation.data["told"] = operation.task
            actions.change(tx, self.cloud, row, task_state=states.REBUILD_SPAWNING)
        ports = network.ports_of(tx, [row.id]).get(row.id, [])
        made = guests.create_task(self.cloud, row, ports, operation.data["parts"], operation.task)
        body = RebuildGuest(
            guest=made.guest,
            root=made.root,
            kernel=made.kernel,
            ramdisk=made.ramdisk,
            keep_ephemeral=operation.data["preserve_ephemeral"],
            start=not operation.data["stopped"],
        )
        return self.cloud.hosts.task(tx, operation, row.host_id, "guest.rebuild", body, seconds=LOOK_SECONDS)

    def spawned(self, tx: Tx, operation: Operation, result: Any) -> None:
        row = store.by_id(tx, operation.noun_id)
        if row is None or row.deleted or operation.cancelled:
            return
        stopped = operation.data["stopped"]
        actions.change(
            tx,
            self.cloud,
            row,
            vm_state=states.STOPPED if stopped else states.ACTIVE,
            power_state=states.SHUTDOWN if stopped else states.RUNNING,
            task_state=None,
            launched_at=tx.now,
            admin_pass=None,
            fault=None,
        )
        network.activate(tx, self.cloud, row.id)

    def failed(self, tx: Tx, operation: Operation, failure: errors.NephosError) -> None:
        """The server keeps its host, ports and addresses, so that it can be rebuilt again."""
        row = store.by_id(tx, operation.noun_id)
        if row is None or row.deleted or operation.cancelled:
            return
        set_error(tx, row.id, failure.message)
        actions.touch(tx, self.cloud, row)


REBUILT = frozenset({"ForcedHost", "ImagePropertiesFilter"})
"""The filters by which an image may be refused on the host where the server is."""
