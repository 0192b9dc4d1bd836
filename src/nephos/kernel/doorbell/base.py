"""A doorbell tells that something waits, and carries nothing else: losing a ring costs latency, never a request."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

OPERATIONS = "operations"
"""The topic of the operation workers; a host's topic is its id."""
NOTIFICATIONS = "notifications"
"""The topic of who delivers notifications."""


class Doorbell(Protocol):
    """Rings may be lost or doubled; who listens looks again by itself now and then."""

    def ring(self, topic: str) -> None:
        """Tell every listener of every server. Quick, never raises."""
        ...

    def listen(self, heard: Callable[[str], None]) -> Callable[[], None]:
        """Call `heard(topic)` on each ring, from any thread, until the returned function is called."""
        ...

    def close(self) -> None:
        """End its thread and its connection, where it has any."""
        ...
