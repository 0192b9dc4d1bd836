"""Start, advance, undo and finish operations, all inside units of work; see `model` for the notions.

One advance runs as many steps as go through without waiting, in one transaction. The ledger's one writer orders all of
them, so the state, the step and the lease that an advance reads are the ones that it replaces.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from functools import partial
from typing import Any

import msgspec
from sqlalchemy import bindparam, or_, select, update

from nephos import errors
from nephos.kernel import clock, failpoint
from nephos.kernel.db.engine import Tx
from nephos.kernel.doorbell.base import OPERATIONS, Doorbell
from nephos.kernel.notifications.origin import acting
from nephos.kernel.operations import store
from nephos.kernel.operations.model import (
    DONE,
    FAILED,
    LIVE,
    RUNNING,
    UNDOING,
    Failure,
    Kind,
    Later,
    Mark,
    Operation,
    Outcome,
    Outside,
    Step,
    Wait,
)

log = logging.getLogger(__name__)
UNDO_SECONDS = 300.0
ONLY = "server"
"""Who holds a lease where there is one server."""
AGAIN_SECONDS = 5.0
"""After an unforeseen error, when to try the same again."""
_SECOND = 1_000_000
_o = store.operation
_is_live = or_(_o.c.state == RUNNING, _o.c.state == UNDOING)
_by_id = select(_o).where(_o.c.id == bindparam("id"))
_to_advance = _by_id.with_for_update(skip_locked=True)
"""What another server is looking at just now is left to it."""
_live = (
    select(_o)
    .where(_o.c.noun == bindparam("noun"), _o.c.noun_id == bindparam("noun_id"), _is_live)
    .order_by(_o.c.created_at.desc(), _o.c.after.is_(None))
)
_state = select(_o.c.state).where(_o.c.id == bindparam("id"))
_follower = select(_o.c.id, _o.c.kind).where(_o.c.after == bindparam("id"), _is_live)
_look = update(_o).where(_o.c.id == bindparam("key")).values(due_at=bindparam("at"))
_cancel = update(_o).where(_o.c.id == bindparam("key")).values(cancelled=True, due_at=bindparam("at"))
_release = (
    update(_o).where(_o.c.id == bindparam("key")).values(due_at=bindparam("at"), lease_owner=None, lease_until=None)
)
_renew = (
    update(_o)
    .where(_o.c.id == bindparam("key"), _o.c.lease_owner == bindparam("owner"))
    .values(due_at=bindparam("at"), lease_until=bindparam("at"))
)
_abandon = (
    update(_o)
    .where(_o.c.state.in_(LIVE), _o.c.lease_owner.is_not(None))
    .values(due_at=bindparam("at"), lease_owner=None, lease_until=None)
)
_save = (
    update(_o)
    .where(_o.c.id == bindparam("key"))
    .values(
        {
            name: bindparam(name)
            for name in (
                "state",
                "step",
                "attempt",
                "due_at",
                "deadline",
                "data",
                "error",
                "updated_at",
                "finished_at",
                "lease_owner",
                "lease_until",
            )
        }
    )
)


class Operations:
    """All kinds of operations, and the one way to run them."""

    def __init__(self, doorbell: Doorbell, owner: str | None = None) -> None:
        """`owner` names this server among those of one ledger, the same after a restart; None where it is the only one."""
        self.doorbell = doorbell
        self.owner = owner
        self.kinds: dict[str, Kind] = {}
        self.began: list[Callable[[Tx, Operation], None]] = []
        """Called in the unit of work that writes an operation."""
        self.ended: list[Callable[[Tx, Operation], None]] = []
        """Called in the unit of work in which an operation ends."""
        self.voided: list[Callable[[Tx, str], None]] = []
        """Called with the name of a task (`Operation.task`) whose answer will be ignored from now on."""

    def register(self, kinds: Iterable[Kind]) -> None:
        for kind in kinds:
            self.kinds[kind.name] = kind

    # --- beginning -------------------------------------------------------------------------------------------

    def start(
        self,
        tx: Tx,
        kind: str,
        noun: str,
        noun_id: str,
        *,
        request_id: str = "",
        project_id: str | None = None,
        user_id: str | None = None,
        data: Mapping[str, Any] | None = None,
    ) -> str:
        """Write an operation and ring for it. Answers its id.

        At most one live operation a resource: raises Conflict naming the live one, unless `kind` supersedes; then the
        live one is cancelled, undone, and this one follows it. Answers the live one when that is of the same
        superseding kind and still goes forward.
        """
        described = self.kinds[kind]
        after, same = self._supersede(tx, described, noun, noun_id)
        if same is not None:
            return same
        values: dict[str, Any] = {
            "id": clock.uuid4(),
            "noun": noun,
            "noun_id": noun_id,
            "kind": kind,
            "state": RUNNING,
            "step": described.steps[0].name,
            "attempt": 0,
            "lease_owner": None,
            "lease_until": None,
            "due_at": tx.now,
            "deadline": tx.now + int(described.deadline * _SECOND),
            "after": after,
            "cancelled": False,
            "request_id": request_id,
            "project_id": project_id,
            "user_id": user_id,
            "data": dict(data or {}),
            "error": None,
            "created_at": tx.now,
            "updated_at": tx.now,
            "finished_at": None,
        }
        tx.insert(_o, values)
        self._call(self.began, tx, values)
        tx.after_commit(self._ring)
        return str(values["id"])

    def _supersede(self, tx: Tx, kind: Kind, noun: str, noun_id: str) -> tuple[str | None, str | None]:
        """Make way for a new operation. Answers the one that it is to follow, and the one that does the same already."""
        after: str | None = None
        for live in tx.all(_live, {"noun": noun, "noun_id": noun_id}):
            if not kind.supersedes:
                action = self.kinds[live.kind].action if live.kind in self.kinds else live.kind
                raise errors.Conflict(
                    f"The {noun} {noun_id} is busy: {action} is at step {live.step!r}.", detail={"operation": live.id}
                )
            if live.kind == kind.name and live.state == RUNNING and not live.cancelled:
                return None, str(live.id)
            after = after or str(live.id)
            if not live.cancelled:
                tx.execute(_cancel, {"key": live.id, "at": max(tx.now, live.lease_until or 0)})
        return after, None

    def note(
        self,
        tx: Tx,
        kind: str,
        noun: str,
        noun_id: str,
        *,
        request_id: str,
        project_id: str | None,
        user_id: str | None,
    ) -> None:
        """Write the history of something that was done at once, in this very unit of work (lock, rename…)."""
        values = {
            "id": clock.uuid4(),
            "noun": noun,
            "noun_id": noun_id,
            "kind": kind,
            "state": DONE,
            "step": "",
            "attempt": 0,
            "due_at": tx.now,
            "deadline": tx.now,
            "cancelled": False,
            "request_id": request_id,
            "project_id": project_id,
            "user_id": user_id,
            "data": {},
            "error": None,
            "created_at": tx.now,
            "updated_at": tx.now,
            "finished_at": tx.now,
        }
        tx.insert(_o, values)
        self._call(self.ended, tx, values)

    def _call(self, hooks: list[Callable[[Tx, Operation], None]], tx: Tx, values: Mapping[str, Any]) -> None:
        if hooks:
            operation = Operation(**{name: values[name] for name in _FIELDS})
            for call in hooks:
                call(tx, operation)

    def _ring(self) -> None:
        self.doorbell.ring(OPERATIONS)

    # --- advancing -------------------------------------------------------------------------------------------

    def advance(self, tx: Tx, operation_id: str) -> Outside | None:
        """Look at an operation that is due: cancel, time out, go on. Answers work to be done outside, if any."""
        row = tx.first(_to_advance, {"id": operation_id})
        if row is None or row.state not in LIVE or row.due_at > tx.now or self._blocked(tx, row):
            return None
        if row.lease_until is not None and row.lease_until > tx.now:
            tx.execute(_look, {"key": row.id, "at": row.lease_until})
            return None
        operation = _operation(row)
        with acting(row.request_id, row.project_id, row.user_id):
            return self._go_on(tx, operation)

    def _go_on(self, tx: Tx, operation: Operation) -> Outside | None:
        if operation.state == RUNNING and operation.cancelled:
            return self._fail(tx, operation, errors.Conflict("A later request superseded this one."))
        if operation.deadline <= tx.now:
            late = errors.NephosError(f"Step {operation.step!r} was not over when the time for it ended.")
            if operation.state == RUNNING:
                return self._fail(tx, operation, late)
            operation.mark(f"{operation.step} undo failed", detail=late.message)
            return self._previous(tx, operation)
        return self._run(tx, operation)

    def resume(
        self, tx: Tx, task: str, result: Any, error: str | None, marks: Iterable[Mark], host: str | None
    ) -> None:
        """What a step waited for has come. An answer to an attempt that is not the present one is ignored."""
        row = tx.first(_by_id, {"id": task.split(":", 1)[0]})
        if row is None or row.state not in LIVE:
            return
        operation = _operation(row)
        if operation.task != task:
            return
        operation.marks += [(mark, host) for mark in marks]
        with acting(row.request_id, row.project_id, row.user_id):
            outside = self._resumed(tx, operation, result, error, host, row.updated_at)
        if outside is not None:
            tx.execute(_release, {"key": operation.id, "at": tx.now})
            tx.after_commit(self._ring)

    def _resumed(
        self, tx: Tx, operation: Operation, result: Any, error: str | None, host: str | None, began: int
    ) -> Outside | None:
        step = self._step(operation)
        take = step.after if operation.state == RUNNING else step.undone
        wrong: errors.NephosError | None = Failure(error) if error is not None else None
        if wrong is None and take is not None:
            try:
                with tx.savepoint():
                    take(tx, operation, result)
            except errors.NephosError as raised:
                wrong = raised
        if operation.state == UNDOING:
            if wrong is not None:
                operation.mark(f"{operation.step} undo failed", detail=wrong.message, host=host)
            return self._previous(tx, operation)
        if wrong is None and operation.cancelled:
            wrong = errors.Conflict("A later request superseded this one.")
        if wrong is not None:
            return self._fail(tx, operation, wrong, began=began, host=host)
        if not operation.marks:
            operation.mark(operation.step, started=began, host=host)
        return self._next(tx, operation)

    def retry(self, tx: Tx, operation_id: str, why: str) -> None:
        """Begin the present step anew as another attempt, because what it waited for will not come."""
        row = tx.first(_by_id, {"id": operation_id})
        if row is None or row.state not in LIVE:
            return
        operation = _operation(row)
        self._void(tx, operation)
        operation.attempt += 1
        operation.mark(operation.step, detail=why)
        self._store(tx, operation, due_at=tx.now)
        tx.after_commit(self._ring)

    def _blocked(self, tx: Tx, row: Any) -> bool:
        """Whether an operation waits for the one that it superseded."""
        if row.after is None:
            return False
        if tx.scalar(_state, {"id": row.after}) not in LIVE:
            return False
        tx.execute(_look, {"key": row.id, "at": tx.now + 30 * _SECOND})
        return True

    def _run(self, tx: Tx, operation: Operation) -> Outside | None:
        step = self._step(operation)
        failpoint.hit(f"{operation.kind}:{operation.state}:{step.name}:begin")
        began = clock.now_us()
        outcome: Outcome = None
        call = step.run if operation.state == RUNNING else step.undo
        try:
            if call is not None:
                with tx.savepoint():
                    outcome = call(tx, operation)
        except errors.NephosError as wrong:
            if operation.state == RUNNING:
                return self._fail(tx, operation, wrong, began=began)
            operation.mark(f"{step.name} undo failed", detail=wrong.message)
            return self._previous(tx, operation)
        except Exception:
            if operation.state == RUNNING:
                raise
            log.exception("operation %s, undoing %s", operation.id, step.name)
            outcome = Later(AGAIN_SECONDS)
        if isinstance(outcome, Later | Wait):
            self._store(tx, operation, due_at=tx.now + int(outcome.seconds * _SECOND))
            return None
        if isinstance(outcome, Outside):
            self._store(tx, operation, due_at=tx.now + int(outcome.lease * _SECOND), owner=self.owner or ONLY)
            return msgspec.structs.replace(outcome, task=operation.task)
        if operation.state == UNDOING:
            return self._previous(tx, operation)
        if step.name not in {mark.name for mark, _ in operation.marks}:
            operation.marks.append((Mark(step.name, began, clock.now_us()), None))
        return self._next(tx, operation)

    def _next(self, tx: Tx, operation: Operation) -> Outside | None:
        kind = self.kinds[operation.kind]
        position = kind.position(operation.step) + 1
        if position == len(kind.steps):
            self._finish(tx, operation, DONE)
            return None
        operation.step, operation.attempt = kind.steps[position].name, 0
        return self._run(tx, operation)

    def _fail(
        self,
        tx: Tx,
        operation: Operation,
        error: errors.NephosError,
        *,
        began: int | None = None,
        host: str | None = None,
    ) -> Outside | None:
        now = clock.now_us()
        operation.error = error.message
        self._void(tx, operation)
        self._flush(tx, operation)
        tx.insert(
            store.event,
            {
                "operation_id": operation.id,
                "name": operation.step,
                "host": host,
                "started_at": began or now,
                "finished_at": now,
                "result": "Error",
                "detail": error.message,
            },
        )
        operation.state = UNDOING
        operation.deadline = tx.now + int(UNDO_SECONDS * _SECOND)
        operation.attempt = 0
        return self._run(tx, operation)

    def _void(self, tx: Tx, operation: Operation) -> None:
        for call in self.voided:
            call(tx, operation.task)

    def _previous(self, tx: Tx, operation: Operation) -> Outside | None:
        kind = self.kinds[operation.kind]
        position = kind.position(operation.step)
        if position == 0:
            kind.failed(tx, operation, Failure(operation.error or ""))
            self._finish(tx, operation, FAILED)
            return None
        operation.step, operation.attempt = kind.steps[position - 1].name, 0
        return self._run(tx, operation)

    def _finish(self, tx: Tx, operation: Operation, state: str) -> None:
        operation.state = state
        self._store(tx, operation, due_at=tx.now, finished_at=tx.now)
        follower = tx.first(_follower, {"id": operation.id})
        if follower is not None:
            deadline = tx.now + int(self.kinds[follower.kind].deadline * _SECOND)
            tx.execute(update(_o).where(_o.c.id == follower.id).values(due_at=tx.now, deadline=deadline))
            tx.after_commit(self._ring)
        for call in self.ended:
            call(tx, operation)

    # --- reading ---------------------------------------------------------------------------------------------

    def due(self, tx: Tx, most: int = 64) -> list[str]:
        """Ids of live operations to look at now, the longest waiting first."""
        return tx.column(_due, {"now": tx.now, "most": most})

    def next_due(self, tx: Tx) -> int | None:
        """When the next live operation wants to be looked at; None when there is none."""
        return tx.scalar(_next_due)  # type: ignore[no-any-return]

    def task_of(self, tx: Tx, operation_id: str) -> str:
        """The name of an operation's present attempt."""
        row = tx.first(_by_id, {"id": operation_id})
        return _operation(row).task if row is not None else ""

    def is_cancelled(self, tx: Tx, operation_id: str) -> bool:
        """Whether an operation was superseded, or is over."""
        row = tx.first(_by_id, {"id": operation_id})
        return row is None or row.cancelled or row.state != RUNNING

    def postpone(self, tx: Tx, operation_id: str, seconds: float) -> None:
        tx.execute(_look, {"key": operation_id, "at": tx.now + int(seconds * _SECOND)})

    def renew(self, tx: Tx, operation_id: str, seconds: float) -> None:
        """The work outside is still under way: nothing else happens to the operation for so many seconds more."""
        at = tx.now + int(seconds * _SECOND)
        tx.execute(_renew, {"key": operation_id, "at": at, "owner": self.owner or ONLY})

    def abandon(self, tx: Tx) -> None:
        """End the leases of this server's earlier life, which nobody holds: to be called at its start. The only one ends all."""
        mine = _abandon if self.owner is None else _abandon.where(_o.c.lease_owner == self.owner)
        tx.execute(mine, {"at": tx.now})

    def live(self, tx: Tx, noun: str, noun_id: str) -> Any | None:
        """The live operation of a resource, the one that superseded where there are two; None when it has none."""
        return tx.first(_live, {"noun": noun, "noun_id": noun_id})

    # --- writing ---------------------------------------------------------------------------------------------

    def _step(self, operation: Operation) -> Step:
        kind = self.kinds[operation.kind]
        return kind.steps[kind.position(operation.step)]

    def _store(
        self, tx: Tx, operation: Operation, *, due_at: int, finished_at: int | None = None, owner: str | None = None
    ) -> None:
        tx.execute(
            _save,
            {
                "key": operation.id,
                "state": operation.state,
                "step": operation.step,
                "attempt": operation.attempt,
                "due_at": due_at if finished_at or owner else min(due_at, max(operation.deadline, tx.now)),
                "deadline": operation.deadline,
                "data": operation.data,
                "error": operation.error,
                "updated_at": tx.now,
                "finished_at": finished_at,
                "lease_owner": owner,
                "lease_until": due_at if owner else None,
            },
        )
        self._flush(tx, operation)
        if failpoint.ARMED:
            tx.after_commit(partial(failpoint.hit, f"{operation.kind}:{operation.state}:{operation.step}:kept"))

    def _flush(self, tx: Tx, operation: Operation) -> None:
        tx.insert(
            store.event,
            [
                {
                    "operation_id": operation.id,
                    "name": mark.name,
                    "host": host,
                    "started_at": mark.started,
                    "finished_at": mark.finished,
                    "result": "Success",
                    "detail": mark.detail,
                }
                for mark, host in operation.marks
            ],
        )
        operation.marks.clear()


_due = (
    select(_o.c.id)
    .where(_o.c.state.in_(LIVE), _o.c.due_at <= bindparam("now"))
    .order_by(_o.c.due_at)
    .limit(bindparam("most"))
)
_next_due = select(_o.c.due_at).where(_o.c.state.in_(LIVE)).order_by(_o.c.due_at).limit(1)


_FIELDS = tuple(each.name for each in fields(Operation) if each.name != "marks")


def _operation(row: Any) -> Operation:
    found = Operation(**{name: getattr(row, name) for name in _FIELDS})
    found.data = found.data or {}
    return found
