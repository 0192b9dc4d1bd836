"""What an operation is made of.

An operation is a row that says what is to be done, written in the transaction that accepts the work. Its kind is a
list of named steps, each a durable boundary: idempotent, and undoable where it made something. A crash anywhere leaves
the row at its recorded step, and whoever looks next goes on from there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from nephos import errors
from nephos.kernel import clock
from nephos.kernel.db.engine import Tx

RUNNING, UNDOING, DONE, FAILED = "running", "undoing", "done", "failed"
LIVE = (RUNNING, UNDOING)


class Mark(msgspec.Struct, frozen=True):
    """A named, timed note inside a step. Times are microseconds since the epoch."""

    name: str
    started: int
    finished: int
    detail: str | None = None


class Later(msgspec.Struct, frozen=True):
    """The step is not over: look again after so many seconds."""

    seconds: float


class Wait(msgspec.Struct, frozen=True):
    """The step is not over: somebody calls `Operations.resume` when it is, or it is looked at again after `seconds`.

    `task` names what is waited for, so that a late answer to an older attempt is ignored.
    """

    task: str
    seconds: float


class Outside(msgspec.Struct, frozen=True):
    """The step has work that must not hold a transaction: a worker runs it under a lease, `Step.after` takes the result.

    Until the result comes or the lease (seconds) is over, nothing else happens to the operation: a cancel and the
    deadline wait too; the worker renews the lease while the work goes on. Work of a worker that was lost is run again
    when the lease is over, so it must be idempotent.
    `task` is filled in by the engine.
    """

    work: Callable[[], Any]
    lease: float = 60
    task: str = ""


Outcome = Later | Wait | Outside | None


@dataclass(slots=True)
class Operation:
    """An operation as its steps see it. What a step leaves in `data` (JSON values) is kept with the boundary."""

    id: str
    noun: str
    noun_id: str
    kind: str
    state: str
    step: str
    attempt: int
    due_at: int
    deadline: int
    cancelled: bool
    request_id: str
    project_id: str | None
    user_id: str | None
    data: dict[str, Any]
    error: str | None
    created_at: int
    marks: list[tuple[Mark, str | None]] = field(default_factory=list)

    def mark(
        self, name: str, *, started: int | None = None, host: str | None = None, detail: str | None = None
    ) -> None:
        """Note something on the timeline, now."""
        now = clock.now_us()
        self.marks.append((Mark(name, started or now, now, detail), host))

    @property
    def task(self) -> str:
        """The name of the present attempt at the present step."""
        return f"{self.id}:{self.step}:{self.attempt}" + (":undo" if self.state == UNDOING else "")


Run = Callable[[Tx, Operation], Outcome]
After = Callable[[Tx, Operation, Any], None]


@dataclass(frozen=True, slots=True)
class Step:
    """One durable boundary.

    `run` does it inside a unit of work; None means it is over, else it says how to go on. `after` takes what was
    waited for. `undo` is `run` backwards: it is called for every step that was begun, last first, and must do nothing
    when there is nothing to undo. `undone` takes what `undo` waited for.

    A NephosError raised by `run` or `after` takes back what the call wrote and fails the operation; one raised by
    `undo` or `undone` is noted on the timeline, and the step before is undone. Any other exception counts as passing:
    the call is made again until the deadline.
    """

    name: str
    run: Run
    after: After | None = None
    undo: Run | None = None
    undone: After | None = None


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of operation. `action` is what its timeline calls it; `deadline` is in seconds.

    `supersedes` lets it end a live operation of the same resource. `failed` is called when all is undone, and leaves
    the resource in a state that a user understands.
    """

    name: str
    action: str
    steps: tuple[Step, ...]
    deadline: float
    failed: Callable[[Tx, Operation, errors.NephosError], None]
    supersedes: bool = False

    def position(self, step: str) -> int:
        for position, candidate in enumerate(self.steps):
            if candidate.name == step:
                return position
        raise errors.NephosError(f"{self.name} has no step {step!r}")


class Failure(errors.NephosError):
    """What a recorded error text is raised as again."""
