"""Floating IPs and networks as the compute API showed them until 2.35, for old clients. The network service keeps them."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from nephos import errors
from nephos.compute.wire import is_uuid
from nephos.kernel.db.engine import Tx
from nephos.kernel.http.call import Call, Reply
from nephos.kernel.http.routes import Route
from nephos.kernel.http.versions import Version
from nephos.network import lookups
from nephos.network.floatingips import actions as floatingips


class Pool(msgspec.Struct):
    """The network that the address is taken from, by name or id; left off, the first external one."""

    pool: Annotated[str, Meta(max_length=255)] | None = None


def _shown(row: Any) -> dict[str, Any]:
    return {
        "id": row.id,
        "ip": row.address,
        "pool": row.pool,
        "fixed_ip": row.fixed_address,
        "instance_id": row.device_id or None,
    }


def _find(tx: Tx, call: Call) -> Any:
    floating_id = call.params["id"]
    if not is_uuid(floating_id):
        raise errors.NotFound(f"Floating IP not found for ID {floating_id}")
    found = lookups.floating_of_project(tx, call.who.project_id or "", floating_id)
    if not found:
        raise errors.NotFound(f"Floating IP not found for ID {floating_id}")
    return found[0]


def index(call: Call) -> Reply:
    with call.cloud.database.read() as tx:
        rows = lookups.floating_of_project(tx, call.who.project_id or "")
    return Reply({"floating_ips": [_shown(row) for row in rows]})


def show(call: Call) -> Reply:
    with call.cloud.database.read() as tx:
        return Reply({"floating_ip": _shown(_find(tx, call))})


def create(call: Call) -> Reply:
    given = None if call.raw.strip() in (b"", b"null") else call.body(Pool).pool
    project_id = call.who.project_id or ""

    def work(tx: Tx) -> Any:
        pools = [row for row in lookups.external_networks(tx) if given in (None, row.id, row.name)]
        if not pools:
            raise errors.NotFound("Floating IP pool not found." if given else "There is no floating IP pool.")
        new = floatingips.New(project_id=project_id, network_id=pools[0].id)
        made = floatingips.create(tx, call.cloud, new)
        return lookups.floating_of_project(tx, project_id, made)[0]

    return Reply({"floating_ip": _shown(call.cloud.database.write(work))})


def delete(call: Call) -> Reply:
    def work(tx: Tx) -> None:
        row = _find(tx, call)
        floatingips.remove(tx, call.cloud, floatingips.get(tx, row.id))

    call.cloud.database.write(work)
    return Reply()


def pools(call: Call) -> Reply:
    with call.cloud.database.read() as tx:
        return Reply({"floating_ip_pools": [{"name": row.name or row.id} for row in lookups.external_networks(tx)]})


def networks(call: Call) -> Reply:
    with call.cloud.database.read() as tx:
        rows = lookups.networks_of_project(tx, call.who.project_id or "")
    return Reply({"networks": [_network(row) for row in rows]})


def network(call: Call) -> Reply:
    with call.cloud.database.read() as tx:
        for row in lookups.networks_of_project(tx, call.who.project_id or ""):
            if row.id == call.params["id"]:
                return Reply({"network": _network(row)})
    raise errors.NotFound("Network not found")


def _network(row: Any) -> dict[str, Any]:
    """The CIDR is "None" as Nova has it since networks have subnets."""
    return {"id": row.id, "label": row.name, "cidr": "None"}


_ALL, _ONE, _USES, _UNTIL = (
    "/v2.1/os-floating-ips",
    "/v2.1/os-floating-ips/{id}",
    "os_compute_api:os-floating-ips",
    Version(2, 35),
)
_NETWORKS, _NETWORK_USES = "/v2.1/os-tenant-networks", "os_compute_api:os-tenant-networks"

ROUTES = (
    Route("GET", _ALL, index, f"{_USES}:list", until=_UNTIL),
    Route("POST", _ALL, create, f"{_USES}:create", until=_UNTIL),
    Route("GET", _ONE, show, f"{_USES}:show", until=_UNTIL),
    Route("DELETE", _ONE, delete, f"{_USES}:delete", 202, until=_UNTIL),
    Route("GET", "/v2.1/os-floating-ip-pools", pools, "os_compute_api:os-floating-ip-pools", until=_UNTIL),
    Route("GET", _NETWORKS, networks, f"{_NETWORK_USES}:list", until=_UNTIL),
    Route("GET", _NETWORKS + "/{id}", network, f"{_NETWORK_USES}:show", until=_UNTIL),
)
