"""Debian packages as the guest's raw material: fetched by apt, unpacked beside the system, never installed."""

from __future__ import annotations

import atexit
import functools
import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from nephos.errors import HostFault
from nephos.guestimage.command import run

KERNEL = "linux-image-cloud-amd64"
"""The package that names the present kernel: small, with the drivers that a virtual machine has."""

GUEST = (
    "busybox", "dropbear-bin", "libtomcrypt1", "libtommath1", "libgmp10", "libcrypt1", "zlib1g",
    "libc6", "e2fsprogs", "libext2fs2", "libcom-err2", "util-linux", "libcap-ng0", "libblkid1",
)  # fmt: skip
"""What the guest runs, with the libraries of it."""

STATIC = "busybox-static"

BOOT = ("grub-pc-bin", "grub-common", "libdevmapper1.02.1")
"""What writes the boot loader; runs on this machine, out of the unpacked folder."""


@functools.cache
def source_options() -> tuple[str, ...]:
    """Words that keep apt to the source files that it can read; none when it reads all.

    One file with a mistake in it, as some other product's installer may leave, stops every apt command (S1-37).
    """
    if _reads("/etc/apt/sources.list", Path("/etc/apt/sources.list.d")):
        return ()
    good = Path(tempfile.mkdtemp(prefix="nephos-sources-"))
    atexit.register(shutil.rmtree, good, ignore_errors=True)
    parts = Path("/etc/apt/sources.list.d")
    for file in [Path("/etc/apt/sources.list"), *sorted(parts.glob("*.list")), *sorted(parts.glob("*.sources"))]:
        if file.exists():
            copy = good / ("main.list" if file.name == "sources.list" else file.name)
            shutil.copy(file, copy)
            if not _reads("/dev/null", good):
                copy.unlink()
    return "-o", "Dir::Etc::sourcelist=/dev/null", "-o", f"Dir::Etc::sourceparts={good}"


def _reads(file: str, parts: Path) -> bool:
    try:
        run("apt-get", "-o", f"Dir::Etc::sourcelist={file}", "-o", f"Dir::Etc::sourceparts={parts}", "indextargets")
    except HostFault:
        return False
    return True


def kernel_package() -> str:
    """The package that holds the present cloud kernel, as linux-image-6.1.0-37-cloud-amd64."""
    said = run("apt-cache", *source_options(), "depends", "--no-recommends", "--no-suggests", KERNEL)
    found = re.search(r"Depends: (linux-image-\S+)", said)
    if found is None:
        raise HostFault(f"No package source of this machine offers {KERNEL}; check `apt-cache policy {KERNEL}`.")
    return found.group(1)


def fetch(names: Sequence[str], folder: Path) -> list[Path]:
    """Downloads packages into `folder` (what is there is not fetched again); returns their files, in order.

    Raises `HostFault` with apt's own words when a package cannot be had.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        run(
            "apt-get",
            *source_options(),
            "download",
            "-q",
            "-o",
            "APT::Sandbox::User=root",
            "-o",
            "Acquire::Retries=2",
            *names,
            cwd=folder,
        )
    except HostFault as error:
        lines = [line.strip() for line in error.message.splitlines()]
        errors = list(dict.fromkeys(line for line in lines if line.startswith("E:"))) or lines[-3:]
        more = f" (and {len(errors) - 2} more like it)" if len(errors) > 2 else ""
        raise HostFault(
            f"Debian's packages for the guest cannot be downloaded: {' '.join(errors[:2]).rstrip('.')}{more}. "
            "If a version is gone from the source, `apt-get update` learns the new one."
        ) from error
    files = []
    for name in names:
        found = sorted(folder.glob(f"{name}_*.deb"), key=lambda path: path.stat().st_mtime)
        if not found:
            raise HostFault(f"apt-get downloaded no file for the package {name} into {folder}.")
        files.append(found[-1])
    return files


def unpack(files: Sequence[Path], folder: Path) -> None:
    """Unpacks packages over each other into a fresh `folder`."""
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    for file in files:
        run("dpkg-deb", "--extract", str(file), str(folder))
