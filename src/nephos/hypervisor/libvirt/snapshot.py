"""What a guest's root disk holds at one moment, as a file that stands alone: `snapshot`, qcow2, beside its disks.

A guest that runs, or is paused, goes on: QEMU copies the disk as it was when the copy began, however long that takes. A
guest that is off has its disk copied by qemu-img.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

import libvirt

from nephos.errors import HostFault
from nephos.hypervisor.base import SNAPSHOT, Part
from nephos.hypervisor.libvirt import disk
from nephos.kernel import clock

log = logging.getLogger(__name__)
SECONDS = 6 * 3600.0
"""How long a copy may take."""
_LOOK_SECONDS = 0.1
_AGENT = "devices/channel/target[@name='org.qemu.guest_agent.0'][@state='connected']"


def take(domain: Any, home: Path) -> Part:
    """Copy the root disk below `home` of a domain, anew when there is a copy. Raises HostFault, and libvirtError."""
    path, fresh = home / SNAPSHOT, home / (SNAPSHOT + ".part")
    _end_job(domain)
    for old in (path, fresh):
        old.unlink(missing_ok=True)
    if not (domain.isActive() and _copy_live(domain, home / "disk", fresh)):
        disk.run_tool(
            ["qemu-img", "convert", "-f", "qcow2", "-O", "qcow2", str(home / "disk"), str(fresh)], fresh, SECONDS
        )
    fresh.chmod(0o600)
    fresh.replace(path)
    size = path.stat().st_size
    return Part(name=SNAPSHOT, size=size, extents=((0, size),), format="qcow2")


def drop(home: Path) -> None:
    """Remove the copy, whole or not."""
    for name in (SNAPSHOT, SNAPSHOT + ".part"):
        (home / name).unlink(missing_ok=True)


def _copy_live(domain: Any, source: Path, target: Path) -> bool:
    """Whether the copy is whole: False when the guest went off meanwhile, so that its disk lies still."""
    name, others = _names(domain, source)
    size = domain.blockInfo(name)[0]
    disk.run_tool(["qemu-img", "create", "-q", "-f", "qcow2", str(target), str(size)], target)
    root = Element("domainbackup", mode="push")
    disks = SubElement(root, "disks")
    wanted = SubElement(disks, "disk", name=name, type="file", backup="yes")
    SubElement(wanted, "driver", type="qcow2")
    SubElement(wanted, "target", file=str(target))
    for other in others:
        SubElement(disks, "disk", name=other, backup="no")
    frozen = _freeze(domain)
    try:
        domain.backupBegin(
            ElementTree.tostring(root, encoding="unicode"), None, libvirt.VIR_DOMAIN_BACKUP_BEGIN_REUSE_EXTERNAL
        )
    finally:
        if frozen:
            domain.fsThaw()
    until = clock.monotonic() + SECONDS
    while _copying(domain):
        if clock.monotonic() > until:
            domain.abortJob()
            raise HostFault(f"the copy of the disk was not done after {SECONDS:g} seconds")
        clock.sleep(_LOOK_SECONDS)
    if not domain.isActive():
        target.unlink(missing_ok=True)
        return False
    ended = domain.jobStats(libvirt.VIR_DOMAIN_JOB_STATS_COMPLETED)
    if not ended.get("success", ended.get("type") == libvirt.VIR_DOMAIN_JOB_COMPLETED):
        raise HostFault(f"the copy of the disk failed: {ended.get('errmsg') or 'QEMU does not say why'}")
    return True


def _copying(domain: Any) -> bool:
    return bool(domain.isActive()) and domain.jobStats().get("type", 0) != libvirt.VIR_DOMAIN_JOB_NONE


def _end_job(domain: Any) -> None:
    """End the copy that an agent left when it died."""
    if not domain.isActive():
        return
    stats = domain.jobStats()
    if stats.get("operation") == libvirt.VIR_DOMAIN_JOB_OPERATION_BACKUP and _copying(domain):
        domain.abortJob()
        while _copying(domain):
            clock.sleep(_LOOK_SECONDS)


def _names(domain: Any, source: Path) -> tuple[str, list[str]]:
    """The device whose file is `source`, and all others."""
    found, others = None, []
    for device in ElementTree.fromstring(domain.XMLDesc()).iterfind("devices/disk"):
        file, target = device.find("source"), device.find("target")
        name = target.get("dev", "") if target is not None else ""
        if file is not None and file.get("file") == str(source):
            found = name
        else:
            others.append(name)
    if found is None:
        raise HostFault(f"guest {domain.UUIDString()} has no root disk here")
    return found, others


def _freeze(domain: Any) -> bool:
    """Have the guest write out what it has in memory and hold still, where an agent in it listens. Whether it does."""
    if ElementTree.fromstring(domain.XMLDesc()).find(_AGENT) is None:
        return False
    try:
        domain.fsFreeze()
    except libvirt.libvirtError as error:
        log.warning("guest %s does not freeze its file systems: %s", domain.UUIDString(), error)
        return False
    return True
