"""Debian itself as a guest: a cloud image with cloud-init, made with debootstrap and without mounting an image."""

from __future__ import annotations

import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nephos.errors import HostFault, SettingsError
from nephos.guestimage import disk, output, packages
from nephos.guestimage.builder import DEFAULT_WORK
from nephos.guestimage.command import run

SUITE = "bookworm"
DEFAULT_SIZE_MB = 2048
SMALLEST_MB = 1600
MANIFEST = "debian.json"
USER = "debian"

INCLUDED = (
    packages.KERNEL, "cloud-init", "openssh-server", "systemd-sysv", "udev", "iproute2", "isc-dhcp-client",
    "ca-certificates", "netbase", "python3-minimal", "sudo", "cloud-guest-utils", "fdisk", "e2fsprogs", "less", "procps",
    "iputils-ping", "qemu-guest-agent", "dbus", "nano", "python3-cffi-backend",
)  # fmt: skip
"""Beside the base system. The last one is what debootstrap misses, because it does not follow virtual packages."""

COMMAND_LINE = "root=LABEL=debroot ro console=tty0 console=ttyS0,115200 net.ifnames=0"

CLOUD_CONFIG = f"""# made by Nephos: the two sources that an OpenStack cloud has, and how long to wait for them
datasource_list: [ ConfigDrive, OpenStack, None ]
datasource: {{ OpenStack: {{ max_wait: 60, timeout: 10, retries: 3, apply_network_config: true }} }}
locale: C.UTF-8
manage_etc_hosts: true
system_info:
  default_user:
    name: {USER}
    lock_passwd: true
    sudo: ["ALL=(ALL) NOPASSWD:ALL"]
    shell: /bin/bash
    groups: [adm, sudo]
"""


@dataclass(frozen=True)
class DebianImage:
    """A built image: `qcow2` boots by itself on a BIOS machine with 512 MiB; `user` gets the key that metadata names."""

    qcow2: Path
    user: str
    suite: str
    kernel_version: str
    key: str


def build_debian(
    out_dir: Path, *, work_dir: Path | None = None, size_mb: int = DEFAULT_SIZE_MB, refresh: bool = False
) -> DebianImage:
    """Builds a Debian 12 with cloud-init into `out_dir`, in two to three minutes; at once if the recipe is the same.

    Arguments and errors are those of `guestimage.build`. Downloads some 150 MB from the machine's own Debian mirror.
    """
    if size_mb < SMALLEST_MB:
        raise SettingsError(f"A Debian disk of {size_mb} MiB is too small: the system needs {SMALLEST_MB} MiB.")
    key = output.recipe("debian", size_mb, INCLUDED)
    with output.one_at_a_time(out_dir):
        present = output.existing(out_dir / MANIFEST, key)
        if present is None or refresh:
            if os.geteuid() != 0:
                raise SettingsError("Building a Debian image needs root: debootstrap changes its root directory.")
            present = _build(out_dir, work_dir or DEFAULT_WORK, size_mb, key)
    return DebianImage(
        qcow2=out_dir / "debian.qcow2", user=USER, suite=SUITE, kernel_version=present["kernel_version"], key=key
    )


def _build(out_dir: Path, work_dir: Path, size_mb: int, key: str) -> dict[str, Any]:
    work_dir.mkdir(parents=True, exist_ok=True)
    tools = packages.fetch([*packages.BOOT, "debootstrap"], work_dir / "packages")
    with tempfile.TemporaryDirectory(prefix="debian-", dir=work_dir) as scratch:
        work = Path(scratch)
        packages.unpack(tools, work / "tools")
        root = work / "root"
        _bootstrap(work / "tools", root, work_dir / "debootstrap")
        _settle(root)
        identity = hashlib.sha256(f"debian {key}".encode()).digest()[:16]
        script = disk.boot_script("/vmlinuz", "/initrd.img", COMMAND_LINE)
        loader = disk.boot_loader(work / "tools", script, work)
        raw, made = work / "disk.raw", work / "debian.qcow2"
        disk.make_disk(root, raw, size_mb=size_mb, label="debroot", identity=identity, loader=loader, journal_mb=32)
        disk.to_qcow2(raw, made)
        version = next((root / "lib/modules").iterdir()).name
        return output.publish([made], out_dir / MANIFEST, key, kernel_version=version, suite=SUITE)


def _bootstrap(tools: Path, root: Path, cache: Path) -> None:
    cache.mkdir(parents=True, exist_ok=True)
    argv = [str(tools / "usr/sbin/debootstrap"), "--variant=minbase", f"--cache-dir={cache}",
            f"--include={','.join(INCLUDED)}", SUITE, str(root), _mirror()]  # fmt: skip
    try:
        run(
            "sh",
            *argv,
            env={"DEBOOTSTRAP_DIR": str(tools / "usr/share/debootstrap"), "DEBIAN_FRONTEND": "noninteractive"},
        )
    except HostFault as error:
        log = root / "debootstrap/debootstrap.log"
        last = "\n".join(log.read_text(errors="replace").splitlines()[-10:]) if log.exists() else error.message
        raise HostFault(f"debootstrap could not make a Debian {SUITE}: {last}") from error


def _mirror() -> str:
    """The address of the Debian archive that this machine's apt uses."""
    said = run(
        "apt-get",
        *packages.source_options(),
        "indextargets",
        "--format",
        "$(REPO_URI) $(CODENAME) $(COMPONENT)",
        "Created-By: Packages",
    )
    for line in said.splitlines():
        address, suite, component = [*line.split(), "", ""][:3]
        if suite == SUITE and component == "main":
            return address
    raise HostFault(f"No package source of this machine offers Debian {SUITE}; see /etc/apt/sources.list.")


def _settle(root: Path) -> None:
    """What makes a freshly installed system a template: no identity, no caches, cloud-init set up."""
    for service in ("systemd-networkd", "systemd-resolved", "serial-getty@ttyS0"):
        if service != "systemd-resolved" or (root / "lib/systemd/system/systemd-resolved.service").exists():
            run("chroot", str(root), "systemctl", "enable", service)
    (root / "etc/cloud/cloud.cfg.d/99-nephos.cfg").write_text(CLOUD_CONFIG, encoding="utf-8")
    (root / "etc/fstab").write_text("LABEL=debroot / ext4 defaults,errors=remount-ro 0 1\n", encoding="utf-8")
    (root / "etc/hostname").write_text("debian\n", encoding="utf-8")
    (root / "etc/machine-id").write_text("", encoding="utf-8")
    (root / "etc/resolv.conf").unlink(missing_ok=True)
    (root / "etc/resolv.conf").write_text("", encoding="utf-8")
    for folder, pattern in (
        ("etc/ssh", "ssh_host_*"),
        ("var/cache/apt/archives", "*.deb"),
        ("var/lib/apt/lists", "*_*"),
    ):
        for path in (root / folder).glob(pattern):
            path.unlink()
