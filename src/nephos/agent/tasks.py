"""Tasks of the server, done on a host: one at a time for a guest, several guests at once.

Every task is idempotent, so a task that comes again after a crash is simply done again; one that comes again to the same
process is not: its answer is repeated. While libvirtd is away tasks wait for it. An attempt that is older than one that was seen for the same operation and step
is refused.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

import msgspec
from websockets.exceptions import WebSocketException

from nephos import errors
from nephos.agent import guestdata
from nephos.agent.connection import Dial
from nephos.agent.host import Host
from nephos.agent.moving import Elsewhere, Get, Here
from nephos.agent.patience import patiently
from nephos.agent.tunnel import Entrance, Exit
from nephos.hosts import wire
from nephos.hosts.guest import (
    CreateGuest,
    DestroyGuest,
    DropSnapshot,
    DumpGuest,
    Expectation,
    ExpectGuest,
    ForgetGuest,
    Image,
    KeepGuest,
    LeaveGuest,
    PlugNic,
    RebuildGuest,
    ReceiveGuest,
    RescueGuest,
    ReturnGuest,
    SendGuest,
    SetPassword,
    SetPower,
    SettleGuest,
    SteerGuest,
    TakeSnapshot,
    UnexpectGuest,
    UnplugNic,
    UnrescueGuest,
)
from nephos.hypervisor.base import Boot, ImageFile, Parts, Progress
from nephos.kernel import clock, failpoint

log = logging.getLogger(__name__)
V = TypeVar("V")
AT_ONCE = 8
REMEMBERED = 8192
"""How many answers and attempts are kept in mind."""



class Marks:
    """Collects the named, timed marks of one task; each begins where the one before it ended."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self.made: list[wire.MarkMade] = []
        self._last = self._began = clock.now_us()

    def again(self) -> None:
        """The task is done from its beginning once more."""
        self.made.clear()
        self._last = self._began

    def __call__(self, name: str) -> None:
        now = clock.now_us()
        self.made.append(wire.MarkMade(name, self._last, now))
        self._last = now
        failpoint.hit(f"{self._kind}:{name}")


