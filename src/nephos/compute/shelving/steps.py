"""The operations that shelve a server, free its host, and make it a guest again.

The host is freed only when the image service has the disk. Undone, a shelved server is what it was: one that ran runs
again, one that could not be unshelved stays shelved.
"""

from __future__ import annotations

from typing import Any

from nephos import errors
from nephos.compute.building import guests
from nephos.compute.building.steps import LOOK_SECONDS, Building
from nephos.compute.lifecycle.steps import SHUTDOWN_SECONDS
from nephos.compute.servers import actions, states, store
from nephos.compute.shelving.actions import OFFLOAD, SHELVE, UNSHELVE, begin_offload
from nephos.compute.snapshots.steps import Snapshots
from nephos.hosts.guest import DestroyGuest, SetPower
from nephos.image.data import bringing
from nephos.kernel.cloud import Cloud
from nephos.kernel.db.engine import Tx
from nephos.kernel.operations.model import DONE, Kind, Operation, Outcome, Step
from nephos.network import guests as network
from nephos.placement.allocations import actions as allocations


class Shelving:
    """The steps of all kinds. A shelving's `data` is that of a snapshot, an unshelving's names host and image parts."""

    def __init__(self, cloud: Cloud, building: Building) -> None:
        self.cloud, self.building = cloud, building
        self.snapshots = Snapshots(
            cloud, building, (states.SHELVING, states.SHELVING_IMAGE_PENDING_UPLOAD, states.SHELVING_IMAGE_UPLOADING)
        )

    def kinds(self) -> tuple[Kind, ...]:
        shelve = (
            Step("stopped", self.stop, after=self.stopped, undo=self.start_again, undone=self.started),
            *self.snapshots.steps(),
            Step("shelved", self.shelved),
        )
        offload = (Step("domain removed", self.remove), Step("offloaded", self.offloaded))
        unshelve = (
            Step("filters", self.choose, undo=self.free),
            Step("running", self.spawn, after=self.spawned, undo=self.destroy),
        )
        deadline = float(self.cloud.settings.compute.build_timeout)
        return (
            Kind(SHELVE, "shelve", shelve, 6 * 3600, self.not_shelved),
            Kind(OFFLOAD, "shelveOffload", offload, 600, self.not_changed),
            Kind(UNSHELVE, "unshelve", unshelve, deadline, self.not_changed),
        )

    # --- shelve ------------------------------------------------------------------------------------------------

    def stop(self, tx: Tx, operation: Operation) -> Outcome:
        row = actions.get(tx, operation.noun_id)
        self._require_up(tx, row)
        operation.data["told"] = True
        body = SetPower(id=row.id, action="stop", timeout=SHUTDOWN_SECONDS)
        return self.cloud.hosts.task(tx, operation, row.host_id, "guest.power", body, seconds=LOOK_SECONDS)

    def stopped(self, tx: Tx, operation: Operation, result: Any) -> None:
        self._show(tx, operation, power_state=states.SHUTDOWN)

    def start_again(self, tx: Tx, operation: Operation) -> Outcome:
        """Undo of `stop`, for a server that ran; one that was held is stopped."""
        row = store.by_id(tx, operation.noun_id)
        ran = operation.data["was"] == states.ACTIVE and "told" in operation.data and not operation.cancelled
        if row is None or row.deleted or not ran or not self.building.is_up(tx, row.host_id):
            return None
        body = SetPower(id=row.id, action="start", timeout=0)
        return self.cloud.hosts.task(tx, operation, row.host_id, "guest.power", body, seconds=LOOK_SECONDS)

    def started(self, tx: Tx, operation: Operation, result: Any) -> None:
        operation.data["again"] = True

    def shelved(self, tx: Tx, operation: Operation) -> Outcome:
        image_id = operation.data["image"]
        if not bringing.is_active(tx, image_id):
            raise errors.Conflict(f"Image {image_id} was deleted while the server was shelved.")
        self._show(
            tx,
            operation,
            vm_state=states.SHELVED,
            task_state=None,
            shelved_image_id=image_id,
            shelved_at=tx.now,
            fault=None,
        )
        return self.snapshots.drop(tx, operation)

    def not_shelved(self, tx: Tx, operation: Operation, failure: errors.NephosError) -> None:
        bringing.give_up(tx, self.cloud, operation.data["image"])
        if "told" not in operation.data:
            self._show(tx, operation, task_state=None)
            return
        on = "again" in operation.data
        vm_state = states.ACTIVE if on else states.STOPPED
        self._show(
            tx, operation, vm_state=vm_state, task_state=None, power_state=states.RUNNING if on else states.SHUTDOWN
        )

    # --- offload -----------------------------------------------------------------------------------------------

    def remove(self, tx: Tx, operation: Operation) -> Outcome:
        """A host that is away finds the tombstone when it comes back."""
        row = store.by_id(tx, operation.noun_id)
        if row is None or row.host_id is None:
            return None
        if not bringing.is_active(tx, row.shelved_image_id or ""):
            raise errors.Conflict("The server's image is gone: only its host has its disk.")
        return self._destroy(tx, operation, row)

    def offloaded(self, tx: Tx, operation: Operation) -> Outcome:
        row = store.by_id(tx, operation.noun_id)
        if row is not None and not row.deleted:
            self._leave(tx, row)
            self._show(tx, operation, vm_state=states.SHELVED_OFFLOADED, task_state=None)
        return None

    def ended(self, tx: Tx, operation: Operation) -> None:
        """A server that was shelved is offloaded at once where the settings say so. One that is deleted takes its image
        along."""
        if operation.noun != store.NOUN or operation.state != DONE:
            return
        if operation.kind == actions.DELETE:
            row = store.by_id(tx, operation.noun_id)
            if row is not None and row.deleted and row.shelved_image_id:
                bringing.give_up(tx, self.cloud, row.shelved_image_id)
        elif operation.kind == SHELVE and self.cloud.settings.compute.shelved_offload_time == 0:
            row = store.by_id(tx, operation.noun_id)
            if row is not None and row.vm_state == states.SHELVED and not operation.cancelled:
                begin_offload(
                    tx, self.cloud, row, operation.request_id, operation.project_id, operation.user_id
                )

    # --- unshelve ----------------------------------------------------------------------------------------------

    def choose(self, tx: Tx, operation: Operation) -> Outcome:
        """filters, claim and binding: the host is the server's and its ports'. One that was not offloaded has them."""
        row = actions.get(tx, operation.noun_id)
        if "here" in operation.data or row.host_id is not None:
            return None
        placed = self.building.place(
            tx,
            operation,
            row,
            flavor=row.flavor,
            needs=network.needs_of_server(tx, row.id),
            host=operation.data.get("host"),
        )
        store.change(
            tx,
            row.id,
            host_id=placed.host_id,
            host_name=placed.host_name,
            zone=placed.zone,
            task_state=states.SPAWNING,
        )
        network.bind(tx, self.cloud, row.id, placed.host_id, zone=placed.zone)
        return None

    def free(self, tx: Tx, operation: Operation) -> Outcome:
        """Undo of `choose`."""
        row = store.by_id(tx, operation.noun_id)
        if row is not None and not row.deleted and "here" not in operation.data:
            self._leave(tx, row)
        return None

    def spawn(self, tx: Tx, operation: Operation) -> Outcome:
        row = actions.get(tx, operation.noun_id)
        self._require_up(tx, row)
        operation.data["told"] = True
        if "here" in operation.data:
            body: Any = SetPower(id=row.id, action="start", timeout=0)
            return self.cloud.hosts.task(tx, operation, row.host_id, "guest.power", body, seconds=LOOK_SECONDS)
        ports = network.ports_of(tx, [row.id]).get(row.id, [])
        body = guests.create_task(self.cloud, row, ports, operation.data["parts"], operation.task)
        self.cloud.hosts.touch(tx, [row.host_id], "guest", [row.id])
        return self.cloud.hosts.task(tx, operation, row.host_id, "guest.create", body, seconds=LOOK_SECONDS)

    def spawned(self, tx: Tx, operation: Operation, result: Any) -> None:
        """The guest runs, and the image that it was meanwhile is not needed any more."""
        row = store.by_id(tx, operation.noun_id)
        if row is None or row.deleted or operation.cancelled:
            return
        bringing.give_up(tx, self.cloud, row.shelved_image_id or "")
        self._show(
            tx,
            operation,
            vm_state=states.ACTIVE,
            power_state=states.RUNNING,
            task_state=None,
            shelved_image_id=None,
            shelved_at=None,
            launched_at=tx.now,
            fault=None,
        )
        network.activate(tx, self.cloud, row.id)

    def destroy(self, tx: Tx, operation: Operation) -> Outcome:
        """Undo of `spawn`: the disk of a server that was not offloaded stays where it is."""
        row = store.by_id(tx, operation.noun_id)
        if row is None or row.host_id is None or "told" not in operation.data or "here" in operation.data:
            return None
        return self._destroy(tx, operation, row)

    def not_changed(self, tx: Tx, operation: Operation, failure: errors.NephosError) -> None:
        """The server is as shelved as before; why stands on the timeline and in its fault."""
        fault = {"code": 500, "message": failure.message, "details": None, "created": tx.now}
        self._show(tx, operation, task_state=None, fault=fault)

    # --- what they share -----------------------------------------------------------------------------------------

    def _destroy(self, tx: Tx, operation: Operation, row: Any) -> Outcome:
        body = DestroyGuest(id=row.id)
        if self.building.is_up(tx, row.host_id):
            return self.cloud.hosts.task(tx, operation, row.host_id, "guest.destroy", body, seconds=LOOK_SECONDS)
        operation.mark("host is away", host=row.host_name, detail="the guest is removed when it comes back")
        self.cloud.hosts.send(tx, operation.task, row.host_id, "guest.destroy", body)
        return None

    def _leave(self, tx: Tx, row: Any) -> None:
        """The server is on no host: ports are unbound with their addresses kept, capacity is given back."""
        network.unbind(tx, self.cloud, row.id)
        allocations.release(tx, row.id)
        if row.host_id is not None:
            store.change(tx, row.id, host_id=None, host_name=None, zone=None)
            self.cloud.hosts.touch(tx, [row.host_id], "guest", [row.id])

    def _require_up(self, tx: Tx, row: Any) -> None:
        if row.host_id is None or not self.building.is_up(tx, row.host_id):
            raise errors.HostFault(f"Host {row.host_name} went away.")

    def _show(self, tx: Tx, operation: Operation, **values: Any) -> None:
        row = store.by_id(tx, operation.noun_id)
        if row is not None and not row.deleted and not operation.cancelled:
            actions.change(tx, self.cloud, row, **values)
