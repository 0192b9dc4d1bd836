"""The libvirt definition of a guest (S2-46).

Names of the image properties and extra specs are Glance's and Nova's (`hw_disk_bus`, `hw:cpu_sockets`, …). Values that
this host does not know are refused with a reason, never passed through.
"""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

import msgspec

import nephos
from nephos.errors import HostFault
from nephos.hypervisor.base import Guest, Nic
from nephos.hypervisor.libvirt.disk import Disk, Files

NAMESPACE = "urn:nephos:guest:1"
KERNEL_COMMAND_LINE = "root=/dev/vda console=tty0 console=ttyS0,115200"
ROOT_PORTS = 10
"""Free PCI Express slots of a q35 guest: each disk or card that is plugged in later takes one."""

_DISK_BUSES = ("virtio", "scsi", "sata", "usb")
_LETTERS = {"virtio": "vd", "scsi": "sd", "sata": "sd", "usb": "sd"}
_NIC_MODELS = ("virtio", "e1000", "e1000e", "rtl8139", "ne2k_pci", "pcnet", "vmxnet3")
_VIDEO_MODELS = ("vga", "virtio", "cirrus", "bochs", "qxl", "none")
_MACHINE = re.compile(r"q35|pc|pc-(q35|i440fx)-[0-9.]+")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_UNPRINTABLE = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

ElementTree.register_namespace("nephos", NAMESPACE)


class Traits(msgspec.Struct, frozen=True, kw_only=True):
    """What a definition depends on besides the guest.

    `acceleration` is kvm or tcg. `cache` is the cache mode of disks. `tb_cache_mb` bounds the cache of translated
    code, which under software emulation otherwise grows with everything the guest has ever run. `cpu` is the model under
    software emulation: the default boots as fast as qemu64 (measured: 6.3 s of processor time for both, 6.6 s for
    `max`) and has what the x86-64-v3 builds of today's distributions need.
    """

    cloud_id: str
    acceleration: str
    cache: str
    tb_cache_mb: int = 64
    cpu: str = "EPYC"


def tap_name(port_id: str) -> str:
    """The device that a port's NIC is connected to: the name that operators look for."""
    return "tap" + port_id[:11]


def define(guest: Guest, files: Files, home: Path, traits: Traits) -> str:
    """The domain XML. Raises HostFault when the guest asks for something that the host does not offer."""
    if not _NAME.fullmatch(guest.name):
        raise HostFault(f"{guest.name!r} cannot be the name of a domain")
    machine = _choice(guest, "hw_machine_type", "q35", _MACHINE)
    kvm = traits.acceleration == "kvm"
    root = Element("domain", type="kvm" if kvm else "qemu")
    _text(root, "name", guest.name)
    _text(root, "uuid", guest.id)
    if title := guest.details.get("name"):
        _text(root, "title", title.replace("\n", " "))
    _metadata(root, guest, traits)
    _text(root, "memory", str(guest.ram_mb), unit="MiB")
    _text(root, "vcpu", str(guest.vcpus), placement="static")
    _text(SubElement(root, "resource"), "partition", "/machine")
    _sysinfo(root, guest)
    _os(root, guest, files, machine)
    _features(root, kvm, traits)
    _cpu(root, guest, kvm, traits)
    _clock(root, guest, kvm)
    _text(root, "on_poweroff", "destroy")
    _text(root, "on_reboot", "restart")
    _text(root, "on_crash", "destroy")
    devices = SubElement(root, "devices")
    _controllers(devices, machine)
    _disks(devices, guest, files, traits)
    for nic in guest.nics:
        _nic(devices, guest, nic)
    _consoles(devices, home)
    _graphics(devices, guest)
    _extras(devices, guest)
    return ElementTree.tostring(root, encoding="unicode")


def cloud_of(metadata: str) -> str | None:
    """The cloud id in a domain's metadata element, None when it is not one of ours."""
    try:
        return ElementTree.fromstring(metadata).get("cloud")
    except ElementTree.ParseError:
        return None


def _text(parent: Element, tag: str, text: str, **attributes: str) -> Element:
    element = SubElement(parent, tag, attributes)
    element.text = _UNPRINTABLE.sub("", text)
    return element


def _choice(guest: Guest, name: str, default: str, allowed: tuple[str, ...] | re.Pattern[str]) -> str:
    value = guest.properties.get(name) or default
    if isinstance(allowed, tuple):
        if value not in allowed:
            raise HostFault(f"image property {name}: {value!r} is not offered here; there are {', '.join(allowed)}")
    elif not allowed.fullmatch(value):
        raise HostFault(f"image property {name}: {value!r} is not offered here")
    return value


