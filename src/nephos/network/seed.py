"""What a new cloud starts with: the external network, and a network with a router for project demo."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select

from nephos.identity.projects import actions as identity
from nephos.kernel.cloud import Cloud
from nephos.kernel.db.engine import Tx
from nephos.network.default_rules import actions as default_rules
from nephos.network.groups import actions as groups
from nephos.network.networks import actions as networks
from nephos.network.networks.store import network
from nephos.network.routers import actions as routers
from nephos.network.segment_ranges import actions as ranges
from nephos.network.segments import actions as segments
from nephos.network.segments.types import FLAT, Segment
from nephos.network.subnets import actions as subnets

PUBLIC = "public"
RANGE, GATEWAY = "172.24.4.0/24", "172.24.4.1"
POOLS = (("172.24.4.2", "172.24.4.2"), ("172.24.4.10", "172.24.4.254"))


def seed(cloud: Cloud) -> None:
    """Idempotent: a cloud that has a network has been seeded, whatever became of the networks since."""
    default_rules.seed(cloud)
    ranges.load(cloud)
    segments.adopt(cloud)
    with cloud.database.read() as tx:
        projects = _projects(tx)
        if tx.first(select(network.c.id).limit(1)) is not None or not {"admin", "demo"} <= projects.keys():
            return

    def work(tx: Tx) -> None:
        external = _public(tx, cloud, projects["admin"])
        _private(tx, cloud, projects["demo"], external)
        for project_id in projects.values():
            groups.ensure_default(tx, cloud, project_id)

    cloud.database.write(work)


def _projects(tx: Tx) -> dict[str, str]:
    found = {name: identity.find_project(tx, name) for name in ("admin", "demo")}
    return {name: row.id for name, row in found.items() if row is not None}


def _public(tx: Tx, cloud: Cloud, project_id: str) -> str:
    new = networks.New(
        project_id=project_id,
        name=PUBLIC,
        external=True,
        is_default=True,
        segments=(Segment(kind=FLAT, physical=PUBLIC),),
    )
    network_id = networks.create(tx, cloud, new)
    subnets.create(
        tx,
        cloud,
        subnets.New(
            project_id=project_id,
            network_id=network_id,
            version=4,
            name="public-subnet",
            cidr=RANGE,
            gateway=GATEWAY,
            pools=POOLS,
            dhcp=False,
        ),
    )
    return network_id


def _private(tx: Tx, cloud: Cloud, project_id: str, external: str) -> Any:
    network_id = networks.create(tx, cloud, networks.New(project_id=project_id, name="private"))
    subnet_id = subnets.create(
        tx,
        cloud,
        subnets.New(project_id=project_id, network_id=network_id, version=4, name="private-subnet", cidr="10.0.0.0/24"),
    )
    router_id = routers.create(
        tx, cloud, project_id=project_id, name="router1", gateway=routers.Gateway(network_id=external)
    )
    routers.add_subnet(tx, cloud, routers.get(tx, router_id), subnet_id, project_id)
    return router_id
