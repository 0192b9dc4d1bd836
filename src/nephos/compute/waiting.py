"""Requests that are answered when what they asked for is done, as Nova's are where it calls the host and waits."""

from __future__ import annotations

from sqlalchemy import bindparam, select

from nephos import errors
from nephos.kernel import clock
from nephos.kernel.http.call import Call
from nephos.kernel.operations.model import DONE, FAILED
from nephos.kernel.operations.store import operation

WAIT_SECONDS = 30.0
_state = select(operation.c.state, operation.c.error).where(operation.c.id == bindparam("id"))


def wait(call: Call, operation_id: str, failed: str) -> None:
    """Until an operation is over, or for WAIT_SECONDS. Raises HostFault with its reason, after the words of `failed` and the
    server's id."""
    until = clock.monotonic() + WAIT_SECONDS
    pause = 0.005
    while clock.monotonic() < until:
        with call.cloud.database.read() as tx:
            row = tx.first(_state, {"id": operation_id})
        if row is not None and row.state == FAILED:
            raise errors.HostFault(f"{failed} {call.params['server']}: {row.error}")
        if row is None or row.state == DONE:
            return
        clock.sleep(pause)
        pause = min(pause * 2, 0.1)
