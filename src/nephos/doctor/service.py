"""The operator's own API, below /nephos/v1: hosts, invitations, audit, traces, keys and policy. Admins only; the command line is its client."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import msgspec

from nephos.doctor import audit, keys, policy
from nephos.doctor.trace import follow
from nephos.hosts import actions as hosts
from nephos.hosts import enrolment
from nephos.kernel.cloud import Cloud
from nephos.kernel.http import faults
from nephos.kernel.http.call import Call, Reply
from nephos.kernel.http.routes import Route, Service
from nephos.kernel.policy import Rule
from nephos.network.paths import actions as paths


def list_hosts(call: Call) -> Reply:
    """Every host with its capacity, whether it is up, and the tunnels to its peers as it proves them (S0-32)."""
    with call.cloud.database.read() as tx:
        rows = hosts.all_hosts(tx)
        proved: dict[str, list[dict[str, object]]] = {}
        around = paths.ways_round(tx)
        for each in paths.listing(tx):
            way = around.get((each.host_id, each.peer))
            shown = {"peer": each.peer, "up": each.up, "mtu": each.mtu, "fallback": way}
            more = {"fallback_up": each.detour_up, "fallback_mtu": each.detour_mtu} if way else {}
            proved.setdefault(each.host_id, []).append(shown | more)
        now = tx.now
    names = ("id", "name", "hypervisor_type", "hypervisor_version", "vcpus", "ram_mb", "disk_gb", "tunnel_address")
    return Reply(
        {
            "hosts": [
                {
                    **{name: getattr(row, name) for name in names},
                    "up": hosts.up(row, now),
                    "disabled": row.disabled,
                    "trusts": row.trusts,
                    "tunnels": proved.get(row.id, []),
                }
                for row in rows
            ]
        }
    )


def findings(call: Call) -> Reply:
    """What is stuck, orphaned or left over."""
    return Reply({"findings": audit.plain(audit.audit(call.cloud))})


class WithdrawBody(msgspec.Struct, forbid_unknown_fields=True):
    """A ticket or a host's name; None is every invitation in no host's name."""

    invitation: Annotated[str, msgspec.Meta(min_length=1, max_length=4096)] | None


def withdraw(call: Call) -> Reply:
    """Have an invitation that was not used yet open nothing any more. Raises BadRequest."""
    body = call.body(WithdrawBody)
    return Reply({"withdrawn": call.cloud.database.write(lambda tx: enrolment.withdraw(tx, body.invitation))})


def trace(call: Call) -> Reply:
    """Follow packets from a port to where `to` says; takes about three seconds."""
    found = follow.trace(call.cloud, call.params["port"], call.query.one("to") or "gateway")
    return Reply({"trace": msgspec.to_builtins(found)})


SERVICE = Service(
    name="nephos-operator",
    prefixes=("/nephos/v1",),
    routes=(
        Route("GET", "/hosts", list_hosts, "nephos:hosts:list"),
        Route("POST", "/invitations/withdraw", withdraw, "nephos:invitations:withdraw"),
        Route("GET", "/audit", findings, "nephos:audit:show"),
        Route("GET", "/ports/{port}/trace", trace, "nephos:trace:show"),
        Route("GET", "/keys", keys.index, "nephos:keys:list"),
        Route("POST", "/keys/{kind}/rotate", keys.rotate, "nephos:keys:rotate"),
        Route("GET", "/policy", policy.index, "nephos:policy:list"),
        Route("POST", "/policy/check", policy.check, "nephos:policy:check"),
    ),
    dialect=faults.plain,
)
RULES = (
    Rule("nephos:hosts:list", "role:admin"),
    Rule("nephos:invitations:withdraw", "role:admin"),
    Rule("nephos:audit:show", "role:admin"),
    Rule("nephos:trace:show", "role:admin"),
    Rule("nephos:keys:list", "role:admin"),
    Rule("nephos:keys:rotate", "role:admin"),
    Rule("nephos:policy:list", "role:admin"),
    Rule("nephos:policy:check", "role:admin"),
)


def compose(cloud: Cloud) -> None:
    """Nothing to add."""


def seed(cloud: Cloud, passwords: Mapping[str, str]) -> None:
    """Nothing to make."""
