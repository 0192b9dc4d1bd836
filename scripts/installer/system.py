"""What the machine needs besides packages: the users that Nephos and its guests run as, and a file for libvirt."""

from __future__ import annotations

import grp
import pwd
from pathlib import Path

from installer.report import Report

SERVER_USER = "nephos"
GUEST_USER = "libvirt-qemu"
GUEST_ID = 64055
"""What Debian reserves for this user, so that its own package finds it as it would have made it."""


QEMU_SETTINGS = Path("/etc/libvirt/qemu.conf")
QEMU_SETTINGS_TEXT = (
    "# Made by the Nephos installer, and empty: the agent gives its libvirtd settings of its own in this place.\n"
)


def ensure(report: Report) -> None:
    """Makes what is missing; what is there is never changed."""
    _users(report)
    if not QEMU_SETTINGS.exists():
        QEMU_SETTINGS.parent.mkdir(mode=0o755, exist_ok=True)
        QEMU_SETTINGS.write_text(QEMU_SETTINGS_TEXT, encoding="utf-8")
        QEMU_SETTINGS.chmod(0o600)


def _users(report: Report) -> None:
    """No shell, no password, no home."""
    if not _user(SERVER_USER):
        report.say(f"user: {SERVER_USER} (no shell), so that the server does not run as root")
        report.must(["useradd", "--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent",
                     "--shell", "/usr/sbin/nologin", "--comment", "Nephos server", SERVER_USER])  # fmt: skip
    for group in ("libvirt-qemu", "kvm"):
        if not _group(group):
            wanted = ["--gid", str(GUEST_ID)] if group == "libvirt-qemu" else []
            report.must(["groupadd", "--system", *wanted, group])
    if not _user(GUEST_USER):
        report.say(f"user: {GUEST_USER} (no shell), which libvirt runs guests as")
        report.must(["useradd", "--system", "--uid", str(GUEST_ID), "--gid", "kvm", "--groups", "libvirt-qemu",
                     "--no-create-home", "--home-dir", "/var/lib/libvirt", "--shell", "/usr/sbin/nologin",
                     "--comment", "Libvirt Qemu", GUEST_USER])  # fmt: skip


def _user(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def _group(name: str) -> bool:
    try:
        grp.getgrnam(name)
    except KeyError:
        return False
    return True