def _metadata(root: Element, guest: Guest, traits: Traits) -> None:
    mark = SubElement(SubElement(root, "metadata"), f"{{{NAMESPACE}}}guest", cloud=traits.cloud_id, id=guest.id)
    flavor = {"vcpus": str(guest.vcpus), "ram_mb": str(guest.ram_mb), "root_gb": str(guest.root_gb)}
    SubElement(mark, f"{{{NAMESPACE}}}flavor", flavor)
    for name, value in sorted(guest.details.items()):
        detail = SubElement(mark, f"{{{NAMESPACE}}}detail", name=_UNPRINTABLE.sub("", name))
        detail.text = _UNPRINTABLE.sub("", value)
    for nic in guest.nics:
        SubElement(mark, f"{{{NAMESPACE}}}port", id=nic.port_id, mac=nic.mac)


def _sysinfo(root: Element, guest: Guest) -> None:
    info = SubElement(root, "sysinfo", type="smbios")
    system = SubElement(info, "system")
    for name, value in {
        "manufacturer": "Nephos",
        "product": "Nephos",
        "version": nephos.__version__,
        "serial": guest.id,
        "uuid": guest.id,
        "family": "Virtual Machine",
    }.items():
        _text(system, "entry", value, name=name)
    # cloud-init looks for the metadata service only where the product or this tag has the name that it knows.
    chassis = SubElement(info, "chassis")
    _text(chassis, "entry", "Nephos", name="manufacturer")
    _text(chassis, "entry", "OpenStack Nova", name="asset")


def _os(root: Element, guest: Guest, files: Files, machine: str) -> None:
    os = SubElement(root, "os")
    _text(os, "type", "hvm", arch="x86_64", machine=machine)
    if files.kernel is not None:
        _text(os, "kernel", str(files.kernel))
        if files.ramdisk is not None:
            _text(os, "initrd", str(files.ramdisk))
        _text(os, "cmdline", guest.properties.get("os_command_line") or KERNEL_COMMAND_LINE)
    SubElement(os, "smbios", mode="sysinfo")


def _features(root: Element, kvm: bool, traits: Traits) -> None:
    features = SubElement(root, "features")
    SubElement(features, "acpi")
    SubElement(features, "apic")
    if not kvm:
        _text(SubElement(features, "tcg"), "tb-cache", str(traits.tb_cache_mb), unit="MiB")


def _cpu(root: Element, guest: Guest, kvm: bool, traits: Traits) -> None:
    if kvm:
        cpu = SubElement(root, "cpu", mode="host-model", check="partial")
    elif traits.cpu == "max":
        cpu = SubElement(root, "cpu", mode="maximum", check="none")
    else:
        cpu = SubElement(root, "cpu", mode="custom", match="exact", check="none")
        _text(cpu, "model", traits.cpu, fallback="allow")
    sockets, cores, threads = _topology(guest)
    SubElement(cpu, "topology", sockets=str(sockets), dies="1", cores=str(cores), threads=str(threads))


