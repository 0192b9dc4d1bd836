"""The system users that Nephos and its guests run as."""

from __future__ import annotations

import grp
import pwd

from installer.report import Report

SERVER_USER = "nephos"
GUEST_USER = "libvirt-qemu"
GUEST_ID = 64055
"""What Debian reserves for this user, so that its own package finds it as it would have made it."""


def ensure(report: Report) -> None:
    """Makes the users that are missing: no shell, no password, no home."""
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
