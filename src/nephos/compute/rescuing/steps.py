"""The operations that bring a server into rescue and back: one host task each. A rescue that fails is ended by the host."""

from __future__ import annotations

from typing import Any

from nephos import errors
from nephos.compute.building import guests
from nephos.compute.building.steps import LOOK_SECONDS, Building, set_error
from nephos.compute.lifecycle.steps import SHUTDOWN_SECONDS
from nephos.compute.rescuing.actions import RESCUE, UNRESCUE
from nephos.compute.servers import actions, states, store
from nephos.hosts.guest import RescueGuest, UnrescueGuest
from nephos.kernel.cloud import Cloud
from nephos.kernel.db.engine import Tx
from nephos.kernel.operations.model import Kind, Operation, Outcome, Step
from nephos.network import guests as network


class Rescuing:
    """The steps of both kinds. A rescue's `data` holds the image's parts and properties, and whether the guest ran."""

    def __init__(self, cloud: Cloud, building: Building) -> None:
        self.cloud, self.building = cloud, building

    def kinds(self) -> tuple[Kind, ...]:
        rescue = Step("rescued", self.rescue, after=self.rescued, undo=self.bring_back, undone=self.brought_back)
        unrescue = Step("unrescued", self.unrescue, after=self.unrescued)
        deadline = float(self.cloud.settings.compute.build_timeout)
        return (
            Kind(RESCUE, "rescue", (rescue,), deadline, self.not_rescued),
            Kind(UNRESCUE, "unrescue", (unrescue,), 300, self.not_unrescued),
        )

    def rescue(self, tx: Tx, operation: Operation) -> Outcome:
        row = self._there(tx, operation)
        operation.data["told"] = True
        ports = network.ports_of(tx, [row.id]).get(row.id, [])
        made = guests.create_task(self.cloud, row, ports, operation.data["parts"], operation.task)
        body = RescueGuest(
            guest=made.guest,
            root=made.root,
            kernel=made.kernel,
            ramdisk=made.ramdisk,
            properties={key: str(value) for key, value in operation.data["properties"].items() if value is not None},
            timeout=SHUTDOWN_SECONDS,
        )
        return self.cloud.hosts.task(tx, operation, row.host_id, "guest.rescue", body, seconds=LOOK_SECONDS)

    def rescued(self, tx: Tx, operation: Operation, result: Any) -> None:
        values = {"vm_state": states.RESCUED, "power_state": states.RUNNING}
        self._show(tx, operation, task_state=None, admin_pass=None, fault=None, **values)

    def bring_back(self, tx: Tx, operation: Operation) -> Outcome:
        """Undo of `rescue`: the guest is what it was. One that is to be deleted is left to that."""
        row = store.by_id(tx, operation.noun_id)
        gone = row is None or row.deleted or operation.cancelled or "told" not in operation.data
        if gone or not self.building.is_up(tx, row.host_id):  # type: ignore[union-attr]
            return None
        assert row is not None
        body = UnrescueGuest(id=row.id, start=operation.data["ran"])
        return self.cloud.hosts.task(tx, operation, row.host_id, "guest.unrescue", body, seconds=LOOK_SECONDS)

    def brought_back(self, tx: Tx, operation: Operation, result: Any) -> None:
        operation.data["back"] = True

    def not_rescued(self, tx: Tx, operation: Operation, failure: errors.NephosError) -> None:
        """The server is as it was, with the reason in its fault; in ERROR when its host could not bring it back."""
        row = store.by_id(tx, operation.noun_id)
        if row is None or row.deleted or operation.cancelled:
            return
        if "told" in operation.data and "back" not in operation.data:
            set_error(tx, row.id, failure.message)
            return
        fault = {"code": 500, "message": failure.message, "details": None, "created": tx.now}
        self._show(tx, operation, task_state=None, admin_pass=None, fault=fault)

    def unrescue(self, tx: Tx, operation: Operation) -> Outcome:
        row = self._there(tx, operation)
        body = UnrescueGuest(id=row.id, start=True)
        return self.cloud.hosts.task(tx, operation, row.host_id, "guest.unrescue", body, seconds=LOOK_SECONDS)

    def unrescued(self, tx: Tx, operation: Operation, result: Any) -> None:
        self._show(
            tx, operation, vm_state=states.ACTIVE, power_state=states.RUNNING, task_state=None, fault=None
        )

    def not_unrescued(self, tx: Tx, operation: Operation, failure: errors.NephosError) -> None:
        """It is in rescue as before, and can be asked again; the reason stands on the timeline."""
        self._show(tx, operation, task_state=None)

    def _there(self, tx: Tx, operation: Operation) -> Any:
        row = actions.get(tx, operation.noun_id)
        if row.host_id is None or not self.building.is_up(tx, row.host_id):
            raise errors.HostFault(f"Host {row.host_name} went away.")
        return row

    def _show(self, tx: Tx, operation: Operation, **values: Any) -> None:
        row = store.by_id(tx, operation.noun_id)
        if row is not None and not row.deleted and not operation.cancelled:
            actions.change(tx, self.cloud, row, **values)
