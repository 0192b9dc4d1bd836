"""`/os-instance_usage_audit_log`: when hosts last reported their servers' use.

Use is counted from the ledger whenever it is asked for, so no host ever runs such a report: every host is one that has
not run it.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from nephos import errors
from nephos.compute import wire as common
from nephos.hosts import actions as hosts
from nephos.kernel import clock
from nephos.kernel.http.call import Call, Reply
from nephos.kernel.http.routes import Route


def index(call: Call) -> Reply:
    return Reply({"instance_usage_audit_logs": _log(call, datetime.fromtimestamp(clock.now(), UTC))})


def show(call: Call) -> Reply:
    text = call.params["before"]
    form = "%Y-%m-%d %H:%M:%S.%f" if "." in text else "%Y-%m-%d %H:%M:%S"
    try:
        before = datetime.strptime(text, form)
    except ValueError as wrong:
        raise errors.BadRequest(f"Invalid timestamp for date {text}") from wrong
    return Reply({"instance_usage_audit_log": _log(call, before)})


def _log(call: Call, before: datetime) -> dict[str, Any]:
    common.refuse_unknown(call, (), 102)
    with call.cloud.database.read() as tx:
        names = [row.name for row in hosts.all_hosts(tx)]
    end = datetime(before.year, before.month, 1)
    begin = datetime(end.year - (end.month == 1), (end.month - 2) % 12 + 1, 1)
    return {
        "period_beginning": str(begin),
        "period_ending": str(end),
        "num_hosts": len(names),
        "num_hosts_done": 0,
        "num_hosts_running": 0,
        "num_hosts_not_run": len(names),
        "hosts_not_run": names,
        "total_instances": 0,
        "total_errors": 0,
        "overall_status": f"0 of {len(names)} hosts done. 0 errors.",
        "log": {},
    }


_PATH, _RULE = "/v2.1/os-instance_usage_audit_log", "os_compute_api:os-instance-usage-audit-log"

ROUTES = (
    Route("GET", _PATH, index, f"{_RULE}:list"),
    Route("GET", _PATH + "/{before}", show, f"{_RULE}:show"),
)
