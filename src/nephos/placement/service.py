"""The placement service: its routes, and what it adds to the cloud."""

from __future__ import annotations

from collections.abc import Mapping

from nephos.kernel.cloud import Cloud
from nephos.kernel.http import faults
from nephos.kernel.http.call import Call, Reply
from nephos.kernel.http.routes import Route, Service
from nephos.kernel.http.versions import Microversions, Version
from nephos.placement import wire
from nephos.placement.allocations import api as allocations
from nephos.placement.candidates import api as candidates
from nephos.placement.classes import api as classes
from nephos.placement.inventories import api as inventories
from nephos.placement.providers import api as providers
from nephos.placement.providers import networks
from nephos.placement.traits import api as traits

MICROVERSIONS = Microversions("placement", Version(1, 0), Version(1, 39))


def versions(call: Call) -> Reply:
    """The version document; its link is relative, as Placement's is."""
    shown = {
        "id": f"v{MICROVERSIONS.lowest}",
        "max_version": str(MICROVERSIONS.highest),
        "min_version": str(MICROVERSIONS.lowest),
        "status": "CURRENT",
        "links": [{"rel": "self", "href": ""}],
    }
    call.version = MICROVERSIONS.negotiate(call.header("OpenStack-API-Version"), None)
    return wire.dated(call, Reply({"versions": [shown]}))


SERVICE = Service(
    name="placement",
    prefixes=("/placement",),
    routes=(
        Route("GET", "", versions, None),
        *providers.ROUTES,
        *inventories.ROUTES,
        *allocations.ROUTES,
        *candidates.ROUTES,
        *classes.ROUTES,
        *traits.ROUTES,
    ),
    dialect=faults.placement,
    microversions=MICROVERSIONS,
)


def compose(cloud: Cloud) -> None:
    """What hosts have themselves is read from the ledger; their networks are providers below them."""
    cloud.hosts.notice("host", networks.keep)


def seed(cloud: Cloud, passwords: Mapping[str, str]) -> None:
    """Hosts come by themselves."""
