"""The worker: looks at due operations when the doorbell rings, and now and then without being told."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from nephos.errors import NephosError
from nephos.kernel import clock
from nephos.kernel.db.engine import Database, Tx
from nephos.kernel.doorbell.base import OPERATIONS, Doorbell
from nephos.kernel.operations.engine import Operations
from nephos.kernel.operations.model import Outside

log = logging.getLogger(__name__)
LOOK_EVERY = 1.0


class Worker:
    """One thread that advances operations; works outside transactions run in a small pool."""

    def __init__(self, database: Database, operations: Operations, doorbell: Doorbell) -> None:
        self._database = database
        self._operations = operations
        self._bell = threading.Event()
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(4, thread_name_prefix="outside")
        self._unlisten = doorbell.listen(lambda topic: self._bell.set() if topic == OPERATIONS else None)
        self._thread = threading.Thread(target=self._loop, name="operations", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._unlisten()
        self._stop.set()
        self._bell.set()
        self._thread.join(timeout=5)
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _loop(self) -> None:
        while not self._stop.is_set():
            try:
                busy = self.turn()
            except Exception:
                log.exception("looking at operations")
                busy = False
                self._stop.wait(LOOK_EVERY)
            if not busy:
                self._bell.wait(LOOK_EVERY)
                self._bell.clear()

    def turn(self) -> bool:
        """Advance what is due, one unit of work each, many to a commit. Answers whether there was anything."""
        with self._database.read() as tx:
            ids = self._operations.due(tx)
        waiting = [(each, self._database.submit(partial(self._advance, each))) for each in ids]
        for each, future in waiting:
            try:
                outside = future.result()
            except Exception as wrong:
                self._broken(each, wrong)
                continue
            if outside is not None:
                self._pool.submit(self._outside, each, outside)
        return bool(ids)

    def _advance(self, operation_id: str, tx: Tx) -> Outside | None:
        return self._operations.advance(tx, operation_id)

    def _broken(self, operation_id: str, wrong: Exception) -> None:
        """A step raised what it should not: try again later, until the deadline ends it."""
        log.error("operation %s", operation_id, exc_info=wrong)
        self._database.write(lambda tx: self._operations.postpone(tx, operation_id, 5.0))

    def _outside(self, operation_id: str, outside: Outside) -> None:
        with self._database.read() as tx:
            task = self._operations.task_of(tx, operation_id)
        result, error = None, None
        began = clock.monotonic()
        try:
            result = outside.work()
        except NephosError as wrong:
            error = wrong.message
        except Exception as wrong:
            log.exception("operation %s, outside", operation_id)
            error = f"{type(wrong).__name__}: {wrong}"
        log.debug("operation %s worked outside for %.3f s", operation_id, clock.monotonic() - began)
        self._database.write(lambda tx: self._operations.resume(tx, task, result, error, (), None))
