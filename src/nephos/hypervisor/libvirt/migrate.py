"""A guest moves while it runs: libvirt's own migration, led by the host that it leaves.

    control    the other host's libvirtd
    memory     where QEMU there takes the guest's memory and devices
    disks      where QEMU there takes the blocks of its disks (NBD)

All three are UNIX sockets on either host, under one path for libvirt, whatever carries them from one to the other: so no
libvirtd and no QEMU listens on a network, and none needs a certificate or the other's name.
"""

from __future__ import annotations

import os
import pwd
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import libvirt

from nephos.errors import HostFault
from nephos.hypervisor import daemon
from nephos.hypervisor.base import Progress

FOLDER = "nephos"
CONTROL, MEMORY, DISKS = "control", "memory", "disks"
_LETTERS = {CONTROL: "c", MEMORY: "m", DISKS: "d"}
_LOOK_SECONDS = 0.5
_HURRY_MS = 60_000
_FLAGS = (
    libvirt.VIR_MIGRATE_LIVE
    | libvirt.VIR_MIGRATE_PERSIST_DEST
    | libvirt.VIR_MIGRATE_UNDEFINE_SOURCE
    | libvirt.VIR_MIGRATE_AUTO_CONVERGE
    | libvirt.VIR_MIGRATE_NON_SHARED_INC
)


def sockets(lib_dir: Path, guest_id: str) -> dict[str, Path]:
    """The sockets of a guest's migration on this host, as this process sees them; their folder is made."""
    folder = lib_dir / FOLDER
    folder.mkdir(exist_ok=True, mode=0o711)
    if user := daemon.qemu_user():
        account = pwd.getpwnam(user[0])
        os.chown(folder, account.pw_uid, account.pw_gid)
        folder.chmod(0o700)
    return {channel: folder / f"{guest_id[:8]}.{letter}" for channel, letter in _LETTERS.items()}


def send(found: Any, doors: dict[str, Path], home: Path, there: str, seen: Callable[[Progress], None]) -> None:
    """Move a domain. `home` is the folder of its files here, `there` on the other host. Lets libvirtError through."""
    if not Path(there).is_absolute() or any(each in there for each in "\"'<>&"):
        raise HostFault(f"{there!r} is no folder for a guest's files")
    live, kept = libvirt.VIR_DOMAIN_XML_MIGRATABLE | libvirt.VIR_DOMAIN_XML_SECURE, libvirt.VIR_DOMAIN_XML_INACTIVE
    xml, persistent = (found.XMLDesc(flags).replace(str(home), there) for flags in (live, live | kept))
    seen_by_libvirt = {name: f"unix://{daemon.LIB_DIR / FOLDER / path.name}" for name, path in doors.items()}
    parameters: dict[str, Any] = {
        libvirt.VIR_MIGRATE_PARAM_URI: seen_by_libvirt[MEMORY],
        libvirt.VIR_MIGRATE_PARAM_DISKS_URI: seen_by_libvirt[DISKS],
        libvirt.VIR_MIGRATE_PARAM_DEST_XML: xml,
        libvirt.VIR_MIGRATE_PARAM_PERSIST_XML: persistent,
        libvirt.VIR_MIGRATE_PARAM_MIGRATE_DISKS: _disks(xml),
    }
    other = libvirt.open(f"qemu+unix:///system?socket={doors[CONTROL]}")
    over = threading.Event()
    threading.Thread(target=_watch, args=(found, over, seen), daemon=True).start()
    try:
        found.migrate3(other, parameters, _FLAGS)
    finally:
        over.set()
        other.close()


def hurry(found: Any) -> None:
    """Let the guest stand still for as long as the rest takes."""
    found.migrateSetMaxDowntime(_HURRY_MS)


def _disks(xml: str) -> list[str]:
    """The disks that a guest may write to."""
    return [
        target.get("dev", "")
        for disk in ElementTree.fromstring(xml).iterfind("devices/disk")
        if disk.find("readonly") is None and (target := disk.find("target")) is not None
    ]


def _watch(found: Any, over: threading.Event, seen: Callable[[Progress], None]) -> None:
    while not over.wait(_LOOK_SECONDS):
        try:
            stats = found.jobStats()
        except libvirt.libvirtError:
            return
        names = [f"{what}_{how}" for what in ("memory", "disk") for how in ("total", "processed", "remaining")]
        if stats.get("type"):
            seen(Progress(**{name: int(stats.get(name, 0)) for name in names}))
