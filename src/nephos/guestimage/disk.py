"""File systems, partition table, boot loader and qcow2, without mounting anything."""

from __future__ import annotations

import struct
from pathlib import Path

from nephos.errors import HostFault
from nephos.guestimage.command import run

FILES = Path(__file__).parent / "files"

SECTOR = 512
FIRST_SECTOR = 2048
"""Where partition 1 begins: the usual 1 MiB, which leaves room for the boot loader before it."""

LARGEST_BLOCKS = 1 << 28
"""A file system of 4 KiB blocks can be grown up to this many (1 TiB) while it is mounted."""

GRUB_MODULES = ("biosdisk", "part_msdos", "ext2", "linux16", "serial", "terminal", "boot")
"""linux16, because the other loader moves the whole unpacked size of the kernel byte by byte: 1.7 s under emulation."""


def make_ext4(
    tree: Path, target: Path, *, size_mb: int, label: str, identity: bytes, offset: int = 0, journal_mb: int = 4
) -> None:
    """Fills an ext4 of `size_mb` MiB with `tree`, in the file `target` from byte `offset` on.

    64bit and metadata_csum are left out, because GRUB's reader is simpler without; blocks of 4 KiB, because GRUB reads
    block by block.
    """
    options = (
        f"resize={LARGEST_BLOCKS},hash_seed={as_uuid(identity)},lazy_itable_init=1,lazy_journal_init=1,root_owner=0:0"
    )
    if offset:
        options += f",offset={offset}"
    features = "^metadata_csum,^64bit,^orphan_file"
    argv = ("mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-m", "0", "-J", f"size={journal_mb}", "-L", label,
            "-U", as_uuid(identity), "-E", options, "-d", str(tree), "-O")  # fmt: skip
    try:
        run(*argv, features, str(target), f"{size_mb}M")
    except HostFault as error:
        if "Invalid filesystem option" not in error.message:
            raise
        run(*argv, features.removesuffix(",^orphan_file"), str(target), f"{size_mb}M")


def as_uuid(identity: bytes) -> str:
    """16 bytes in the way that file system tools write an identity: 8-4-4-4-12 hexadecimal digits."""
    digits = identity.hex()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def partition_table(disk_bytes: int, identity: bytes) -> bytes:
    """The last 72 bytes of an MBR: signature, one bootable Linux partition up to the end, three empty, 55 AA."""
    sectors = disk_bytes // SECTOR - FIRST_SECTOR
    entry = struct.pack("<B3sB3sII", 0x80, b"\xfe\xff\xff", 0x83, b"\xfe\xff\xff", FIRST_SECTOR, sectors)
    return identity[:4] + b"\0\0" + entry + bytes(48) + b"\x55\xaa"


def boot_script(kernel: str, ramdisk: str, command_line: str) -> str:
    """What GRUB does, in its own language; paths are those inside the first partition."""
    script = (FILES / "grub.cfg").read_text(encoding="utf-8")
    for word, value in {"@KERNEL@": kernel, "@RAMDISK@": ramdisk, "@COMMAND_LINE@": command_line}.items():
        script = script.replace(word, value)
    return script


def boot_loader(root: Path, script: str, work: Path) -> tuple[bytes, bytes]:
    """GRUB's boot sector (446 bytes of code) and its core, which runs `script`; from the unpacked packages in `root`."""
    early = work / "grub.cfg"
    early.write_text(script, encoding="utf-8")
    core = work / "core.img"
    modules = root / "usr/lib/grub/i386-pc"
    libraries = f"{root}/lib/x86_64-linux-gnu:{root}/usr/lib/x86_64-linux-gnu"
    run(str(root / "usr/bin/grub-mkimage"), "-d", str(modules), "-O", "i386-pc", "-o", str(core),
        "-p", "(hd0,msdos1)/boot/grub", "-c", str(early), *GRUB_MODULES,
        env={"LD_LIBRARY_PATH": libraries})  # fmt: skip
    return (modules / "boot.img").read_bytes()[:446], core.read_bytes()


def make_disk(
    tree: Path,
    raw: Path,
    *,
    size_mb: int,
    label: str,
    identity: bytes,
    loader: tuple[bytes, bytes],
    journal_mb: int = 4,
) -> None:
    """Writes a raw disk of `size_mb` MiB that boots by itself on a BIOS machine: MBR, GRUB's core, ext4 partition."""
    sector, core = loader
    if len(core) > (FIRST_SECTOR - 1) * SECTOR:
        raise HostFault(f"GRUB's core has {len(core)} bytes, more than the gap before the first partition.")
    size = size_mb * 1024 * 1024
    with raw.open("wb") as disk:
        disk.truncate(size)
        disk.write(sector[:440] + partition_table(size, identity))
        disk.seek(SECTOR)
        disk.write(core)
    make_ext4(
        tree,
        raw,
        size_mb=size_mb - 1,
        label=label,
        identity=identity,
        offset=FIRST_SECTOR * SECTOR,
        journal_mb=journal_mb,
    )


def to_qcow2(raw: Path, target: Path) -> None:
    """Converts a raw disk to a compressed qcow2, complete or not at all."""
    fresh = target.with_name(target.name + ".new")
    run("qemu-img", "convert", "-q", "-f", "raw", "-O", "qcow2", "-c", "-o", "compression_type=zlib",
        str(raw), str(fresh))  # fmt: skip
    fresh.replace(target)
