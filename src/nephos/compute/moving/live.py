"""The operation that moves a server while it runs.

A host is chosen and claimed beside what the server has; it makes disks and taps and opens a way in; the host where the
guest is leads it there, memory and disks, and stops having it; then ports and host change over in one transaction, and
the new host wires what the guest already runs on. Until it has left, everything is undone and the guest never stopped.
"""

from __future__ import annotations

from typing import Any

import msgspec

from nephos import errors
from nephos.compute.building import guests
from nephos.compute.building.steps import LOOK_SECONDS, Building, set_error
from nephos.compute.moving import links, preconditions
from nephos.compute.moving import store as migrations
from nephos.compute.moving.actions import LIVE_MIGRATE
from nephos.compute.servers import actions, store
from nephos.hosts.guest import (
    DestroyGuest,
    Expectation,
    ExpectGuest,
    KeepGuest,
    SendGuest,
    SettleGuest,
    SteerGuest,
    UnexpectGuest,
)
from nephos.hosts.wire import Seen
from nephos.hypervisor.base import Progress
from nephos.kernel.cloud import Cloud
from nephos.kernel.db.engine import Tx
from nephos.kernel.operations.model import Kind, Operation, Outcome, Step
from nephos.network import guests as network
from nephos.placement.allocations import actions as allocations

_DAY = 86_400.0


