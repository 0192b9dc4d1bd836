"""The agent role: one process that makes its host, or its many fake hosts, as the ledger says."""

from __future__ import annotations

import http.client
import logging
import os
import signal
import socket
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from nephos import __version__, errors, settings
from nephos.agent.connection import Connection, Dial
from nephos.agent.host import Host
from nephos.agent.images import ImageCache
from nephos.agent.tasks import Tasks
from nephos.agent.trust import Trust
from nephos.hosts import wire
from nephos.hosts.reports import SIGNED
from nephos.hypervisor.fake import FakeHypervisor
from nephos.kernel import logs
from nephos.kernel.tls.authority import SERVER_NAME
from nephos.settings import Settings
from nephos.wiring.fake import FakeWiring

log = logging.getLogger(__name__)
RETRY_SECONDS = 1.0
REPAIR_EVERY = 4.0
"""Seconds between looks at the whole wiring: what somebody else broke is back within five."""


def main(state: Path, target: str | None = None) -> None:
    """Run until SIGTERM. `target` is where the servers are (see `Dial`); on one machine their sockets in the state directory."""
    chosen = settings.load(state)
    logs.configure(chosen.log.level, chosen.log_dir / "agent.log")
    agent = Agent(chosen, target or chosen.host.server or ",".join(map(str, chosen.streams_sockets)))
    done = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: done.set())
    agent.start()
    done.wait()
    agent.stop()


def purge(state: Path) -> None:
    """Remove every guest and all wiring of this cloud from this host, and stop the libvirtd that was started for it."""
    from nephos.agent.machine import real_drivers
    from nephos.hypervisor import daemon

    chosen = settings.load(state)
    hypervisor, wiring, libvirtd = real_drivers(chosen)
    hypervisor.purge()
    hypervisor.close()
    wiring.purge()
    daemon.stop(libvirtd)


def key_of(directory: Path) -> Ed25519PrivateKey:
    """The host's own key, made on first use and readable by root alone."""
    path = directory / "key"
    if not path.exists():
        directory.mkdir(parents=True, exist_ok=True)
        part = directory / "key.part"
        part.unlink(missing_ok=True)
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(Ed25519PrivateKey.generate().private_bytes_raw())
        part.rename(path)
    return Ed25519PrivateKey.from_private_bytes(path.read_bytes())


def host_names(chosen: Settings) -> list[str]:
    """The names of the hosts that this machine's agent speaks for."""
    if chosen.hypervisor == "fake" and not chosen.host.server:
        return [f"fake-{number:04d}" for number in range(1, chosen.fake_hosts + 1)]
    return [chosen.host.name or socket.gethostname()]