def _topology(guest: Guest) -> tuple[int, int, int]:
    """Sockets, cores, threads, whose product is the number of vcpus. Flavor before image, one core a socket else."""
    wanted = {}
    for part in ("sockets", "cores", "threads"):
        value = guest.extra_specs.get(f"hw:cpu_{part}") or guest.properties.get(f"hw_cpu_{part}")
        if value:
            if not value.isdecimal() or int(value) < 1:
                raise HostFault(f"hw:cpu_{part}: {value!r} is not a number of {part}")
            wanted[part] = int(value)
    threads = wanted.get("threads", 1)
    cores = wanted.get("cores") or (max(1, guest.vcpus // wanted["sockets"] // threads) if "sockets" in wanted else 1)
    sockets = wanted.get("sockets") or max(1, guest.vcpus // cores // threads)
    if sockets * cores * threads != guest.vcpus:
        raise HostFault(
            f"a topology of {sockets} sockets, {cores} cores, {threads} threads does not make {guest.vcpus} vcpus"
        )
    return sockets, cores, threads


def _clock(root: Element, guest: Guest, kvm: bool) -> None:
    windows = guest.properties.get("os_type") == "windows"
    clock = SubElement(root, "clock", offset="localtime" if windows else "utc")
    if kvm:
        SubElement(clock, "timer", name="pit", tickpolicy="delay")
    SubElement(clock, "timer", name="rtc", tickpolicy="catchup")
    SubElement(clock, "timer", name="hpet", present="no")


def _controllers(devices: Element, machine: str) -> None:
    if "q35" in machine:
        SubElement(devices, "controller", type="pci", model="pcie-root")
        for _ in range(ROOT_PORTS):
            SubElement(devices, "controller", type="pci", model="pcie-root-port")
    SubElement(devices, "controller", type="usb", model="qemu-xhci")


def _disks(devices: Element, guest: Guest, files: Files, traits: Traits) -> None:
    disk_bus = _choice(guest, "hw_disk_bus", "virtio", _DISK_BUSES)
    # Installers bring AHCI, cloud kernels often only virtio: a boot medium is SATA, the config drive virtio SCSI.
    cdrom_bus = _choice(guest, "hw_cdrom_bus", "", ("", *_DISK_BUSES))
    used: dict[str, int] = {}
    buses = set()
    for order, disk in enumerate(files.disks, 1):
        bus = disk.bus or disk_bus
        if disk.device == "cdrom" and not disk.bus:
            bus = cdrom_bus or ("sata" if disk.role == "iso" else "scsi")
        buses.add(bus)
        letters = _LETTERS[bus]
        used[letters] = used.get(letters, 0) + 1
        name = letters + chr(ord("a") + used[letters] - 1)
        bootable = order if disk.role in ("root", "iso") and files.kernel is None else None
        devices.append(_disk(disk, bus, name, bootable, traits))
    if "scsi" in buses:
        devices.insert(0, Element("controller", type="scsi", index="0", model="virtio-scsi"))


def _disk(disk: Disk, bus: str, name: str, bootable: int | None, traits: Traits) -> Element:
    # A virtio disk is never a CD: the same ISO then is a read-only disk.
    device = "disk" if bus == "virtio" else disk.device
    element = Element("disk", type="file", device=device)
    driver = {"name": "qemu", "type": disk.format, "cache": traits.cache}
    if not disk.readonly:
        driver["discard"] = "unmap"
    SubElement(element, "driver", driver)
    source = SubElement(element, "source", file=str(disk.path))
    if disk.shared:
        SubElement(source, "seclabel", model="dac", relabel="no")
    if disk.backing is not None:
        # The whole chain is named, so that libvirt neither guesses a format nor gives the cached image away.
        backing = SubElement(element, "backingStore", type="file")
        SubElement(backing, "format", type=disk.backing.format)
        base = SubElement(backing, "source", file=str(disk.backing.path))
        SubElement(base, "seclabel", model="dac", relabel="no")
        SubElement(backing, "backingStore")
    elif disk.format == "qcow2":
        SubElement(element, "backingStore")
    SubElement(element, "target", dev=name, bus=bus)
    if disk.readonly:
        SubElement(element, "readonly")
    if bootable is not None:
        SubElement(element, "boot", order=str(bootable))
    return element


def card(nic: Nic) -> str:
    """A card by itself, as libvirt takes it for a guest that is there."""
    return ElementTree.tostring(_interface(nic, nic.model), encoding="unicode")


def card_of(xml: str, port_id: str) -> str | None:
    """The card of a port in a domain's definition, None when it has none."""
    wanted = tap_name(port_id)
    for interface in ElementTree.fromstring(xml).iterfind("devices/interface"):
        target = interface.find("target")
        if target is not None and target.get("dev") == wanted:
            return ElementTree.tostring(interface, encoding="unicode")
    return None


def _nic(devices: Element, guest: Guest, nic: Nic) -> None:
    devices.append(_interface(nic, guest.properties.get("hw_vif_model") or nic.model))


def _interface(nic: Nic, model: str) -> Element:
    if not _MAC.fullmatch(nic.mac):
        raise HostFault(f"{nic.mac!r} is not a MAC address")
    if model not in _NIC_MODELS:
        raise HostFault(f"NIC model {model!r} is not offered here; there are {', '.join(_NIC_MODELS)}")
    interface = Element("interface", type="ethernet")
    SubElement(interface, "mac", address=nic.mac)
    # The wiring made the tap and keeps it; libvirt only opens it.
    SubElement(interface, "target", dev=tap_name(nic.port_id), managed="no")
    SubElement(interface, "model", type=model)
    SubElement(interface, "mtu", size=str(nic.mtu))
    return interface


def _consoles(devices: Element, home: Path) -> None:
    serial = SubElement(devices, "serial", type="pty")
    SubElement(serial, "log", file=str(home / "console.log"), append="on")
    SubElement(serial, "target", port="0")
    console = SubElement(devices, "console", type="pty")
    SubElement(console, "target", type="serial", port="0")


def _graphics(devices: Element, guest: Guest) -> None:
    model = _choice(guest, "hw_video_model", "vga", _VIDEO_MODELS)
    if guest.properties.get("hw_pointer_model", "usbtablet") == "usbtablet":
        SubElement(devices, "input", type="tablet", bus="usb")
    if model != "none":
        # A UNIX socket in libvirt's own directory: no port that a neighbour could connect to or take first.
        graphics = SubElement(devices, "graphics", type="vnc")
        SubElement(graphics, "listen", type="socket")
    SubElement(SubElement(devices, "video"), "model", type=model)


def _extras(devices: Element, guest: Guest) -> None:
    balloon = SubElement(devices, "memballoon", model="virtio")
    SubElement(balloon, "stats", period="10")
    rng = SubElement(devices, "rng", model="virtio")
    _text(rng, "backend", "/dev/urandom", model="random")
    if guest.properties.get("hw_qemu_guest_agent", "").lower() in ("yes", "true", "1"):
        channel = SubElement(devices, "channel", type="unix")
        SubElement(channel, "target", type="virtio", name="org.qemu.guest_agent.0")
