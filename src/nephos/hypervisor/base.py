"""What a hypervisor driver is asked to do: guests by id, power, console, events.

Types carry ids and numbers only; the driver derives paths and names itself. RAM is MiB, disks are GiB unless a name
says otherwise. Drivers touch only guests that carry this cloud's id in their metadata.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

import msgspec

from nephos.errors import HostFault


class HypervisorAway(HostFault):
    """The hypervisor's daemon does not answer; a call that may be repeated can be made again when it does."""


class Power(StrEnum):
    """State of a guest as the hypervisor sees it."""

    RUNNING = "running"
    PAUSED = "paused"
    SHUTDOWN = "shutdown"
    CRASHED = "crashed"
    SUSPENDED = "suspended"
    MISSING = "missing"


class Nic(msgspec.Struct, frozen=True, kw_only=True):
    """A guest's network card, in request order (S0-37)."""

    port_id: str
    mac: str
    mtu: int = 1500
    model: str = "virtio"


class ImageFile(msgspec.Struct, frozen=True, kw_only=True):
    """An image in the agent's cache: complete, verified, read-only, readable by QEMU's user."""

    id: str
    path: Path
    format: str
    """raw, qcow2 or iso: as inspected, never as claimed."""


class Guest(msgspec.Struct, frozen=True, kw_only=True):
    """A guest to make.

    `name` is the libvirt name, instance-%08x. `root_gb` 0 means the image's own size. `properties` are the image
    properties (hw_disk_bus, hw_vif_model, os_command_line, …). `details` go into the domain's metadata for people.
    """

    id: str
    name: str
    vcpus: int
    ram_mb: int
    root_gb: int
    ephemeral_gb: int = 0
    swap_mb: int = 0
    nics: tuple[Nic, ...] = ()
    config_drive: bool = False
    properties: dict[str, str] = {}
    extra_specs: dict[str, str] = {}
    details: dict[str, str] = {}


class Boot(msgspec.Struct, frozen=True, kw_only=True):
    """What a guest boots from: a root image, and kernel and ramdisk for direct kernel boot."""

    root: ImageFile | None = None
    kernel: ImageFile | None = None
    ramdisk: ImageFile | None = None
    config_drive_files: dict[str, bytes] = {}
    """path in the drive → content; empty when the guest has no config drive."""


class Capacity(msgspec.Struct, frozen=True, kw_only=True):
    """What the host has, before overcommit. `cpu_info` is libvirt's host CPU, as Nova shows it."""

    vcpus: int
    ram_mb: int
    disk_gb: int
    hypervisor_type: str
    hypervisor_version: int
    cpu_info: dict[str, Any] = {}
    architectures: tuple[str, ...] = ("x86_64",)


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """A file of a guest that is set aside. Bytes outside of `extents` (offset, length) are zeros.

    `format` is how it is opened, of the part `image` (what the root disk lies over) as the guest was made with it.
    """

    name: str
    size: int
    extents: tuple[tuple[int, int], ...] = ()
    format: str = "raw"


class Parts(Protocol):
    """Where a guest that moves comes from."""

    def parts(self) -> tuple[Part, ...]: ...

    def piece(self, name: str, offset: int, length: int) -> bytes:
        """The bytes there. Raises HostFault when they cannot be had whole and unharmed."""
        ...


