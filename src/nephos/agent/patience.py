"""Waiting for a hypervisor whose daemon is being restarted: what was asked of it is asked again, not given up."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import TypeVar

from nephos.hypervisor.base import HypervisorAway
from nephos.kernel import clock

log = logging.getLogger(__name__)
T = TypeVar("T")
AWAY_SECONDS = 60.0
"""How long a daemon may be away before what needs it has failed."""
_AGAIN_SECONDS = 0.5


def patiently(call: Callable[[], T], closing: threading.Event) -> T:
    """What `call` answers, which must be idempotent. Raises HypervisorAway after AWAY_SECONDS, or at once when `closing`."""
    end = clock.monotonic() + AWAY_SECONDS
    while True:
        try:
            return call()
        except HypervisorAway as away:
            if clock.monotonic() >= end or closing.wait(_AGAIN_SECONDS):
                raise
            log.warning("asked again: %s", away)
