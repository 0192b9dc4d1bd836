"""The composition root: settings → engines → services. The only file that names concrete engines."""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType

from nephos.compute import policies as compute_policies
from nephos.compute import service as compute
from nephos.doctor import service as operator
from nephos.hosts.actions import Hosts
from nephos.identity import policies as identity_policies
from nephos.identity import service as identity
from nephos.image import policies as image_policies
from nephos.image import service as image
from nephos.kernel.cloud import Cloud
from nephos.kernel.db.engine import Database
from nephos.kernel.doorbell.memory import MemoryDoorbell
from nephos.kernel.http import base
from nephos.kernel.http.front import Front
from nephos.kernel.http.metrics import Metrics
from nephos.kernel.operations.engine import Operations
from nephos.kernel.policy import Policies, Rule
from nephos.network import policies as network_policies
from nephos.network import service as network
from nephos.placement import policies as placement_policies
from nephos.placement import service as placement
from nephos.settings import Settings

SERVICES: tuple[ModuleType, ...] = (identity, image, network, placement, compute, operator)
"""In the order in which they may use each other: a service uses those before it."""

TABLES: dict[str, tuple[Rule, ...]] = {
    "identity": identity_policies.RULES,
    "image": image_policies.RULES,
    "network": network_policies.RULES,
    "placement": placement_policies.RULES,
    "compute": compute_policies.RULES,
    "nephos": operator.RULES,
}
"""Policy rules; an operator's changes are read from `<state>/policy/<name>.yaml`."""


def compose(settings: Settings, database: Database | None = None) -> Cloud:
    """Build a cloud's engines and let every service add itself. Starts no thread and reads no row."""
    doorbell = MemoryDoorbell()
    cloud = Cloud(
        settings=settings,
        database=database or Database(settings.database_url),
        doorbell=doorbell,
        operations=Operations(doorbell),
        hosts=Hosts(doorbell),
        metrics=Metrics(),
        policies=Policies(TABLES, settings.state / "policy"),
    )
    cloud.operations.voided.append(cloud.hosts.cancel)
    for service in SERVICES:
        service.compose(cloud)
    return cloud


def seed(cloud: Cloud, passwords: Mapping[str, str]) -> None:
    """Make what a new cloud starts with, service by service; again: nothing."""
    for service in SERVICES:
        service.seed(cloud, passwords)


def front(cloud: Cloud) -> Front:
    """The WSGI application of all services."""
    return Front(cloud, (base.SERVICE, *(service.SERVICE for service in SERVICES)))
