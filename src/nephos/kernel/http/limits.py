"""Rate limits: so many requests in so many seconds, for each user (S1-44, S2-09). Without rates nothing is counted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from nephos import errors
from nephos.kernel.auth.access import pattern
from nephos.kernel.http.buckets import Bucket, Pool

MINUTE = 60


class Rate(NamedTuple):
    """`most` requests of a verb (`*`: any) to what `path` matches, in any `seconds` on end.

    `path` begins with the service's own prefix, whichever one a client uses, and may hold `*` (within a part), `**` (any)
    and `{names}` (one part). All that match share one bucket a user; one request may be counted by several rates.
    """

    verb: str
    path: str
    most: int
    seconds: int

    def covers(self, verb: str, path: str) -> bool:
        return self.verb in ("*", verb) and pattern(self.path).fullmatch(path) is not None


class Limits:
    """`a_minute` is one rate more, for each verb and service apart; 0 is none."""

    def __init__(self, pool: Pool, rates: Sequence[Rate] = (), *, a_minute: int = 0) -> None:
        self._pool, self._rates, self._a_minute = pool, tuple(rates), a_minute
        self.active = bool(rates or a_minute)

    def take(self, asker: str, verb: str, service: str, path: str, *, known: bool = True) -> None:
        """Count one request of a user, or of an address where it is not `known` who asks: that is held to the rates by
        path only, so that guessing passwords can be limited. HEAD counts as GET.

        Raises TooManyRequests saying when it may be tried again; then it is counted by no rate.
        """
        if not self.active:
            return
        verb = "GET" if verb == "HEAD" else verb
        taken: list[Bucket] = []
        for bucket, what in self._of(asker, verb, service, path, known):
            wait = self._pool.take(bucket)
            if wait:
                for other in taken:
                    self._pool.put(other)
                raise errors.TooManyRequests(
                    f"Only {bucket.most} {verb} request(s) can be made to {what} every {_words(bucket.seconds)}.",
                    retry_after=max(1, math.ceil(wait / 1_000_000)),
                )
            taken.append(bucket)

    def _of(self, asker: str, verb: str, service: str, path: str, known: bool) -> list[tuple[Bucket, str]]:
        found = [
            (Bucket(f"{asker} {rate.verb} {rate.path} {rate.seconds}", rate.most, rate.seconds), rate.path)
            for rate in self._rates
            if rate.covers(verb, path)
        ]
        if self._a_minute and known:
            found.append((Bucket(f"{asker} {verb} {service}", self._a_minute, MINUTE), service))
        return found


def _words(seconds: int) -> str:
    named = {1: "second", MINUTE: "minute", 3600: "hour", 86400: "day"}
    return named.get(seconds, f"{seconds} seconds")
