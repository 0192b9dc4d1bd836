"""Builds the small guest image; at once when nothing changed."""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nephos.errors import SettingsError
from nephos.guestimage import archive, disk, output, packages, tiny
from nephos.guestimage.command import run

DEFAULT_WORK = Path("/var/cache/nephos/guestimage")
DEFAULT_SIZE_MB = 64
SMALLEST_MB = 48
MANIFEST = "guest.json"


@dataclass(frozen=True)
class GuestImage:
    """The files of a built image. All are complete, read-only and world-readable.

    `qcow2` boots by itself on a BIOS machine. `kernel`, `ramdisk` and `root` (a raw ext4 without a partition table)
    are for direct kernel boot, with `command_line`; the ramdisk also finds the root inside `qcow2`.
    """

    qcow2: Path
    kernel: Path
    ramdisk: Path
    root: Path
    command_line: str
    user: str
    password: str
    kernel_version: str
    key: str
    """Hash of the recipe: the builder's own files and the size."""


def build(
    out_dir: Path, *, work_dir: Path | None = None, size_mb: int = DEFAULT_SIZE_MB, refresh: bool = False
) -> GuestImage:
    """Builds the small guest into `out_dir`, or returns what is there when the recipe did not change.

    `size_mb` is the disk's virtual size in MiB. `work_dir` keeps downloaded packages. `refresh` looks for newer
    packages also when the recipe is the same. Needs root, for the owners inside the file system. Raises
    `SettingsError` for a wrong size or user, `HostFault` with the tool's own words when a step fails.
    """
    if size_mb < SMALLEST_MB:
        raise SettingsError(f"A guest disk of {size_mb} MiB is too small: the system needs {SMALLEST_MB} MiB.")
    key = output.recipe("tiny", size_mb)
    present = output.existing(out_dir / MANIFEST, key)
    if present is not None and not refresh:
        return _image(out_dir, key, present["kernel_version"])
    if os.geteuid() != 0:
        raise SettingsError("Building a guest image needs root, to set the owners of the files inside it.")
    with output.one_at_a_time(out_dir):
        present = output.existing(out_dir / MANIFEST, key)
        if present is None or refresh:
            present = _build(out_dir, work_dir or DEFAULT_WORK, size_mb, key)
        return _image(out_dir, key, present["kernel_version"])


def _image(out_dir: Path, key: str, kernel_version: str) -> GuestImage:
    return GuestImage(
        qcow2=out_dir / "guest.qcow2",
        kernel=out_dir / "guest-kernel",
        ramdisk=out_dir / "guest-ramdisk",
        root=out_dir / "guest-root.ext4",
        command_line=tiny.KERNEL_COMMAND_LINE,
        user=tiny.USER,
        password=tiny.PASSWORD,
        kernel_version=kernel_version,
        key=key,
    )


def _build(out_dir: Path, work_dir: Path, size_mb: int, key: str) -> dict[str, Any]:
    debs = work_dir / "packages"
    kernel = packages.kernel_package()
    files = packages.fetch([kernel, *packages.GUEST, packages.STATIC, *packages.BOOT], debs)
    with tempfile.TemporaryDirectory(prefix="build-", dir=work_dir) as scratch:
        work = Path(scratch)
        raw = work / "unpacked"
        static = next(file for file in files if file.name.startswith(f"{packages.STATIC}_"))
        packages.unpack([file for file in files if file != static], raw)
        packages.unpack([static], raw / "static")
        version = next((raw / "lib/modules").iterdir()).name
        identity = hashlib.sha256(" ".join([key, *(file.name for file in files)]).encode()).digest()[:16]
        _assemble(raw, work, version)
        image = _image(work, key, version)
        disk.make_ext4(work / "root", image.root, size_mb=32, label="guestroot", identity=identity)
        _bootable(raw, work, image, size_mb, identity)
        made = (image.qcow2, image.kernel, image.ramdisk, image.root)
        return output.publish(made, out_dir / MANIFEST, key, kernel_version=version, command_line=image.command_line)


def _assemble(raw: Path, work: Path, version: str) -> None:
    dynamic = _applets(raw / "bin/busybox" if (raw / "bin/busybox").exists() else raw / "usr/bin/busybox")
    static = _applets(raw / tiny.STATIC_BUSYBOX)
    tiny.guest_tree(raw, work / "root", (dynamic, static))
    tiny.ramdisk_tree(raw, work / "ramdisk")
    (work / "guest-ramdisk").write_bytes(gzip.compress(archive.newc(work / "ramdisk"), mtime=0))
    shutil.copy(raw / f"boot/vmlinuz-{version}", work / "guest-kernel")


def _applets(busybox: Path) -> list[str]:
    return run(str(busybox), "--list").split()


def _bootable(raw: Path, work: Path, image: GuestImage, size_mb: int, identity: bytes) -> None:
    """The qcow2: the same tree with kernel and ramdisk in /boot, behind GRUB."""
    boot = work / "root/boot"
    boot.mkdir()
    shutil.copy(image.kernel, boot / "vmlinuz")
    shutil.copy(image.ramdisk, boot / "initrd")
    loader = disk.boot_loader(raw, disk.boot_script("/boot/vmlinuz", "/boot/initrd", image.command_line), work)
    whole = work / "disk.raw"
    disk.make_disk(work / "root", whole, size_mb=size_mb, label="guestroot", identity=identity, loader=loader)
    disk.to_qcow2(whole, image.qcow2)
