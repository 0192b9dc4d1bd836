"""The auto-allocated topology: a network, subnets and a router that a project gets on demand."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select

from nephos.kernel.cloud import Cloud
from nephos.kernel.db.engine import Tx
from nephos.kernel.http.call import Call, Reply
from nephos.kernel.http.routes import Route
from nephos.network import problems
from nephos.network.networks import actions as networks
from nephos.network.networks.store import network
from nephos.network.ports.store import ROUTER, port
from nephos.network.resource import V
from nephos.network.routers import actions as routers
from nephos.network.routers.store import router
from nephos.network.subnetpools.store import subnetpool
from nephos.network.subnetpools.wire import visible
from nephos.network.subnets import actions as subnets

NAME = "auto_allocated_network"
_MARK = "auto-allocated-topology"


def find(tx: Tx, project_id: str) -> str | None:
    """The network that was made for a project."""
    found: str | None = tx.scalar(
        select(network.c.id).where(network.c.project_id == project_id, network.c.description == _MARK)
    )
    return found


def requirements(tx: Tx) -> tuple[Any, list[Any]]:
    """(default external network, default subnet pools). Raises AutoAllocationFailure saying what is missing."""
    external = tx.first(select(network).where(network.c.external.is_(True), network.c.is_default.is_(True)))
    pools = list(tx.all(select(subnetpool).where(subnetpool.c.is_default.is_(True), visible("*"))))
    lacking = ([] if external is not None else ["No default router:external network."]) + (
        [] if pools else ["No default subnetpools defined."]
    )
    if lacking:
        raise problems.bad(f"Deployment error: {' '.join(lacking)}", "AutoAllocationFailure")
    return external, pools


def ensure(tx: Tx, cloud: Cloud, project_id: str) -> str:
    """The id of the project's network, made when it is not there. Raises AutoAllocationFailure, OverQuota."""
    found = find(tx, project_id)
    if found is not None:
        return found
    external, pools = requirements(tx)
    network_id = networks.create(tx, cloud, networks.New(project_id=project_id, name=NAME, description=_MARK))
    gateway = routers.Gateway(network_id=external.id)
    router_id = routers.create(
        tx, cloud, project_id=project_id, name="auto_allocated_router", description=_MARK, gateway=gateway
    )
    for pool in pools:
        new = subnets.New(
            project_id=project_id,
            network_id=network_id,
            version=pool.version,
            name=f"auto_allocated_subnet_v{pool.version}",
            pool_id=pool.id,
        )
        subnet_id = subnets.create(tx, cloud, new)
        routers.add_subnet(tx, cloud, routers.get(tx, router_id), subnet_id, project_id)
    return network_id


def show(call: Call) -> Reply:
    project_id = _project(call)
    if "dry-run" in call.query.many("fields"):
        with call.cloud.database.read() as tx:
            requirements(tx)
        return Reply(
            {"auto_allocated_topology": {"id": "dry-run=pass", "project_id": project_id, "tenant_id": project_id}}
        )
    network_id = call.cloud.database.write(lambda tx: ensure(tx, call.cloud, project_id))
    return Reply({"auto_allocated_topology": {"id": network_id, "project_id": project_id, "tenant_id": project_id}})


def delete(call: Call) -> Reply:
    project_id = _project(call)
    call.cloud.database.write(lambda tx: remove(tx, call.cloud, project_id))
    return Reply(status=204)


def remove(tx: Tx, cloud: Cloud, project_id: str) -> None:
    """Raises NotFound when there is none, NetworkInUse while something uses it."""
    network_id = find(tx, project_id)
    if network_id is None:
        raise problems.missing("Auto allocated topology for", project_id, "AutoAllocatedTopologyNotFound")
    for row in tx.all(select(router).where(router.c.project_id == project_id, router.c.description == _MARK)):
        for leg in tx.all(select(port.c.id).where(port.c.device_id == row.id, port.c.device_owner == ROUTER)):
            routers.drop_interface(tx, cloud, routers.get(tx, row.id), port_id=leg.id, subnet_id=None)
        routers.remove(tx, cloud, routers.get(tx, row.id))
    networks.delete_network(tx, cloud, networks.get(tx, network_id))


def _project(call: Call) -> str:
    project_id = call.params["project_id"]
    if project_id in ("", "None", "null"):
        project_id = call.who.project_id or ""
    call.permit({"project_id": project_id, "tenant_id": project_id})
    return project_id


_PATH = V + "/auto-allocated-topology/{project_id}"
ROUTES = (
    Route("GET", _PATH, show, "get_auto_allocated_topology", target="later"),
    Route("DELETE", _PATH, delete, "delete_auto_allocated_topology", 204, target="later"),
)
