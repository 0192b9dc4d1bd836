"""The doorbell inside one process."""

from __future__ import annotations

from collections.abc import Callable


class MemoryDoorbell:
    """Calls the listeners in the ringing thread, so they must be quick."""

    def __init__(self) -> None:
        self._listeners: tuple[Callable[[str], None], ...] = ()

    def ring(self, topic: str) -> None:
        for heard in self._listeners:
            heard(topic)

    def listen(self, heard: Callable[[str], None]) -> Callable[[], None]:
        self._listeners = (*self._listeners, heard)

        def stop() -> None:
            self._listeners = tuple(listener for listener in self._listeners if listener is not heard)

        return stop
