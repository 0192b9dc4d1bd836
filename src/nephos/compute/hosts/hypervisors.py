"""`/os-hypervisors`: hosts as Nova shows them, capacity and use counted from the ledger."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from nephos import errors
from nephos.compute import wire as common
from nephos.compute.servers import store as servers
from nephos.hosts import actions as hosts
from nephos.kernel.db.engine import Tx
from nephos.kernel.http.call import Call, Reply
from nephos.kernel.http.routes import Route
from nephos.kernel.http.versions import Version
from nephos.placement.allocations import actions as allocations

_USES = "os_compute_api:os-hypervisors"
_LAST_NUMBERS = Version(2, 87)
_PARAMETERS = ("limit", "marker", "hypervisor_hostname_pattern", "with_servers")


def index(call: Call) -> Reply:
    with call.cloud.database.read() as tx:
        rows, following = _listed(tx, call)
        body: dict[str, Any] = {"hypervisors": [_basic(row, tx.now, call) for row in rows]}
        _with_servers(tx, call, rows, body["hypervisors"])
    return Reply(body | following)


def detail(call: Call) -> Reply:
    with call.cloud.database.read() as tx:
        rows, following = _listed(tx, call)
        body: dict[str, Any] = {"hypervisors": _details(tx, call, rows)}
        _with_servers(tx, call, rows, body["hypervisors"])
    return Reply(body | following)


def _listed(tx: Tx, call: Call) -> tuple[list[Any], dict[str, Any]]:
    """The page of hosts that is asked for, and its link to the next."""
    common.refuse_unknown(call, _PARAMETERS, 75)
    rows = list(hosts.all_hosts(tx))
    pattern = call.query.one("hypervisor_hostname_pattern") if common.since(call, 53) else None
    if pattern is not None:
        if {"limit", "marker"} & set(call.query):
            raise errors.BadRequest(
                "Paging over hypervisors with the hypervisor_hostname_pattern query parameter is not supported."
            )
        rows = [row for row in rows if pattern in row.name]
        if not rows:
            raise errors.NotFound(f"No hypervisor matching '{pattern}' could be found.")
    if not common.since(call, 33):
        return rows, {}
    limit, marker = call.query.integer("limit"), call.query.one("marker")
    if marker is not None:
        places = [
            place
            for place, row in enumerate(rows)
            if _id(row, call) == (marker if common.since(call, 53) else _whole(marker))
        ]
        if not places:
            raise errors.BadRequest(f"marker [{marker}] not found")
        rows = rows[places[0] + 1 :]
    following: dict[str, Any] = {}
    if limit:
        if len(rows) > limit:
            path = call.environ["PATH_INFO"].removeprefix(common.ROOT)
            link = call.query.next_link(call.host_url + common.ROOT + path, str(_id(rows[limit - 1], call)))
            following = {"hypervisors_links": [{"rel": "next", "href": link}]}
        rows = rows[:limit]
    return rows, following


def _whole(marker: str) -> int:
    return int(marker) if marker.isascii() and marker.isdigit() else -1


def _id(row: Any, call: Call) -> Any:
    return row.id if common.since(call, 53) else row.number


def _basic(row: Any, now: int, call: Call) -> dict[str, Any]:
    return {
        "id": _id(row, call),
        "hypervisor_hostname": row.name,
        "state": "up" if hosts.up(row, now) else "down",
        "status": "disabled" if row.disabled else "enabled",
    }


def _details(tx: Tx, call: Call, rows: Sequence[Any]) -> list[dict[str, Any]]:
    usage, counts = allocations.usage_of_hosts(tx), servers.counts_by_host(tx)
    return [_detailed(row, tx.now, call, usage.get(row.id, {}), counts.get(row.id, 0)) for row in rows]


def _detailed(row: Any, now: int, call: Call, used: dict[str, int], count: int) -> dict[str, Any]:
    shown = _basic(row, now, call) | {
        "hypervisor_type": row.hypervisor_type or "",
        "hypervisor_version": row.hypervisor_version,
        "host_ip": row.tunnel_address or "127.0.0.1",
        "service": {
            "id": row.service_id if common.since(call, 53) else row.number + 2,
            "host": row.name,
            "disabled_reason": row.disabled_reason,
        },
    }
    if common.since(call, 88):
        return shown | {"uptime": _uptime(call, row) if hosts.up(row, now) else None}
    ram, disk = used.get("MEMORY_MB", 0) + _reserved(call, row), used.get("DISK_GB", 0)
    about = row.cpu_info or {}
    return shown | {
        "vcpus": row.vcpus,
        "vcpus_used": used.get("VCPU", 0),
        "memory_mb": row.ram_mb,
        "memory_mb_used": ram,
        "free_ram_mb": row.ram_mb - ram,
        "local_gb": row.disk_gb,
        "local_gb_used": disk,
        "free_disk_gb": row.disk_gb - disk,
        "disk_available_least": max(row.disk_gb - disk, 0),
        "current_workload": 0,
        "running_vms": count,
        "cpu_info": about if common.since(call, 28) else msgspec.json.encode(about).decode(),
    }


def _reserved(call: Call, row: Any) -> int:
    return min(int(call.cloud.settings.compute.reserved_ram_mb), int(row.ram_mb))


def _with_servers(tx: Tx, call: Call, rows: Sequence[Any], shown: list[dict[str, Any]]) -> None:
    """Put each host's servers on it when the request wants that (2.53 on)."""
    if not common.since(call, 53) or not call.query.boolean("with_servers", default=False):
        return
    for row, each in zip(rows, shown, strict=True):
        found = _servers(tx, row)
        if found or common.since(call, 75):
            each["servers"] = found