class Tasks:
    """Runs tasks and reports their results."""

    def __init__(self, get: Get, report: Callable[[wire.Result], None], dial: Dial) -> None:
        self._get = get
        self._dial = dial
        self._ways: dict[tuple[str, str], Exit] = {}
        self._report = report
        self._closing = threading.Event()
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="task")
        self._lock = threading.Lock()
        self._queues: dict[tuple[str, str], deque[tuple[Host, wire.Task]]] = {}
        self._present: set[str] = set()
        self._attempts: OrderedDict[str, int] = OrderedDict()
        self._answers: OrderedDict[str, wire.Result] = OrderedDict()
        self._kinds: dict[str, Callable[[Host, wire.Task, Marks], Any]] = {
            "guest.create": self._create,
            "guest.rebuild": self._rebuild,
            "guest.destroy": self._destroy,
            "guest.power": self._power,
            "guest.plug": self._plug,
            "guest.unplug": self._unplug,
            "guest.password": self._password,
            "guest.dump": self._dump,
            "guest.rescue": self._rescue,
            "guest.unrescue": self._unrescue,
            "guest.snapshot": self._snapshot,
            "guest.drop_snapshot": self._drop_snapshot,
            "guest.leave": self._leave,
            "guest.return": self._return,
            "guest.forget": self._forget,
            "guest.receive": self._receive,
            "guest.expect": self._expect,
            "guest.unexpect": self._unexpect,
            "guest.send": self._send,
            "guest.keep": self._keep,
            "guest.settle": self._settle,
            "guest.steer": self._steer,
        }

    def take(self, host: Host, task: wire.Task) -> None:
        """Queue a task behind the others of its guest; one that is queued or being done already is dropped."""
        key = (host.name, _subject(task))
        with self._lock:
            answer = self._answers.get(task.id)
            if answer is None:
                if task.id in self._present:
                    return
                self._present.add(task.id)
                waiting = self._queues.get(key)
                if waiting is not None:
                    waiting.append((host, task))
                    return
                self._queues[key] = deque([(host, task)])
        if answer is None:
            self._pool.submit(self._drain, key)
        else:
            self._report(answer)

    def close(self) -> None:
        self._closing.set()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _drain(self, key: tuple[str, str]) -> None:
        while True:
            with self._lock:
                waiting = self._queues[key]
                if not waiting:
                    del self._queues[key]
                    return
                host, task = waiting.popleft()
            self._do(host, task)

    def _do(self, host: Host, task: wire.Task) -> None:
        marks = Marks(task.kind)
        failpoint.hit(f"{task.kind}:begin")
        error: str | None = None
        value: Any = None
        try:
            self._refuse_old(task)
            if task.kind not in self._kinds:
                raise errors.HostFault(f"This agent does not know the task {task.kind!r}.")

            def attempt() -> Any:
                marks.again()
                return self._kinds[task.kind](host, task, marks)

            value = patiently(attempt, self._closing)
        except errors.NephosError as wrong:
            error = wrong.message
        except Exception as wrong:
            log.exception("task %s", task.id)
            error = f"{type(wrong).__name__}: {wrong}"
        if error:
            log.error("%s: task %s %s failed: %s", host.name, task.kind, task.id, error)
        answer = wire.Result(task.id, host.name, error, value, tuple(marks.made))
        with self._lock:
            self._present.discard(task.id)
            _remember(self._answers, task.id, answer)
        self._report(answer)

    def _refuse_old(self, task: wire.Task) -> None:
        operation, step, attempt, *_ = (*task.id.split(":"), "0", "0")
        name = f"{operation}:{step}" + (":undo" if task.id.endswith(":undo") else "")
        if not attempt.isdigit():
            return
        with self._lock:
            if int(attempt) < self._attempts.get(name, 0):
                raise errors.HostFault(f"Attempt {attempt} is older than one that this host has seen.")
            _remember(self._attempts, name, int(attempt))

    # --- kinds -----------------------------------------------------------------------------------------------

    def _create(self, host: Host, task: wire.Task, marks: Marks) -> None:
        body = msgspec.msgpack.decode(task.body, type=CreateGuest)
        host.hypervisor.create(body.guest, self._boot(host, body, marks), marks)

    def _rebuild(self, host: Host, task: wire.Task, marks: Marks) -> None:
        body = msgspec.msgpack.decode(task.body, type=RebuildGuest)
        boot = self._boot(host, body, marks)
        host.hypervisor.rebuild(body.guest, boot, marks, keep_ephemeral=body.keep_ephemeral, start=body.start)

    def _boot(self, host: Host, body: CreateGuest, marks: Marks) -> Boot:
        """What a guest boots from, when its images and its ports are there."""
        data = host.data_of(body.guest.id)
        if data is None:
            raise errors.HostFault(f"The metadata of guest {body.guest.id} did not come with its task.")
        boot = Boot(
            root=self._image(host, body.root),
            kernel=self._image(host, body.kernel),
            ramdisk=self._image(host, body.ramdisk),
            config_drive_files=guestdata.render(data) if body.guest.config_drive else {},
        )
        marks("image cached")
        host.wait_wired([nic.port_id for nic in body.guest.nics])
        marks("plugged")
        return boot

    def _image(self, host: Host, image: Image | None) -> ImageFile | None:
        if image is None or host.images is None:
            return None
        return host.images.get(
            image.id,
            size=image.size,
            sha256=image.sha256,
            format=image.format,
            read_range=lambda offset, length: self._get(f"/images/{image.link}", offset, length),
        )

    def _destroy(self, host: Host, task: wire.Task, marks: Marks) -> None:
        host.hypervisor.destroy(msgspec.msgpack.decode(task.body, type=DestroyGuest).id)
        marks("domain removed")

    def _power(self, host: Host, task: wire.Task, marks: Marks) -> None:
        body = msgspec.msgpack.decode(task.body, type=SetPower)
        hypervisor = host.hypervisor
        if body.action in ("start", "reboot", "reset"):
            item = host.state.guests.get(body.id)
            host.wait_wired(list(item.ports) if item else [])
        if body.action == "start":
            hypervisor.start(body.id)
        elif body.action == "stop":
            hypervisor.stop(body.id, timeout=body.timeout)
        elif body.action == "pause":
            hypervisor.pause(body.id)
        elif body.action == "suspend":
            hypervisor.suspend(body.id)
        elif body.action in ("reboot", "reset"):
            hypervisor.reboot(body.id, hard=body.action == "reset", timeout=body.timeout)
        else:
            raise errors.HostFault(f"This agent does not know the power action {body.action!r}.")
        marks(body.action)

    def _plug(self, host: Host, task: wire.Task, marks: Marks) -> None:
        body = msgspec.msgpack.decode(task.body, type=PlugNic)
        host.wait_wired([body.nic.port_id])
        host.hypervisor.plug(body.id, body.nic)
        marks("plugged")

    def _unplug(self, host: Host, task: wire.Task, marks: Marks) -> None:
        body = msgspec.msgpack.decode(task.body, type=UnplugNic)
        host.hypervisor.unplug(body.id, body.port_id)
        marks("unplugged")

    def _password(self, host: Host, task: wire.Task, marks: Marks) -> None:
        body = msgspec.msgpack.decode(task.body, type=SetPassword)
        host.hypervisor.set_password(body.id, body.user, body.password)

    def _dump(self, host: Host, task: wire.Task, marks: Marks) -> None:
        host.hypervisor.interrupt(msgspec.msgpack.decode(task.body, type=DumpGuest).id)

    def _rescue(self, host: Host, task: wire.Task, marks: Marks) -> None:
        body = msgspec.msgpack.decode(task.body, type=RescueGuest)
        boot = self._boot(host, body, marks)
        host.hypervisor.rescue(body.guest, boot, marks, properties=body.properties, timeout=body.timeout)

    def _unrescue(self, host: Host, task: wire.Task, marks: Marks) -> None:
        body = msgspec.msgpack.decode(task.body, type=UnrescueGuest)
        host.hypervisor.unrescue(body.id, start=body.start)
        marks("unrescued")

    def _snapshot(self, host: Host, task: wire.Task, marks: Marks) -> Any:
        part = host.hypervisor.snapshot(msgspec.msgpack.decode(task.body, type=TakeSnapshot).id)
        marks("snapshot")
        return msgspec.to_builtins(part)

    def _drop_snapshot(self, host: Host, task: wire.Task, marks: Marks) -> None:
        host.hypervisor.drop_snapshot(msgspec.msgpack.decode(task.body, type=DropSnapshot).id)
        marks("snapshot removed")

    def _leave(self, host: Host, task: wire.Task, marks: Marks) -> None:
        body = msgspec.msgpack.decode(task.body, type=LeaveGuest)
        host.hypervisor.leave(body.id, timeout=body.timeout)
        marks("set aside")

    def _return(self, host: Host, task: wire.Task, marks: Marks) -> None:
        body = msgspec.msgpack.decode(task.body, type=ReturnGuest)
        item = host.state.guests.get(body.id)
        host.wait_wired(list(item.ports) if item else [])
        host.hypervisor.come_back(body.id, start=body.start)
        marks("came back")

    def _forget(self, host: Host, task: wire.Task, marks: Marks) -> None:
        host.hypervisor.forget(msgspec.msgpack.decode(task.body, type=ForgetGuest).id)
        marks("forgotten")

    def _receive(self, host: Host, task: wire.Task, marks: Marks) -> None:
        body = msgspec.msgpack.decode(task.body, type=ReceiveGuest)
        source: Parts = Elsewhere(self._get, body.link) if body.link else Here(host.hypervisor, body.guest.id)
        data = host.data_of(body.guest.id)
        boot = Boot(
            root=self._image_if_there(host, body.root),
            config_drive_files=guestdata.render(data) if data is not None and body.guest.config_drive else {},
        )
        marks("image cached")
        host.wait_wired([nic.port_id for nic in body.guest.nics])
        marks("plugged")
        host.hypervisor.receive(body.guest, boot, source, marks, start=body.start)

    def _expect(self, host: Host, task: wire.Task, marks: Marks) -> Any:
        """The way in stays open until the guest came, or does not come. Asked again it is another way in."""
        body = msgspec.msgpack.decode(task.body, type=ExpectGuest)
        self._close_way(host, body.guest.id)
        boot = Boot(root=self._image_if_there(host, body.root))
        marks("image cached")
        host.wiring.expect([nic.port_id for nic in body.guest.nics])
        expected = host.hypervisor.expect(body.guest, boot, Elsewhere(self._get, body.link))
        marks("disk")
        server = self._dial.target
        try:
            way = Exit(partial(self._dial.to, server), body.link, expected.channels)
        except (OSError, TimeoutError, WebSocketException) as wrong:
            raise errors.HostFault(f"The server that leads to the other host does not answer: {wrong}") from wrong
        self._ways[host.name, body.guest.id] = way
        marks("way open")
        return msgspec.to_builtins(Expectation(home=expected.home, server=server))

    def _unexpect(self, host: Host, task: wire.Task, marks: Marks) -> None:
        body = msgspec.msgpack.decode(task.body, type=UnexpectGuest)
        self._close_way(host, body.id)
        host.hypervisor.destroy(body.id)
        host.wiring.unexpect(body.ports)
        marks("removed")

    def _settle(self, host: Host, task: wire.Task, marks: Marks) -> None:
        guest_id = msgspec.msgpack.decode(task.body, type=SettleGuest).id
        self._close_way(host, guest_id)
        item = host.state.guests.get(guest_id)
        host.wait_wired(list(item.ports) if item else [])
        marks("plugged")

    def _close_way(self, host: Host, guest_id: str) -> None:
        way = self._ways.pop((host.name, guest_id), None)
        if way is not None:
            way.close()

    def _send(self, host: Host, task: wire.Task, marks: Marks) -> None:
        body = msgspec.msgpack.decode(task.body, type=SendGuest)
        dial = partial(self._dial.to, body.to.server)

        def seen(progress: Progress) -> None:
            host.see("migration", body.id, msgspec.json.encode(progress).decode())

        with Entrance(dial, body.link, host.hypervisor.doors(body.id)):
            host.hypervisor.send(body.id, body.to.home, seen)
        marks("sent")

    def _keep(self, host: Host, task: wire.Task, marks: Marks) -> bool:
        here = msgspec.msgpack.decode(task.body, type=KeepGuest).id in host.hypervisor.guests()
        marks("still here" if here else "gone")
        return here

    def _steer(self, host: Host, task: wire.Task, marks: Marks) -> None:
        body = msgspec.msgpack.decode(task.body, type=SteerGuest)
        if body.action == "abort":
            host.hypervisor.abort(body.server)
        elif body.action == "hurry":
            host.hypervisor.hurry(body.server)
        else:
            raise errors.HostFault(f"This agent does not know how to {body.action!r} a guest that is being sent.")
        marks(body.action)

    def _image_if_there(self, host: Host, image: Image | None) -> ImageFile | None:
        """The image below a disk; when the image service has it no more, it comes with the disk."""
        try:
            return self._image(host, image)
        except errors.HostFault as none:
            log.info("%s: %s", host.name, none.message)
            return None


def _subject(task: wire.Task) -> str:
    """What a task is about, so that tasks about one guest keep their order."""
    try:
        body = msgspec.msgpack.decode(task.body)
    except msgspec.DecodeError:
        return task.id
    if not isinstance(body, dict):
        return task.id
    guest = body.get("guest")
    return str(guest["id"] if isinstance(guest, dict) and "id" in guest else body.get("id", task.id))


def _remember(memory: OrderedDict[str, V], name: str, value: V) -> None:
    memory[name] = value
    memory.move_to_end(name)
    if len(memory) > REMEMBERED:
        memory.popitem(last=False)
