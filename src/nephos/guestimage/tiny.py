"""The small guest: busybox, dropbear and the cloud kernel, a few MB, up in seconds even under emulation."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

from nephos.guestimage import modules
from nephos.guestimage.disk import FILES

USER = "cirros"
PASSWORD = "gocubsgo"
PASSWORD_HASH = "$6$nephos$2Q9B3Med1AOcPGmbLDXbhqYLbJdEGM5mgjjgOvoR6WD1.9TxCkzbm4YQvtpZxCAS/N03WsUOf9J/FKF/UXuPl."
"""SHA-512 crypt of `PASSWORD`: public on purpose, the console of a test image is useless without it."""

KERNEL_COMMAND_LINE = "console=tty0 console=ttyS0,115200 net.ifnames=0 quiet cryptomgr.notests"

RAMDISK_MODULES = ("virtio_pci", "virtio_blk", "virtio_scsi", "sd_mod", "ata_piix", "virtio-rng")
GUEST_MODULES = (
    *RAMDISK_MODULES, "sr_mod", "isofs", "vfat", "nls_ascii", "virtio_net", "virtio_console",
    "virtio_balloon", "button", "evdev",
)  # fmt: skip

STATIC_BUSYBOX = "static/bin/busybox"
"""Unpacked apart, since both busybox packages have the same file."""

LIBRARIES = "lib/x86_64-linux-gnu"
GUEST_LIBRARIES = (
    "libc.so.6", "libresolv.so.2", "libnss_dns.so.2", "libtomcrypt.so.1",
    "libtommath.so.1", "libgmp.so.10", "libcrypt.so.1", "libz.so.1", "libext2fs.so.2", "libe2p.so.2",
    "libcom_err.so.2", "libcap-ng.so.0", "libblkid.so.1",
)  # fmt: skip
PROGRAMS = {
    "usr/sbin/dropbear": "dropbear", "usr/bin/dropbearkey": "dropbearkey", "usr/bin/dbclient": "dbclient",
    "sbin/resize2fs": "resize2fs", "sbin/blkid": "blkid",
}  # fmt: skip

PASSWD = """root:x:0:0:root:/root:/bin/sh
nobody:x:65534:65534:nobody:/:/bin/false
cirros:x:1000:1000:cirros:/home/cirros:/bin/sh
"""
GROUP = """root:x:0:
tty:x:5:
sudo:x:27:cirros
nogroup:x:65534:
cirros:x:1000:
"""
SUDO_GROUP = 27
PROFILE = """export PATH=/usr/local/bin:/bin
export PS1='\\u@\\h:\\w\\$ '
"""
ISSUE = """
Nephos test guest, \\n on \\l. Log in as cirros with the password gocubsgo; sudo needs no password.