def _servers(tx: Tx, row: Any) -> list[dict[str, str]]:
    return [{"uuid": each.id, "name": f"instance-{each.number:08x}"} for each in servers.of_host(tx, row.id)]


def show(call: Call) -> Reply:
    with call.cloud.database.read() as tx:
        row = _find(tx, call)
        shown = _details(tx, call, [row])
        _with_servers(tx, call, [row], shown)
    return Reply({"hypervisor": shown[0]})


def uptime(call: Call) -> Reply:
    with call.cloud.database.read() as tx:
        row = _find(tx, call)
        shown = _basic(row, tx.now, call)
        if not hosts.up(row, tx.now):
            raise errors.BadRequest(f"Service is unavailable at this time: host {row.name} is down.")
    return Reply({"hypervisor": shown | {"uptime": _uptime(call, row)}})


def _uptime(call: Call, row: Any) -> str | None:
    try:
        return str(call.cloud.hosts.ask(row.id, "uptime"))
    except (errors.Unavailable, errors.HostFault):
        return None


def _find(tx: Tx, call: Call) -> Any:
    key = call.params["id"]
    for row in hosts.all_hosts(tx):
        if str(_id(row, call)) == key:
            return row
    raise errors.NotFound(f"Compute host {key} could not be found.")


def statistics(call: Call) -> Reply:
    with call.cloud.database.read() as tx:
        every = _details(tx, call, hosts.all_hosts(tx))
    names = (
        "vcpus", "memory_mb", "local_gb", "vcpus_used", "memory_mb_used", "local_gb_used", "free_ram_mb", "free_disk_gb",
        "current_workload", "running_vms", "disk_available_least",
    )  # fmt: skip
    total = {name: sum(each[name] for each in every) for name in names}
    return Reply({"hypervisor_statistics": {"count": len(every), **total}})


def search(call: Call) -> Reply:
    with call.cloud.database.read() as tx:
        return Reply({"hypervisors": [_basic(row, tx.now, call) for row in _matching(tx, call)]})


def of_pattern(call: Call) -> Reply:
    with call.cloud.database.read() as tx:
        shown = []
        for row in _matching(tx, call):
            found = _servers(tx, row)
            shown.append(_basic(row, tx.now, call) | ({"servers": found} if found else {}))
    return Reply({"hypervisors": shown})


def _matching(tx: Tx, call: Call) -> list[Any]:
    pattern = call.params["id"]
    rows = [row for row in hosts.all_hosts(tx) if pattern in row.name]
    if not rows:
        raise errors.NotFound(f"No hypervisor matching '{pattern}' could be found.")
    return rows


_ALL, _ONE = "/v2.1/os-hypervisors", "/v2.1/os-hypervisors/{id}"
_LAST_SEARCH = Version(2, 52)
ROUTES = (
    Route("GET", _ALL, index, f"{_USES}:list"),
    Route("GET", _ALL + "/detail", detail, f"{_USES}:list-detail"),
    Route("GET", _ALL + "/statistics", statistics, f"{_USES}:statistics", until=_LAST_NUMBERS),
    Route("GET", _ONE, show, f"{_USES}:show"),
    Route("GET", _ONE + "/uptime", uptime, f"{_USES}:uptime", until=_LAST_NUMBERS),
    Route("GET", _ONE + "/search", search, f"{_USES}:search", until=_LAST_SEARCH),
    Route("GET", _ONE + "/servers", of_pattern, f"{_USES}:servers", until=_LAST_SEARCH),
)
