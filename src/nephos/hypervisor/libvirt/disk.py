"""A guest's disks: files below <state>/instances/<guest id>/, named as Nova names them.

    disk          the root disk: a qcow2 overlay on the image, or an empty qcow2
    image         a hard link to the cached image, so that the cache may drop it while a guest still needs it
    disk.eph0     the ephemeral disk, raw and sparse, formatted ext4 with the label ephemeral0
    disk.swap     the swap disk, raw and sparse
    disk.config   the config drive, ISO 9660 with the label config-2
    kernel        copies of the kernel and
    ramdisk       ramdisk of a direct kernel boot: libvirt gives what a guest boots from to QEMU's user,
                  and the cache belongs to root
    rescue/       what a guest in rescue runs from, see `rescue`
    snapshot      a copy of the root disk that is to become an image, see `snapshot`
    console.log   written by libvirt

Every file is made under another name and renamed, so a file that is there is whole, and making it again is free.
"""

from __future__ import annotations

import errno
import io
import os
import pwd
import re
import shutil
import stat
import subprocess
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import BinaryIO

import msgspec
import pycdlib

from nephos.errors import HostFault
from nephos.hypervisor.base import PIECE, Boot, Guest, ImageFile

GIB = 1024**3
MIB = 1024**2
_TOOL_SECONDS = 120.0
_QCOW2_MAGIC = b"QFI\xfb"
_SECTOR = 512
EPHEMERAL = ("disk.eph0",)
"""The files that a rebuild may keep."""
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Disk(msgspec.Struct, frozen=True, kw_only=True):
    """A disk of a guest. `backing` is the cached image below an overlay; `device` is disk or cdrom.

    `shared` files belong to the image cache: they stay root's. `bus` is one that this disk wants for itself.
    """

    role: str
    path: Path
    format: str
    device: str = "disk"
    backing: ImageFile | None = None
    readonly: bool = False
    shared: bool = False
    bus: str = ""


class Files(msgspec.Struct, frozen=True, kw_only=True):
    """What a guest boots and runs from."""

    disks: tuple[Disk, ...]
    kernel: Path | None = None
    ramdisk: Path | None = None


def directory(instances: Path, guest_id: str) -> Path:
    """Where the guest's files are. Raises HostFault when the id is not a UUID, so that none can name another path."""
    if not _ID.fullmatch(guest_id):
        raise HostFault(f"{guest_id!r} is not a guest's id")
    return instances / guest_id


def make_disks(home: Path, guest: Guest, boot: Boot) -> Files:
    """Make the disks but for the config drive. Raises HostFault, e.g. when the image is larger than the root disk."""
    home.mkdir(parents=True, exist_ok=True, mode=0o711)
    disks = [_root(home / "disk", guest, boot)]
    if boot.root is not None and boot.root.format == "iso":
        path = link_image(boot.root.path, home / "image")
        disks.append(Disk(role="iso", path=path, format="raw", device="cdrom", readonly=True, shared=True))
    if guest.ephemeral_gb:
        path = home / "disk.eph0"
        tool = ["mkfs.ext4", "-q", "-F", "-L", "ephemeral0", "-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard"]
        _sparse(path, guest.ephemeral_gb * GIB, tool)
        disks.append(Disk(role="ephemeral", path=path, format="raw"))
    if guest.swap_mb:
        path = home / "disk.swap"
        _sparse(path, guest.swap_mb * MIB, ["mkswap"])
        disks.append(Disk(role="swap", path=path, format="raw"))
    kernel = _copy(boot.kernel, home / "kernel")
    ramdisk = _copy(boot.ramdisk, home / "ramdisk")
    return Files(disks=tuple(disks), kernel=kernel, ramdisk=ramdisk)


def make_config_drive(path: Path, files: Mapping[str, bytes]) -> Disk:
    """Write the config drive anew. Names in it are kept as they are (Rock Ridge and Joliet)."""
    iso = pycdlib.PyCdlib()
    iso.new(interchange_level=3, vol_ident="config-2", joliet=3, rock_ridge="1.09", sys_ident="", app_ident_str="Nephos")
    folders: dict[str, str] = {"": ""}
    for number, (name, content) in enumerate(sorted(files.items())):
        *parents, leaf = name.split("/")
        here = ""
        for part in parents:
            upper, here = here, f"{here}/{part}"
            if here not in folders:
                folders[here] = f"{folders[upper]}/D{len(folders)}"
                iso.add_directory(folders[here], rr_name=part, joliet_path=here)
        iso_path = f"{folders[here]}/F{number}.;1"
        iso.add_fp(io.BytesIO(content), len(content), iso_path, rr_name=leaf, joliet_path=f"{here}/{leaf}")
    output = io.BytesIO()
    iso.write_fp(output)
    iso.close()
    drive = _part(path)
    with _create(drive) as handle:
        handle.write(output.getbuffer())
    drive.replace(path)
    return config_drive(path)


