"""Guests that are set aside because they move: their files, how they are read, and how they are made into a guest.

    <instances>/<guest id>.aside/    the guest's files as they were (see `disk`), and
        domain.xml                   its definition, for the day that it comes back

The overlay of a root disk names its image by path, so the folder is only renamed: back under its old name everything
fits again. A disk that was received is told its new path before it gets its name.
"""

from __future__ import annotations

import contextlib
import errno
import grp
import os
import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import msgspec

from nephos.errors import HostFault
from nephos.hypervisor import daemon
from nephos.hypervisor.base import PIECE, Boot, Guest, ImageFile, Part, Parts
from nephos.hypervisor.libvirt import disk

SUFFIX = ".aside"
DEFINITION = "domain.xml"
IMAGE, ROOT, EPHEMERAL, CONFIG = "image", "disk", "disk.eph0", "disk.config"
_MOVES = re.compile(r"disk|disk\.eph0|disk\.config|image|kernel|ramdisk|console\.log(\.[0-9])?")
"""Files that a guest takes along; swap is made anew, it holds nothing while the guest is off."""
_STILL = re.compile(r"disk\.config|image|kernel|ramdisk|console\.log(\.[0-9])?")
"""Those that do not change while it runs, or only grow."""


def folder(home: Path) -> Path:
    """Where the guest of `home` is set aside."""
    return home.with_name(home.name + SUFFIX)


def write_definition(home: Path, xml: str) -> None:
    part = home / (DEFINITION + ".part")
    part.write_text(xml)
    part.chmod(0o600)
    part.replace(home / DEFINITION)


def parts(aside: Path) -> tuple[Part, ...]:
    """The files of a guest. Raises HostFault when none is set aside there."""
    if not aside.is_dir():
        raise HostFault(f"guest {aside.name.removesuffix(SUFFIX)} is not set aside on this host")
    return _parts(aside, _MOVES, image_format(aside))


def still_parts(home: Path, definition: str) -> tuple[Part, ...]:
    """The files of a guest that runs, without those that change; `definition` is its XML."""
    return _parts(home, _STILL, _format_in(definition))


def _parts(aside: Path, names: re.Pattern[str], below: str | None) -> tuple[Part, ...]:
    return tuple(
        Part(
            name=path.name,
            size=path.stat().st_size,
            extents=tuple(_extents(path)),
            format=(below or "raw") if path.name == IMAGE else "raw",
        )
        for path in sorted(aside.iterdir())
        if names.fullmatch(path.name)
    )


def piece(home: Path, name: str, offset: int, length: int) -> bytes:
    aside = folder(home)
    names = _MOVES
    if not aside.is_dir():
        aside, names = home, _STILL
    if not names.fullmatch(name):
        raise HostFault(f"{name!r} is no file of a guest that moves")
    return disk.piece(aside / name, offset, length)


def receive(home: Path, guest: Guest, boot: Boot, source: Parts) -> disk.Files:
    """Bring a guest's files here and make its disks as large as it wants them.

    A file is there when it is whole; one that was cut off is fetched anew. Raises HostFault, also when the disk has more
    than the guest may have of it.
    """
    home.mkdir(parents=True, exist_ok=True, mode=0o711)
    found = {each.name: each for each in source.parts()}
    image = found.pop(IMAGE, None)
    if boot.root is None and image is not None:
        _fetch(home / IMAGE, image, source)
        _share(home / IMAGE)
        boot = msgspec.structs.replace(boot, root=ImageFile(id=guest.id, path=home / IMAGE, format=image.format))
    for part in found.values():
        if part.name == ROOT and not (home / ROOT).exists():
            with _whole(home / ROOT) as path:
                _copy(path, part, source)
                _adapt(path, home, guest, boot)
        elif part.name == EPHEMERAL and not guest.ephemeral_gb:
            continue
        else:
            _fetch(home / part.name, part, source)
    if guest.ephemeral_gb and (home / EPHEMERAL).exists():
        _grow(home / EPHEMERAL, guest.ephemeral_gb * disk.GIB)
    for name in ("kernel", "ramdisk"):
        if (home / name).exists():
            boot = msgspec.structs.replace(boot, **{name: ImageFile(id=name, path=home / name, format="raw")})
    files = disk.make_disks(home, guest, boot)
    if guest.config_drive:
        drive = disk.config_drive(home / CONFIG)
        if not drive.path.exists():
            drive = disk.make_config_drive(home / CONFIG, boot.config_drive_files)
        files = msgspec.structs.replace(files, disks=(*files.disks, drive))
    return files


