"""`/os-simple-tenant-usage`: what projects used in a time."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import or_, select

from nephos import errors
from nephos.compute import wire as common
from nephos.compute.servers.store import server
from nephos.kernel.db.engine import Tx
from nephos.kernel.http.call import Call, Reply
from nephos.kernel.http.routes import Route

_HOUR = 3_600_000_000
_MONTH = 28 * 24 * _HOUR
_PARAMETERS = ("start", "end", "detailed", "limit", "marker")


def index(call: Call) -> Reply:
    common.refuse_unknown(call, _PARAMETERS, 75)
    with call.cloud.database.read() as tx:
        start, end = _period(call, tx.now)
        rows = _rows(tx, call, start, end, None)
        detailed = (call.query.one("detailed") or "0") == "1"
        found = [_project(project, each, start, end, detailed=detailed) for project, each in _grouped(rows).items()]
    body: dict[str, Any] = {"tenant_usages": found}
    return Reply(body | _links(call, rows, "os-simple-tenant-usage", "tenant_usages_links"))


def show(call: Call) -> Reply:
    common.refuse_unknown(call, _PARAMETERS, 75)
    project = call.params["id"]
    call.permit({"project_id": project})
    with call.cloud.database.read() as tx:
        start, end = _period(call, tx.now)
        rows = _rows(tx, call, start, end, project)
        found = _project(project, rows, start, end, detailed=True) if rows else {}
    body: dict[str, Any] = {"tenant_usage": found}
    return Reply(body | _links(call, rows, f"os-simple-tenant-usage/{project}", "tenant_usage_links"))


def _period(call: Call, now: int) -> tuple[int, int]:
    """Microseconds. Raises BadRequest for what is no time, and for an end before the start."""
    given_start, given_end = call.query.one("start"), call.query.one("end")
    end = common.parse_moment(given_end, "end") if given_end else now
    start = common.parse_moment(given_start, "start") if given_start else end - _MONTH
    if end < start:
        raise errors.BadRequest("Invalid start time. The start time cannot occur after the end time.")
    return start, end


def _rows(tx: Tx, call: Call, start: int, end: int, project: str | None) -> list[Any]:
    """Servers that ran at some moment of the time, a page of them from 2.40 on."""
    chosen = select(server).where(
        server.c.launched_at.is_not(None),
        server.c.launched_at < end,
        or_(server.c.terminated_at.is_(None), server.c.terminated_at > start),
    )
    if project is not None:
        chosen = chosen.where(server.c.project_id == project)
    rows = list(tx.all(chosen.order_by(server.c.project_id, server.c.number)))
    if not common.since(call, 40):
        return rows
    marker = call.query.one("marker")
    if marker is not None:
        places = [place for place, row in enumerate(rows) if row.id == marker]
        if not places:
            raise errors.BadRequest(f"marker [{marker}] not found")
        rows = rows[places[0] + 1 :]
    return rows[: call.query.integer("limit") or call.cloud.settings.api.max_limit]


def _links(call: Call, rows: list[Any], path: str, name: str) -> dict[str, Any]:
    limit = call.query.integer("limit")
    if not common.since(call, 40) or not limit or len(rows) < limit:
        return {}
    link = call.query.next_link(f"{call.host_url}{common.ROOT}/{path}", rows[-1].id)
    return {name: [{"rel": "next", "href": link}]}


def _grouped(rows: Iterable[Any]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for row in rows:
        found.setdefault(row.project_id, []).append(row)
    return found


def _project(project: str, rows: list[Any], start: int, end: int, *, detailed: bool) -> dict[str, Any]:
    servers = [_server(row, start, end) for row in rows]
    shown: dict[str, Any] = {
        "tenant_id": project,
        "start": common.fine_moment(start),
        "stop": common.fine_moment(end),
        "total_hours": sum(each["hours"] for each in servers),
        "total_vcpus_usage": sum(each["hours"] * each["vcpus"] for each in servers),
        "total_memory_mb_usage": sum(each["hours"] * each["memory_mb"] for each in servers),
        "total_local_gb_usage": sum(each["hours"] * each["local_gb"] for each in servers),
    }
    return shown | ({"server_usages": servers} if detailed else {})


def _server(row: Any, start: int, end: int) -> dict[str, Any]:
    flavor = row.flavor or {}
    until = min(row.terminated_at or end, end)
    return {
        "instance_id": row.id,
        "name": row.name,
        "tenant_id": row.project_id,
        "flavor": flavor.get("name", ""),
        "hours": max(0, until - max(row.launched_at, start)) / _HOUR,
        "vcpus": row.vcpus,
        "memory_mb": row.ram_mb,
        "local_gb": int(flavor.get("root_gb", 0)) + int(flavor.get("ephemeral_gb", 0)),
        "started_at": common.fine_moment(row.launched_at),
        "ended_at": common.fine_moment(row.terminated_at),
        "state": "terminated" if row.deleted else row.vm_state,
        "uptime": max(0, until - row.launched_at) // 1_000_000,
    }


_PATH, _RULE = "/v2.1/os-simple-tenant-usage", "os_compute_api:os-simple-tenant-usage"
ROUTES = (
    Route("GET", _PATH, index, f"{_RULE}:list"),
    Route("GET", _PATH + "/{id}", show, f"{_RULE}:show", target="later"),
)
