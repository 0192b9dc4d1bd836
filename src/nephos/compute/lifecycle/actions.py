"""What can be asked of a server that exists: power, locks, states. Each checks the server's state as Nova does."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, NamedTuple

from nephos import errors
from nephos.compute.building.steps import Building
from nephos.compute.lifecycle import steps
from nephos.compute.servers import actions, states, store
from nephos.kernel.auth.who import Who
from nephos.kernel.cloud import Cloud
from nephos.kernel.db.engine import Tx

LOCK, UNLOCK, RESET = "server.lock", "server.unlock", "server.reset"
_HARD = frozenset({states.ACTIVE, states.STOPPED, states.PAUSED, states.SUSPENDED, states.ERROR})
_REBOOTING = frozenset({states.REBOOTING, states.REBOOTING_HARD})


def require(row: Any, action: str, vm_states: Collection[str] | None, tasks: Collection[str] = ()) -> None:
    """Raises Conflict, in Nova's words, unless the server is in one of the states and nothing else is being done."""
    if vm_states is not None and row.vm_state not in vm_states:
        raise errors.Conflict(f"Cannot '{action}' instance {row.id} while it is in vm_state {row.vm_state}")
    if row.task_state is not None and row.task_state not in tasks:
        raise errors.Conflict(f"Cannot '{action}' instance {row.id} while it is in task_state {row.task_state}")


def require_host(tx: Tx, cloud: Cloud, row: Any) -> None:
    """Raises Conflict unless the server is on a host, and that host is there."""
    building: Building = cloud.parts["compute"].building
    if row.host_id is None:
        raise errors.Conflict(f"Instance {row.id} is on no host.")
    if not building.is_up(tx, row.host_id):
        raise errors.Conflict(f"Service is unavailable at this time: host {row.host_name} is down.")


def power(
    tx: Tx, cloud: Cloud, row: Any, who: Who, request_id: str, *, kind: str, task: str, action: str, timeout: float
) -> None:
    """Begin a power operation. Raises Conflict when the host is away or something else is being done."""
    require_host(tx, cloud, row)
    store.change(tx, row.id, task_state=task)
    actions.begin(tx, cloud, kind, row, who, request_id, {"action": action, "timeout": timeout})


def start(tx: Tx, cloud: Cloud, row: Any, who: Who, request_id: str) -> None:
    actions.refuse_locked(row, who, "start")
    require(row, "start", {states.STOPPED})
    power(tx, cloud, row, who, request_id, kind=steps.START, task=states.POWERING_ON, action="start", timeout=0)


def stop(tx: Tx, cloud: Cloud, row: Any, who: Who, request_id: str) -> None:
    actions.refuse_locked(row, who, "stop")
    require(row, "stop", {states.ACTIVE, states.ERROR})
    seconds = steps.SHUTDOWN_SECONDS
    power(tx, cloud, row, who, request_id, kind=steps.STOP, task=states.POWERING_OFF, action="stop", timeout=seconds)


def reboot(tx: Tx, cloud: Cloud, row: Any, who: Who, request_id: str, *, hard: bool) -> None:
    actions.refuse_locked(row, who, "reboot")
    require(row, "reboot", _HARD if hard else {states.ACTIVE})
    power(
        tx,
        cloud,
        row,
        who,
        request_id,
        kind=steps.REBOOT,
        task=states.REBOOTING_HARD if hard else states.REBOOTING,
        action="reset" if hard else "reboot",
        timeout=0 if hard else steps.SOFT_REBOOT_SECONDS,
    )


class Hold(NamedTuple):
    """Holding a guest, or letting it go on: the state that it must be in, the task shown, what the host does."""

    kind: str
    vm_state: str
    task: str
    action: str


HOLDS = {
    "pause": Hold(steps.PAUSE, states.ACTIVE, states.PAUSING, "pause"),
    "unpause": Hold(steps.UNPAUSE, states.PAUSED, states.UNPAUSING, "start"),
    "suspend": Hold(steps.SUSPEND, states.ACTIVE, states.SUSPENDING, "suspend"),
    "resume": Hold(steps.RESUME, states.SUSPENDED, states.RESUMING, "start"),
}


def hold(tx: Tx, cloud: Cloud, row: Any, who: Who, request_id: str, name: str) -> None:
    """Pause, unpause, suspend or resume."""
    wanted = HOLDS[name]
    actions.refuse_locked(row, who, name)
    require(row, name, {wanted.vm_state})
    power(tx, cloud, row, who, request_id, kind=wanted.kind, task=wanted.task, action=wanted.action, timeout=0)


def lock(tx: Tx, cloud: Cloud, row: Any, who: Who, request_id: str, reason: str | None) -> None:
    """Only who locked it, or an administrator, unlocks it. At the API only: the guest knows nothing of it (S3-22)."""
    by = "owner" if row.project_id == who.project_id else "admin"
    store.change(tx, row.id, locked_by=by, locked_reason=reason)
    _note(tx, cloud, row, who, request_id, LOCK)


def unlock(tx: Tx, cloud: Cloud, row: Any, who: Who, request_id: str) -> None:
    store.change(tx, row.id, locked_by=None, locked_reason=None)
    _note(tx, cloud, row, who, request_id, UNLOCK)


def reset_state(tx: Tx, cloud: Cloud, row: Any, who: Who, request_id: str, vm_state: str) -> None:
    """An operator says what the state is; what is being done goes on and may say otherwise."""
    store.change(tx, row.id, vm_state=vm_state, task_state=None)
    _note(tx, cloud, row, who, request_id, RESET)


def _note(tx: Tx, cloud: Cloud, row: Any, who: Who, request_id: str, kind: str) -> None:
    cloud.operations.note(
        tx, kind, store.NOUN, row.id, request_id=request_id, project_id=who.project_id, user_id=who.user_id
    )