"""


def guest_tree(packages: Path, tree: Path, applets: tuple[list[str], list[str]]) -> None:
    """Lays out the root file system in `tree`; `applets` are those of the dynamic and of the static busybox."""
    for folder in ("bin", "dev", "proc", "sys", "run", "tmp", "mnt", "root/.ssh", "home/cirros/.ssh", LIBRARIES, "lib64",
                   "etc/guest", "etc/acpi/PWRF", "etc/dropbear", "var/lib/guest", "var/log", "usr/libexec",
                   "usr/local/bin"):  # fmt: skip
        (tree / folder).mkdir(parents=True, exist_ok=True)
    for link, target in {"sbin": "bin", "usr/bin": "../bin", "usr/sbin": "../bin", "var/run": "/run"}.items():
        (tree / link).symlink_to(target)
    _programs(packages, tree, applets)
    _settings(tree)
    kernel_modules = next((packages / "lib/modules").iterdir())
    modules.install(modules.ModuleTree(kernel_modules), GUEST_MODULES, tree / "lib/modules")
    _owners(tree)


def _programs(packages: Path, tree: Path, applets: tuple[list[str], list[str]]) -> None:
    dynamic, static = applets
    shutil.copy(_unpacked(packages, "bin/busybox"), tree / "bin/busybox")
    shutil.copy(packages / STATIC_BUSYBOX, tree / "bin/busybox.static")
    for name in sorted({*dynamic, *static} - {"busybox"}):
        (tree / "bin" / name).symlink_to("busybox" if name in dynamic else "busybox.static")
    (tree / "bin/init").unlink()
    (tree / "bin/init").symlink_to("busybox.static")
    for source, name in PROGRAMS.items():
        (tree / "bin" / name).unlink(missing_ok=True)
        shutil.copy(_unpacked(packages, source), tree / "bin" / name)
    for name in GUEST_LIBRARIES:
        shutil.copy(_unpacked(packages, f"{LIBRARIES}/{name}"), tree / LIBRARIES / name)
    shutil.copy(_unpacked(packages, "lib64/ld-linux-x86-64.so.2"), tree / "lib64/ld-linux-x86-64.so.2")
    shutil.copy(_unpacked(packages, "usr/bin/setpriv"), tree / "usr/libexec/guest-setpriv")


def _unpacked(packages: Path, name: str) -> Path:
    """A file of the packages, whichever of / and /usr its package uses."""
    for path in (packages / name, packages / "usr" / name):
        if path.exists():
            return path
    link = packages / name
    return (link.parent / link.readlink().name).resolve() if link.is_symlink() else link


def _settings(tree: Path) -> None:
    etc = tree / "etc"
    texts = {
        "passwd": PASSWD, "group": GROUP, "hostname": "guest\n", "hosts": "127.0.0.1 localhost guest\n",
        "nsswitch.conf": "hosts: files dns\n", "shells": "/bin/sh\n", "profile": PROFILE, "issue": ISSUE,
        "shadow": f"root:*:19000:0:99999:7:::\nnobody:*:19000::::::\n{USER}:{PASSWORD_HASH}:19000:0:99999:7:::\n",
        "resolv.conf": "", "acpi/PWRF/00000080": "#!/bin/sh\nexec poweroff\n",
    }  # fmt: skip
    for name, text in texts.items():
        (etc / name).write_text(text, encoding="utf-8")
    for name in ("rc.boot", "rc.stop", "inittab"):
        shutil.copy(FILES / name, etc / name)
    for name in ("functions", "dhcp", "hotplug", "json.awk"):
        shutil.copy(FILES / name, etc / "guest" / name)
    for name in ("sudo", "curl"):
        shutil.copy(FILES / name, tree / "bin" / name)
    for path in (etc / "rc.boot", etc / "rc.stop", etc / "guest/dhcp", etc / "guest/hotplug", tree / "bin/sudo",
                 tree / "bin/curl", etc / "acpi/PWRF/00000080"):  # fmt: skip
        path.chmod(0o755)


def _owners(tree: Path) -> None:
    (tree / "etc/shadow").chmod(0o600)
    (tree / "tmp").chmod(0o1777)
    (tree / "root").chmod(0o700)
    for folder in (tree / "root/.ssh", tree / "home/cirros/.ssh"):
        folder.chmod(0o700)
    for path in (tree / "home/cirros", tree / "home/cirros/.ssh"):
        os.chown(path, 1000, 1000)
    # A copy of busybox that may do as root what any user may ask for; for all but ping it drops what it has.
    ping, also = tree / "bin/ping", tree / "bin/ping6"
    for path in (ping, also):
        path.unlink()
    shutil.copy(tree / "bin/busybox", ping)
    ping.chmod(stat.S_ISUID | 0o755)
    also.symlink_to("ping")
    setpriv = tree / "usr/libexec/guest-setpriv"
    os.chown(setpriv, 0, SUDO_GROUP)
    setpriv.chmod(stat.S_ISUID | 0o750)


def ramdisk_tree(packages: Path, tree: Path) -> None:
    """Lays out the ramdisk: one program, the disk drivers, the script that finds the root."""
    for folder in ("bin", "dev", "proc", "sys", "newroot"):
        (tree / folder).mkdir(parents=True, exist_ok=True)
    shutil.copy(packages / STATIC_BUSYBOX, tree / "bin/busybox")
    (tree / "bin/sh").symlink_to("busybox")
    shutil.copy(FILES / "init", tree / "init")
    (tree / "init").chmod(0o755)
    kernel_modules = next((packages / "lib/modules").iterdir())
    modules.install(modules.ModuleTree(kernel_modules), RAMDISK_MODULES, tree / "modules")
