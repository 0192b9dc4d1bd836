"""`hypervisor.base.Hypervisor` on libvirt."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import libvirt
import msgspec

from nephos.errors import HostFault
from nephos.hypervisor import daemon
from nephos.hypervisor.base import (
    SNAPSHOT,
    Boot,
    Capacity,
    Expected,
    Guest,
    Nic,
    Note,
    Part,
    Parts,
    Power,
    Progress,
)
from nephos.hypervisor.libvirt import aside, cards, connection, console, disk, domain, migrate, power, rescue, snapshot

_MARK = libvirt.VIR_DOMAIN_METADATA_ELEMENT
_UNDEFINE = (
    libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
    | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
    | libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
    | libvirt.VIR_DOMAIN_UNDEFINE_NVRAM
)
_CONSOLE_SECONDS = 15.0


class LibvirtHypervisor:
    """Guests on one libvirtd.

    `uri_or_socket` is a libvirt URI or the path of libvirtd's socket. Guests' files go below `state_dir`/instances,
    which QEMU's user must be able to pass through. Only domains whose metadata carries `cloud_id` exist for the
    driver. `acceleration` is kvm or tcg. `disk_cache` is libvirt's cache mode; by default `none`, or `writeback` where
    the file system has no direct I/O. `lib_dir` is libvirtd's /var/lib/libvirt as this process sees it.
    """

    def __init__(
        self,
        uri_or_socket: str | Path,
        *,
        state_dir: Path,
        cloud_id: str,
        acceleration: str,
        disk_cache: str | None = None,
        lib_dir: Path = daemon.LIB_DIR,
    ) -> None:
        if acceleration not in ("kvm", "tcg"):
            raise HostFault(f"acceleration {acceleration!r} is neither kvm nor tcg")
        self.cloud_id = cloud_id
        self._instances = state_dir.absolute() / "instances"
        self._instances.mkdir(parents=True, exist_ok=True, mode=0o711)
        self._instances.chmod(0o711)
        if user := daemon.qemu_user():
            disk.check_reachable(self._instances, user[0])
        cache = disk_cache or ("none" if disk.direct_io(self._instances) else "writeback")
        self._traits = domain.Traits(cloud_id=cloud_id, acceleration=acceleration, cache=cache)
        self._lib_dir = lib_dir
        self._socket = connection.socket_of(uri_or_socket)
        self._watchers: list[Callable[[str, Power], None]] = []
        self._state = threading.Lock()
        self._telling = threading.RLock()  # looking and telling in one go, or an older look could be told last
        self._busy: dict[str, int] = {}
        self._seen: dict[str, Power] = {}
        self._connection = connection.Connection(connection.uri(uri_or_socket), self._on_event)
        self._seen = self.guests()
        self._closed = threading.Event()
        threading.Thread(target=self._bound_consoles, name="consoles", daemon=True).start()

    def capacity(self) -> Capacity:
        return self._connection.run("cannot read the host's capacity", self._capacity)

    def create(self, guest: Guest, boot: Boot, note: Note) -> None:
        home = disk.directory(self._instances, guest.id)
        with self._changing(guest.id):
            known = self._find(guest.id)
            if known is None:
                self._refuse_taken(guest)
            elif self._power(known) is Power.RUNNING:
                note("running")
                return
            self._start_new(guest, self._define(home, guest, boot, note), note)

    def rebuild(self, guest: Guest, boot: Boot, note: Note, *, keep_ephemeral: bool, start: bool) -> None:
        home = disk.directory(self._instances, guest.id)
        with self._changing(guest.id):
            found = self._find(guest.id)
            if found is None:
                self._refuse_taken(guest)
            else:
                with self._faults(f"cannot rebuild guest {guest.id}"):
                    self._remove(found)
            disk.remove(home, keep=disk.EPHEMERAL if keep_ephemeral else ())
            note("disk removed")
            made = self._define(home, guest, boot, note)
            if start:
                self._start_new(guest, made, note)

    def _define(self, home: Path, guest: Guest, boot: Boot, note: Note) -> Any:
        """Make the guest's disks and its domain."""
        files = disk.make_disks(home, guest, boot)
        note("disk")
        if guest.config_drive:
            drive = disk.make_config_drive(home / "disk.config", boot.config_drive_files)
            files = disk.Files(disks=(*files.disks, drive), kernel=files.kernel, ramdisk=files.ramdisk)
            note("config drive")
        xml = domain.define(guest, files, home, self._traits)
        made = self._connection.run(f"cannot create guest {guest.id}", lambda handle: handle.defineXML(xml))
        note("domain")
        return made

    def _start_new(self, guest: Guest, made: Any, note: Note) -> None:
        taps = ", ".join(domain.tap_name(nic.port_id) for nic in guest.nics)
        with self._faults(f"cannot create guest {guest.id} (its taps: {taps or 'none'})"):
            power.on(made)
        note("running")

    def set_password(self, guest_id: str, user: str, password: str) -> None:
        with self._faults(f"cannot set the password of {user} in guest {guest_id}"):
            self._get(guest_id).setUserPassword(user, password, 0)

    def interrupt(self, guest_id: str) -> None:
        with self._faults(f"cannot interrupt guest {guest_id}"):
            self._get(guest_id).injectNMI(0)

    def rescue(
        self, guest: Guest, boot: Boot, note: Note, *, properties: Mapping[str, str], timeout: float
    ) -> None:
        home = disk.directory(self._instances, guest.id)
        what = f"cannot rescue guest {guest.id}"
        with self._changing(guest.id), self._faults(what):
            found = self._get(guest.id)
            if rescue.definition(home) is None:
                self._off(found, timeout)
                rescue.keep_definition(home, found.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))
            elif found.isActive():
                note("running")
                return
            files = rescue.make_disks(home, guest, boot, properties)
            note("disk")
            line = {"os_command_line": properties.get("os_command_line", "")}
            there = msgspec.structs.replace(guest, properties={**guest.properties, **line})
            xml = domain.define(there, files, home, self._traits)
            made = self._connection.run(what, lambda handle: handle.defineXML(xml))
            note("domain")
            self._start_new(guest, made, note)

    def unrescue(self, guest_id: str, *, start: bool) -> None:
        home = disk.directory(self._instances, guest_id)
        with self._changing(guest_id), self._faults(f"cannot end the rescue of guest {guest_id}"):
            found = self._get(guest_id)
            xml = rescue.definition(home)
            if xml is not None:
                self._off(found, 0)
                found = self._connection.run("cannot define a guest", lambda handle: handle.defineXML(xml))
                rescue.end(home)
            if start:
                power.on(found)

    def _off(self, found: Any, timeout: float) -> None:
        if timeout <= 0 or not power.shut_down(found, timeout):
            power.off(found)
        power.forget_memory(found)

    def destroy(self, guest_id: str) -> None:
        home = disk.directory(self._instances, guest_id)
        with self._changing(guest_id):
            found = self._find(guest_id)
            if found is not None:
                with self._faults(f"cannot destroy guest {guest_id}"):
                    self._remove(found)
            disk.remove(home)

    def start(self, guest_id: str) -> None:
        with self._changing(guest_id), self._faults(f"cannot start guest {guest_id}"):
            power.on(self._get(guest_id))

    def stop(self, guest_id: str, *, timeout: float) -> None:
        with self._changing(guest_id), self._faults(f"cannot stop guest {guest_id}"):
            found = self._get(guest_id)
            if timeout <= 0 or not power.shut_down(found, timeout):
                power.off(found)

    def reboot(self, guest_id: str, *, hard: bool, timeout: float = 60) -> None:
        with self._changing(guest_id), self._faults(f"cannot reboot guest {guest_id}"):
            found = self._get(guest_id)
            if hard or not power.shut_down(found, timeout):
                power.off(found)
                power.forget_memory(found)
            power.on(found)

    def pause(self, guest_id: str) -> None:
        with self._changing(guest_id), self._faults(f"cannot pause guest {guest_id}"):
            power.hold(self._get(guest_id))

    def suspend(self, guest_id: str) -> None:
        with self._changing(guest_id), self._faults(f"cannot suspend guest {guest_id}"):
            power.save(self._get(guest_id))

    def plug(self, guest_id: str, nic: Nic) -> None:
        with self._changing(guest_id), self._faults(f"cannot give guest {guest_id} the card {nic.port_id}"):
            cards.plug(self._get(guest_id), nic)

    def unplug(self, guest_id: str, port_id: str) -> None:
        with self._changing(guest_id), self._faults(f"cannot take the card {port_id} from guest {guest_id}"):
            if not cards.unplug(self._get(guest_id), port_id):
                raise HostFault(f"guest {guest_id} does not let go of the card {port_id}")

    def leave(self, guest_id: str, *, timeout: float) -> None:
        home = disk.directory(self._instances, guest_id)
        away = aside.folder(home)
        with self._changing(guest_id), self._faults(f"cannot set guest {guest_id} aside"):
            found = self._find(guest_id)
            if away.exists():
                if found is not None:
                    raise HostFault(f"guest {guest_id} cannot be set aside: one of its id is already")
                return
            if found is not None:
                if timeout <= 0 or not power.shut_down(found, timeout):
                    power.off(found)
                aside.write_definition(home, found.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))
                self._remove(found)
            elif not (home / aside.DEFINITION).exists():
                raise HostFault(f"guest {guest_id} is not on this host")
            home.rename(away)

    def come_back(self, guest_id: str, *, start: bool) -> None:
        home = disk.directory(self._instances, guest_id)
        away = aside.folder(home)
        with self._changing(guest_id), self._faults(f"guest {guest_id} cannot come back"):
            found = self._find(guest_id)
            if away.exists():
                if found is not None or home.exists():
                    raise HostFault(f"guest {guest_id} cannot come back: another of its id is here")
                away.rename(home)
            definition = home / aside.DEFINITION
            if found is None:
                if not definition.exists():
                    raise HostFault(f"guest {guest_id} is not set aside on this host")
                xml = definition.read_text()
                found = self._connection.run(f"cannot define guest {guest_id}", lambda handle: handle.defineXML(xml))
            definition.unlink(missing_ok=True)
            if start:
                power.on(found)

    def forget(self, guest_id: str) -> None:
        disk.remove(aside.folder(disk.directory(self._instances, guest_id)))

    def parts(self, guest_id: str) -> tuple[Part, ...]:
        home = disk.directory(self._instances, guest_id)
        found = self._find(guest_id)
        if found is None or aside.folder(home).exists():
            return aside.parts(aside.folder(home))
        with self._faults(f"cannot look at guest {guest_id}"):
            return aside.still_parts(home, found.XMLDesc())

    def piece(self, guest_id: str, name: str, offset: int, length: int) -> bytes:
        home = disk.directory(self._instances, guest_id)
        if name == SNAPSHOT:
            return disk.piece(home / SNAPSHOT, offset, length)
        return aside.piece(home, name, offset, length)

    def snapshot(self, guest_id: str) -> Part:
        with self._faults(f"cannot snapshot guest {guest_id}"):
            return snapshot.take(self._get(guest_id), disk.directory(self._instances, guest_id))

    def drop_snapshot(self, guest_id: str) -> None:
        snapshot.drop(disk.directory(self._instances, guest_id))

    def receive(self, guest: Guest, boot: Boot, source: Parts, note: Note, *, start: bool) -> None:
        home = disk.directory(self._instances, guest.id)
        what = f"cannot receive guest {guest.id}"
        with self._changing(guest.id):
            made = self._find(guest.id)
            if made is None:
                self._refuse_taken(guest)
                files = aside.receive(home, guest, boot, source)
                note("disk")
                xml = domain.define(guest, files, home, self._traits)
                made = self._connection.run(what, lambda handle: handle.defineXML(xml))
                note("domain")
            if start:
                with self._faults(what):
                    power.on(made)
                note("running")

    def expect(self, guest: Guest, boot: Boot, source: Parts) -> Expected:
        home = disk.directory(self._instances, guest.id)
        self._refuse_taken(guest)
        disk.remove(home)
        aside.receive(home, guest, boot, source)
        channels = migrate.sockets(self._lib_dir, guest.id) | {migrate.CONTROL: self._socket}
        return Expected(home=str(home), channels=channels)

    def doors(self, guest_id: str) -> dict[str, Path]:
        disk.directory(self._instances, guest_id)
        return migrate.sockets(self._lib_dir, guest_id)

    def send(self, guest_id: str, home: str, seen: Callable[[Progress], None]) -> None:
        here = disk.directory(self._instances, guest_id)
        with self._changing(guest_id), self._faults(f"cannot send guest {guest_id}"):
            found = self._find(guest_id)
            if found is not None:
                migrate.send(found, self.doors(guest_id), here, home, seen)

    def hurry(self, guest_id: str) -> None:
        with self._faults(f"cannot hurry guest {guest_id}"):
            migrate.hurry(self._get(guest_id))

    def abort(self, guest_id: str) -> None:
        found = self._find(guest_id)
        if found is not None:
            with self._faults(f"cannot keep guest {guest_id}"), contextlib.suppress(libvirt.libvirtError):
                found.abortJob()

    def console_log(self, guest_id: str, *, limit: int | None = None) -> bytes:
        home = disk.directory(self._instances, guest_id)
        if not home.exists():
            raise HostFault(f"guest {guest_id} is not on this host")
        return console.read(home, limit)

    def vnc_socket(self, guest_id: str) -> Path:
        """The UNIX socket of the running guest's VNC server, as this process sees it."""
        with self._faults(f"cannot find the screen of guest {guest_id}"):
            xml = ElementTree.fromstring(self._get(guest_id).XMLDesc())
        listen = xml.find("devices/graphics[@type='vnc']/listen[@type='socket']")
        path = listen.get("socket") if listen is not None else None
        if path is None:
            raise HostFault(f"guest {guest_id} has no screen: it is off or was made without one")
        inside = Path(path)
        if inside.is_relative_to(daemon.LIB_DIR):
            return self._lib_dir / inside.relative_to(daemon.LIB_DIR)
        return inside

    def guests(self) -> dict[str, Power]:
        return self._connection.run(
            "cannot list guests", lambda handle: {item.UUIDString(): power.of(item) for item in self._ours(handle)}
        )

    def watch(self, changed: Callable[[str, Power], None]) -> None:
        self._watchers.append(changed)

    def leftovers(self, known: set[str], kept_aside: Collection[str] = ()) -> list[tuple[str, str, str]]:
        found = self._connection.run(
            "cannot list guests", lambda handle: [(item.UUIDString(), item.name()) for item in self._ours(handle)]
        )
        strays = [
            ("domain", name, f"guest {guest_id} is not known to the cloud")
            for guest_id, name in found
            if guest_id not in known
        ]
        for path in sorted(self._instances.iterdir()):
            guest_id = path.name.removesuffix(aside.SUFFIX)
            if guest_id not in (known if guest_id == path.name else kept_aside):
                strays.append(("file", str(path), f"guest {guest_id} is not known to the cloud"))
        return strays

    def close(self) -> None:
        self._closed.set()
        self._watchers.clear()
        self._connection.close()

    def purge(self) -> None:
        for guest_id in self.guests():
            self.destroy(guest_id)
        for path in self._instances.iterdir():
            disk.remove(path)

    def _bound_consoles(self) -> None:
        while not self._closed.wait(_CONSOLE_SECONDS):
            for home in self._instances.iterdir():
                console.bound(home)

    def _capacity(self, handle: Any) -> Capacity:
        # virNodeGetInfo reads the memory of node 0 from sysfs, which is not all of it on every machine.
        memory = handle.getMemoryStats(libvirt.VIR_NODE_MEMORY_STATS_ALL_CELLS)["total"]
        space = os.statvfs(self._instances)
        return Capacity(
            vcpus=handle.getInfo()[2],
            ram_mb=memory // 1024,
            disk_gb=space.f_frsize * space.f_blocks // disk.GIB,
            hypervisor_type=handle.getType(),
            hypervisor_version=handle.getVersion(),
            cpu_info=_cpu_info(handle.getCapabilities()),
        )

    def _ours(self, handle: Any) -> Iterator[Any]:
        for item in handle.listAllDomains():
            with contextlib.suppress(libvirt.libvirtError):  # it was removed meanwhile, or it carries no mark
                if domain.cloud_of(item.metadata(_MARK, domain.NAMESPACE)) == self.cloud_id:
                    yield item

    def _find(self, guest_id: str) -> Any | None:
        """The guest's domain, None when there is none or it is not of this cloud."""

        def look(handle: Any) -> Any | None:
            try:
                found = handle.lookupByUUIDString(guest_id)
                mark = found.metadata(_MARK, domain.NAMESPACE)
            except libvirt.libvirtError as error:
                if error.get_error_code() in (libvirt.VIR_ERR_NO_DOMAIN, libvirt.VIR_ERR_NO_DOMAIN_METADATA):
                    return None
                raise
            return found if domain.cloud_of(mark) == self.cloud_id else None

        return self._connection.run(f"cannot look for guest {guest_id}", look)

    def _get(self, guest_id: str) -> Any:
        disk.directory(self._instances, guest_id)
        found = self._find(guest_id)
        if found is None:
            raise HostFault(f"guest {guest_id} is not on this host")
        return found

    def _refuse_taken(self, guest: Guest) -> None:
        """libvirt would let a definition replace a stranger's domain of the same id."""

        def look(handle: Any) -> str | None:
            for lookup, key in ((handle.lookupByUUIDString, guest.id), (handle.lookupByName, guest.name)):
                try:
                    return str(lookup(key).name())
                except libvirt.libvirtError as error:
                    if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
                        raise
            return None

        what = f"cannot create guest {guest.id}"
        taken = self._connection.run(what, look)
        if taken is not None:
            raise HostFault(f"{what}: a domain {taken} with its name or id exists and is not this guest")

    def _power(self, found: Any) -> Power:
        with self._faults("cannot read the power of a guest"):
            return power.of(found)

    def _remove(self, found: Any) -> None:
        try:
            if found.isActive():
                power.off(found)
            found.undefineFlags(_UNDEFINE)
        except libvirt.libvirtError as error:
            if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
                raise

    @contextlib.contextmanager
    def _faults(self, what: str) -> Iterator[None]:
        try:
            yield
        except libvirt.libvirtError as error:
            raise self._connection.fault(what, error) from error

    @contextlib.contextmanager
    def _changing(self, guest_id: str) -> Iterator[None]:
        """While a call changes the guest, the states that it passes through are nobody's business."""
        with self._state:
            self._busy[guest_id] = self._busy.get(guest_id, 0) + 1
        try:
            yield
        finally:
            with self._state:
                left = self._busy.pop(guest_id) - 1
                if left:
                    self._busy[guest_id] = left
            with contextlib.suppress(HostFault):  # the call has its own to tell
                self._look(guest_id)

    def _on_event(self, guest_id: str | None) -> None:
        with contextlib.suppress(HostFault):  # libvirtd is away; the next connection looks at everything again
            for one in [guest_id] if guest_id is not None else {*self._seen, *self.guests()}:
                self._look(one)

    def _look(self, guest_id: str) -> None:
        """Tell the watchers if the guest's power is not what they were told last."""
        with self._telling:
            found = self._find(guest_id)
            now = Power.MISSING if found is None else self._power(found)
            with self._state:
                if guest_id in self._busy or self._seen.get(guest_id, Power.MISSING) is now:
                    return
                if now is Power.MISSING:
                    self._seen.pop(guest_id, None)
                else:
                    self._seen[guest_id] = now
            for changed in self._watchers:
                changed(guest_id, now)


def _cpu_info(capabilities: str) -> dict[str, Any]:
    """The host's processor in the form that Nova shows."""
    cpu = ElementTree.fromstring(capabilities).find("host/cpu")
    if cpu is None:
        return {}
    topology = cpu.find("topology")
    shape = {} if topology is None else {key: int(topology.get(key, "1")) for key in ("sockets", "cores", "threads")}
    return {
        "arch": cpu.findtext("arch", ""),
        "model": cpu.findtext("model", ""),
        "vendor": cpu.findtext("vendor", ""),
        "topology": {"cells": 1, **shape},
        "features": [feature.get("name", "") for feature in cpu.findall("feature")],
    }
