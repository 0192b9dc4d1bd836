"""The composition root: settings → engines → services. The only file that names concrete engines."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from types import ModuleType

from nephos.compute import policies as compute_policies
from nephos.compute import service as compute
from nephos.doctor import service as operator
from nephos.errors import SettingsError
from nephos.hosts.actions import Hosts
from nephos.identity import policies as identity_policies
from nephos.identity import service as identity
from nephos.image import policies as image_policies
from nephos.image import service as image
from nephos.kernel.cloud import Cloud
from nephos.kernel.db.engine import Database, Tx
from nephos.kernel.doorbell.base import NOTIFICATIONS, Doorbell
from nephos.kernel.doorbell.memory import MemoryDoorbell
from nephos.kernel.http import base
from nephos.kernel.http.buckets import Memory, Shared
from nephos.kernel.http.front import Front
from nephos.kernel.http.limits import Limits, Rate
from nephos.kernel.http.metrics import Metrics
from nephos.kernel.notifications import outbox
from nephos.kernel.notifications.delivery import Delivery, check
from nephos.kernel.notifications.outbox import Outbox
from nephos.kernel.notifications.sinks import LogSink, Sink
from nephos.kernel.operations.engine import Operations
from nephos.kernel.policy import Policies, Rule
from nephos.network import policies as network_policies
from nephos.network import service as network
from nephos.placement import policies as placement_policies
from nephos.placement import service as placement
from nephos.settings import Api, Settings, secret

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
    database = database or open_database(settings)
    doorbell = _doorbell(settings, database)
    cloud = Cloud(
        settings=settings,
        database=database,
        doorbell=doorbell,
        operations=Operations(doorbell, None if database.embedded else settings.server_name),
        hosts=Hosts(doorbell),
        metrics=Metrics(),
        policies=Policies(TABLES, settings.state / "policy"),
        limits=_limits(settings.api, database),
    )
    cloud.operations.voided.append(cloud.hosts.cancel)
    names = [sink.name for sink in sinks(settings)]
    if names:
        ring = partial(doorbell.ring, NOTIFICATIONS)
        cloud.database.outbox = Outbox(
            names, settings.notifications.omit, ring, basic=settings.notifications.format == "basic"
        )
    cloud.audits.append(check(tuple(names)))
    cloud.services = (base.SERVICE, *(service.SERVICE for service in SERVICES))
    for service in SERVICES:
        service.compose(cloud)
    return cloud


def _limits(api: Api, database: Database) -> Limits:
    """One server counts by itself, several share what they count."""
    pool = Memory() if database.embedded else Shared(database)
    if not api.limit_rates:
        return Limits(pool)
    rates = [Rate(each.verb.upper(), each.path, each.count, each.seconds) for each in api.rates]
    return Limits(pool, rates, a_minute=api.rate_limit)


def open_database(settings: Settings) -> Database:
    """The ledger that the settings name. Connects to nothing yet. Raises SettingsError for an engine that is not served."""
    url = settings.database_url
    engine = url.partition(":")[0].partition("+")[0]
    if engine == "sqlite":
        from nephos.kernel.db.sqlite import SqliteDatabase

        return SqliteDatabase(url)
    if engine in ("postgresql", "postgres"):
        from nephos.kernel.db.postgresql import PostgresDatabase

        return PostgresDatabase(url, connections=settings.database_connections)
    if engine in ("mariadb", "mysql"):
        from nephos.kernel.db.mariadb import MariaDatabase

        return MariaDatabase(url, connections=settings.database_connections)
    raise SettingsError(f"database: {engine!r} is not served; use sqlite, postgresql or mariadb")


def _doorbell(settings: Settings, database: Database) -> Doorbell:
    """The one that the settings name; else PostgreSQL's own where the ledger is there, else this process's."""
    if settings.doorbell:
        from nephos.kernel.doorbell.rabbitmq import RabbitDoorbell

        return RabbitDoorbell(secret(settings.doorbell))
    if not database.embedded and database.engine.dialect.name == "postgresql":
        from nephos.kernel.doorbell.postgres import PostgresDoorbell

        return PostgresDoorbell(settings.database_url)
    return MemoryDoorbell()


def sinks(settings: Settings) -> list[Sink]:
    """Where notifications go. Connects to nothing yet. Raises SettingsError for an address that cannot be one."""
    chosen = settings.notifications
    found: list[Sink] = []
    if chosen.log:
        found.append(LogSink(settings.notifications_log, most_bytes=chosen.log_bytes, files=chosen.log_files))
    if chosen.rabbitmq:
        from nephos.kernel.notifications.rabbitmq import RabbitSink

        found.append(RabbitSink("rabbitmq", secret(chosen.rabbitmq), durable=chosen.durable, queues=chosen.queues))
    for name, hook in sorted(chosen.webhooks.items()):
        from nephos.kernel.notifications.webhook import WebhookSink

        found.append(WebhookSink(f"webhook:{name}", hook.url, secret(hook.secret), link_local=hook.link_local))
    return found


def deliveries(cloud: Cloud) -> list[Delivery]:
    """What carries notifications out: to be started by a server. Forgets what waits for sinks that are set no more."""
    chosen = sinks(cloud.settings)
    age = cloud.settings.notifications.max_age
    names = [sink.name for sink in chosen]

    def begin(tx: Tx) -> None:
        outbox.forget_others(tx, names, tx.now - age * 1_000_000)
        if cloud.database.embedded:
            outbox.abandon(tx)

    cloud.database.write(begin)
    return [Delivery(cloud.database, cloud.doorbell, sink, max_age=age) for sink in chosen]


def seed(cloud: Cloud, passwords: Mapping[str, str]) -> None:
    """Make what a new cloud starts with, service by service; again: nothing."""
    for service in SERVICES:
        service.seed(cloud, passwords)


def front(cloud: Cloud) -> Front:
    """The WSGI application of all services."""
    return Front(cloud, cloud.services)