def _adapt(path: Path, home: Path, guest: Guest, boot: Boot) -> None:
    """Tell the root disk where its image is here, and make it larger where the guest may have more."""
    if boot.root is not None and boot.root.format != "iso":
        image = disk.link_image(boot.root.path, home / IMAGE)
        disk.run_tool(["qemu-img", "rebase", "-u", "-f", "qcow2", "-b", str(image), "-F", boot.root.format, str(path)], path)
    has = disk.virtual_size(ImageFile(id=guest.id, path=path, format="qcow2"))
    wanted = guest.root_gb * disk.GIB
    if wanted and has > wanted:
        raise HostFault(f"the root disk of guest {guest.id} has {has} bytes and cannot shrink to {guest.root_gb} GiB")
    if wanted > has:
        disk.run_tool(["qemu-img", "resize", "-q", "-f", "qcow2", str(path), str(wanted)], path)


def _grow(path: Path, size: int) -> None:
    """The disk, not the file system in it, which the guest makes larger itself."""
    if path.stat().st_size < size:
        os.truncate(path, size)


def _fetch(path: Path, part: Part, source: Parts) -> None:
    if not path.exists():
        with _whole(path) as fresh:
            _copy(fresh, part, source)


@contextlib.contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """A file that gets its name when it is whole."""
    fresh = path.with_name(path.name + ".part")
    fresh.unlink(missing_ok=True)
    yield fresh
    fresh.chmod(0o600)
    fresh.replace(path)


def _copy(path: Path, part: Part, source: Parts) -> None:
    """Only what holds data, piece by piece; what is zeros takes no room here either."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            os.ftruncate(descriptor, part.size)
            for start, length in part.extents:
                for offset in range(start, start + length, PIECE):
                    wanted = min(PIECE, start + length - offset)
                    data = source.piece(part.name, offset, wanted)
                    if len(data) != wanted:
                        raise HostFault(f"{part.name} ended after {offset + len(data)} of {part.size} bytes")
                    if any(data):
                        os.pwrite(descriptor, data, offset)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as wrong:
        raise HostFault(f"cannot write {path}: {wrong}") from wrong


def _extents(path: Path) -> Iterator[tuple[int, int]]:
    """Where a file holds data, as its file system knows."""
    with path.open("rb") as file:
        descriptor, end = file.fileno(), path.stat().st_size
        offset = 0
        while offset < end:
            try:
                first = os.lseek(descriptor, offset, os.SEEK_DATA)
            except OSError as wrong:
                if wrong.errno == errno.ENXIO:
                    return
                raise
            offset = os.lseek(descriptor, first, os.SEEK_HOLE)
            yield first, offset - first


def image_format(folder: Path) -> str | None:
    """The format of the image below the root disk, as the definition that is kept in `folder` has it; None when it lies
    over none."""
    try:
        return _format_in((folder / DEFINITION).read_text())
    except OSError:
        return None


def _format_in(definition: str) -> str | None:
    try:
        xml = ElementTree.fromstring(definition)
    except ElementTree.ParseError:
        return None
    kind = xml.find("devices/disk/backingStore/format")
    return kind.get("type") if kind is not None else None


def _share(path: Path) -> None:
    """What stays root's must be readable by QEMU's user, as in the image cache."""
    mode = 0o444
    if user := daemon.qemu_user():
        os.chown(path, 0, grp.getgrnam(user[1]).gr_gid)
        mode = 0o440
    path.chmod(mode)
