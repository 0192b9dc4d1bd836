"""Units of work that run whole and are then taken back: every request is real, and the ledger stays as it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

from sqlalchemy import text

from nephos.kernel.db.engine import Database, Tx

_CHANGES = text("SELECT total_changes()")


class _Undo(Exception):
    def __init__(self, result: Any) -> None:
        super().__init__("taken back")
        self.result = result


class Kept:
    """`changes` is how many rows the works changed that would have been kept."""

    def __init__(self) -> None:
        self.changes = 0


@contextmanager
def taken_back(database: Database) -> Iterator[Kept]:
    """While inside, what a unit of work wrote is taken back as soon as it has answered; nothing follows its commit."""
    real, kept = database.submit, Kept()

    def submit(work: Callable[[Tx], Any]) -> Future[Any]:
        answer: Future[Any] = Future()

        def undone(tx: Tx) -> Any:
            before = tx.scalar(_CHANGES)
            result = work(tx)
            kept.changes += tx.scalar(_CHANGES) - before
            raise _Undo(result)

        def done(future: Future[Any]) -> None:
            wrong = future.exception()
            if isinstance(wrong, _Undo):
                answer.set_result(wrong.result)
            elif wrong is not None:
                answer.set_exception(wrong)

        real(undone).add_done_callback(done)
        return answer

    database.submit = submit  # type: ignore[method-assign]
    try:
        yield kept
    finally:
        del database.submit
