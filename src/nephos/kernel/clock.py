"""The only caller of time, random and uuid.

Everything that depends on them asks here, so that a virtual clock can run the crash matrix. Times in the ledger are
whole microseconds since the epoch, UTC; durations are seconds on the monotonic clock.
"""

from __future__ import annotations

import os
import random
import time
import uuid
from datetime import UTC, datetime
from functools import lru_cache


def now() -> float:
    """Seconds since the epoch, UTC."""
    return time.time()


def now_us() -> int:
    """Microseconds since the epoch, UTC: the ledger's unit of time."""
    return time.time_ns() // 1000


def monotonic() -> float:
    """Seconds on a clock that never jumps: for durations."""
    return time.monotonic()


def sleep(seconds: float) -> None:
    time.sleep(seconds)


def uuid4() -> str:
    """A new id with hyphens."""
    return str(uuid.uuid4())


def hex_id() -> str:
    """A new id of 32 hexadecimal digits, as identity and requests use."""
    return uuid.uuid4().hex


def token_bytes(count: int) -> bytes:
    """Random bytes fit for secrets."""
    return os.urandom(count)


def jitter() -> float:
    """A random number in [0, 1), not for secrets."""
    return random.random()


def pick(count: int) -> int:
    """A random whole number in [0, count), fit for secrets and addresses."""
    return random.SystemRandom().randrange(count)


@lru_cache(4096)
def iso(us: int | None, *, micro: bool = False, zone: str = "Z") -> str | None:
    """A ledger time as ISO 8601; None stays None. `zone` is "" where an API leaves it off."""
    if us is None:
        return None
    moment = datetime.fromtimestamp(us / 1_000_000, UTC).replace(tzinfo=None)
    return moment.isoformat(timespec="microseconds" if micro else "seconds") + zone
