"""`/servers/{id}/diagnostics`: what the ledger knows of a running guest. Counters that only a hypervisor has are null."""

from __future__ import annotations

from typing import Any

from nephos.compute import wire as common
from nephos.compute.lifecycle.actions import require
from nephos.compute.servers import states
from nephos.compute.servers.api import SERVER, seen
from nephos.hosts import actions as hosts
from nephos.kernel.http.call import Call, Reply
from nephos.kernel.http.routes import Route
from nephos.network import guests as network

_NIC = ("rx_octets rx_errors rx_drop rx_packets rx_rate tx_octets tx_errors tx_drop tx_packets tx_rate").split()  # noqa: SIM905
_WORDS = {states.RUNNING: "running", states.POWER_PAUSED: "paused", states.SHUTDOWN: "shutdown"}


def show(call: Call) -> Reply:
    common.refuse_unknown(call, (), 102)
    with call.cloud.database.read() as tx:
        row = seen(call, tx)
        require(row, "get_diagnostics", {states.ACTIVE, states.STOPPED, states.PAUSED, states.SUSPENDED})
        host = hosts.get(tx, row.host_id)
        ports = network.ports_of(tx, [row.id]).get(row.id, [])
    if not common.since(call, 48):
        return Reply({"memory": row.ram_mb * 1024, "memory-actual": row.ram_mb * 1024})
    return Reply(_diagnostics(row, host, [port.mac for port in ports]))


def _diagnostics(row: Any, host: Any, macs: list[str]) -> dict[str, Any]:
    return {
        "state": _WORDS.get(row.power_state, "pending"),
        "driver": "libvirt",
        "hypervisor": (host.hypervisor_type or "qemu").lower(),
        "hypervisor_os": "linux",
        "uptime": None,
        "config_drive": bool(row.config_drive),
        "num_cpus": row.vcpus,
        "num_nics": len(macs),
        "num_disks": 1,
        "disk_details": [],
        "cpu_details": [{"id": number, "time": None, "utilisation": None} for number in range(row.vcpus)],
        "nic_details": [{"mac_address": mac, **dict.fromkeys(_NIC)} for mac in macs],
        "memory_details": {"maximum": row.ram_mb, "used": None},
    }


ROUTES = (Route("GET", SERVER + "/diagnostics", show, "os_compute_api:os-server-diagnostics", target="later"),)
