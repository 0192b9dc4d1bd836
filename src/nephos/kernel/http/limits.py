"""Rate limits: so many requests a minute for each user, verb and service. Off unless the setting is above 0 (S1-44)."""

from __future__ import annotations

import math
import threading

from nephos import errors
from nephos.kernel import clock

MOST_KNOWN = 10_000
"""Buckets kept; a full one is as good as none, so those are forgotten first."""


class Limits:
    """A token bucket each: a minute's worth may come at once, and it fills again evenly."""

    def __init__(self, a_minute: int) -> None:
        self._size = float(a_minute)
        self._buckets: dict[tuple[str, str, str], tuple[float, float]] = {}
        self._lock = threading.Lock()

    def take(self, user: str, verb: str, service: str) -> None:
        """Raises TooManyRequests saying when the next one will be served."""
        if not self._size:
            return
        key, now = (user, verb, service), clock.monotonic()
        with self._lock:
            left, seen = self._buckets.get(key, (self._size, now))
            left = min(self._size, left + (now - seen) * self._size / 60)
            if left < 1:
                wait = math.ceil((1 - left) * 60 / self._size)
                raise errors.TooManyRequests(
                    f"Only {self._size:g} {verb} request(s) can be made to {service} every minute.", retry_after=wait
                )
            if len(self._buckets) >= MOST_KNOWN:
                self._forget(now)
            self._buckets[key] = (left - 1, now)

    def _forget(self, now: float) -> None:
        self._buckets = {
            key: (left, seen)
            for key, (left, seen) in self._buckets.items()
            if left + (now - seen) * self._size / 60 < self._size
        }
