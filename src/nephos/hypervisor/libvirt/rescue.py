"""A guest in rescue: it runs from another disk, with its own ones beside (S3-27).

    <home>/rescue/               made like a guest's own folder (see `disk`), of the rescue image, and
        domain.xml               the guest's own definition, for when the rescue is over

As Nova has it: the rescue disk comes first and the guest's own follow. When the rescue image says where it wants to be
(hw_rescue_device, hw_rescue_bus) the own disks keep their places and the rescue disk comes after them, and is booted.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

import msgspec

from nephos.errors import HostFault
from nephos.hypervisor.base import Boot, Guest, ImageFile
from nephos.hypervisor.libvirt import aside, disk
from nephos.hypervisor.libvirt.disk import Disk, Files

FOLDER = "rescue"
_BUSES, _DEVICES = ("virtio", "scsi", "sata", "usb"), ("disk", "cdrom")


def definition(home: Path) -> str | None:
    """The guest's own definition while it is in rescue."""
    path = home / FOLDER / aside.DEFINITION
    return path.read_text() if path.exists() else None


def keep_definition(home: Path, xml: str) -> None:
    (home / FOLDER).mkdir(exist_ok=True, mode=0o711)
    aside.write_definition(home / FOLDER, xml)


def make_disks(home: Path, guest: Guest, boot: Boot, properties: Mapping[str, str]) -> Files:
    """The disks of a guest whose definition is kept: those of the rescue image, `properties` being the image's, and its own."""
    if boot.root is None:
        raise HostFault(f"guest {guest.id} cannot be rescued without an image")
    folder = home / FOLDER
    iso = boot.root.format == "iso"
    small = msgspec.structs.replace(guest, ephemeral_gb=0, swap_mb=0, root_gb=guest.root_gb if iso else 0)
    made = disk.make_disks(folder, small, boot)
    rescue = next(each for each in made.disks if each.role == ("iso" if iso else "root"))
    own = _own(home, guest)
    drives: tuple[Disk, ...] = ()
    if guest.config_drive:
        drives = (disk.make_config_drive(folder / "disk.config", boot.config_drive_files),)
    device, bus = properties.get("hw_rescue_device"), properties.get("hw_rescue_bus")
    if (device is None and bus is None) or made.kernel is not None:
        # A kernel is told its root by name, which is the first disk's.
        disks = (rescue, *own, *drives)
    else:
        place = {"device": _choice("hw_rescue_device", device, _DEVICES, rescue.device)}
        place["bus"] = _choice("hw_rescue_bus", bus, _BUSES, "")
        disks = (*own, *drives, msgspec.structs.replace(rescue, **place))
    return Files(disks=disks, kernel=made.kernel, ramdisk=made.ramdisk)


def end(home: Path) -> None:
    """Remove what was made for the rescue."""
    try:
        shutil.rmtree(home / FOLDER)
    except FileNotFoundError:
        return
    except OSError as error:
        raise HostFault(f"cannot remove the rescue disk: {error}") from error


def _own(home: Path, guest: Guest) -> tuple[Disk, ...]:
    """The guest's own disks as they are; none of them is booted."""
    below = _image_format(definition(home) or "")
    image = None if below is None else ImageFile(id=guest.id, path=home / aside.IMAGE, format=below)
    # One whose disk lies over no image was made of a size, which every flavor for it has.
    found = disk.make_disks(home, guest, Boot(root=image)).disks
    return tuple(msgspec.structs.replace(each, role="rescued") if each.role == "root" else each for each in found)


def _image_format(xml: str) -> str | None:
    """The format of the image below the root disk; None when there is none."""
    kind = ElementTree.fromstring(xml).find("devices/disk/backingStore/format")
    return None if kind is None else kind.get("type")


def _choice(name: str, value: str | None, allowed: tuple[str, ...], default: str) -> str:
    if value is None:
        return default
    if value not in allowed:
        raise HostFault(f"image property {name}: {value!r} is not offered here; there are {', '.join(allowed)}")
    return value
