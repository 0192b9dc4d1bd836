"""The toy services as `test_certificates` has them served: the worker process looks after its certificate."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from nephos.kernel.http import serving
from nephos.kernel.http.front import Front
from tests.kernel.http import toyfront


def front() -> Front:
    path = Path(os.environ["TEST_PEM"])
    seen = path.stat().st_mtime_ns

    def look() -> None:
        nonlocal seen
        while True:
            threading.Event().wait(0.1)
            if path.exists() and path.stat().st_mtime_ns != seen:
                seen = path.stat().st_mtime_ns
                serving.certificate_changed()

    threading.Thread(target=look, daemon=True).start()
    return toyfront.front()
