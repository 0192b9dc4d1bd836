"""The server role: HTTP APIs, operation worker and streams listener in one unprivileged process.

Granian's supervisor (`cli.server`) starts one worker process; everything else is a thread inside it. The supervisor's death takes the
worker with it, so that a killed server leaves nothing behind that holds the ports or the ledger.
"""

from __future__ import annotations

import atexit
import ctypes
import fcntl
import logging
import os
import resource
import signal
from contextlib import suppress
from pathlib import Path

import msgspec

from nephos import app, settings
from nephos.compute.moving.links import open_disks, open_tunnel
from nephos.errors import SettingsError
from nephos.hosts import actions as hosts
from nephos.hosts.streams import Streams
from nephos.image.links import open_link
from nephos.kernel import logs
from nephos.kernel.cloud import Cloud
from nephos.kernel.db import migrate
from nephos.kernel.db.engine import Tx
from nephos.kernel.http import serving
from nephos.kernel.http.front import Front
from nephos.kernel.operations.worker import Worker
from nephos.kernel.sweeper import Sweeper
from nephos.kernel.tls import keeper

log = logging.getLogger(__name__)
STATE = "NEPHOS_STATE"
"""The environment variable that tells the worker its state directory."""
NUMBER = "NEPHOS_NUMBER"
"""The one that tells it which of the machine's servers it is."""


class First(msgspec.Struct):
    """What `nephos up` hands to the server through `<state>/server/first.json`, once: passwords of the first users and
    the public keys of hosts to enrol, by name."""

    passwords: dict[str, str] = {}
    hosts: dict[str, str] = {}


def application() -> Front:
    """Granian's factory, in the worker process: everything up to the first request."""
    _die_with_parent()
    chosen = settings.load(Path(os.environ[STATE]))
    chosen.number = int(os.environ.get(NUMBER, "1"))
    role = "server" if chosen.number == 1 else f"server-{chosen.number}"
    logs.configure(chosen.log.level, chosen.log_dir / f"{role}.log")
    _lock(chosen.lock_file)
    _raise_file_limit()
    cloud = app.compose(chosen)
    cloud.database.fit(chosen.servers)
    with cloud.database.alone("start"):
        _prepare(cloud)
    worker = Worker(cloud.database, cloud.operations, cloud.doorbell)
    worker.start()
    Sweeper(cloud.database, cloud.sweeps, chosen.retention_days).start()
    for delivery in app.deliveries(cloud):
        delivery.start()
    address, _ = chosen.address
    certificates = keeper.of(chosen)
    streams = Streams(
        cloud,
        host=address,
        port=chosen.streams_port,
        socket=chosen.streams_socket,
        open_image=lambda link: open_link(cloud, link),
        open_disks=lambda link: open_disks(cloud, link),
        open_tunnel=lambda link: open_tunnel(cloud, link),
        keeper=certificates,
    )
    streams.start()
    if certificates is not None:
        certificates.on_change(serving.certificate_changed)
        certificates.watch()
    atexit.register(cloud.database.close)
    log.info("serving at %s", chosen.url)
    return app.front(cloud)


def _prepare(cloud: Cloud) -> None:
    """Schema, first rows and hosts; what another server of this ledger did already is left as it is."""
    migrate.upgrade(cloud.database.engine)
    path = cloud.settings.server_dir / "first.json"
    first = _first(path)
    app.seed(cloud, first.passwords)

    def enrol(tx: Tx) -> None:
        for name, key in first.hosts.items():
            hosts.enrol(tx, name, key)

    if first.hosts:
        cloud.database.write(enrol)
    path.unlink(missing_ok=True)


def _raise_file_limit() -> None:
    """A file for each client, each agent and each connection to the database, as many as the machine lets us have (S3-15)."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _first(path: Path) -> First:
    return msgspec.json.decode(path.read_bytes(), type=First) if path.exists() else First()


_held: list[int] = []


def _lock(path: Path) -> None:
    """Exactly one process is this server; on an embedded ledger there is no other."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as held:
        raise SettingsError(
            f"Another process is this server of {path.parent} already ({path.name}); an embedded ledger has exactly one."
        ) from held
    _held.append(descriptor)


def _die_with_parent() -> None:
    set_parent_death_signal = 1
    ctypes.CDLL(None, use_errno=True).prctl(set_parent_death_signal, signal.SIGKILL)
