"""The network service: its routes, and what it adds to the cloud."""

from __future__ import annotations

from collections.abc import Mapping

from nephos.kernel.cloud import Cloud
from nephos.kernel.http import faults
from nephos.kernel.http.routes import Service
from nephos.network import audit, notices, wiring
from nephos.network import seed as first
from nephos.network.addressgroups import api as addressgroups
from nephos.network.addressscopes import api as addressscopes
from nephos.network.agents import api as agents
from nephos.network.availability import api as availability
from nephos.network.bindings import api as bindings
from nephos.network.conntrack import api as conntrack
from nephos.network.default_rules import api as default_rules
from nephos.network.discovery import api as discovery
from nephos.network.discovery import topology
from nephos.network.flavors import api as flavors
from nephos.network.floatingips import api as floatingips
from nephos.network.forwardings import api as forwardings
from nephos.network.groups import api as groups
from nephos.network.localips import api as localips
from nephos.network.metering import api as metering
from nephos.network.ndpproxies import api as ndpproxies
from nephos.network.networks import api as networks
from nephos.network.paths import actions as paths
from nephos.network.ports import api as ports
from nephos.network.qos import api as qos
from nephos.network.quotas import api as quotas
from nephos.network.routers import api as routers
from nephos.network.routers import desired
from nephos.network.segment_ranges import api as segment_ranges
from nephos.network.segments import api as segments
from nephos.network.sharing import api as sharing
from nephos.network.statefulness import api as statefulness
from nephos.network.subnetpools import api as subnetpools
from nephos.network.subnets import api as subnets
from nephos.network.tags import api as tags
from nephos.network.trunks import api as trunks

SERVICE = Service(
    name="network",
    prefixes=("/network",),
    dashes_alike=True,
    routes=(
        *networks.ROUTES,
        *segments.ROUTES,
        *segment_ranges.ROUTES,
        *subnets.ROUTES,
        *subnetpools.ROUTES,
        *ports.ROUTES,
        *routers.ROUTES,
        *conntrack.ROUTES,
        *ndpproxies.ROUTES,
        *flavors.ROUTES,
        *localips.ROUTES,
        *metering.ROUTES,
        *floatingips.ROUTES,
        *forwardings.ROUTES,
        *groups.ROUTES,
        *default_rules.ROUTES,
        *statefulness.ROUTES,
        *addressgroups.ROUTES,
        *addressscopes.ROUTES,
        *qos.ROUTES,
        *trunks.ROUTES,
        *bindings.ROUTES,
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
    cloud.audits.append(paths.check)


def seed(cloud: Cloud, passwords: Mapping[str, str]) -> None:
    """Make what a new cloud starts with; again: nothing."""
    first.seed(cloud)
