"""Where notifications go: what a sink is, and the plainest one, a file of JSON lines."""

from __future__ import annotations

import logging
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Protocol

from nephos.kernel.notifications.outbox import Waiting


class Refused(Exception):
    """The sink took a look at this notification and will never have it; the ones behind it may pass."""


class Sink(Protocol):
    """Takes notifications one by one, in order. A sink is used by one thread."""

    name: str

    def send(self, one: Waiting) -> None:
        """Returns when it has arrived. Raises Refused; anything else that it raises means: not now, try again."""
        ...

    def idle(self) -> None:
        """Called about every second while there is nothing to send."""
        ...

    def close(self) -> None: ...


class LogSink:
    """A file of JSON objects, one a line. It is turned over at `most_bytes`, and `files` older ones are kept."""

    name = "log"

    def __init__(self, path: Path, *, most_bytes: int, files: int) -> None:
        self._path, self._most, self._files = path, most_bytes, files
        self._handler: _File | None = None

    def send(self, one: Waiting) -> None:
        if self._handler is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.touch(mode=0o640)
            self._handler = _File(self._path, maxBytes=self._most, backupCount=self._files, encoding="utf-8")
        self._handler.emit(logging.LogRecord("notifications", logging.INFO, "", 0, one.message, None, None))

    def idle(self) -> None:
        """Nothing to do."""

    def close(self) -> None:
        if self._handler is not None:
            self._handler.close()
            self._handler = None


class _File(RotatingFileHandler):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """What could not be written is not delivered: say so instead of printing it."""
        raise
