"""A server's streams listener and a real agent with simulated drivers, in one process, on loopback and a Unix socket.

What the hosts should have, and what is done on them, is a toy's, so that only the protocol is under test.
"""

from __future__ import annotations

import itertools
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import select
from websockets.sync.client import ClientConnection, connect

from nephos import errors
from nephos.agent import guestdata
from nephos.agent.main import Agent, host_names, key_of
from nephos.agent.trust import keep
from nephos.hosts import actions as hosts
from nephos.hosts import store, wire
from nephos.hosts.guest import CreateGuest, GuestItem
from nephos.hosts.reports import SIGNED
from nephos.hosts.streams import Streams
from nephos.hypervisor.base import Guest
from nephos.kernel.db.engine import Tx
from nephos.kernel.operations import store as operation_store
from nephos.kernel.operations.model import Kind, Operation, Outcome, Step
from nephos.kernel.operations.worker import Worker
from nephos.kernel.tls import keeper
from nephos.kernel.tls.authority import write
from nephos.settings import Settings, Tls
from nephos.wiring.base import Network
from tests.harness import Harness

MAKE = "toy.guest"
LINK = "signed-link"


def until(happened: Callable[[], Any], seconds: float = 15) -> Any:
    """Wait until something is true; answers it."""
    end = time.monotonic() + seconds
    while not (found := happened()):
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number: int = probe.getsockname()[1]
        return number


class Cluster:
    """One server with `count` enrolled fake hosts; agents are started by the test. With `tls` the port speaks it."""

    def __init__(self, path: Path, count: int = 2, *, tls: Tls | None = None) -> None:
        self.path = path

        def change(settings: Settings) -> None:
            settings.cloud_id = "cloud-1"
            settings.fake_hosts = count
            settings.listen = f"127.0.0.1:{free_port()}"
            settings.tls = tls or Tls()
            settings.tls_dir.mkdir(parents=True, exist_ok=True)

        self.harness = Harness(path, change)
        self.cloud = self.harness.cloud
        self.settings = self.cloud.settings
        self.port = free_port()
        self.items: dict[str, dict[str, dict[str, Any]]] = {"network": {}, "guest": {}, "toy": {}}
        self.seen: list[wire.Seen] = []
        self.results: list[Any] = []
        self.failed: list[str] = []
        self.take: Callable[[Operation, Any], None] = lambda operation, result: None
        self.cloud.hosts.providers.clear()
        self.cloud.hosts.notices.clear()
        for kind in self.items:
            self.cloud.hosts.provide(kind, self._provider(kind))
        for kind in ("power", "host", "address_taken"):
            self.cloud.hosts.notice(kind, lambda tx, seen: self.seen.append(seen))
        self.cloud.operations.register([self._kind()])
        self.key = key_of(self.settings.agent_dir)
        self.names = host_names(self.settings)
        self.ids = {name: self.enrol(name, self.key) for name in self.names}
        self.keeper = keeper.of(self.settings)
        if self.keeper is not None:
            self.certify(self.key)
        self.image = path / "image"
        self.image.write_bytes(bytes(range(256)) * 40)
        self._agents: list[Agent] = []
        self._numbers = itertools.count(1)
        self.worker = Worker(self.cloud.database, self.cloud.operations, self.cloud.doorbell)
        self.worker.start()
        self.streams = self.serve()

    def close(self) -> None:
        for agent in self._agents:
            agent.stop()
        self.streams.stop()
        self.worker.stop()
        self.harness.__exit__()

    # --- the server ------------------------------------------------------------------------------------------

    def serve(self) -> Streams:
        streams = Streams(
            self.cloud,
            host="127.0.0.1",
            port=self.port,
            socket=self.settings.streams_socket,
            open_image=self._open_image,
            open_disks=self._open_disks,
            open_tunnel=self._open_tunnel,
            keeper=self.keeper,
        )
        streams.start()
        self.streams = streams
        return streams

    def enrol(self, name: str, key: Ed25519PrivateKey) -> str:
        public = key.public_key().public_bytes_raw().hex()
        return self.cloud.database.write(lambda tx: hosts.enrol(tx, name, public))

    def certify(self, key: Ed25519PrivateKey) -> Path:
        """Put the authority and a certificate for a key where an agent looks for them; answers the latter's file."""
        assert self.keeper is not None
        authority, directory = self.keeper.authority, self.settings.agent_dir
        write(directory / "ca.pem", authority.pem.read_bytes(), 0o644)
        certificate = authority.host(self.names[0], key.public_key().public_bytes_raw(), self.settings.tls.host_days)
        keep(directory / "host.pem", key, certificate)
        return directory / "host.pem"

    def _open_image(self, link: str) -> tuple[Path, int]:
        if link != LINK:
            raise errors.Forbidden("This is no image link of this cloud.")
        return self.image, self.image.stat().st_size

    def _open_tunnel(self, link: str) -> None:
        if link != LINK:
            raise errors.Forbidden("This is no link of this cloud.")

    def _open_disks(self, link: str) -> tuple[str, str]:
        """`LINK.host.guest` opens the guest's parts on that host."""
        word, host, guest_id = (*link.split("."), "", "")[:3]
        if word != LINK:
            raise errors.Forbidden("This is no link of this cloud.")
        return self.ids[host], guest_id

    def _provider(self, kind: str) -> hosts.Provide:
        def provide(tx: Tx, host_id: str, ids: Sequence[str] | None) -> Mapping[str, Any]:
            mine = self.items[kind].get(host_id, {})
            return {key: body for key, body in mine.items() if ids is None or key in ids}

        return provide

    def put(self, name: str, kind: str, key: str, body: Any) -> None:
        """A host should have something, or with None should not any more."""

        def work(tx: Tx) -> None:
            mine = self.items[kind].setdefault(self.ids[name], {})
            if body is None:
                mine.pop(key, None)
            else:
                mine[key] = body
            self.cloud.hosts.touch(tx, [self.ids[name]], kind, [key])

        self.cloud.database.write(work)

    # --- a toy that is done on a host ------------------------------------------------------------------------

    def _kind(self) -> Kind:
        def run(tx: Tx, operation: Operation) -> Outcome:
            guest = Guest(id=operation.noun_id, name=operation.data["name"], vcpus=1, ram_mb=64, root_gb=0)
            host_id = operation.data["host"]
            return self.cloud.hosts.task(tx, operation, host_id, operation.data["task"], CreateGuest(guest=guest))

        def after(tx: Tx, operation: Operation, result: Any) -> None:
            self.take(operation, result)
            self.results.append(operation.noun_id)

        def failed(tx: Tx, operation: Operation, why: errors.NephosError) -> None:
            self.failed.append(why.message)

        return Kind(MAKE, "make", (Step("spawn", run, after),), 120, failed)

    def guest(self, name: str, guest_id: str | None = None, *, called: str = "g", task: str = "guest.create") -> str:
        """Have a guest made on a host. Answers the guest's id."""
        guest_id = guest_id or f"guest-{next(self._numbers)}"
        data = guestdata.GuestData(uuid=guest_id, name=called, hostname=called, project_id="p")
        item = GuestItem(id=guest_id, power="running", data=msgspec.Raw(msgspec.msgpack.encode(data)))
        self.put(name, "guest", guest_id, item)
        start = {"host": self.ids[name], "name": called, "task": task}
        self.cloud.database.write(
            lambda tx: self.cloud.operations.start(tx, MAKE, "toy", guest_id, request_id="r", data=start)
        )
        return guest_id

    def state(self, guest_id: str) -> str:
        table = operation_store.operation
        with self.cloud.database.read() as tx:
            return str(tx.scalar(select(table.c.state).where(table.c.noun_id == guest_id)))

    def tasks(self) -> list[Any]:
        with self.cloud.database.read() as tx:
            return list(tx.all(select(store.task).order_by(store.task.c.number)))

    def row(self, name: str) -> Any:
        with self.cloud.database.read() as tx:
            return hosts.by_name(tx, name)

    # --- agents ----------------------------------------------------------------------------------------------

    def agent(self, *, tcp: bool = False, connected: bool = True) -> Agent:
        scheme = "wss" if self.keeper is not None else "ws"
        target = f"{scheme}://127.0.0.1:{self.port}" if tcp else str(self.settings.streams_socket)
        agent = Agent(self.settings, target)
        self._agents.append(agent)
        agent.start()
        if connected:
            until(lambda: self.streams.connected() == set(self.ids.values()))
            until(lambda: agent._connection._socket is not None)  # the server knows it a moment before the agent does
        return agent

    def stop(self, agent: Agent) -> None:
        self._agents.remove(agent)
        agent.stop()


