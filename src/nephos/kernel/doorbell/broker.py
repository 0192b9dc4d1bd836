"""What the doorbells of several servers share: a thread that has the connection, and what is rung until it is sent.

The thread sends itself a ping through the broker now and then, and when it does not hear it the connection is made
anew, whatever the client library believes. While there is no connection rings go to the listeners of this process
only, and to the others when there is one again.
"""

from __future__ import annotations

import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

from nephos.kernel import clock
from nephos.kernel.doorbell.memory import MemoryDoorbell

log = logging.getLogger(__name__)
MOST_KEPT = 10_000
"""Topics that wait for a connection: what is rung beyond them is lost."""


class BrokerDoorbell(ABC):
    """Rings inside the process are heard at once. `ping_seconds` is how often it calls itself; deaf is who missed three."""

    name: ClassVar[str]

    def __init__(self, ping_seconds: float) -> None:
        self._ping_seconds = ping_seconds
        self._own = MemoryDoorbell()
        self._id = clock.hex_id()
        self._lock = threading.Lock()
        self._kept: dict[str, None] = {}
        self._heard_at = 0.0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def ring(self, topic: str) -> None:
        self._own.ring(topic)
        with self._lock:
            first = not self._kept
            if len(self._kept) < MOST_KEPT:
                self._kept[topic] = None
        if first:
            self._prod()

    def listen(self, heard: Callable[[str], None]) -> Callable[[], None]:
        """The first listener starts the thread."""
        with self._lock:
            if self._thread is None and not self._stop.is_set():
                self._thread = threading.Thread(target=self._loop, name="doorbell", daemon=True)
                self._thread.start()
        return self._own.listen(heard)

    def close(self) -> None:
        self._stop.set()
        self._prod()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout=5)

    @property
    def connected(self) -> bool:
        """Whether a ping came back over the present connection."""
        return self._heard_at > 0

    @abstractmethod
    def _prod(self) -> None:
        """Have the thread look at what is kept, from any thread; nothing without a connection."""

    @abstractmethod
    def _serve(self) -> None:
        """Connect, then send and hear until `_stop`. Raises whatever breaks the connection."""

    def _loop(self) -> None:
        pause = 0.5
        while not self._stop.is_set():
            try:
                self._serve()
            except Exception as wrong:
                if self._heard_at:
                    pause = 0.5
                # some of a library's errors say what is wrong only in their repr
                words = (str(wrong) or repr(wrong)).split("\n")[0]
                log.warning("the doorbell on %s is made anew in %.1f s: %s", self.name, pause, words)
            self._heard_at = 0.0
            self._stop.wait(pause * (0.5 + clock.jitter()))
            pause = min(pause * 2, 30.0)

    def _taken(self, most: int = MOST_KEPT) -> list[str]:
        """What was rung since the last time, each topic once; it is not kept any longer."""
        with self._lock:
            topics = list(self._kept)[:most]
            for topic in topics:
                del self._kept[topic]
        return topics

    def _alive(self, began: float) -> None:
        """Raises ConnectionError when three pings since `began` (monotonic seconds) were not heard."""
        if clock.monotonic() - max(began, self._heard_at) > 3 * self._ping_seconds:
            raise ConnectionError("its own pings do not come back")