SNAPSHOT = "snapshot"
"""The part that a snapshot of a guest is."""
class Expected(msgspec.Struct, frozen=True, kw_only=True):
    """What a host says that waits for a guest which is to come running: where its files are here, and the sockets, by
    channel, that the host it comes from must reach."""

    home: str
    channels: dict[str, Path]


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a guest that moves running is, in bytes."""

    memory_total: int = 0
    memory_processed: int = 0
    memory_remaining: int = 0
    disk_total: int = 0
    disk_processed: int = 0
    disk_remaining: int = 0


PIECE = 4 * 1024 * 1024
"""The most bytes of a part that are asked for at once."""

Note = Callable[[str], None]
"""Called with the name of each mark as it is passed: disk, config drive, domain, running."""


class Hypervisor(Protocol):
    """A hypervisor driver. Every call is idempotent and may come from several threads, one at a time for one guest.

    Raises `errors.HostFault` with the whole reason (S1-11) when the host cannot do it.
    """

    def capacity(self) -> Capacity: ...

    def create(self, guest: Guest, boot: Boot, note: Note) -> None:
        """Make disks and domain and start it. Again on a running guest: nothing. After a half-made one: finishes it."""
        ...

    def rebuild(self, guest: Guest, boot: Boot, note: Note, *, keep_ephemeral: bool, start: bool) -> None:
        """Give up the guest's domain, disks and console log, if there are any, and make it as `create` does. The
        ephemeral disk stays with `keep_ephemeral`; without `start` the guest is left off. Again: once more anew."""
        ...

    def set_password(self, guest_id: str, user: str, password: str) -> None:
        """Have the agent in the guest give a user another password. Raises HostFault where none listens."""
        ...

    def interrupt(self, guest_id: str) -> None:
        """Send the running guest an interrupt that cannot be masked (NMI)."""
        ...

    def rescue(
        self, guest: Guest, boot: Boot, note: Note, *, properties: Mapping[str, str], timeout: float
    ) -> None:
        """Switch the guest off (as `stop`) and have it run from another disk, made of `boot`, with its own disks beside.
        `properties` are those of the rescue image. One that is in rescue and runs: nothing."""
        ...

    def unrescue(self, guest_id: str, *, start: bool) -> None:
        """End that: what the rescue made goes, and the guest is its own again. One that is not in rescue is only started."""
        ...

    def destroy(self, guest_id: str) -> None:
        """Stop the guest and remove its domain, disks and console log. Nothing when there is none."""
        ...

    def start(self, guest_id: str) -> None: ...

    def stop(self, guest_id: str, *, timeout: float) -> None:
        """Ask the guest to shut down; after `timeout` seconds pull the plug. 0 pulls it at once."""
        ...

    def reboot(self, guest_id: str, *, hard: bool, timeout: float = 60) -> None: ...

    def pause(self, guest_id: str) -> None:
        """Stop its processors; `start` lets it go on."""
        ...

    def suspend(self, guest_id: str) -> None:
        """Save its memory to the host's disk and switch it off; `start` goes on from there."""
        ...

    def plug(self, guest_id: str, nic: Nic) -> None:
        """Give the guest one more card, at once and for every later start. One that it has: nothing."""
        ...

    def unplug(self, guest_id: str, port_id: str) -> None:
        """Take a card from the guest, at once and for every later start. One that it does not have: nothing."""
        ...

    def leave(self, guest_id: str, *, timeout: float) -> None:
        """Stop the guest (as `stop`) and set it aside: files and definition are kept, it is no guest of this host any
        more, and another of its id may be received. One that is set aside already: nothing."""
        ...

    def come_back(self, guest_id: str, *, start: bool) -> None:
        """Undo `leave`, and start the guest if it ran. One that came back already is only started."""
        ...

    def forget(self, guest_id: str) -> None:
        """Remove what is set aside of a guest. Nothing when there is none."""
        ...

    def parts(self, guest_id: str) -> tuple[Part, ...]:
        """The files of a guest that is set aside; of one that runs, those that do not change while it does."""
        ...

    def piece(self, guest_id: str, name: str, offset: int, length: int) -> bytes:
        """Bytes of a part of a guest that is set aside, or of its snapshot."""
        ...

    def receive(self, guest: Guest, boot: Boot, source: Parts, note: Note, *, start: bool) -> None:
        """Make a guest from the parts of one that was set aside, perhaps with larger disks, memory and processors.

        `boot.root` is the image below its root disk when that is here already. Again: finishes what is half made.
        """
        ...

    def snapshot(self, guest_id: str) -> Part:
        """Keep what the root disk holds now as a file that stands alone; a guest that runs goes on. Again: anew."""
        ...

    def drop_snapshot(self, guest_id: str) -> None:
        """Remove that file. Nothing when there is none."""
        ...

    def expect(self, guest: Guest, boot: Boot, source: Parts) -> Expected:
        """Make ready for a guest that comes running from another host: its disks are made, what fills them comes by the
        channels. `source` gives what does not change. `destroy` takes it all away again."""
        ...

    def doors(self, guest_id: str) -> dict[str, Path]:
        """Where this driver will look for the channels of the host that it sends a guest to: sockets to be listened on."""
        ...

    def send(self, guest_id: str, home: str, seen: Callable[[Progress], None]) -> None:
        """Move a running guest to the host behind the `doors`, with its disks; `home` is what that host answered.

        It runs there when this returns, and is no guest of this host any more; its files stay until `destroy`. When it
        raises HostFault the guest runs on here. One that left already: nothing.
        """
        ...

    def hurry(self, guest_id: str) -> None:
        """Have a guest that is being sent arrive soon, even if it must stand still for longer."""
        ...

    def abort(self, guest_id: str) -> None:
        """Give up sending a guest: it stays. Nothing when it is not being sent."""
        ...

    def console_log(self, guest_id: str, *, limit: int | None = None) -> bytes:
        """The serial console from the first byte; with `limit`, its last bytes."""
        ...

    def guests(self) -> dict[str, Power]:
        """Every guest of this cloud on the host."""
        ...

    def watch(self, changed: Callable[[str, Power], None]) -> None:
        """Call `changed(guest id, power)` on each change that nobody asked for or that completes one."""
        ...

    def leftovers(self, known: set[str], kept_aside: Collection[str] = ()) -> list[tuple[str, str, str]]:
        """(kind, name, why) of domains and files with this cloud's mark whose guest is not in `known`, and of guests that
        are set aside and not in `kept_aside`."""
        ...

    def close(self) -> None: ...

    def purge(self) -> None:
        """Destroy every guest of this cloud and remove its files."""
        ...
