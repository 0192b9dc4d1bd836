"""A hypervisor without guests: it replaces only the last call, so that everything above it runs as it is.

Guests are kept in an append-only log under the state directory, one JSON line for each change, written through to the
kernel before the call returns but not synced: guests outlive the process and its `kill -9`, not a power cut. No file
stays open, so that one process can be a thousand hosts.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from threading import Lock

import msgspec

from nephos.errors import HostFault
from nephos.hypervisor.base import SNAPSHOT, Boot, Capacity, Expected, Guest, Nic, Note, Part, Parts, Power, Progress
from nephos.kernel import clock

DEFAULT_CAPACITY = Capacity(
    vcpus=64,
    ram_mb=512 * 1024,
    disk_gb=4096,
    hypervisor_type="fake",
    hypervisor_version=1_000_000,
    cpu_info={
        "arch": "x86_64",
        "model": "fake",
        "vendor": "Nephos",
        "topology": {"cells": 1, "sockets": 2, "cores": 16, "threads": 2},
        "features": [],
    },
)
"""What a fake host has unless told: 64 processors, 512 GiB of memory, 4 TiB of disk."""

CONSOLE = """\
[    0.000000] Linux version 6.1.0-nephos-fake (nephos@fake) #1 SMP
[    0.000000] Command line: root=/dev/vda console=tty0 console=ttyS0
[    0.004000] DMI: Nephos Nephos, BIOS 1.0
[    0.012000] Memory: {ram_kb}K/{ram_kb}K available
[    0.020000] smp: Brought up 1 node, {vcpus} CPUs
[    0.310000] virtio_blk virtio0: [vda] attached
[    0.340000] virtio_net: {nics} network cards
[    0.420000] EXT4-fs (vda): mounted filesystem
[    0.500000] Run /sbin/init as init process
cloud-init: instance-id {id}
cloud-init: boot {boot} finished at {at}
{name} login: """

_SECTOR = 512
ARRIVAL_SECONDS = 30.0
"""How long a guest may take from one fake host to another."""
_COMPACT_ABOVE = 4096
"""The log is rewritten when it has this many more lines than guests."""


class FakeGuest(msgspec.Struct, omit_defaults=True):
    """A line of the log: a guest as it is after a change. `boots` are the times of its boots, µs since the epoch; `disk`
    and `ephemeral` are others for each such disk that was made."""

    id: str
    power: Power
    name: str = ""
    vcpus: int = 1
    ram_mb: int = 0
    nics: int = 0
    cards: list[str] = []
    boots: list[int] = []
    disk: str = ""
    ephemeral: str = ""
    snapshot: str = ""
    rescued: bool = False
    agent: bool = False
    gone: bool = False
    indestructible: bool = False
    aside: bool = False


class FakeHypervisor:
    """`hypervisor.base.Hypervisor` for scale, development and tests.

    `state_dir` holds `guests.log`. `delays` are seconds to wait before a mark (`disk`, `config drive`, `domain`,
    `running`) or a call (`destroy`, `start`, `stop`, `reboot`) is done.

    A create fails with `HostFault` when the guest's name or one of its details contains `fake-fail-<mark>`, at that
    mark; a destroy when it contains `fake-fail-destroy`, a receive when it contains `fake-fail-receive`.
    """

    def __init__(
        self,
        *,
        state_dir: Path,
        cloud_id: str,
        capacity: Capacity = DEFAULT_CAPACITY,
        delays: Mapping[str, float] | None = None,
    ) -> None:
        self.cloud_id = cloud_id
        self._capacity = capacity
        self._delays = dict(delays or {})
        self._log = state_dir / "guests.log"
        self._lock = Lock()
        self._watchers: list[Callable[[str, Power], None]] = []
        self._encoder = msgspec.json.Encoder()
        self._guests: dict[str, FakeGuest] = {}
        self._aside: dict[str, FakeGuest] = {}
        self._aborted: set[str] = set()
        self._lines = 0
        state_dir.mkdir(parents=True, exist_ok=True, mode=0o711)
        self._load()

    def capacity(self) -> Capacity:
        return self._capacity

    def create(self, guest: Guest, boot: Boot, note: Note) -> None:
        known = self._guests.get(guest.id)
        if known is not None and known.power is Power.RUNNING:
            note("running")
            return
        self._make(guest, note, boots=known.boots if known else [])

    def rebuild(self, guest: Guest, boot: Boot, note: Note, *, keep_ephemeral: bool, start: bool) -> None:
        self._wait("destroy")
        known = self._guests.get(guest.id)
        if known is not None:
            self._save(FakeGuest(id=guest.id, power=Power.MISSING, gone=True))
        note("disk removed")
        kept = known.ephemeral if known is not None and keep_ephemeral else ""
        self._make(guest, note, boots=[], ephemeral=kept, start=start)

    def _make(self, guest: Guest, note: Note, *, boots: list[int], ephemeral: str = "", start: bool = True) -> None:
        words = (guest.name, *guest.details.values())
        drive = ("config drive",) if guest.config_drive else ()
        marks = ("disk", *drive, "domain", *(("running",) if start else ()))
        for mark in marks:
            self._wait(mark)
            if any(f"fake-fail-{mark}" in word for word in words):
                raise HostFault(f"cannot make guest {guest.id}: {mark}: it asked to fail here (fake-fail-{mark})")
            if mark == marks[-1]:
                self._save(
                    FakeGuest(
                        id=guest.id,
                        power=Power.RUNNING if start else Power.SHUTDOWN,
                        name=guest.name,
                        vcpus=guest.vcpus,
                        ram_mb=guest.ram_mb,
                        nics=len(guest.nics),
                        cards=[nic.port_id for nic in guest.nics],
                        boots=[*boots, clock.now_us()] if start else boots,
                        disk=clock.uuid4(),
                        agent=guest.properties.get("hw_qemu_guest_agent", "").lower() in ("yes", "true", "1"),
                        ephemeral=ephemeral or clock.uuid4(),
                        indestructible=any("fake-fail-destroy" in word for word in words),
                    )
                )
            note(mark)
        self._tell(guest.id, Power.RUNNING if start else Power.SHUTDOWN)

    def set_password(self, guest_id: str, user: str, password: str) -> None:
        if not self._get(guest_id).agent:
            raise HostFault(f"cannot set the password of {user} in guest {guest_id}: no agent listens in it")

    def interrupt(self, guest_id: str) -> None:
        known = self._get(guest_id)
        if known.power is Power.SHUTDOWN:
            raise HostFault(f"cannot interrupt guest {guest_id}: it is {known.power.value}")

    def rescue(
        self, guest: Guest, boot: Boot, note: Note, *, properties: Mapping[str, str], timeout: float
    ) -> None:
        known = self._get(guest.id)
        self._wait("rescue")
        if not known.rescued or known.power is not Power.RUNNING:
            for mark in ("disk", "domain"):
                note(mark)
            self._boot(msgspec.structs.replace(known, rescued=True))
        note("running")

    def unrescue(self, guest_id: str, *, start: bool) -> None:
        known = self._get(guest_id)
        self._wait("unrescue")
        if known.rescued:
            known = msgspec.structs.replace(known, rescued=False, power=Power.SHUTDOWN)
            self._save(known)
        if start and known.power is not Power.RUNNING:
            self._boot(known)
        elif not start:
            self._tell(guest_id, known.power)

    def destroy(self, guest_id: str) -> None:
        known = self._guests.get(guest_id)
        if known is None:
            return
        self._wait("destroy")
        if known.indestructible:
            raise HostFault(f"cannot destroy guest {guest_id}: it asked to fail here (fake-fail-destroy)")
        self._save(FakeGuest(id=guest_id, power=Power.MISSING, gone=True))
        self._tell(guest_id, Power.MISSING)

    def start(self, guest_id: str) -> None:
        known = self._get(guest_id)
        self._wait("start")
        if known.power is Power.RUNNING:
            return
        if known.power in (Power.PAUSED, Power.SUSPENDED):
            self.become(guest_id, Power.RUNNING)
            return
        self._boot(known)

    def stop(self, guest_id: str, *, timeout: float) -> None:
        known = self._get(guest_id)
        self._wait("stop")
        if known.power is Power.SHUTDOWN:
            return
        self.become(guest_id, Power.SHUTDOWN)

    def reboot(self, guest_id: str, *, hard: bool, timeout: float = 60) -> None:
        known = self._get(guest_id)
        self._wait("reboot")
        self._boot(known)

    def pause(self, guest_id: str) -> None:
        self._hold(guest_id, Power.PAUSED)

    def suspend(self, guest_id: str) -> None:
        self._hold(guest_id, Power.SUSPENDED)

    def plug(self, guest_id: str, nic: Nic) -> None:
        known = self._get(guest_id)
        self._wait("plug")
        if nic.port_id not in known.cards:
            self._keep_cards(known, [*known.cards, nic.port_id])

    def unplug(self, guest_id: str, port_id: str) -> None:
        known = self._get(guest_id)
        self._wait("unplug")
        if port_id in known.cards:
            self._keep_cards(known, [each for each in known.cards if each != port_id])

    def leave(self, guest_id: str, *, timeout: float) -> None:
        if guest_id in self._aside:
            if guest_id in self._guests:
                raise HostFault(f"guest {guest_id} cannot be set aside: one of its id is already")
            return
        known = self._get(guest_id)
        self._wait("leave")
        self._save(msgspec.structs.replace(known, power=Power.SHUTDOWN, aside=True))
        self._save(FakeGuest(id=guest_id, power=Power.MISSING, gone=True))
        self._tell(guest_id, Power.MISSING)

    def come_back(self, guest_id: str, *, start: bool) -> None:
        kept = self._aside.get(guest_id)
        if kept is not None:
            if guest_id in self._guests:
                raise HostFault(f"guest {guest_id} cannot come back: another of its id is here")
            self._save(msgspec.structs.replace(kept, aside=False))
            self.forget(guest_id)
        if start:
            self.start(guest_id)

    def forget(self, guest_id: str) -> None:
        if guest_id in self._aside:
            self._save(FakeGuest(id=guest_id, power=Power.MISSING, gone=True, aside=True))

    def parts(self, guest_id: str) -> tuple[Part, ...]:
        """One: what the log knows of the guest. None of one that runs, whose line changes."""
        if guest_id in self._guests and guest_id not in self._aside:
            return ()
        size = len(self._encoder.encode(self._kept(guest_id)))
        return (Part(name="guest", size=size, extents=((0, size),)),)

    def piece(self, guest_id: str, name: str, offset: int, length: int) -> bytes:
        if name == SNAPSHOT:
            return self._get(guest_id).snapshot.encode()[offset : offset + length]
        return self._encoder.encode(self._kept(guest_id))[offset : offset + length]

    def snapshot(self, guest_id: str) -> Part:
        known = self._get(guest_id)
        self._wait("snapshot")
        text = f"the disk {known.disk} of {known.name}\n".ljust(_SECTOR, "\n")
        self._save(msgspec.structs.replace(known, snapshot=text))
        return Part(name=SNAPSHOT, size=len(text), extents=((0, len(text)),), format="raw")

    def drop_snapshot(self, guest_id: str) -> None:
        known = self._guests.get(guest_id)
        if known is not None and known.snapshot:
            self._save(msgspec.structs.replace(known, snapshot=""))

    def receive(self, guest: Guest, boot: Boot, source: Parts, note: Note, *, start: bool) -> None:
        known = self._guests.get(guest.id)
        if known is None:
            (part,) = source.parts()
            came = msgspec.json.decode(source.piece(part.name, 0, part.size), type=FakeGuest)
            self._wait("receive")
            if any("fake-fail-receive" in word for word in (guest.name, *guest.details.values())):
                raise HostFault(f"cannot receive guest {guest.id}: it asked to fail here (fake-fail-receive)")
            note("disk")
            known = msgspec.structs.replace(
                came,
                aside=False,
                power=Power.SHUTDOWN,
                vcpus=guest.vcpus,
                ram_mb=guest.ram_mb,
                nics=len(guest.nics),
                cards=[nic.port_id for nic in guest.nics],
            )
            self._save(known)
            note("domain")
        if start and known.power is not Power.RUNNING:
            self._boot(known)
            note("running")

    def expect(self, guest: Guest, boot: Boot, source: Parts) -> Expected:
        """The guest comes as its line of the log, over a socket."""
        self._wait("expect")
        if any("fake-fail-expect" in word for word in (guest.name, *guest.details.values())):
            raise HostFault(f"cannot expect guest {guest.id}: it asked to fail here (fake-fail-expect)")
        path = self._log.with_name(f"{guest.id[:8]}.in")
        path.unlink(missing_ok=True)
        door = socket.socket(socket.AF_UNIX)
        door.bind(str(path))
        door.listen(1)
        door.settimeout(ARRIVAL_SECONDS)
        threading.Thread(target=self._arrive, args=(door, path), daemon=True).start()
        return Expected(home="/fake", channels={"guest": path})

    def _arrive(self, door: socket.socket, path: Path) -> None:
        try:
            with door, door.accept()[0] as came, came.makefile("rwb") as file:
                guest = msgspec.json.decode(file.readline(), type=FakeGuest)
                self._save(guest)
                file.write(b"here\n")
                file.flush()
        except (OSError, msgspec.DecodeError):
            return
        finally:
            path.unlink(missing_ok=True)
        self._tell(guest.id, guest.power)

    def doors(self, guest_id: str) -> dict[str, Path]:
        return {"guest": self._log.with_name(f"{guest_id[:8]}.out")}

    def send(self, guest_id: str, home: str, seen: Callable[[Progress], None]) -> None:
        known = self._guests.get(guest_id)
        if known is None:
            return
        if known.power not in (Power.RUNNING, Power.PAUSED):
            raise HostFault(f"guest {guest_id} is not running: it is {known.power.value}")
        self._aborted.discard(guest_id)
        memory = known.ram_mb << 20
        seen(Progress(memory_total=memory, memory_remaining=memory))
        for _ in range(int(self._delays.get("send", 0) * 100)):
            if guest_id in self._aborted:
                raise HostFault(f"guest {guest_id} stays: it was asked to")
            clock.sleep(0.01)
        if any("fake-fail-send" in word for word in (known.name, *known.cards)):
            raise HostFault(f"cannot send guest {guest_id}: it asked to fail here (fake-fail-send)")
        try:
            with socket.socket(socket.AF_UNIX) as there:
                there.settimeout(ARRIVAL_SECONDS)
                there.connect(str(self.doors(guest_id)["guest"]))
                there.sendall(self._encoder.encode(known) + b"\n")
                if there.recv(16) != b"here\n":
                    raise HostFault(f"guest {guest_id} did not arrive")
        except OSError as wrong:
            raise HostFault(f"cannot send guest {guest_id}: {wrong}") from wrong
        seen(Progress(memory_total=memory, memory_processed=memory))
        self._save(FakeGuest(id=guest_id, power=Power.MISSING, gone=True))
        self._tell(guest_id, Power.MISSING)

    def hurry(self, guest_id: str) -> None:
        self._get(guest_id)
        self._delays.pop("send", None)

    def abort(self, guest_id: str) -> None:
        self._aborted.add(guest_id)

    def console_log(self, guest_id: str, *, limit: int | None = None) -> bytes:
        known = self._get(guest_id)
        boots = (
            CONSOLE.format(
                id=known.id,
                name=known.name,
                ram_kb=known.ram_mb * 1024,
                vcpus=known.vcpus,
                nics=known.nics,
                boot=number,
                at=clock.iso(at),
            )
            for number, at in enumerate(known.boots, 1)
        )
        text = "\n".join(boots).encode()
        return text if limit is None else text[max(0, len(text) - limit) :]

    def guests(self) -> dict[str, Power]:
        with self._lock:
            return {guest.id: guest.power for guest in self._guests.values()}

    def watch(self, changed: Callable[[str, Power], None]) -> None:
        self._watchers.append(changed)

    def leftovers(self, known: set[str], kept_aside: Collection[str] = ()) -> list[tuple[str, str, str]]:
        with self._lock:
            strays = [guest for guest in self._guests.values() if guest.id not in known]
            strays += [guest for guest in self._aside.values() if guest.id not in kept_aside]
        return [("domain", guest.name or guest.id, f"guest {guest.id} is not known to the cloud") for guest in strays]

    def close(self) -> None:
        self._watchers.clear()

    def purge(self) -> None:
        with self._lock:
            self._guests.clear()
            self._aside.clear()
            self._lines = 0
            self._log.unlink(missing_ok=True)

    def become(self, guest_id: str, power: Power) -> None:
        """Make the guest's power change, as if the guest itself had done it (a crash, a shutdown from inside)."""
        known = self._get(guest_id)
        self._save(msgspec.structs.replace(known, power=power))
        self._tell(guest_id, power)

    def _hold(self, guest_id: str, power: Power) -> None:
        known = self._get(guest_id)
        self._wait(power.value)
        if known.power is power:
            return
        if known.power is not Power.RUNNING:
            raise HostFault(f"guest {guest_id} is not running: it is {known.power.value}")
        self.become(guest_id, power)

    def cards(self, guest_id: str) -> tuple[str, ...]:
        """The ports of the guest's cards, in their order."""
        return tuple(self._get(guest_id).cards)

    def disks(self, guest_id: str) -> tuple[str, str]:
        """Which root disk and which ephemeral disk the guest has: others after each that was made."""
        known = self._get(guest_id)
        return known.disk, known.ephemeral

    def _keep_cards(self, known: FakeGuest, cards: list[str]) -> None:
        self._save(msgspec.structs.replace(known, cards=cards, nics=len(cards)))

    def _boot(self, known: FakeGuest) -> None:
        self._save(msgspec.structs.replace(known, power=Power.RUNNING, boots=[*known.boots, clock.now_us()]))
        self._tell(known.id, Power.RUNNING)

    def _get(self, guest_id: str) -> FakeGuest:
        try:
            return self._guests[guest_id]
        except KeyError:
            raise HostFault(f"guest {guest_id} is not on this host") from None

    def _kept(self, guest_id: str) -> FakeGuest:
        try:
            return self._aside[guest_id]
        except KeyError:
            raise HostFault(f"guest {guest_id} is not set aside on this host") from None

    def _wait(self, what: str) -> None:
        seconds = self._delays.get(what, 0)
        if seconds:
            clock.sleep(seconds)

    def _tell(self, guest_id: str, power: Power) -> None:
        for changed in self._watchers:
            changed(guest_id, power)

    def _save(self, guest: FakeGuest) -> None:
        line = self._encoder.encode(guest) + b"\n"
        with self._lock:
            self._append(line)
            self._lines += 1
            self._keep(guest)
            if self._lines > len(self._guests) + _COMPACT_ABOVE:
                self._compact()

    def _append(self, data: bytes) -> None:
        handle = os.open(self._log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(handle, data)
        finally:
            os.close(handle)

    def _compact(self) -> None:
        fresh = self._log.with_suffix(".new")
        all_of_them = [*self._guests.values(), *self._aside.values()]
        fresh.write_bytes(b"".join(self._encoder.encode(guest) + b"\n" for guest in all_of_them))
        fresh.replace(self._log)
        self._lines = len(all_of_them)

    def _load(self) -> None:
        try:
            data = self._log.read_bytes()
        except FileNotFoundError:
            return
        decoder = msgspec.json.Decoder(FakeGuest)
        for line in data.splitlines():
            try:
                guest = decoder.decode(line)
            except msgspec.DecodeError:
                continue  # the line that a kill tore; its call never returned
            self._keep(guest)
        self._compact()

    def _keep(self, guest: FakeGuest) -> None:
        table = self._aside if guest.aside else self._guests
        if guest.gone:
            table.pop(guest.id, None)
        else:
            table[guest.id] = guest
