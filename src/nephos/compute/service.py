"""The compute service: its routes, and what it adds to the cloud."""

from __future__ import annotations

from collections.abc import Mapping

from nephos.compute import versions
from nephos.compute.flavors import actions as flavor_actions
from nephos.compute.flavors import api as flavors
from nephos.compute.keypairs import api as keypairs
from nephos.compute.quotas import api as quotas
from nephos.compute.wire import MICROVERSIONS, PREFIX
from nephos.kernel.cloud import Cloud
from nephos.kernel.http import faults
from nephos.kernel.http.routes import Service

SERVICE = Service(
    name="compute",
    prefixes=(PREFIX,),
    routes=(*versions.ROUTES, *flavors.ROUTES, *keypairs.ROUTES, *quotas.ROUTES),
    dialect=faults.compute,
    microversions=MICROVERSIONS,
)


def compose(cloud: Cloud) -> None:
    """Register operations, desired items and notices."""


def seed(cloud: Cloud, passwords: Mapping[str, str]) -> None:
    """Make what a new cloud starts with; again: nothing. `passwords` are those of the first users, by name."""
    cloud.database.write(flavor_actions.seed)
