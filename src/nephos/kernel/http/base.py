"""URLs of no service: health and metrics."""

from __future__ import annotations

from nephos.kernel.http import faults
from nephos.kernel.http.call import Call, Reply
from nephos.kernel.http.routes import Route, Service


def health(call: Call) -> Reply:
    """200 when the ledger answers; the reason and 503 when it does not."""
    from sqlalchemy import text

    with call.cloud.database.read() as tx:
        tx.execute(text("SELECT 1"))
    return Reply({"status": "ok"})


def metrics(call: Call) -> Reply:
    return Reply(call.cloud.metrics.text(), content_type="text/plain; version=0.0.4; charset=utf-8")


SERVICE = Service(
    name="nephos",
    prefixes=("",),
    routes=(Route("GET", "/healthcheck", health, None), Route("GET", "/metrics", metrics, None)),
    dialect=faults.plain,
)