class Agent:
    """Composes drivers, connection and loops. The only place that names concrete drivers."""

    def __init__(self, chosen: Settings, target: str) -> None:
        self._settings = chosen
        self._key = key_of(chosen.agent_dir)
        self._dial = Dial(target, Trust(chosen.agent_dir, self._key) if target.startswith("wss:") else None)
        self._stop = threading.Event()
        self._work = threading.Event()
        self._hosts: dict[str, Host] = {}
        self._wiring = threading.Thread(target=self._wire, name="wiring", daemon=True)
        self._connection = Connection(
            self._dial,
            hello=self._hello,
            changes=self._changes,
            asked=self._asked,
            digests=lambda: {name: host.state.digest() for name, host in self._hosts.items()},
            connected=self._connected,
        )
        self._tasks = Tasks(self._get, self._connection.result, self._dial)
        make = self._fake_host if chosen.hypervisor == "fake" else self._real_host
        for name in host_names(chosen):
            self._hosts[name] = make(name)

    def start(self) -> None:
        self._wiring.start()
        for host in self._hosts.values():
            try:
                host.wake()
            except (errors.NephosError, OSError):
                log.exception("%s: looking for guests to start again", host.name)
            threading.Thread(target=host.resume_guests, daemon=True).start() if host.state.guests else None
        self._connection.start()

    def stop(self) -> None:
        """Stop threads; guests, DHCP and routers stay as they are."""
        self._stop.set()
        self._work.set()
        self._connection.stop()
        self._tasks.close()
        if self._wiring.is_alive():
            self._wiring.join(timeout=10)
        for host in self._hosts.values():
            host.wiring.close()
            host.hypervisor.close()

    # --- drivers ---------------------------------------------------------------------------------------------

    def _fake_host(self, name: str) -> Host:
        directory = self._settings.agent_dir / "hosts" / name
        directory.mkdir(parents=True, exist_ok=True)
        return Host(
            name,
            directory,
            FakeHypervisor(state_dir=directory, cloud_id=self._settings.cloud_id),
            FakeWiring(),
            None,
            self._connection.seen,
        )

    def _real_host(self, name: str) -> Host:
        from nephos.agent.machine import real_drivers

        directory = self._settings.agent_dir
        hypervisor, wiring, _ = real_drivers(self._settings)
        wiring.check()
        images = ImageCache(directory / "images")
        return Host(name, directory, hypervisor, wiring, images, self._connection.seen)

    # --- connection ------------------------------------------------------------------------------------------

    def _hello(self, challenge: wire.Challenge) -> wire.Hello:
        hosts = []
        for name, host in self._hosts.items():
            capacity = host.hypervisor.capacity()
            hosts.append(
                wire.HostHello(
                    name,
                    self._key.sign(SIGNED + challenge.nonce + name.encode()),
                    capacity.hypervisor_type,
                    capacity.hypervisor_version,
                    capacity.vcpus,
                    capacity.ram_mb,
                    capacity.disk_gb,
                    capacity.cpu_info,
                    self._settings.host.tunnel_address or None,
                    tuple(self._settings.host.physical),
                    self._settings.host.switch,
                    str(self._settings.host.tunnel_fallback or "") or None,
                    self._settings.host.network_capacity,
                    self._dial.trust.standing if self._dial.trust is not None else (),
                )
            )
        return wire.Hello(tuple(hosts), __version__)

    def _connected(self) -> None:
        for host in self._hosts.values():
            host.connected()

    def _changes(self, states: Sequence[wire.HostState]) -> None:
        for state in states:
            host = self._hosts.get(state.host)
            if host is None:
                continue
            host.take(state)
            for task in state.tasks:
                self._tasks.take(host, task)
        self._work.set()

    def _asked(self, ask: wire.Ask) -> Any:
        host = self._hosts.get(ask.host)
        if host is None:
            raise errors.HostFault(f"This agent does not speak for host {ask.host}.")
        return host.asked(ask)

    def _get(self, path: str, offset: int, length: int) -> bytes:
        """Bytes of an image, or of a guest that moves, by HTTP GET with Range, on the connection that the agent dials.

        Raises Unavailable when the server, or a host behind it, is away, HostFault when it refuses.
        """
        connection = _Connection(self._dial)
        try:
            connection.request("GET", path, headers={"Range": f"bytes={offset}-{offset + length - 1}"})
            answer = connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException) as wrong:
            raise errors.Unavailable(f"The server does not answer: {wrong}") from wrong
        finally:
            connection.close()
        if answer.status == 206:
            return body
        said = f"The server did not give it: {answer.status} {body[:200].decode(errors='replace')}"
        raise errors.Unavailable(said) if answer.status == 503 else errors.HostFault(said)

    # --- wiring ----------------------------------------------------------------------------------------------

    def _wire(self) -> None:
        """Apply what changed at once, and look at everything now and then."""
        fake = self._settings.hypervisor == "fake"
        for host in self._hosts.values():
            self._apply(host, everything=True)
        while not self._stop.is_set():
            failed = any(host.dirty() for host in self._hosts.values())
            rung = self._work.wait(RETRY_SECONDS if failed else None if fake else REPAIR_EVERY)
            self._work.clear()
            for host in self._hosts.values():
                if host.dirty() or not (rung or fake):
                    self._apply(host, everything=not rung)
                else:
                    host.save()

    def _apply(self, host: Host, *, everything: bool) -> None:
        try:
            host.apply(everything=everything)
        except Exception:
            log.exception("%s: wiring", host.name)


class _Connection(http.client.HTTPConnection):
    """HTTP to where the agent dials: over a Unix socket, TCP or TLS."""

    def __init__(self, dial: Dial) -> None:
        super().__init__(*(dial.address if "://" in dial.target else ("nephos", 80)), timeout=60)
        self._dial = dial

    def connect(self) -> None:
        if "://" not in self._dial.target:
            self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.sock.settimeout(60)
            self.sock.connect(self._dial.target)
            return
        super().connect()
        if self._dial.trust is not None:
            self.sock = self._dial.trust.context().wrap_socket(self.sock, server_hostname=SERVER_NAME)