class Live:
    """The steps. An operation's `data` names the migration, and says when the guest has left."""

    def __init__(self, cloud: Cloud, building: Building) -> None:
        self.cloud, self.building = cloud, building

    def kinds(self) -> tuple[Kind, ...]:
        return (
            Kind(
                LIVE_MIGRATE,
                "live-migration",
                (
                    Step("filters", self.choose, undo=self.free),
                    Step("expected", self.expect, after=self.expected, undo=self.unexpect),
                    Step("sent", self.send, after=self.sent, undo=self.keep, undone=self.found),
                    Step("moved", self.move),
                    Step("plugged", self.settle),
                    Step("forgotten", self.forget, after=self.completed),
                ),
                _DAY,
                self.failed,
            ),
        )

    def choose(self, tx: Tx, operation: Operation) -> Outcome:
        """filters and claim; one that is forced to a host only has to have room there. What the server has is the
        migration's from now on."""
        found = self._migration(tx, operation)
        if found.target_id is not None:
            return None
        self._require_wanted(found)
        row = actions.get(tx, operation.noun_id)
        unfit = preconditions.unfit(tx, found.source_id)
        allocations.transfer(tx, row.id, found.id, consumer_type="MIGRATION")
        try:
            placed = self.building.place(
                tx,
                operation,
                row,
                flavor=row.flavor,
                needs=network.needs_of_server(tx, row.id),
                host=operation.data.get("host"),
                forced=bool(operation.data.get("forced")),
                excluded=(found.source_id, *unfit),
            )
        except errors.NoValidHost as none:
            raise errors.NoValidHost(" ".join([none.message, *unfit.values()])) from none
        operation.data["zone"] = placed.zone
        values = {"target_id": placed.host_id, "target_name": placed.host_name, "status": migrations.PREPARING}
        migrations.change(tx, found.id, **values)
        return None

    def free(self, tx: Tx, operation: Operation) -> Outcome:
        found = self._migration(tx, operation)
        astray = self._astray(operation) and not operation.cancelled
        if found.target_id is not None and "left" not in operation.data and not astray:
            allocations.release(tx, operation.noun_id)
            allocations.transfer(tx, found.id, operation.noun_id)
        return None

    def expect(self, tx: Tx, operation: Operation) -> Outcome:
        found = self._migration(tx, operation)
        row = actions.get(tx, operation.noun_id)
        self._require_up(tx, found)
        operation.data["told"] = True
        ports = network.ports_of(tx, [row.id]).get(row.id, [])
        body = ExpectGuest(
            guest=guests.guest_of(row, ports),
            link=links.link(found),
            **{
                name: guests.image(self.cloud, found.target_id, operation.task, part)
                for name, part in operation.data.get("parts", {}).items()
            },
        )
        return self.cloud.hosts.task(tx, operation, found.target_id, "guest.expect", body, seconds=LOOK_SECONDS)

    def expected(self, tx: Tx, operation: Operation, result: Any) -> None:
        operation.data["to"] = msgspec.to_builtins(msgspec.convert(result, Expectation))
        found = self._migration(tx, operation)
        if found.status == migrations.PREPARING:
            migrations.change(tx, found.id, status=migrations.RUNNING)

    def unexpect(self, tx: Tx, operation: Operation) -> Outcome:
        """Undo of `expect`; never once the guest has left its old host, or may have."""
        found = self._migration(tx, operation)
        if "told" not in operation.data or "left" in operation.data:
            return None
        if self._astray(operation) and not operation.cancelled:
            return None
        ports = network.ports_of(tx, [operation.noun_id]).get(operation.noun_id, [])
        body = UnexpectGuest(id=operation.noun_id, ports=tuple(port.id for port in ports))
        if not self.building.is_up(tx, found.target_id):
            self.cloud.hosts.send(tx, operation.task, found.target_id, "guest.unexpect", body)
            operation.mark("host is away", host=found.target_name, detail="what was made there goes when it comes back")
            return None
        return self.cloud.hosts.task(tx, operation, found.target_id, "guest.unexpect", body, seconds=LOOK_SECONDS)

    def send(self, tx: Tx, operation: Operation) -> Outcome:
        found = self._migration(tx, operation)
        self._require_up(tx, found)
        self._require_wanted(found)
        operation.data["asked"] = True
        to = msgspec.convert(operation.data["to"], Expectation)
        body = SendGuest(id=operation.noun_id, link=links.link(found), to=to)
        return self.cloud.hosts.task(tx, operation, found.source_id, "guest.send", body, seconds=LOOK_SECONDS)

    def keep(self, tx: Tx, operation: Operation) -> Outcome:
        """Undo of `send`: stop it, and learn where the guest is. Nothing of it is removed anywhere before that is known."""
        if "asked" not in operation.data or "left" in operation.data:
            return None
        found = self._migration(tx, operation)
        abort = SteerGuest(server=operation.noun_id, action="abort")
        self.cloud.hosts.send(tx, f"{found.id}:abort:{operation.attempt}", found.source_id, "guest.steer", abort)
        body = KeepGuest(id=operation.noun_id)
        return self.cloud.hosts.task(tx, operation, found.source_id, "guest.keep", body, seconds=LOOK_SECONDS)

    def found(self, tx: Tx, operation: Operation, result: Any) -> None:
        if result:
            operation.data["here"] = True
        else:
            self._change_over(tx, operation)

    def _astray(self, operation: Operation) -> bool:
        """Whether nobody knows on which of the two hosts the guest is: the old one does not say."""
        return "asked" in operation.data and not operation.data.keys() & {"here", "left"}

    def sent(self, tx: Tx, operation: Operation, result: Any) -> None:
        """The guest runs on the new host: from here there is only forward, also for a delete that came meanwhile."""
        self._change_over(tx, operation)

    def move(self, tx: Tx, operation: Operation) -> Outcome:
        """Over already with the host's answer; here it is on the timeline."""
        self._change_over(tx, operation)
        return None

    def _change_over(self, tx: Tx, operation: Operation) -> None:
        """Ports, host and capacity are the new host's."""
        if "left" in operation.data:
            return
        operation.data["left"] = True
        found = self._migration(tx, operation)
        row = store.by_id(tx, operation.noun_id)
        if row is None or row.deleted:
            return
        zone = operation.data["zone"]
        network.bind(tx, self.cloud, row.id, found.target_id, zone=zone)
        network.activate(tx, self.cloud, row.id)
        allocations.release(tx, found.id)
        migrations.change(tx, found.id, status=migrations.POST_MIGRATING, kept=True)
        store.change(tx, row.id, host_id=found.target_id, host_name=found.target_name, zone=zone)
        self.cloud.hosts.touch(tx, {found.source_id, found.target_id}, "guest", [row.id])

    def settle(self, tx: Tx, operation: Operation) -> Outcome:
        found = self._migration(tx, operation)
        if not self.building.is_up(tx, found.target_id):
            return None
        body = SettleGuest(id=operation.noun_id)
        return self.cloud.hosts.task(tx, operation, found.target_id, "guest.settle", body, seconds=LOOK_SECONDS)

    def forget(self, tx: Tx, operation: Operation) -> Outcome:
        """The old host gives up the guest's files; one that is away does when it comes back."""
        found = self._migration(tx, operation)
        body = DestroyGuest(id=operation.noun_id)
        if not self.building.is_up(tx, found.source_id):
            self.cloud.hosts.send(tx, operation.task, found.source_id, "guest.destroy", body)
            self.completed(tx, operation, None)
            return None
        return self.cloud.hosts.task(tx, operation, found.source_id, "guest.destroy", body, seconds=LOOK_SECONDS)

    def completed(self, tx: Tx, operation: Operation, result: Any) -> None:
        found = self._migration(tx, operation)
        migrations.change(tx, found.id, status=migrations.COMPLETED, kept=False, finished_at=tx.now)
        self.cloud.hosts.touch(tx, [found.source_id], "guest", [operation.noun_id])
        row = store.by_id(tx, operation.noun_id)
        if row is not None and not row.deleted and not operation.cancelled:
            actions.change(tx, self.cloud, row, task_state=None)

    def failed(self, tx: Tx, operation: Operation, failure: errors.NephosError) -> None:
        """The guest runs where it was, or where it went; the reason stands on the timeline and in the fault."""
        found = self._migration(tx, operation)
        row = store.by_id(tx, operation.noun_id)
        if self._astray(operation) and not operation.cancelled:
            migrations.change(tx, found.id, status=migrations.ERROR, kept=True)
            set_error(
                tx,
                operation.noun_id,
                f"{failure.message} Host {found.source_name} does not say whether the guest left it for "
                f"{found.target_name}: nothing was removed from either.",
            )
            return
        if "left" in operation.data:
            if found.kept:
                body = DestroyGuest(id=operation.noun_id)
                self.cloud.hosts.send(tx, f"{found.id}:forget:0", found.source_id, "guest.destroy", body)
            self.completed(tx, operation, None)
        else:
            status = migrations.CANCELLED if found.status == migrations.CANCELLED else migrations.ERROR
            migrations.change(tx, found.id, status=status, kept=False)
        if row is None or row.deleted or operation.cancelled:
            return
        fault = {"code": 500, "message": failure.message, "details": None, "created": tx.now}
        store.change(tx, row.id, task_state=None, fault=fault)

    def _migration(self, tx: Tx, operation: Operation) -> Any:
        return migrations.by_id(tx, operation.data["migration"])

    def _require_wanted(self, found: Any) -> None:
        if found.status == migrations.CANCELLED:
            raise errors.Conflict("The migration was given up.")

    def _require_up(self, tx: Tx, found: Any) -> None:
        for host_id, name in ((found.source_id, found.source_name), (found.target_id, found.target_name)):
            if not self.building.is_up(tx, host_id):
                raise errors.HostFault(f"Host {name} went away.")


def progressed(tx: Tx, seen: Seen) -> None:
    """A host says how far a guest is that it sends."""
    for found in migrations.going_on(tx, seen.id):
        if found.kind == migrations.LIVE and found.source_id == seen.host:
            progress = msgspec.json.decode(seen.value, type=Progress)
            migrations.change(tx, found.id, progress=msgspec.to_builtins(progress))
            total = progress.memory_total + progress.disk_total
            left = progress.memory_remaining + progress.disk_remaining
            store.change(tx, seen.id, progress=100 * max(total - left, 0) // total if total else 0)
