"""The operations that move a server that is shut down, and that end such a move.

A move is: a host is chosen and claimed beside what the server has (which the migration holds from then on); the old host
stops the guest and sets it aside; ports, flavor and host change over in one transaction; the new host fetches what the
old one set aside and makes the guest of it. Undone backwards: what was set aside comes back and runs again. A resize that
stays on its host is the same, with both at one place.

Confirmed, the old host forgets the guest; reverted, the new one does and the old one's comes back.
"""

from __future__ import annotations

from typing import Any

from nephos import errors
from nephos.compute.building import guests
from nephos.compute.building.steps import LOOK_SECONDS, Building, set_error
from nephos.compute.lifecycle.steps import SHUTDOWN_SECONDS
from nephos.compute.moving import links
from nephos.compute.moving import store as migrations
from nephos.compute.moving.actions import CONFIRM, MIGRATE, RESIZE, REVERT
from nephos.compute.servers import actions, states, store
from nephos.hosts.guest import DestroyGuest, ForgetGuest, LeaveGuest, ReceiveGuest, ReturnGuest
from nephos.kernel.cloud import Cloud
from nephos.kernel.db.engine import Tx
from nephos.kernel.operations.model import Kind, Operation, Outcome, Step
from nephos.network import guests as network
from nephos.placement.allocations import actions as allocations

_DAY = 86_400.0


