"""One thread that waits on all sockets of the driver: metadata, DNS, leases, deaths of daemons."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import logging
import os
import selectors
import socket
import threading
from collections.abc import Callable
from typing import Protocol

from nephos.kernel import clock

log = logging.getLogger(__name__)
Action = Callable[[], None]


class HasFile(Protocol):
    def fileno(self) -> int: ...


class Reactor:
    """Calls back on readable and writable files and on timers, in its own thread. A callback must not block."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._selector.register(self._wake_read, selectors.EVENT_READ, self._woken)
        self._timers: list[tuple[float, int, Action]] = []
        self._numbers = itertools.count()
        self._soon: list[Action] = []
        self._lock = threading.Lock()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="wiring reactor", daemon=True)
        self._thread.start()

    def soon(self, action: Action) -> None:
        """Run `action` in the reactor's thread. From any thread."""
        with self._lock:
            self._soon.append(action)
        try:
            os.write(self._wake_write, b"x")
        except BlockingIOError:
            pass
        except OSError:
            if not self._stopping:
                raise

    def here(self) -> bool:
        return threading.current_thread() is self._thread

    def later(self, seconds: float, action: Action) -> None:
        """Run `action` after that many seconds. From the reactor's thread only, as everything below."""
        heapq.heappush(self._timers, (clock.monotonic() + seconds, next(self._numbers), action))

    def watch(self, file: HasFile | int, action: Action, *, write: bool = False) -> None:
        """Call `action` when the file is readable, or writable; again for the same file: instead of before."""
        events = selectors.EVENT_WRITE if write else selectors.EVENT_READ
        try:
            self._selector.modify(file, events, action)
        except KeyError:
            self._selector.register(file, events, action)

    def forget(self, file: HasFile | int) -> None:
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(file)

    def drop(self, file: socket.socket) -> None:
        """Forget the socket and close it."""
        self.forget(file)
        file.close()

    def stop(self) -> None:
        """End the thread; files stay open for their owners to close."""
        self._stopping = True
        self.soon(lambda: None)
        self._thread.join(timeout=5)
        self._selector.close()
        os.close(self._wake_read)
        os.close(self._wake_write)

    def _woken(self) -> None:
        try:
            while os.read(self._wake_read, 4096):
                pass
        except BlockingIOError:
            pass
        with self._lock:
            actions, self._soon = self._soon, []
        for action in actions:
            self._guarded(action)

    def _run(self) -> None:
        while not self._stopping:
            wait = max(0.0, self._timers[0][0] - clock.monotonic()) if self._timers else None
            for key, _ in self._selector.select(wait):
                self._guarded(key.data)
            now = clock.monotonic()
            while self._timers and self._timers[0][0] <= now:
                self._guarded(heapq.heappop(self._timers)[2])

    @staticmethod
    def _guarded(action: Action) -> None:
        try:
            action()
        except Exception:
            log.exception("a callback of the wiring driver failed")
