"""The operations that switch a server's guest on, off, or on again: one host task each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from nephos import errors
from nephos.compute.building.steps import LOOK_SECONDS, Building
from nephos.compute.servers import actions, states, store
from nephos.hosts.guest import SetPower
from nephos.kernel.cloud import Cloud
from nephos.kernel.db.engine import Tx
from nephos.kernel.operations.model import Kind, Operation, Outcome, Step

START, STOP, REBOOT = "server.start", "server.stop", "server.reboot"
PAUSE, UNPAUSE = "server.pause", "server.unpause"
SUSPEND, RESUME = "server.suspend", "server.resume"
SHUTDOWN_SECONDS = 60.0
"""How long a guest may take to shut itself down before the plug is pulled."""
SOFT_REBOOT_SECONDS = 120.0


class Change(NamedTuple):
    """What a kind does: Nova's name for it, the states it leads to."""

    action: str
    vm_state: str
    power: int


CHANGES = {
    START: Change("start", states.ACTIVE, states.RUNNING),
    STOP: Change("stop", states.STOPPED, states.SHUTDOWN),
    REBOOT: Change("reboot", states.ACTIVE, states.RUNNING),
    PAUSE: Change("pause", states.PAUSED, states.POWER_PAUSED),
    UNPAUSE: Change("unpause", states.ACTIVE, states.RUNNING),
    SUSPEND: Change("suspend", states.SUSPENDED, states.SHUTDOWN),
    RESUME: Change("resume", states.ACTIVE, states.RUNNING),
}


class Lifecycle:
    """The steps of all power kinds. An operation's `data` holds the host's action and its timeout."""

    def __init__(self, cloud: Cloud, building: Building) -> None:
        self.cloud, self.building = cloud, building

    def kinds(self) -> tuple[Kind, ...]:
        return tuple(
            Kind(name, change.action, (Step("power", self.ask, after=self.done(change)),), 300, self.failed)
            for name, change in CHANGES.items()
        )

    def ask(self, tx: Tx, operation: Operation) -> Outcome:
        row = actions.get(tx, operation.noun_id)
        if not self.building.is_up(tx, row.host_id):
            raise errors.HostFault(f"Host {row.host_name} went away.")
        body = SetPower(id=row.id, action=operation.data["action"], timeout=operation.data["timeout"])
        return self.cloud.hosts.task(tx, operation, row.host_id, "guest.power", body, seconds=LOOK_SECONDS)

    def done(self, change: Change) -> Callable[[Tx, Operation, Any], None]:
        def after(tx: Tx, operation: Operation, result: Any) -> None:
            row = store.by_id(tx, operation.noun_id)
            if row is None or row.deleted or operation.cancelled:
                return
            values = {"vm_state": change.vm_state, "power_state": change.power, "task_state": None, "fault": None}
            actions.change(tx, self.cloud, row, **values)

        return after

    def failed(self, tx: Tx, operation: Operation, failure: errors.NephosError) -> None:
        """The guest is as it was; the reason stands on the timeline."""
        row = store.by_id(tx, operation.noun_id)
        if row is not None and not row.deleted and not operation.cancelled:
            store.change(tx, row.id, task_state=None)