class Moving:
    """The steps of all kinds. An operation's `data` names the migration."""

    def __init__(self, cloud: Cloud, building: Building) -> None:
        self.cloud, self.building = cloud, building

    def kinds(self) -> tuple[Kind, ...]:
        there = (
            Step("filters", self.choose, undo=self.free),
            Step("set aside", self.leave, after=self.left, undo=self.come_back, undone=self.came_back),
            Step("moved", self.move, undo=self.move_back),
            Step("running", self.receive, after=self.received, undo=self.destroy),
        )
        confirm = (Step("forgotten", self.forget), Step("confirmed", self.confirmed))
        revert = (
            Step("removed", self.destroy),
            Step("moved back", self.move_back),
            Step("running", self.come_back, after=self.reverted),
        )
        return (
            Kind(RESIZE, "resize", there, _DAY, self.not_moved),
            Kind(MIGRATE, "migrate", there, _DAY, self.not_moved),
            Kind(CONFIRM, "confirmResize", confirm, 600, self.not_confirmed),
            Kind(REVERT, "revertResize", revert, 600, self.not_reverted),
        )

    # --- there -------------------------------------------------------------------------------------------------

    def choose(self, tx: Tx, operation: Operation) -> Outcome:
        """filters and claim. What the server has is the migration's from now on, as it is with Nova."""
        found = self._migration(tx, operation)
        if found.target_id is not None:
            return None
        row = actions.get(tx, operation.noun_id)
        same = found.kind == migrations.RESIZE and self.cloud.settings.compute.resize_to_same_host
        allocations.transfer(tx, row.id, found.id, consumer_type="MIGRATION")
        placed = self.building.place(
            tx,
            operation,
            row,
            flavor=found.new_flavor,
            needs=network.needs_of_server(tx, row.id),
            host=operation.data.get("host"),
            excluded=() if same else (found.source_id,),
        )
        operation.data["zone"] = placed.zone
        migrations.change(tx, found.id, target_id=placed.host_id, target_name=placed.host_name)
        return None

    def free(self, tx: Tx, operation: Operation) -> Outcome:
        """Undo of `choose`: the server has what it had."""
        found = self._migration(tx, operation)
        if found.target_id is not None:
            allocations.release(tx, operation.noun_id)
            allocations.transfer(tx, found.id, operation.noun_id)
        return None

    def leave(self, tx: Tx, operation: Operation) -> Outcome:
        found = self._migration(tx, operation)
        self._require_up(tx, found.source_id, found.source_name)
        if not found.kept:
            migrations.change(tx, found.id, status=migrations.MIGRATING, kept=True)
            self._show(tx, operation, task_state=states.RESIZE_MIGRATING)
            self.cloud.hosts.touch(tx, [found.source_id], "guest", [operation.noun_id])
        body = LeaveGuest(id=operation.noun_id, timeout=SHUTDOWN_SECONDS)
        return self.cloud.hosts.task(tx, operation, found.source_id, "guest.leave", body, seconds=LOOK_SECONDS)

    def left(self, tx: Tx, operation: Operation, result: Any) -> None:
        self._show(tx, operation, power_state=states.SHUTDOWN)

    def come_back(self, tx: Tx, operation: Operation) -> Outcome:
        """Undo of `leave`, and the end of a revert. A host that is away does it when it comes back."""
        found = self._migration(tx, operation)
        if not found.kept:
            return None
        body = ReturnGuest(id=operation.noun_id, start=found.ran and not operation.cancelled)
        if operation.kind != REVERT and not self.building.is_up(tx, found.source_id):
            self.cloud.hosts.send(tx, operation.task, found.source_id, "guest.return", body)
            operation.mark("host is away", host=found.source_name, detail="the guest goes on when it comes back")
            migrations.change(tx, found.id, kept=False)
            return None
        return self.cloud.hosts.task(tx, operation, found.source_id, "guest.return", body, seconds=LOOK_SECONDS)

    def came_back(self, tx: Tx, operation: Operation, result: Any) -> None:
        found = self._migration(tx, operation)
        migrations.change(tx, found.id, kept=False)
        self.cloud.hosts.touch(tx, [found.source_id], "guest", [operation.noun_id])
        self._show(tx, operation, power_state=states.RUNNING if found.ran else states.SHUTDOWN)
        network.activate(tx, self.cloud, operation.noun_id)

    def move(self, tx: Tx, operation: Operation) -> Outcome:
        """Ports, flavor and host change over."""
        found = self._migration(tx, operation)
        row = actions.get(tx, operation.noun_id)
        zone = operation.data["zone"]
        network.bind(tx, self.cloud, row.id, found.target_id, zone=zone)
        migrations.change(tx, found.id, status=migrations.POST_MIGRATING)
        self._settle(tx, row, found.target_id, found.target_name, zone)
        flavor = {"flavor_id": found.new_flavor_id, "flavor": found.new_flavor}
        self._show(tx, operation, task_state=states.RESIZE_MIGRATED, **flavor)
        return None

    def move_back(self, tx: Tx, operation: Operation) -> Outcome:
        """Undo of `move`; of a revert, where also what the migration holds is the server's again."""
        found = self._migration(tx, operation)
        row = store.by_id(tx, operation.noun_id)
        if row is None or row.deleted:
            return None
        network.bind(tx, self.cloud, row.id, found.source_id, zone=found.source_zone or "")
        self._settle(tx, row, found.source_id, found.source_name, found.source_zone)
        flavor = {"flavor_id": found.old_flavor_id, "flavor": found.old_flavor}
        store.change(tx, row.id, **flavor)
        if operation.kind == REVERT and "back" not in operation.data:
            operation.data["back"] = True
            allocations.release(tx, row.id)
            allocations.transfer(tx, found.id, row.id)
        return None

    def receive(self, tx: Tx, operation: Operation) -> Outcome:
        found = self._migration(tx, operation)
        row = actions.get(tx, operation.noun_id)
        self._require_up(tx, found.target_id, found.target_name)
        self._require_up(tx, found.source_id, found.source_name)
        if row.task_state != states.RESIZE_FINISH:
            self._show(tx, operation, task_state=states.RESIZE_FINISH)
        operation.data["told"] = True
        ports = network.ports_of(tx, [row.id]).get(row.id, [])
        body = ReceiveGuest(
            guest=guests.guest_of(row, ports),
            link=links.link(found) if found.source_id != found.target_id else None,
            start=found.ran,
            **{
                name: guests.image(self.cloud, found.target_id, operation.task, part)
                for name, part in operation.data.get("parts", {}).items()
            },
        )
        return self.cloud.hosts.task(tx, operation, found.target_id, "guest.receive", body, seconds=LOOK_SECONDS)

    def received(self, tx: Tx, operation: Operation, result: Any) -> None:
        """The guest is there, and waits to be confirmed or reverted."""
        if operation.cancelled:
            return
        found = self._migration(tx, operation)
        migrations.change(tx, found.id, status=migrations.FINISHED, finished_at=tx.now)
        self._show(
            tx,
            operation,
            vm_state=states.RESIZED,
            task_state=None,
            power_state=states.RUNNING if found.ran else states.SHUTDOWN,
            launched_at=tx.now,
            fault=None,
        )
        network.activate(tx, self.cloud, operation.noun_id)

    def destroy(self, tx: Tx, operation: Operation) -> Outcome:
        """Undo of `receive`, and the begin of a revert: the new host has no guest of it any more."""
        found = self._migration(tx, operation)
        if operation.kind != REVERT and "told" not in operation.data:
            return None
        body = DestroyGuest(id=operation.noun_id)
        if not self.building.is_up(tx, found.target_id):
            if found.target_id == found.source_id:
                raise errors.HostFault(f"Host {found.target_name} went away.")
            self.cloud.hosts.send(tx, operation.task, found.target_id, "guest.destroy", body)
            operation.mark("host is away", host=found.target_name, detail="the guest is removed when it comes back")
            return None
        return self.cloud.hosts.task(tx, operation, found.target_id, "guest.destroy", body, seconds=LOOK_SECONDS)

    def not_moved(self, tx: Tx, operation: Operation, failure: errors.NephosError) -> None:
        """All is undone: the server is what it was, and the reason stands on the timeline and in its fault. It is in ERROR
        when its host could not take it back."""
        found = self._migration(tx, operation)
        migrations.change(tx, found.id, status=migrations.ERROR)
        row = store.by_id(tx, operation.noun_id)
        if row is None or row.deleted:
            return
        was = found.old_flavor
        actions.change(tx, self.cloud, row, vcpus=was["vcpus"], ram_mb=was["ram_mb"])
        if operation.cancelled:
            return
        if found.kept:
            set_error(tx, row.id, failure.message)
            return
        fault = {"code": 500, "message": failure.message, "details": None, "created": tx.now}
        store.change(tx, row.id, task_state=None, fault=fault)

    # --- confirmed -----------------------------------------------------------------------------------------------

    def forget(self, tx: Tx, operation: Operation) -> Outcome:
        """The old host gives up what it set aside; one that is away does when it comes back."""
        found = self._migration(tx, operation)
        if not found.kept:
            return None
        body = ForgetGuest(id=operation.noun_id)
        if not self.building.is_up(tx, found.source_id):
            self.cloud.hosts.send(tx, operation.task, found.source_id, "guest.forget", body)
            operation.mark("host is away", host=found.source_name, detail="the guest is forgotten when it comes back")
            return None
        return self.cloud.hosts.task(tx, operation, found.source_id, "guest.forget", body, seconds=LOOK_SECONDS)

    def confirmed(self, tx: Tx, operation: Operation) -> Outcome:
        found = self._migration(tx, operation)
        row = store.by_id(tx, operation.noun_id)
        if not found.kept or row is None or row.deleted:
            return None
        allocations.release(tx, found.id)
        migrations.change(tx, found.id, status=migrations.CONFIRMED, kept=False)
        self.cloud.hosts.touch(tx, [found.source_id], "guest", [row.id])
        now = found.new_flavor
        vm_state = states.STOPPED if row.power_state in (states.SHUTDOWN, states.CRASHED) else states.ACTIVE
        self._show(
            tx, operation, vm_state=vm_state, task_state=None, vcpus=now["vcpus"], ram_mb=now["ram_mb"]
        )
        return None

    def not_confirmed(self, tx: Tx, operation: Operation, failure: errors.NephosError) -> None:
        """It waits as before, and can be confirmed again."""
        self._waits_again(tx, operation)

    # --- reverted ------------------------------------------------------------------------------------------------

    def reverted(self, tx: Tx, operation: Operation, result: Any) -> None:
        found = self._migration(tx, operation)
        migrations.change(tx, found.id, status=migrations.REVERTED, kept=False)
        self.cloud.hosts.touch(tx, [found.source_id], "guest", [operation.noun_id])
        if operation.cancelled:
            return
        was = found.old_flavor
        self._show(
            tx,
            operation,
            vm_state=states.ACTIVE if found.ran else states.STOPPED,
            task_state=None,
            power_state=states.RUNNING if found.ran else states.SHUTDOWN,
            vcpus=was["vcpus"],
            ram_mb=was["ram_mb"],
            launched_at=tx.now,
        )
        network.activate(tx, self.cloud, operation.noun_id)

    def not_reverted(self, tx: Tx, operation: Operation, failure: errors.NephosError) -> None:
        """Before the server changed over it waits as before; after that it is its old host's, which could not go on."""
        if "back" not in operation.data:
            self._waits_again(tx, operation)
            return
        row = store.by_id(tx, operation.noun_id)
        if row is not None and not row.deleted and not operation.cancelled:
            migrations.change(tx, operation.data["migration"], status=migrations.ERROR)
            set_error(tx, row.id, failure.message)

    # --- what they share -----------------------------------------------------------------------------------------

    def _waits_again(self, tx: Tx, operation: Operation) -> None:
        found = self._migration(tx, operation)
        row = store.by_id(tx, operation.noun_id)
        if found.kept:
            migrations.change(tx, found.id, status=migrations.FINISHED)
        if row is not None and not row.deleted and not operation.cancelled:
            self._show(tx, operation, task_state=None)

    def _migration(self, tx: Tx, operation: Operation) -> Any:
        return migrations.by_id(tx, operation.data["migration"])

    def _show(self, tx: Tx, operation: Operation, **values: Any) -> None:
        """Change what is shown of the server, unless it is being deleted."""
        row = store.by_id(tx, operation.noun_id)
        if row is None or row.deleted:
            return
        if operation.cancelled:
            values.pop("task_state", None)
        if values:
            actions.change(tx, self.cloud, row, **values)

    def _settle(self, tx: Tx, row: Any, host_id: str, host_name: str, zone: str | None) -> None:
        """The server is on this host now: the one before is told too."""
        store.change(tx, row.id, host_id=host_id, host_name=host_name, zone=zone)
        self.cloud.hosts.touch(tx, {row.host_id, host_id}, "guest", [row.id])

    def _require_up(self, tx: Tx, host_id: str, name: str) -> None:
        if not self.building.is_up(tx, host_id):
            raise errors.HostFault(f"Host {name} went away.")