def network(number: int) -> Network:
    return Network(id=f"net-{number}", kind="vxlan", segment=number, mtu=1450)


class Raw:
    """An agent that a test speaks for, message by message."""

    def __init__(self, cluster: Cluster) -> None:
        self._dialled = connect(f"ws://127.0.0.1:{cluster.port}/agent", compression=None)
        self.socket: ClientConnection = self._dialled.__enter__()
        challenge = self.receive(wire.Challenge)
        assert challenge.cloud_id == "cloud-1"
        self.nonce = challenge.nonce

    def host(self, name: str, key: Ed25519PrivateKey, *, nonce: bytes | None = None, over: str | None = None) -> Any:
        signature = key.sign(SIGNED + (nonce or self.nonce) + (over or name).encode())
        return wire.HostHello(name, signature, "fake", 1, 4, 1024, 10)

    def hello(self, *hellos: Any) -> wire.Welcome:
        self.send(wire.Hello(hellos, "0"))
        welcome: wire.Welcome = self.receive(wire.Welcome)
        return welcome

    def send(self, message: wire.Message) -> None:
        self.socket.send(wire.encode(message))

    def receive(self, kind: type[Any]) -> Any:
        while True:
            message = wire.decode(self.socket.recv(10))
            if isinstance(message, kind):
                return message
            assert isinstance(message, wire.Bell), message

    def pull(self, **since: int) -> dict[str, wire.HostState]:
        self.send(wire.Pull(1, {name.replace("_", "-"): revision for name, revision in since.items()}))
        return {state.host: state for state in self.receive(wire.Changes).states}

    def report(self, *results: wire.Result, seen: tuple[wire.Seen, ...] = (), number: int = 1) -> wire.Ack:
        self.send(wire.Report(number, results, seen))
        ack: wire.Ack = self.receive(wire.Ack)
        assert ack.number == number
        return ack

    def close(self) -> None:
        self._dialled.__exit__(None, None, None)
