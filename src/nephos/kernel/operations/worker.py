"""The worker: looks at due operations when the doorbell rings, and now and then without being told."""

from __future__ import annotations

import logging
import queue
import threading
from functools import partial

from nephos.errors import NephosError
from nephos.kernel import clock
from nephos.kernel.db.engine import Database, Tx
from nephos.kernel.doorbell.base import OPERATIONS, Doorbell
from nephos.kernel.operations.engine import AGAIN_SECONDS, Operations
from nephos.kernel.operations.model import Outside

log = logging.getLogger(__name__)
LOOK_EVERY = 1.0
OUTSIDE_THREADS = 4
RENEW_EVERY = 5.0
RENEW_SECONDS = 30.0
"""How long a lease is held on, counted from each renewal: long before that it is renewed again."""


class Worker:
    """One thread that advances operations, and a few that do the works outside transactions.

    Every server has one, and an operation goes on by whichever looks first. What this server held in an earlier life
    is free at its start; what another held that was lost, when its lease is over.
    """

    def __init__(self, database: Database, operations: Operations, doorbell: Doorbell) -> None:
        self._database = database
        self._operations = operations
        self._bell = threading.Event()
        self._stop = threading.Event()
        self._pause = LOOK_EVERY
        self._jobs: queue.SimpleQueue[Outside | None] = queue.SimpleQueue()
        self._away: dict[str, str] = {}
        """Operation → task: work outside that waits for a thread or is under way."""
        self._renew_at = 0.0
        self._unlisten = doorbell.listen(lambda topic: self._bell.set() if topic == OPERATIONS else None)
        self._thread = threading.Thread(target=self._loop, name="operations", daemon=True)
        self._outside = [
            threading.Thread(target=self._outside_loop, name=f"outside-{number}", daemon=True)
            for number in range(OUTSIDE_THREADS)
        ]

    def start(self) -> None:
        self._database.write(self._operations.abandon)
        for thread in (self._thread, *self._outside):
            thread.start()

    def stop(self) -> None:
        """Returns when no advance is under way; works outside are not waited for."""
        self._unlisten()
        self._stop.set()
        self._bell.set()
        for _ in self._outside:
            self._jobs.put(None)
        if self._thread.is_alive():
            self._thread.join(timeout=5)

    def _loop(self) -> None:
        while not self._stop.is_set():
            self._bell.clear()
            try:
                busy = self.turn()
            except Exception:
                if not self._stop.is_set():
                    log.exception("looking at operations")
                self._stop.wait(LOOK_EVERY)
                continue
            if not busy:
                self._bell.wait(self._pause)

    def turn(self) -> bool:
        """Advance what is due, one unit of work each, many to a commit. Answers whether there was anything."""
        self._renew()
        with self._database.read() as tx:
            ids = self._operations.due(tx)
            if not ids:
                at = self._operations.next_due(tx)
                self._pause = LOOK_EVERY if at is None else min(LOOK_EVERY, max(0.001, (at - tx.now) / 1_000_000))
        waiting = [(each, self._database.submit(partial(self._look, each))) for each in ids]
        for each, future in waiting:
            try:
                outside = future.result()
            except Exception as wrong:
                self._broken(each, wrong)
                continue
            if outside is not None:
                if not self._away:
                    self._renew_at = clock.monotonic() + RENEW_EVERY
                self._away[each] = outside.task
                self._jobs.put(outside)
        return bool(ids)

    def _renew(self) -> None:
        """Hold on to what is under way outside, before another server may think that this one is gone."""
        if not self._away or clock.monotonic() < self._renew_at:
            return
        self._renew_at = clock.monotonic() + RENEW_EVERY
        away = list(self._away)

        def renew(tx: Tx) -> None:
            for operation_id in away:
                self._operations.renew(tx, operation_id, RENEW_SECONDS)

        self._database.write(renew)

    def _look(self, operation_id: str, tx: Tx) -> Outside | None:
        if operation_id in self._away:
            self._operations.renew(tx, operation_id, RENEW_SECONDS)
            return None
        return self._operations.advance(tx, operation_id)

    def _broken(self, operation_id: str, wrong: Exception) -> None:
        """A step raised what it should not: try again later, until the deadline ends it."""
        log.error("operation %s", operation_id, exc_info=wrong)
        self._database.write(lambda tx: self._operations.postpone(tx, operation_id, AGAIN_SECONDS))

    def _outside_loop(self) -> None:
        while (job := self._jobs.get()) is not None and not self._stop.is_set():
            try:
                self._do(job)
            except Exception:
                if not self._stop.is_set():
                    log.exception("task %s: its result was not taken; it is done again after its lease", job.task)
            finally:
                self._back(job)

    def _do(self, job: Outside) -> None:
        result, error = None, None
        began = clock.monotonic()
        try:
            result = job.work()
        except NephosError as wrong:
            error = wrong.message
        except Exception as wrong:
            log.exception("task %s", job.task)
            error = f"{type(wrong).__name__}: {wrong}"
        log.debug("task %s took %.3f s", job.task, clock.monotonic() - began)

        def resume(tx: Tx) -> None:
            self._operations.resume(tx, job.task, result, error, (), None)
            self._back(job)

        self._database.write(resume)

    def _back(self, job: Outside) -> None:
        operation_id = job.task.split(":", 1)[0]
        if self._away.get(operation_id) == job.task:
            del self._away[operation_id]
