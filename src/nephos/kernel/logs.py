"""Logs as one JSON object a line, each with the request id that it belongs to (S1-44: path and level are settings)."""

from __future__ import annotations

import logging
import sys
from contextvars import ContextVar
from pathlib import Path

import msgspec

from nephos.kernel import clock

request_id: ContextVar[str] = ContextVar("request_id", default="")
global_request_id: ContextVar[str] = ContextVar("global_request_id", default="")
"""The id that the caller gave to several requests of its own, in OpenStack's X-OpenStack-Request-ID."""


class JsonFormatter(logging.Formatter):
    """time, level, logger, message; request_id, global_request_id and trace when there are any."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": clock.iso.__wrapped__(int(record.created * 1_000_000), micro=True),  # no time comes twice
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        current = request_id.get()
        if current:
            line["request_id"] = current
        given = global_request_id.get()
        if given:
            line["global_request_id"] = given
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line).decode()


def configure(level: str, path: Path | None) -> None:
    """Send all logs to a file, or to standard error when `path` is None."""
    handler: logging.Handler = logging.FileHandler(path) if path else logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # What no line shows need not be found out for each: the caller's file, the thread and the process.
    # Source: Python's logging HOWTO, "Optimization".
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    for noisy in ("websockets", "alembic", "_granian", "granian"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    # every loss of a connection is told by who uses it; the library tells it five times
    logging.getLogger("pika").setLevel(logging.CRITICAL)
