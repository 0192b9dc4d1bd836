"""Buckets of requests: in this process, or shared by all servers through the ledger (S2-10).

A bucket is full with `most` and fills evenly in `seconds`. All that is known of it is one moment, when it will be full
again (the generic cell rate algorithm): what is taken moves it on, and a bucket whose moment has passed need not be kept.

A server that shares buckets does not write for every request: it takes a quarter of what is left, spends it, and brings
back what it did not spend. So the sum over all servers never passes the rate by more than what one quarter may be spent
late, the less is left the smaller the shares are, and who is refused costs nothing until the time that he was told.
"""

from __future__ import annotations

import hashlib
import threading
from typing import NamedTuple, Protocol

from sqlalchemy import Column, String, Table, bindparam, delete, select

from nephos.kernel import clock
from nephos.kernel.db.engine import Database, Tx
from nephos.kernel.db.schema import metadata, when

MOST_KNOWN = 10_000
"""Buckets remembered by one server."""
SHARE = 4
LEAST_SHARE = 50
"""A share is at least this part of a whole bucket, so that a busy user costs at most so many writes in its time."""
CLEAN_SECONDS = 60.0
_MICRO = 1_000_000

rate_bucket = Table(
    "rate_bucket",
    metadata,
    Column("id", String(64), primary_key=True),
    when("full_at", index=True),
)
"""`id` is a digest of who and what. A row whose time has passed says nothing any more."""


class Bucket(NamedTuple):
    """Whose and for what (`key`), and how large."""

    key: str
    most: int
    seconds: int

    @property
    def each(self) -> int:
        """Microseconds in which one comes back."""
        return max(1, self.seconds * _MICRO // self.most)


class Pool(Protocol):
    """Where buckets are kept."""

    def take(self, bucket: Bucket) -> int:
        """Take one: 0, or the microseconds to wait when there is none."""
        ...

    def put(self, bucket: Bucket) -> None:
        """Bring one back that was taken and not used."""
        ...


class Memory:
    """Buckets of this process."""

    def __init__(self) -> None:
        self._full_at: dict[str, int] = {}
        self._lock = threading.Lock()

    def take(self, bucket: Bucket) -> int:
        now = int(clock.monotonic() * _MICRO)
        with self._lock:
            base = max(now, self._full_at.get(bucket.key, now))
            wait = base + bucket.each - bucket.most * bucket.each - now
            if wait > 0:
                return wait
            if len(self._full_at) >= MOST_KNOWN:
                self._full_at = {key: moment for key, moment in self._full_at.items() if moment > now}
            self._full_at[bucket.key] = base + bucket.each
        return 0

    def put(self, bucket: Bucket) -> None:
        with self._lock:
            if bucket.key in self._full_at:
                self._full_at[bucket.key] -= bucket.each


class _Lease:
    """A share of one bucket that this server has: `left` until `until`; nothing more comes before `blocked`."""

    __slots__ = ("blocked", "left", "lock", "until")

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.left = 0
        self.until = self.blocked = 0.0


class Shared:
    """Buckets of all servers of one ledger."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._leases: dict[str, _Lease] = {}
        self._lock = threading.Lock()
        self._next_clean = 0.0

    def take(self, bucket: Bucket) -> int:
        lease = self._lease(bucket.key)
        with lease.lock:
            now = clock.monotonic()
            if not lease.left or now >= lease.until:
                if now < lease.blocked:
                    return int((lease.blocked - now) * _MICRO) + 1
                lease.left, wait = self._draw(bucket, lease.left)
                if wait:
                    lease.blocked = now + wait / _MICRO
                    return wait
                lease.until = now + bucket.seconds / SHARE
            lease.left -= 1
        return 0

    def put(self, bucket: Bucket) -> None:
        lease = self._lease(bucket.key)
        with lease.lock:
            lease.left += 1

    def _lease(self, key: str) -> _Lease:
        with self._lock:
            if len(self._leases) >= MOST_KNOWN:
                now = clock.monotonic()
                self._leases = {
                    each: lease for each, lease in self._leases.items() if now < max(lease.until, lease.blocked)
                }
            return self._leases.setdefault(key, _Lease())

    def _draw(self, bucket: Bucket, back: int) -> tuple[int, int]:
        """A new share for what was not spent of the old one: how many, or 0 and the microseconds to wait."""
        ident = hashlib.sha256(f"{bucket.key} {bucket.most}".encode()).hexdigest()
        clean, now = False, clock.monotonic()
        with self._lock:
            if now >= self._next_clean:
                clean, self._next_clean = True, now + CLEAN_SECONDS

        def work(tx: Tx) -> tuple[int, int]:
            if clean:
                tx.execute(_FORGET, {"before": tx.now})
            known: int | None = tx.scalar(_FULL_AT, {"id": ident})
            base = max(tx.now, (known or 0) - back * bucket.each)
            free = (tx.now + bucket.most * bucket.each - base) // bucket.each
            least = max(1, bucket.most // LEAST_SHARE)
            share = max(least, free // SHARE) if free >= least else 0
            if share or back:
                tx.upsert(
                    rate_bucket, {"id": ident, "full_at": base + share * bucket.each}, key=("id",), put=("full_at",)
                )
            return share, 0 if share else base + (least - bucket.most) * bucket.each - tx.now

        return self._database.write(work)


_FULL_AT = select(rate_bucket.c.full_at).where(rate_bucket.c.id == bindparam("id"))
_FORGET = delete(rate_bucket).where(rate_bucket.c.full_at < bindparam("before"))
