"""The doorbell inside one process."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

log = logging.getLogger(__name__)


class MemoryDoorbell:
    """Calls the listeners in the ringing thread, so they must be quick."""

    def __init__(self) -> None:
        self._listeners: tuple[Callable[[str], None], ...] = ()
        self._lock = threading.Lock()

    def ring(self, topic: str) -> None:
        for heard in self._listeners:
            try:
                heard(topic)
            except Exception:
                log.exception("ringing %s", topic)

    def listen(self, heard: Callable[[str], None]) -> Callable[[], None]:
        with self._lock:
            self._listeners = (*self._listeners, heard)

        def stop() -> None:
            with self._lock:
                self._listeners = tuple(listener for listener in self._listeners if listener is not heard)

        return stop

    def close(self) -> None:
        """Nothing to end."""
