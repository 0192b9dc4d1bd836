"""Debian packages as the guest's raw material: fetched by apt, unpacked beside the system, never installed."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from nephos.errors import HostFault
from nephos.guestimage.command import run

KERNEL = "linux-image-cloud-amd64"
"""The package that names the present kernel: small, with the drivers that a virtual machine has."""

GUEST = (
    "busybox", "dropbear-bin", "libtomcrypt1", "libtommath1", "libgmp10", "libcrypt1", "zlib1g",
    "libc6", "e2fsprogs", "libext2fs2", "libcom-err2", "util-linux", "libcap-ng0",
)  # fmt: skip
"""What the guest runs, with the libraries of it."""

STATIC = "busybox-static"

BOOT = ("grub-pc-bin", "grub-common", "libdevmapper1.02.1")
"""What writes the boot loader; runs on this machine, out of the unpacked folder."""


def kernel_package() -> str:
    """The package that holds the present cloud kernel, as linux-image-6.1.0-37-cloud-amd64."""
    said = run("apt-cache", "depends", "--no-recommends", "--no-suggests", KERNEL)
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
            "apt-get", "download", "-q", "-o", "APT::Sandbox::User=root", "-o", "Acquire::Retries=2", *names, cwd=folder
        )
    except HostFault as error:
        lines = [line.strip() for line in error.message.splitlines()]
        errors = list(dict.fromkeys(line for line in lines if line.startswith("E:"))) or lines[-3:]
        more = f" (and {len(errors) - 2} more like it)" if len(errors) > 2 else ""
        raise HostFault(
            f"Debian's packages for the guest cannot be downloaded: {' '.join(errors[:2])}{more}. "
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
