"""The compute service: its routes, and what it adds to the cloud."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from types import ModuleType

from nephos.compute import audit, notices, notifications, versions
from nephos.compute.aggregates import api as aggregates
from nephos.compute.building import guests
from nephos.compute.building.steps import Building
from nephos.compute.details import diagnostics, events, metadata, tags
from nephos.compute.flavors import actions as flavor_actions
from nephos.compute.flavors import api as flavors
from nephos.compute.groups import api as groups
from nephos.compute.hosts import hypervisors, services, zones
from nephos.compute.inside import api as inside
from nephos.compute.inside.steps import Inside
from nephos.compute.interfaces import api as interfaces
from nephos.compute.interfaces.steps import Cards
from nephos.compute.keypairs import api as keypairs
from nephos.compute.lifecycle import api as lifecycle
from nephos.compute.lifecycle.steps import Lifecycle
from nephos.compute.moving import actions as moves
from nephos.compute.moving import api as moving
from nephos.compute.moving import live
from nephos.compute.moving import store as migrations
from nephos.compute.moving.live import Live
from nephos.compute.moving.steps import Moving
from nephos.compute.parts import Parts
from nephos.compute.proxies import floating_ips, images, outside, security_groups
from nephos.compute.quotas import api as quotas
from nephos.compute.rebuilding import api as rebuilding
from nephos.compute.rebuilding.steps import Rebuilding
from nephos.compute.rescuing import api as rescuing
from nephos.compute.rescuing.steps import Rescuing
from nephos.compute.servers import api as servers
from nephos.compute.servers import store
from nephos.compute.shelving import actions as shelves
from nephos.compute.shelving import api as shelving
from nephos.compute.shelving.steps import Shelving
from nephos.compute.showing.bodies import Bodies
from nephos.compute.snapshots import api as snapshots
from nephos.compute.snapshots.steps import Snapshots
from nephos.compute.usage import api as usage
from nephos.compute.usage import audit_log
from nephos.compute.wire import MICROVERSIONS, PREFIX
from nephos.kernel.cloud import Cloud
from nephos.kernel.http import faults
from nephos.kernel.http.routes import Service

_NOUNS: tuple[ModuleType, ...] = (
    versions,
    flavors,
    keypairs,
    quotas,
    servers,
    lifecycle,
    rebuilding,
    rescuing,
    inside,
    snapshots,
    shelving,
    moving,
    metadata,
    tags,
    events,
    diagnostics,
    services,
    hypervisors,
    zones,
    aggregates,
    groups,
    usage,
    audit_log,
    interfaces,
    security_groups,
    floating_ips,
    images,
    outside,
)

SERVICE = Service(
    name="compute",
    prefixes=(PREFIX,),
    routes=tuple(route for noun in _NOUNS for route in noun.ROUTES),
    dialect=faults.compute,
    microversions=MICROVERSIONS,
)


def compose(cloud: Cloud) -> None:
    """Register operations, desired items and notices."""
    building = Building(cloud)
    shelf = Shelving(cloud, building)
    cloud.parts["compute"] = Parts(Bodies(), building)
    for steps in (
        building,
        Lifecycle(cloud, building),
        Cards(cloud, building),
        Rebuilding(cloud, building),
        Rescuing(cloud, building),
        Inside(cloud, building),
        Snapshots(cloud, building),
        shelf,
        Moving(cloud, building),
        Live(cloud, building),
    ):
        cloud.operations.register(steps.kinds())
    cloud.operations.began.append(notifications.began)
    cloud.operations.ended += [notifications.ended, building.ended, shelf.ended]
    cloud.hosts.provide("guest", partial(guests.provide, cloud))
    cloud.hosts.notice("power", partial(notices.power, cloud))
    cloud.hosts.notice("password", partial(notices.password, cloud))
    cloud.hosts.notice("address_taken", partial(notices.marked, "address taken", cloud))
    cloud.hosts.notice("metadata_served", partial(notices.marked, "metadata served", cloud))
    cloud.hosts.notice("port_needs", notices.needs_changed)
    cloud.hosts.rounds.append(lambda tx: shelves.due(tx, cloud))
    cloud.hosts.notice("migration", live.progressed)
    cloud.hosts.notice("host", lambda tx, seen: building.forget_hosts())
    cloud.hosts.rounds.append(lambda tx: moves.confirm_late(tx, cloud))
    cloud.audits.append(audit.check)
    cloud.sweeps += [store.sweep, migrations.sweep]


def seed(cloud: Cloud, passwords: Mapping[str, str]) -> None:
    """Make what a new cloud starts with; again: nothing. `passwords` are those of the first users, by name."""
    cloud.database.write(flavor_actions.seed)