def config_drive(path: Path) -> Disk:
    return Disk(role="config", path=path, format="raw", device="cdrom", readonly=True)


def virtual_size(image: ImageFile) -> int:
    """Bytes of the disk that the image describes."""
    if image.format != "qcow2":
        return image.path.stat().st_size
    with image.path.open("rb") as handle:
        header = handle.read(32)
    if header[:4] != _QCOW2_MAGIC or len(header) < 32:
        raise HostFault(f"{image.path} is not a qcow2 image")
    return int.from_bytes(header[24:32], "big")


def direct_io(folder: Path) -> bool:
    """Whether files in the folder can be opened past the page cache, as cache mode `none` does."""
    probe = folder / ".direct"
    try:
        os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_DIRECT, 0o600))
    except OSError:
        return False
    finally:
        probe.unlink(missing_ok=True)
    return True


def check_reachable(folder: Path, user: str) -> None:
    """Raises HostFault naming the first directory above `folder` that the user may not pass through."""
    account = pwd.getpwnam(user)
    groups = os.getgrouplist(user, account.pw_gid)
    for place in (*reversed(folder.parents), folder):
        status = place.stat()
        if status.st_uid == account.pw_uid:
            allowed = status.st_mode & stat.S_IXUSR
        elif status.st_gid in groups:
            allowed = status.st_mode & stat.S_IXGRP
        else:
            allowed = status.st_mode & stat.S_IXOTH
        if not allowed and account.pw_uid:
            raise HostFault(
                f"QEMU runs as {user}, which may not pass through {place} to the guests' disks in {folder}; "
                f"choose another state directory or allow it with: chmod o+x {place}"
            )


def piece(path: Path, offset: int, length: int) -> bytes:
    """Bytes of a file, at most PIECE. Raises HostFault when it cannot be read."""
    try:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(min(length, PIECE))
    except OSError as wrong:
        raise HostFault(f"cannot read {path.name} of guest {path.parent.name}: {wrong}") from wrong


def remove(home: Path, keep: Collection[str] = ()) -> None:
    """Remove the files of a guest, but for those of these names; nothing when there are none."""
    try:
        if not keep:
            shutil.rmtree(home)
            return
        for path in home.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name not in keep:
                path.unlink()
    except FileNotFoundError:
        return
    except OSError as error:
        raise HostFault(f"cannot remove the guest's files: {error}") from error


def _root(path: Path, guest: Guest, boot: Boot) -> Disk:
    image = boot.root
    size = guest.root_gb * GIB
    if image is None or image.format == "iso":
        if not size:
            raise HostFault(f"guest {guest.id} has neither a root image nor a size for its root disk")
        if not path.exists():
            _qemu_img(path, ["-f", "qcow2"], size)
        return Disk(role="root", path=path, format="qcow2")
    needed = virtual_size(image)
    if size and size < needed:
        raise HostFault(
            f"image {image.id} describes a disk of {needed} bytes ({-(-needed // GIB)} GiB), "
            f"the guest's root disk has {guest.root_gb} GiB"
        )
    image = msgspec.structs.replace(image, path=link_image(image.path, path.with_name("image")))
    if not path.exists():
        size = size or -(-needed // _SECTOR) * _SECTOR
        _qemu_img(path, ["-f", "qcow2", "-b", str(image.path), "-F", image.format], size)
    return Disk(role="root", path=path, format="qcow2", backing=image)


def _qemu_img(path: Path, options: list[str], size: int) -> None:
    part = _part(path)
    run_tool(["qemu-img", "create", "-q", "-u", *options, str(part), str(size)], path)
    part.chmod(0o600)
    part.replace(path)


def _sparse(path: Path, size: int, tool: list[str]) -> None:
    if path.exists():
        return
    part = _part(path)
    with _create(part) as handle:
        handle.truncate(size)
    run_tool([*tool, str(part)], path)
    part.replace(path)


def link_image(path: Path, link: Path) -> Path:
    """The link, or the path itself where the cache is on another file system."""
    try:
        os.link(path, link)
    except FileExistsError:
        return link
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise HostFault(f"cannot link the image: {error}") from error
        return path
    return link


def _copy(image: ImageFile | None, path: Path) -> Path | None:
    if image is None:
        return None
    if not path.exists():
        part = _part(path)
        try:
            shutil.copyfile(image.path, part)
        except OSError as error:
            raise HostFault(f"cannot copy {image.path} for the guest: {error}") from error
        part.replace(path)
    return path


def _create(path: Path) -> BinaryIO:
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb")


def _part(path: Path) -> Path:
    return path.with_name(path.name + ".part")


def run_tool(argv: list[str], path: Path, seconds: float = _TOOL_SECONDS) -> None:
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds, check=False, text=True
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise HostFault(f"cannot make {path}: {error}") from error
    if done.returncode:
        words = (done.stderr or done.stdout).strip()
        raise HostFault(f"cannot make {path}: {argv[0]} ended with status {done.returncode}: {words}")
