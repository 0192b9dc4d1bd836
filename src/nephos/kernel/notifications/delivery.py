"""Delivery: one thread a sink carries its notifications out, oldest first.

Any server may do it; a lease in the ledger lets one of them at a time, so that order is kept, and another goes on when
that one is lost. What was sent and not yet struck off when a server dies is sent again: at least once, never less.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable
from contextlib import suppress

from sqlalchemy import or_, select, update

from nephos.errors import Conflict, Unavailable
from nephos.kernel import clock, failpoint
from nephos.kernel.cloud import Check, Finding
from nephos.kernel.db.engine import Database, Tx
from nephos.kernel.doorbell.base import NOTIFICATIONS, Doorbell
from nephos.kernel.notifications import outbox, store
from nephos.kernel.notifications.outbox import Waiting
from nephos.kernel.notifications.sinks import Refused, Sink

log = logging.getLogger(__name__)
LOOK_EVERY = 1.0
GATHER_SECONDS = 0.1
"""How long what is told gathers before it is carried out, so that striking it off is not a commit for each."""
BATCH = 250
LEASE_SECONDS = 30.0
MOST_PAUSE = 300.0
DEAD_DAYS = 7
LATE_SECONDS = 300
"""How long a notification may wait before audit names it."""
_SECOND = 1_000_000
_s = store.sink


class Delivery:
    """`max_age` is in seconds: what could not be delivered for so long becomes a dead letter."""

    def __init__(self, database: Database, doorbell: Doorbell, sink: Sink, *, max_age: float) -> None:
        self._database, self._sink, self._max_age = database, sink, max_age
        self._owner = clock.uuid4()
        self._renew_at = 0.0
        self._failures = 0
        self._bell, self._stop = threading.Event(), threading.Event()
        self._unlisten = doorbell.listen(lambda topic: self._bell.set() if topic == NOTIFICATIONS else None)
        self._thread = threading.Thread(target=self._loop, name=f"notify-{sink.name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Returns when nothing is being sent, or after five seconds; gives the lease back."""
        self._unlisten()
        self._stop.set()
        self._bell.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)

    def _loop(self) -> None:
        while not self._stop.is_set():
            self._bell.clear()
            try:
                seen = self.turn()
            except Exception:
                if not self._stop.is_set():
                    log.exception("delivering to %s", self._sink.name)
                seen = 0
            if self._failures and seen:
                self._stop.wait(self._pause())
            elif seen < BATCH and self._bell.wait(LOOK_EVERY):
                self._stop.wait(GATHER_SECONDS)
        self._sink.close()
        if self._renew_at:
            with suppress(Unavailable):
                self._database.write(lambda tx: self._note(tx, lease_owner=None, lease_until=None))

    def _pause(self) -> float:
        """Seconds until the next attempt: twice as long each time, with jitter."""
        return min(MOST_PAUSE, 0.5 * float(2 ** min(self._failures, 12))) * (0.5 + clock.jitter())

    def turn(self) -> int:
        """Carry one batch out. Answers how many were looked at: fewer than BATCH when there were no more."""
        if not self._held():
            return 0
        with self._database.read() as tx:
            batch = outbox.waiting(tx, self._sink.name, BATCH)
        if not batch:
            self._sink.idle()
            return 0
        done: list[int] = []
        refused: list[tuple[int, str]] = []
        wrong: Exception | None = None
        for one in batch:
            if self._stop.is_set() or clock.monotonic() >= self._renew_at:
                break
            try:
                self._sink.send(one)
            except Refused as no:
                refused.append((one.id, str(no)))
            except Exception as error:
                wrong = error
                break
            else:
                done.append(one.id)
        failpoint.hit(f"notifications:{self._sink.name}:sent")
        self._database.write(lambda tx: self._settle(tx, done, refused, wrong))
        self._tell(batch, done, refused, wrong)
        return len(batch)

    def _settle(self, tx: Tx, done: list[int], refused: list[tuple[int, str]], wrong: Exception | None) -> None:
        outbox.delivered(tx, done)
        outbox.refused(tx, refused)
        if wrong is None:
            if self._failures:
                self._note(tx, failures=0, error=None)
            return
        why = f"{type(wrong).__name__}: {wrong}"[: outbox.MOST_REASON]
        # another server may reach what this one does not: the lease is free
        self._note(tx, failures=self._failures + 1, error=why, lease_owner=None, lease_until=None)
        outbox.expire(tx, self._sink.name, tx.now - int(self._max_age * _SECOND), why)

    def _note(self, tx: Tx, **values: object) -> None:
        tx.execute(update(_s).where(_s.c.name == self._sink.name, _s.c.lease_owner == self._owner).values(**values))

    def _tell(
        self, batch: list[Waiting], done: list[int], refused: list[tuple[int, str]], wrong: Exception | None
    ) -> None:
        for number, why in refused:
            event = next(one.event for one in batch if one.id == number)
            log.warning("%s refused %s, it is a dead letter: %s", self._sink.name, event, why)
        if wrong is not None:
            self._failures += 1
            self._renew_at = 0.0
            log.warning("%s takes no notifications (attempt %d): %s", self._sink.name, self._failures, wrong)
        elif self._failures and (done or refused):
            log.info("%s takes notifications again", self._sink.name)
            self._failures = 0

    # --- the lease -------------------------------------------------------------------------------------------

    def _held(self) -> bool:
        """Take or renew the lease when half of it is over. False while another server delivers to this sink."""
        if clock.monotonic() < self._renew_at:
            return True
        asked = clock.monotonic()
        failures = self._database.write(self._take)
        if failures is None:
            self._renew_at = 0.0
            return False
        self._failures = failures
        self._renew_at = asked + LEASE_SECONDS / 2
        return True

    def _take(self, tx: Tx) -> int | None:
        """How often the sink has failed in a row; None when another server has it."""
        name, until = self._sink.name, tx.now + int(LEASE_SECONDS * _SECOND)
        free = or_(_s.c.lease_until.is_(None), _s.c.lease_until < tx.now, _s.c.lease_owner == self._owner)
        claim = update(_s).where(_s.c.name == name, free).values(lease_owner=self._owner, lease_until=until)
        if not tx.execute(claim).rowcount:
            if tx.first(select(_s.c.name).where(_s.c.name == name)) is not None:
                return None
            try:
                with tx.savepoint():
                    tx.insert(_s, {"name": name, "lease_owner": self._owner, "lease_until": until, "failures": 0})
            except Conflict:
                return None
        outbox.purge(tx, name, tx.now - DEAD_DAYS * 86_400 * _SECOND)
        return int(tx.scalar(select(_s.c.failures).where(_s.c.name == name)))


def check(names: tuple[str, ...]) -> Check:
    """For `nephos audit`: dead letters, and sinks that nothing gets through to."""

    def found(tx: Tx) -> Iterable[Finding]:
        for each in outbox.backlogs(tx, names):
            if each.name not in names:
                yield Finding("notifications", each.name, f"{each.waiting + each.dead} wait for a sink that is not set")
                continue
            why = f": {each.error}" if each.error else ""
            if each.dead:
                yield Finding(
                    "notifications", each.name, f"{each.dead} dead letters, which are kept for {DEAD_DAYS} days{why}"
                )
            if each.since is not None and each.since + LATE_SECONDS * _SECOND < tx.now:
                late = (tx.now - each.since) // (60 * _SECOND)
                yield Finding("notifications", each.name, f"{each.waiting} wait, the oldest for {late} minutes{why}")

    return found
