"""The definition of a guest: every element of it, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import pytest

import nephos
from nephos.errors import HostFault
from nephos.hypervisor.base import Guest, ImageFile, Nic
from nephos.hypervisor.libvirt import domain
from nephos.hypervisor.libvirt.disk import Disk, Files

ID = "83679162-1378-4288-a2d4-70e13ec132aa"
HOME = Path("/state/instances") / ID
TCG = domain.Traits(cloud_id="cloud-a", acceleration="tcg", cache="none")
KVM = domain.Traits(cloud_id="cloud-a", acceleration="kvm", cache="writeback")
ROOT = Disk(
    role="root",
    path=HOME / "disk",
    format="qcow2",
    backing=ImageFile(id="i", path=HOME / "image", format="raw"),
)
DRIVE = Disk(role="config", path=HOME / "disk.config", format="raw", device="cdrom", readonly=True)
ISO = Disk(role="iso", path=HOME / "image", format="raw", device="cdrom", readonly=True, shared=True)
SWAP = Disk(role="swap", path=HOME / "disk.swap", format="raw")


def guest(**values: Any) -> Guest:
    given = {"id": ID, "name": "instance-0000002a", "vcpus": 4, "ram_mb": 512, "root_gb": 5, **values}
    return Guest(**given)


def xml(made: Guest, *disks: Disk, traits: domain.Traits = TCG, kernel: bool = False) -> Element:
    files = Files(disks=disks or (ROOT,))
    if kernel:
        files = Files(disks=files.disks, kernel=HOME / "kernel", ramdisk=HOME / "ramdisk")
    return ElementTree.fromstring(domain.define(made, files, HOME, traits))


def value(root: Element, path: str, attribute: str | None = None) -> str | None:
    found = root.find(path)
    assert found is not None, path
    return found.get(attribute) if attribute else found.text


def test_identity() -> None:
    root = xml(guest())
    assert root.get("type") == "qemu"
    assert value(root, "name") == "instance-0000002a"
    assert value(root, "uuid") == ID
    assert (value(root, "memory"), value(root, "memory", "unit")) == ("512", "MiB")
    assert value(root, "vcpu") == "4"
    assert value(root, "resource/partition") == "/machine"
    system = {each.get("name"): each.text for each in root.findall("sysinfo/system/entry")}
    assert system == {
        "manufacturer": "Nephos",
        "product": "Nephos",
        "version": nephos.__version__,
        "serial": ID,
        "uuid": ID,
        "family": "Virtual Machine",
    }
    assert value(root, "os/smbios", "mode") == "sysinfo"
    assert value(root, "sysinfo/chassis/entry[@name='asset']") == "OpenStack Nova"
    assert [value(root, f"on_{event}") for event in ("poweroff", "reboot", "crash")] == [
        "destroy",
        "restart",
        "destroy",
    ]


def test_people_find_their_guest_in_the_metadata() -> None:
    nic = Nic(port_id="0a1b2c3d-4e5f", mac="fa:16:3e:00:00:01")
    root = xml(guest(details={"name": "a <b> & \x01c\nd", "project_id": "p"}, nics=(nic,)))
    mark = root.find(f"metadata/{{{domain.NAMESPACE}}}guest")
    assert mark is not None
    assert (mark.get("cloud"), mark.get("id")) == ("cloud-a", ID)
    details = {each.get("name"): each.text for each in mark.findall(f"{{{domain.NAMESPACE}}}detail")}
    assert details == {"name": "a <b> & c\nd", "project_id": "p"}
    assert value(mark, f"{{{domain.NAMESPACE}}}port", "id") == "0a1b2c3d-4e5f"
    assert value(root, "title") == "a <b> & c d"
    assert domain.cloud_of(ElementTree.tostring(mark, encoding="unicode")) == "cloud-a"
    assert domain.cloud_of("<x") is None


def test_devices() -> None:
    nic = Nic(port_id="0a1b2c3d-4e5f-4000-8000-000000000000", mac="fa:16:3e:00:00:01", mtu=1450)
    root = xml(guest(nics=(nic,)), ROOT, SWAP, DRIVE)
    devices = root.find("devices")
    assert devices is not None
    card = devices.find("interface[@type='ethernet']")
    assert card is not None
    assert value(card, "mac", "address") == "fa:16:3e:00:00:01"
    assert (value(card, "target", "dev"), value(card, "target", "managed")) == ("tap0a1b2c3d-4e", "no")
    assert (value(card, "model", "type"), value(card, "mtu", "size")) == ("virtio", "1450")
    disk, swap, drive = devices.findall("disk")
    assert (value(disk, "driver", "cache"), value(disk, "driver", "type")) == ("none", "qcow2")
    assert (value(disk, "target", "dev"), value(disk, "target", "bus")) == ("vda", "virtio")
    assert value(disk, "backingStore/source", "file") == str(HOME / "image")
    assert value(disk, "backingStore/format", "type") == "raw"
    assert value(disk, "backingStore/source/seclabel", "relabel") == "no"
    assert disk.find("backingStore/backingStore") is not None, "libvirt is told where the chain ends"
    assert value(swap, "target", "dev") == "vdb"
    assert (drive.get("device"), value(drive, "target", "bus"), value(drive, "target", "dev")) == (
        "cdrom",
        "scsi",
        "sda",
    )
    assert devices.find("controller[@type='scsi'][@model='virtio-scsi']") is not None
    assert len(devices.findall("controller[@model='pcie-root-port']")) == 10
    assert (value(devices, "serial/log", "file"), value(devices, "serial/log", "append")) == (
        str(HOME / "console.log"),
        "on",
    )
    assert devices.find("serial[@type='pty']") is not None
    graphics = devices.find("graphics[@type='vnc']")
    assert graphics is not None
    assert graphics.get("listen") is None
    assert [each.get("type") for each in graphics] == ["socket"], "no port is open"
    assert devices.find("input[@type='tablet'][@bus='usb']") is not None
    assert value(devices, "memballoon", "model") == "virtio"
    assert value(devices, "rng/backend") == "/dev/urandom"
    assert value(devices, "video/model", "type") == "vga"
    assert devices.find("channel") is None
    assert xml(guest(properties={"hw_qemu_guest_agent": "yes"})).find("devices/channel") is not None


def test_acceleration() -> None:
    root = xml(guest())
    assert value(root, "features/tcg/tb-cache") == "64"
    assert value(root, "cpu/model") == TCG.cpu
    root = xml(guest(), traits=KVM)
    assert root.get("type") == "kvm"
    assert root.find("features/tcg") is None
    assert value(root, "cpu", "mode") == "host-model"
    assert value(root, "devices/disk/driver", "cache") == "writeback"


@pytest.mark.parametrize(
    ("specs", "properties", "topology"),
    [
        ({}, {}, ("4", "1", "1")),
        ({"hw:cpu_cores": "4"}, {}, ("1", "4", "1")),
        ({"hw:cpu_sockets": "2"}, {}, ("2", "2", "1")),
        ({"hw:cpu_threads": "2"}, {"hw_cpu_cores": "2"}, ("1", "2", "2")),
        ({"hw:cpu_cores": "2"}, {"hw_cpu_cores": "4"}, ("2", "2", "1")),
    ],
)
def test_topology(specs: dict[str, str], properties: dict[str, str], topology: tuple[str, str, str]) -> None:
    found = xml(guest(extra_specs=specs, properties=properties)).find("cpu/topology")
    assert found is not None
    assert (found.get("sockets"), found.get("cores"), found.get("threads")) == topology


def test_direct_kernel_boot() -> None:
    root = xml(guest(), kernel=True)
    assert value(root, "os/kernel") == str(HOME / "kernel")
    assert value(root, "os/initrd") == str(HOME / "ramdisk")
    assert (value(root, "os/cmdline") or "").startswith("root=/dev/vda console=tty0 console=ttyS0")
    assert root.find("devices/disk/boot") is None
    root = xml(guest(properties={"os_command_line": "root=LABEL=x <quiet>"}), kernel=True)
    assert value(root, "os/cmdline") == "root=LABEL=x <quiet>"


def test_an_iso_boots_after_an_empty_disk() -> None:
    disk, iso = xml(guest(), ROOT, ISO).findall("devices/disk")
    assert (value(disk, "boot", "order"), value(iso, "boot", "order")) == ("1", "2")
    assert value(iso, "target", "bus") == "sata"
    assert value(iso, "source/seclabel", "relabel") == "no"
    assert iso.find("readonly") is not None


def test_buses_can_be_chosen() -> None:
    root = xml(guest(properties={"hw_disk_bus": "scsi", "hw_cdrom_bus": "virtio"}), ROOT, SWAP, DRIVE)
    targets = [(each.get("device"), value(each, "target", "dev")) for each in root.findall("devices/disk")]
    assert targets == [("disk", "sda"), ("disk", "sdb"), ("disk", "vda")]
    machine = xml(guest(properties={"hw_machine_type": "pc"}))
    assert machine.find("devices/controller[@model='pcie-root-port']") is None


@pytest.mark.parametrize(
    "values",
    [
        {"name": "../../x"},
        {"name": "a b"},
        {"properties": {"hw_disk_bus": "floppy"}},
        {"properties": {"hw_machine_type": "q35,accel=kvm"}},
        {"properties": {"hw_video_model": "'/>"}},
        {"properties": {"hw_vif_model": "vhost"}},
        {"properties": {"hw_cpu_cores": "3"}},
        {"properties": {"hw_cpu_cores": "-1"}},
        {"nics": (Nic(port_id="p", mac="fa:16:3e:00:00:0g"),)},
    ],
)
def test_what_the_host_does_not_offer_is_refused(values: dict[str, Any]) -> None:
    nics = values.pop("nics", (Nic(port_id="p", mac="fa:16:3e:00:00:01"),))
    with pytest.raises(HostFault):
        xml(guest(nics=nics, **values))
