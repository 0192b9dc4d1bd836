"""`/os-availability-zone` and the old `/os-hosts`."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import UNSET, UnsetType

from nephos import errors
from nephos.compute import wire as common
from nephos.compute.hosts.services import COMPUTE, INTERNAL
from nephos.compute.servers import store as servers
from nephos.hosts import actions as hosts
from nephos.kernel.db.engine import Tx
from nephos.kernel.http.call import Call, Reply
from nephos.kernel.http.routes import Route
from nephos.kernel.http.versions import Version
from nephos.placement.allocations import actions as allocations

_OWN = ("nova-scheduler", "nova-conductor")


class HostChange(common.Strict):
    """PUT /os-hosts/{name}."""

    status: Literal["enable", "disable", "Enable", "Disable"] | UnsetType = UNSET
    maintenance_mode: Literal["enable", "disable"] | UnsetType = UNSET


def _zones(tx: Tx, call: Call) -> dict[str, list[Any]]:
    """Zone → its hosts. The default zone is there without hosts too."""
    default = call.cloud.settings.compute.zone
    found: dict[str, list[Any]] = {default: []}
    for row in hosts.all_hosts(tx):
        found.setdefault(row.zone or default, []).append(row)
    return found


def index(call: Call) -> Reply:
    with call.cloud.database.read() as tx:
        shown = [
            {"zoneName": name, "zoneState": {"available": any(not row.disabled for row in rows)}, "hosts": None}
            for name, rows in sorted(_zones(tx, call).items())
        ]
    return Reply({"availabilityZoneInfo": shown})


def detail(call: Call) -> Reply:
    with call.cloud.database.read() as tx:
        now = tx.now
        own = call.cloud.settings.host.name or "server"
        alive = {"available": True, "active": True, "updated_at": common.fine_moment(now)}
        shown: list[dict[str, Any]] = [
            {"zoneName": INTERNAL, "zoneState": {"available": True}, "hosts": {own: dict.fromkeys(_OWN, alive)}}
        ]
        for name, rows in sorted(_zones(tx, call).items()):
            services = {
                row.name: {
                    COMPUTE: {
                        "available": hosts.up(row, now),
                        "active": not row.disabled,
                        "updated_at": common.fine_moment(row.last_seen),
                    }
                }
                for row in rows
            }
            available = any(not row.disabled for row in rows)
            shown.append({"zoneName": name, "zoneState": {"available": available}, "hosts": services})
    return Reply({"availabilityZoneInfo": shown})


# --- /os-hosts, until 2.42 -------------------------------------------------------------------------------------


def list_hosts(call: Call) -> Reply:
    zone, service = call.query.one("zone") or None, call.query.one("service") or None
    own = call.cloud.settings.host.name or "server"
    with call.cloud.database.read() as tx:
        found = [{"host_name": own, "service": name.removeprefix("nova-"), "zone": INTERNAL} for name in _OWN]
        for name, rows in _zones(tx, call).items():
            found += [{"host_name": row.name, "service": "compute", "zone": name} for row in rows]
    return Reply(
        {
            "hosts": [
                each
                for each in found
                if (zone is None or each["zone"] == zone) and (service is None or each["service"] == service)
            ]
        }
    )


def show_host(call: Call) -> Reply:
    with call.cloud.database.read() as tx:
        row = hosts.by_name(tx, call.params["name"])
        used = allocations.usage_of_hosts(tx).get(row.id, {})
        projects: dict[str, list[int]] = {}
        for each in servers.of_host(tx, row.id):
            sums = projects.setdefault(each.project_id, [0, 0, 0])
            root = int((each.flavor or {}).get("root_gb", 0)) + int((each.flavor or {}).get("ephemeral_gb", 0))
            for at, amount in enumerate((each.vcpus, each.ram_mb, root)):
                sums[at] += amount
    now = (used.get("VCPU", 0), used.get("MEMORY_MB", 0), used.get("DISK_GB", 0))
    most = tuple(sum(sums[at] for sums in projects.values()) for at in range(3))
    rows = [
        ("(total)", (row.vcpus, row.ram_mb, row.disk_gb)),
        ("(used_now)", now),
        ("(used_max)", most),
        *((project, tuple(sums)) for project, sums in projects.items()),
    ]
    shown = [
        {"resource": {"host": row.name, "project": name, "cpu": cpu, "memory_mb": ram, "disk_gb": disk}}
        for name, (cpu, ram, disk) in rows
    ]
    return Reply({"host": shown})


def change_host(call: Call) -> Reply:
    body = call.body(HostChange)
    with call.cloud.database.read() as tx:
        hosts.by_name(tx, call.params["name"])
    if body.maintenance_mode is not UNSET:
        raise errors.NotImplementedHere(
            "Host maintenance mode is not served; disable the service and move its servers."
        )
    if body.status is UNSET:
        raise errors.BadRequest("Invalid input: Object missing required field `status`")
    enabled = body.status.lower() == "enable"

    def work(tx: Tx) -> str:
        row = hosts.by_name(tx, call.params["name"])
        hosts.change(tx, row.id, disabled=not enabled, disabled_reason=None)
        tx.after_commit(call.cloud.parts["compute"].building.forget_hosts)
        return str(row.name)

    name = call.cloud.database.write(work)
    return Reply({"host": name, "status": "enabled" if enabled else "disabled"})


def switch_host(call: Call) -> Reply:
    """Hosts are not switched on and off from here; libvirt's driver of Nova refuses it too."""
    with call.cloud.database.read() as tx:
        hosts.by_name(tx, call.params["name"])
    raise errors.NotImplementedHere("Hosts are not started, shut down or rebooted through this API.")


_ZONES, _HOSTS, _LAST = "/v2.1/os-availability-zone", "/v2.1/os-hosts", Version(2, 42)
_RULE = "os_compute_api:os-hosts"
ROUTES = (
    Route("GET", _ZONES, index, "os_compute_api:os-availability-zone:list"),
    Route("GET", _ZONES + "/detail", detail, "os_compute_api:os-availability-zone:detail"),
    Route("GET", _HOSTS, list_hosts, f"{_RULE}:list", until=_LAST),
    Route("GET", _HOSTS + "/{name}", show_host, f"{_RULE}:show", until=_LAST),
    Route("PUT", _HOSTS + "/{name}", change_host, f"{_RULE}:update", until=_LAST),
    Route("GET", _HOSTS + "/{name}/startup", switch_host, f"{_RULE}:start", until=_LAST),
    Route("GET", _HOSTS + "/{name}/shutdown", switch_host, f"{_RULE}:shutdown", until=_LAST),
    Route("GET", _HOSTS + "/{name}/reboot", switch_host, f"{_RULE}:reboot", until=_LAST),
)
