"""How many image transfers may run at once, so that slow ones never take all request threads."""

from __future__ import annotations

import threading

from nephos import errors

MOST = 32
"""Half of the server's request threads."""
RETRY_AFTER = 10


class Transfers:
    """Counts uploads and downloads under way. Each holds a request thread for as long as its client likes."""

    def __init__(self, most: int = MOST) -> None:
        self._free = threading.BoundedSemaphore(most)
        self._most = most

    def begin(self) -> Transfer:
        """Raises Unavailable, with Retry-After, when all are taken."""
        if not self._free.acquire(blocking=False):
            raise errors.Unavailable(
                f"All {self._most} image transfers of this server are under way; try again in {RETRY_AFTER} seconds.",
                retry_after=RETRY_AFTER,
            )
        return Transfer(self._free)


class Transfer:
    """One place among the transfers; given back once, by `end` or when it is forgotten."""

    def __init__(self, free: threading.BoundedSemaphore) -> None:
        self._free: threading.BoundedSemaphore | None = free

    def end(self) -> None:
        free, self._free = self._free, None
        if free is not None:
            free.release()

    def __enter__(self) -> Transfer:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def __del__(self) -> None:
        self.end()
