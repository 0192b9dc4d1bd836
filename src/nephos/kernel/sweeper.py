"""What is kept for a while only: rows of things that were deleted go when they are older than the settings say."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

from nephos.kernel import clock
from nephos.kernel.db.engine import Database, Tx

log = logging.getLogger(__name__)
EVERY_SECONDS = 3600.0
AT_ONCE = 500
"""Things in one unit of work: others wait no longer than it takes."""
_PAUSE_SECONDS = 0.1
_DAY = 86_400 * 1_000_000

Sweep = Callable[[Tx, int, int], int]
"""(tx, before, most) → how many things went: at most so many of those that ended before that time (microseconds)."""


class Sweeper:
    """Runs the services' sweeps now and then, in a thread; every server does, and what one took the others do not find.

    `days` 0 keeps everything.
    """

    def __init__(self, database: Database, sweeps: Sequence[Sweep], days: int) -> None:
        self._database, self._sweeps, self._days = database, sweeps, days
        self._stop = threading.Event()

    def start(self) -> None:
        if self._days:
            threading.Thread(target=self._loop, name="sweeper", daemon=True).start()

    def stop(self) -> None:
        self._stop.set()

    def sweep(self) -> int:
        """Take away what is old enough now; answers how many things went."""
        total = 0
        for each in self._sweeps:
            while not self._stop.is_set():
                gone = self._database.write(lambda tx, each=each: each(tx, tx.now - self._days * _DAY, AT_ONCE))  # type: ignore[misc]
                total += gone
                if gone < AT_ONCE:
                    break
                self._stop.wait(_PAUSE_SECONDS)
        return total

    def _loop(self) -> None:
        # several servers that start together do not look together
        while not self._stop.wait(EVERY_SECONDS * clock.jitter()):
            try:
                gone = self.sweep()
            except Exception:
                log.exception("what is too old could not be taken away; tried again in an hour")
            else:
                if gone:
                    log.info("%d rows of what went more than %d days ago are gone", gone, self._days)
