"""What is asked of a guest itself: another password, by the agent in it, and a dump of its kernel, by an interrupt.

One host task each, which changes nothing of the server. The password stands in the server's row only while it is on its way.
"""

from __future__ import annotations

from typing import Any

from nephos import errors
from nephos.compute.building.steps import LOOK_SECONDS, Building
from nephos.compute.lifecycle.actions import require, require_host
from nephos.compute.servers import actions, states, store
from nephos.hosts.guest import DumpGuest, SetPassword
from nephos.kernel.auth.who import Who
from nephos.kernel.cloud import Cloud
from nephos.kernel.db.engine import Tx
from nephos.kernel.operations.model import Kind, Operation, Outcome, Step

PASSWORD, DUMP = "server.change_password", "server.trigger_crash_dump"
_DUMPED = frozenset({states.ACTIVE, states.PAUSED, states.RESCUED, states.RESIZED, states.ERROR})


def change_password(tx: Tx, cloud: Cloud, row: Any, who: Who, request_id: str, password: str) -> str:
    """Begin to change the administrator's password; answers the operation's id. Raises Conflict unless the server runs."""
    actions.refuse_locked(row, who, "changePassword")
    require(row, "changePassword", {states.ACTIVE})
    require_host(tx, cloud, row)
    store.change(tx, row.id, task_state=states.UPDATING_PASSWORD, admin_pass=password)
    return actions.begin(tx, cloud, PASSWORD, row, who, request_id)


def trigger_dump(tx: Tx, cloud: Cloud, row: Any, who: Who, request_id: str) -> None:
    """Begin to interrupt the guest. Raises Conflict in a state that does not allow it."""
    actions.refuse_locked(row, who, "trigger_crash_dump")
    require(row, "trigger_crash_dump", _DUMPED)
    require_host(tx, cloud, row)
    actions.begin(tx, cloud, DUMP, row, who, request_id)


class Inside:
    """The steps of both kinds."""

    def __init__(self, cloud: Cloud, building: Building) -> None:
        self.cloud, self.building = cloud, building

    def kinds(self) -> tuple[Kind, ...]:
        password = Step("password changed", self.change, after=self.changed)
        return (
            Kind(PASSWORD, "changePassword", (password,), 120, self.not_changed),
            Kind(DUMP, "trigger_crash_dump", (Step("interrupted", self.dump),), 120, self.not_dumped),
        )

    def change(self, tx: Tx, operation: Operation) -> Outcome:
        row = self._there(tx, operation)
        properties = (row.image or {}).get("properties", {})
        windows = properties.get("os_type") == "windows"
        user = properties.get("os_admin_user") or ("Administrator" if windows else "root")
        body = SetPassword(id=row.id, user=user, password=row.admin_pass or "")
        return self.cloud.hosts.task(tx, operation, row.host_id, "guest.password", body, seconds=LOOK_SECONDS)

    def changed(self, tx: Tx, operation: Operation, result: Any) -> None:
        row = store.by_id(tx, operation.noun_id)
        if row is not None and not row.deleted and not operation.cancelled:
            store.change(tx, row.id, task_state=None, admin_pass=None)

    def not_changed(self, tx: Tx, operation: Operation, failure: errors.NephosError) -> None:
        """The guest has the password that it had."""
        self.changed(tx, operation, None)

    def dump(self, tx: Tx, operation: Operation) -> Outcome:
        row = self._there(tx, operation)
        return self.cloud.hosts.task(
            tx, operation, row.host_id, "guest.dump", DumpGuest(id=row.id), seconds=LOOK_SECONDS
        )

    def not_dumped(self, tx: Tx, operation: Operation, failure: errors.NephosError) -> None:
        """The server is as it was; the reason stands on the timeline."""

    def _there(self, tx: Tx, operation: Operation) -> Any:
        row = actions.get(tx, operation.noun_id)
        if row.host_id is None or not self.building.is_up(tx, row.host_id):
            raise errors.HostFault(f"Host {row.host_name} went away.")
        return row
