"""Builds the small guest image; at once when nothing changed."""

from __future__ import annotations

import fcntl
import gzip
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from nephos.errors import HostFault, SettingsError
from nephos.guestimage import archive, disk, packages, tiny
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
    key = recipe(size_mb)
    present = existing(out_dir, key)
    if present is not None and not refresh:
        return present
    if os.geteuid() != 0:
        raise SettingsError("Building a guest image needs root, to set the owners of the files inside it.")
    out_dir.mkdir(parents=True, exist_ok=True)
    with _one_at_a_time(out_dir):
        present = existing(out_dir, key)
        if present is not None and not refresh:
            return present
        return _build(out_dir, work_dir or DEFAULT_WORK, size_mb, key)


def recipe(size_mb: int) -> str:
    """Hash of everything of ours that goes into the image."""
    total = hashlib.sha256(str(size_mb).encode())
    folder = Path(__file__).parent
    for path in sorted([*folder.glob("*.py"), *tiny.FILES.iterdir()]):
        if path.is_file():
            total.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def existing(out_dir: Path, key: str) -> GuestImage | None:
    """What an earlier build left in `out_dir`, if it is whole and of this recipe."""
    try:
        manifest = json.loads((out_dir / MANIFEST).read_text(encoding="utf-8"))
        sizes = {name: (out_dir / name).stat().st_size for name in manifest["files"]}
    except (OSError, ValueError, KeyError):
        return None
    if manifest.get("key") != key or sizes != manifest["files"]:
        return None
    return _image(out_dir, key, manifest["kernel_version"])


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


def _build(out_dir: Path, work_dir: Path, size_mb: int, key: str) -> GuestImage:
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
        return _publish(image, out_dir, key, version)


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
    script = (tiny.FILES / "grub.cfg").read_text(encoding="utf-8")
    for word, value in {
        "@KERNEL@": "/boot/vmlinuz",
        "@RAMDISK@": "/boot/initrd",
        "@COMMAND_LINE@": image.command_line,
    }.items():
        script = script.replace(word, value)
    loader = disk.boot_loader(raw, script, work)
    whole = work / "disk.raw"
    disk.make_disk(work / "root", whole, size_mb=size_mb, label="guestroot", identity=identity, loader=loader)
    disk.to_qcow2(whole, image.qcow2)


def _publish(image: GuestImage, out_dir: Path, key: str, version: str) -> GuestImage:
    """Moves the files into place; the manifest comes last, so that a killed build is never taken for a whole one."""
    (out_dir / MANIFEST).unlink(missing_ok=True)
    sizes: dict[str, int] = {}
    for path in (image.qcow2, image.kernel, image.ramdisk, image.root):
        fresh = out_dir / (path.name + ".new")
        run("cp", "--sparse=always", "--reflink=auto", str(path), str(fresh))
        fresh.chmod(0o444)
        sizes[path.name] = fresh.stat().st_size
        fresh.replace(out_dir / path.name)
    manifest = {"key": key, "kernel_version": version, "files": sizes, "command_line": image.command_line}
    fresh = out_dir / (MANIFEST + ".new")
    fresh.write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    fresh.chmod(0o444)
    fresh.replace(out_dir / MANIFEST)
    present = existing(out_dir, key)
    if present is None:
        raise HostFault(f"The built guest image in {out_dir} does not read back as it was written.")
    return present


@contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    """Two builds into one folder wait for each other; a lock is gone with the process that held it."""
    with (folder / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
