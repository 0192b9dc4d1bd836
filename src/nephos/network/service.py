"""The network service: its routes, and what it adds to the cloud."""

from __future__ import annotations

from collections.abc import Mapping

from nephos.kernel.cloud import Cloud
from nephos.kernel.http import faults
from nephos.kernel.http.routes import Service
from nephos.network import audit, notices, wiring
from nephos.network import seed as first
from nephos.network.agents import api as agents
from nephos.network.availability import api as availability
from nephos.network.discovery import api as discovery
from nephos.network.discovery import topology
from nephos.network.floatingips import api as floatingips
from nephos.network.groups import api as groups
from nephos.network.networks import api as networks
from nephos.network.ports import api as ports
from nephos.network.quotas import api as quotas
from nephos.network.routers import api as routers
from nephos.network.routers import desired
from nephos.network.sharing import api as sharing
from nephos.network.subnetpools import api as subnetpools
from nephos.network.subnets import api as subnets
from nephos.network.tags import api as tags

SERVICE = Service(
    name="network",
    prefixes=("/network",),
    routes=(
        *networks.ROUTES,
        *subnets.ROUTES,
        *subnetpools.ROUTES,
        *ports.ROUTES,
        *routers.ROUTES,
        *floatingips.ROUTES,
        *groups.ROUTES,
        *sharing.ROUTES,
        *quotas.ROUTES,
        *tags.ROUTES,
        *agents.ROUTES,
        *availability.ROUTES,
        *discovery.ROUTES,
        *topology.ROUTES,
    ),
    dialect=faults.network,
)


def compose(cloud: Cloud) -> None:
    """Register desired items, notices and audit."""
    cloud.hosts.provide("network", wiring.networks)
    cloud.hosts.provide("port", wiring.ports)
    cloud.hosts.provide("group", wiring.groups)
    cloud.hosts.provide("router", desired.routers)
    notices.listen(cloud)
    cloud.audits.append(audit.check)


def seed(cloud: Cloud, passwords: Mapping[str, str]) -> None:
    """Make what a new cloud starts with; again: nothing."""
    first.seed(cloud)
