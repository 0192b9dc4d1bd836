"""Hosts that do what they are told at once: the server's side of hosts for tests, without processes and sockets."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import msgspec

from nephos import errors
from nephos.hosts import actions as hosts
from nephos.hosts import desired, reports, wire
from nephos.hosts.guest import CreateGuest, GuestItem, Piece, ReceiveGuest
from nephos.kernel import clock
from nephos.kernel.operations.worker import Worker
from tests.harness import Client, Harness

T = TypeVar("T")


class Agent:
    """Enrols hosts, pulls what they should do and reports it done. `refuse` answers why a task fails, None when not."""

    def __init__(
        self, harness: Harness, *names: str, vcpus: int = 64, ram_mb: int = 262144, disk_gb: int = 4000
    ) -> None:
        self.cloud = harness.cloud
        self.names = names or ("fake-0001",)
        self.hello = {
            name: wire.HostHello(name, "", "fake", 1000, vcpus, ram_mb, disk_gb, {"arch": "x86_64"}, f"10.9.0.{at + 1}")
            for at, name in enumerate(self.names)
        }
        self.ids: dict[str, str] = {}
        self.since: dict[str, int] = {}
        self.guests: dict[str, dict[str, str]] = {name: {} for name in self.names}
        self.aside: dict[str, dict[str, str]] = {name: {} for name in self.names}
        self.expected: dict[str, set[str]] = {name: set() for name in self.names}
        self.items: dict[str, dict[tuple[str, str], bytes]] = {name: {} for name in self.names}
        self.done: list[tuple[str, str, Any]] = []
        self.held: list[tuple[str, wire.Task]] = []
        self.refuse: Callable[[str, wire.Task], str | None] = lambda host, task: None
        self.away: set[str] = set()
        self.hold = False
        self.disk = b"what the disk holds".ljust(1024, b"\n")
        self.cloud.hosts.asker = self.asked
        self.worker = Worker(self.cloud.database, self.cloud.operations, self.cloud.doorbell)
        for name in self.names:
            self.ids[name] = self.cloud.database.write(lambda tx, name=name: hosts.enrol(tx, name, "00" * 32))
        self.arrive()

    def arrive(self) -> None:
        reports.arrive(self.cloud, wire.Hello(tuple(self.hello.values()), "test"), self.ids)

    def work(self) -> bool:
        """One pull of every host that is there; answers whether there was a task."""
        busy = False
        for name in self.names:
            if name in self.away:
                continue
            with self.cloud.database.read() as tx:
                state = desired.changes(tx, self.cloud.hosts, name, self.ids[name], self.since.get(name, 0))
            self.since[name] = state.revision
            for item in state.items:
                key = (item.kind, item.id)
                if item.body is None:
                    self.items[name].pop(key, None)
                else:
                    self.items[name][key] = bytes(item.body)
            for task in state.tasks:
                busy = True
                if self.hold:
                    self.held.append((name, task))
                else:
                    self.do(name, task)
        return busy

    def work_outside(self) -> bool:
        """What the threads of a server's worker do; answers whether there was any."""
        jobs = self.worker._jobs
        busy = not jobs.empty()
        while not jobs.empty():
            job = jobs.get()
            assert job is not None
            self.worker._do(job)
        return busy

    def do(self, name: str, task: wire.Task) -> None:
        body = msgspec.msgpack.decode(task.body)
        error = self.refuse(name, task)
        now = clock.now_us()
        marks: tuple[wire.MarkMade, ...] = ()
        value: Any = None
        if error is None:
            if task.kind in ("guest.create", "guest.rebuild"):
                made = msgspec.msgpack.decode(task.body, type=CreateGuest)
                assert ("guest", made.guest.id) in self.items[name], "the guest's item comes before its task"
                self.guests[name][made.guest.id] = "running" if body.get("start", True) else "shutdown"
                marks = tuple(
                    wire.MarkMade(each, now, now) for each in ("image cached", "plugged", "disk", "domain", "running")
                )
            elif task.kind == "guest.destroy":
                self.guests[name].pop(body["id"], None)
            elif task.kind == "guest.leave":
                if body["id"] not in self.aside[name]:
                    self.aside[name][body["id"]] = self.guests[name].pop(body["id"])
            elif task.kind == "guest.return":
                self.aside[name].pop(body["id"], None)
                self.guests[name][body["id"]] = "running" if body["start"] else "shutdown"
            elif task.kind == "guest.forget":
                self.aside[name].pop(body["id"], None)
            elif task.kind == "guest.receive":
                received = msgspec.msgpack.decode(task.body, type=ReceiveGuest)
                assert all(("port", nic.port_id) in self.items[name] for nic in received.guest.nics)
                self.guests[name][received.guest.id] = "running" if received.start else "shutdown"
            elif task.kind == "guest.expect":
                assert body["guest"]["id"] not in self.guests[name]
                value = {"home": "/there", "server": "/socket"}
                self.expected[name].add(body["guest"]["id"])
            elif task.kind == "guest.send" and body["id"] in self.guests[name]:
                there = next(each for each, ids in self.expected.items() if body["id"] in ids)
                self.expected[there].discard(body["id"])
                self.guests[there][body["id"]] = self.guests[name].pop(body["id"])
            elif task.kind == "guest.keep":
                value = body["id"] in self.guests[name]
            elif task.kind == "guest.unexpect":
                self.guests[name].pop(body["id"], None)
                self.expected[name].discard(body["id"])
            elif task.kind == "guest.plug":
                assert ("port", body["nic"]["port_id"]) in self.items[name], "the port comes before its task"
            elif task.kind == "guest.power":
                powers = {"stop": "shutdown", "pause": "paused", "suspend": "suspended"}
                self.guests[name][body["id"]] = powers.get(body["action"], "running")
            elif task.kind == "guest.rescue":
                self.guests[name][body["guest"]["id"]] = "rescued"
            elif task.kind == "guest.unrescue":
                self.guests[name][body["id"]] = "running" if body["start"] else "shutdown"
            elif task.kind == "guest.snapshot":
                value = {"name": "snapshot", "size": len(self.disk), "extents": [], "format": "raw"}
        self.done.append((name, task.kind, body))
        result = wire.Result(task.id, name, error, value, marks)
        reports.take(self.cloud, wire.Report(1, (result,)), self.ids)

    def asked(self, host_id: str, kind: str, subject: str, limit: int | None) -> bytes:
        """A host answers questions at once, too: what is asked of it is the disk of a snapshot."""
        if kind != "piece":
            raise errors.Unavailable("No agent is connected to this server.")
        piece = msgspec.json.decode(subject, type=Piece)
        data = self.disk[piece.offset : piece.offset + piece.length]
        return hashlib.sha256(data).digest() + data

    def during(self, call: Callable[[], T]) -> T:
        """Run a request that waits for a host, while operations and hosts work."""
        with ThreadPoolExecutor(1) as pool:
            future = pool.submit(call)
            while not future.done():
                self.worker.turn()
                self.work_outside()
                self.work()
                time.sleep(0.005)
            return future.result()

    def release(self) -> None:
        held, self.held, self.hold = self.held, [], False
        for name, task in held:
            self.do(name, task)

    def saw(self, name: str, kind: str, item: str, value: str) -> None:
        seen = wire.Seen(name, kind, item, value, clock.now_us())
        reports.take(self.cloud, wire.Report(1, (), (seen,)), self.ids)

    def item(self, name: str, server_id: str) -> GuestItem:
        return msgspec.msgpack.decode(self.items[name]["guest", server_id], type=GuestItem)

    def settle(self, seconds: float = 10) -> None:
        """Let operations and hosts work until nothing is left to do now."""
        end = time.monotonic() + seconds
        quiet = 0
        while quiet < 2:
            assert time.monotonic() < end, "operations do not come to rest"
            busy = self.worker.turn()
            busy = self.work_outside() or busy
            busy = self.work() or busy
            quiet = 0 if busy else quiet + 1


def make_image(client: Client, name: str = "tiny", size: int = 1024, **values: Any) -> str:
    """An active raw image."""
    body = {"name": name, "disk_format": "raw", "container_format": "bare", **values}
    reply = client.post("/image/v2/images", body)
    assert reply.status == 201, reply
    image_id = str(reply.json["id"])
    put = client.request(
        "PUT", f"/image/v2/images/{image_id}/file", b"\0" * size, {"Content-Type": "application/octet-stream"}
    )
    assert put.status == 204, put
    return image_id
