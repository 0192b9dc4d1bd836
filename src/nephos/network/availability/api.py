"""/network-ip-availabilities: how many addresses networks and their subnets have, and how many are used."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Select, func, select

from nephos.kernel.db.engine import Tx
from nephos.kernel.http.call import Call, Reply
from nephos.kernel.http.routes import Route
from nephos.network import problems, resource
from nephos.network.networks.store import network
from nephos.network.resource import V, View
from nephos.network.subnets.store import address, subnet

_used = (
    select(address.c.subnet_id, func.count().label("used"))
    .join(subnet, subnet.c.id == address.c.subnet_id)
    .group_by(address.c.subnet_id)
)
_FILTERS = {
    "network_id": network.c.id,
    "network_name": network.c.name,
    "project_id": network.c.project_id,
    "tenant_id": network.c.project_id,
}
_CONTROL = frozenset({"fields", "ip_version", "limit", "marker", "page_reverse", "sort_key", "sort_dir"})


def index(call: Call) -> Reply:
    call.permit()
    view = View(call)
    statement = select(network).order_by(network.c.id)
    for name, values in call.query.items():
        if name in _FILTERS:
            statement = statement.where(_FILTERS[name].in_(values))
        elif name not in _CONTROL:
            raise problems.bad(f"['{name}'] is invalid attribute for filtering", "HTTPBadRequest")
    versions = {int(value) for value in call.query.many("ip_version") if value in ("4", "6")}
    with view.cloud.database.read() as tx:
        found = _shown(tx, statement, versions)
    return Reply({"network_ip_availabilities": _cut(found, call.query.many("fields"))})


def show(call: Call) -> Reply:
    call.permit()
    view, key = View(call), call.params["network_id"]
    with view.cloud.database.read() as tx:
        found = _shown(tx, select(network).where(network.c.id == key), set())
    if not found:
        raise problems.missing("Network", key)
    return Reply({"network_ip_availability": _cut(found, call.query.many("fields"))[0]})


def _shown(tx: Tx, statement: Select[Any], versions: set[int]) -> list[resource.Item]:
    """Networks with at least one subnet of these IP versions; all networks when none is named."""
    rows = tx.all(statement)
    inside = statement.with_only_columns(network.c.id).order_by(None)
    inner = tx.all(select(subnet).where(subnet.c.network_id.in_(inside)).order_by(subnet.c.created_at, subnet.c.id))
    used = {row.subnet_id: row.used for row in tx.all(_used.where(subnet.c.network_id.in_(inside)))}
    of: dict[str, list[Any]] = {}
    for row in inner:
        if not versions or row.version in versions:
            of.setdefault(row.network_id, []).append(row)
    return [_network(row, of.get(row.id, ()), used) for row in rows if row.id in of or not versions]


def _network(row: Any, inner: Sequence[Any], used: dict[str, int]) -> resource.Item:
    parts = [
        {
            "subnet_id": each.id,
            "subnet_name": each.name,
            "cidr": each.cidr,
            "ip_version": each.version,
            "total_ips": _total(each),
            "used_ips": used.get(each.id, 0),
        }
        for each in inner
    ]
    return {
        "network_id": row.id,
        "network_name": row.name,
        "project_id": row.project_id,
        "tenant_id": row.project_id,
        "total_ips": sum(part["total_ips"] for part in parts),
        "used_ips": sum(part["used_ips"] for part in parts),
        "subnet_ip_availability": parts,
    }


def _total(row: Any) -> int:
    """The addresses of the pools; without pools those of the range."""
    if row.pools:
        return sum(int(ipaddress.ip_address(last)) - int(ipaddress.ip_address(first)) + 1 for first, last in row.pools)
    return ipaddress.ip_network(row.cidr).num_addresses


def _cut(items: Iterable[resource.Item], fields: Sequence[str]) -> list[resource.Item]:
    wanted = set(fields) - {""}
    return [{name: value for name, value in item.items() if not wanted or name in wanted} for item in items]


ROUTES = (
    Route("GET", V + "/network-ip-availabilities", index, "get_network_ip_availability", target="later"),
    Route("GET", V + "/network-ip-availabilities/{network_id}", show, "get_network_ip_availability", target="later"),
)
