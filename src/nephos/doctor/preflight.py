"""What this machine must have before a cloud starts on it; each lack is named with its reason and its remedy.

`check` gives all findings, for people; `blocking` gives the lacks that keep a cloud from working, for `nephos up`.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import msgspec

from nephos.doctor import features, ports
from nephos.doctor.acceleration import Acceleration, probe_kvm
from nephos.doctor.acceleration import safely as acceleration

__all__ = ["Acceleration", "Finding", "acceleration", "blocking", "check", "probe_kvm"]

SERVER_USER = "nephos"
GUEST_USER = "libvirt-qemu"
QEMU_DRIVER = "libvirt/connection-driver/libvirt_driver_qemu.so"
INSTALL = "run `make install` in the checkout, as root"

MIN_MEMORY_MB = 700
MIN_DISK_MB = 1024

TOOLS = {
    "ip": ("network namespaces, bridges and tunnels are made with it", "iproute2"),
    "nft": ("it loads the rules of security groups and routers", "nftables"),
    "tc": ("it limits guests' bandwidth", "iproute2"),
    "dnsmasq": ("it answers guests' DHCP and DNS", "dnsmasq-base"),
}
GUEST_TOOLS = {
    "qemu-system-x86_64": ("it runs the guests", "qemu-system-x86"),
    "qemu-img": ("it makes guests' disks", "qemu-utils"),
    "libvirtd": ("it keeps guests running while Nephos restarts", "libvirt-daemon"),
}


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing looked at. `state`: ok; missing, which keeps the cloud from working; or low, which may hurt later."""

    item: str
    state: Literal["ok", "missing", "low"]
    why: str
    mend: str = ""
    detail: str = ""

    def __str__(self) -> str:
        if self.state == "ok":
            return f"{self.item}: ok" + (f" ({self.detail})" if self.detail else "")
        lack = self.detail or self.state
        return f"{self.item}: {lack}; {self.why}. To mend it: {self.mend}."


def check(
    state: Path, *, host: str = "127.0.0.1", listen: Sequence[int] = (5000, 5001), guests: bool = True
) -> list[Finding]:
    """All findings for a cloud with its state in `state`, listening on `host` at the ports `listen`.

    `guests` false leaves out what only real guests and their networks need. Needs root.
    """
    found = [*_ports(host, listen), *_users(state, guests=guests), *_room(state)]
    if guests:
        tools = _tools(TOOLS | GUEST_TOOLS)
        found += tools
        found += [_libvirt(), _tun()]
        if all(each.state == "ok" for each in tools if each.item in ("ip", "nft")):
            found += _features()
    return found


def blocking(
    state: Path, *, ports: Sequence[int] = (5000, 5001), host: str = "127.0.0.1", guests: bool = True
) -> list[str]:
    """The lacks that keep a cloud from working, in words; empty when there is none. Arguments as for `check`."""
    return [str(each) for each in check(state, host=host, listen=ports, guests=guests) if each.state == "missing"]


def _ports(host: str, listen: Sequence[int]) -> list[Finding]:
    taken = {each.port: each for each in ports.conflicts(host, listen)}
    return [
        Finding(
            item=f"port {port}",
            state="missing" if port in taken else "ok",
            why="the APIs listen on the first, consoles and agents on the second",
            detail=str(taken[port]) if port in taken else "",
            mend="end that process, or give another address with --listen" if port in taken else "",
        )
        for port in listen
    ]


def _users(state: Path, *, guests: bool) -> list[Finding]:
    found = []
    for user, why in ((SERVER_USER, "the server runs as this user"), (GUEST_USER, "libvirt runs guests as this user")):
        if user == GUEST_USER and not guests:
            continue
        try:
            account = pwd.getpwnam(user)
        except KeyError:
            found.append(Finding(item=f"user {user}", state="missing", why=why, mend=INSTALL))
            continue
        found.append(Finding(item=f"user {user}", state="ok", why=why))
        closed = closed_directory(state, account)
        item = f"state directory {state} for {user}"
        if closed is None:
            found.append(Finding(item=item, state="ok", why="this user works below it"))
        else:
            mend = f"choose a --state elsewhere, or let others pass: chmod o+x {closed}"
            why = f"{user} cannot enter the directory {closed}, so it reaches nothing below"
            found.append(Finding(item=item, state="missing", why=why, mend=mend))
    return found


def closed_directory(path: Path, account: pwd.struct_passwd) -> Path | None:
    """The first directory on the way to `path` (those that exist) which `account` cannot enter; None when all open.

    Asked of the kernel as that user, so that groups and access lists count.
    """
    whole = path.absolute()
    folders = [folder for folder in reversed(whole.parents) if folder.exists()]
    if os.geteuid() != 0 or account.pw_uid == 0:
        return None
    done = subprocess.run(
        [
            "/bin/sh",
            "-c",
            'for each in "$@"; do [ -x "$each" ] || { printf %s "$each"; exit 0; }; done',
            "sh",
            *folders,
        ],
        user=account.pw_uid,
        group=account.pw_gid,
        extra_groups=os.getgrouplist(account.pw_name, account.pw_gid),
        capture_output=True,
        text=True,
        check=True,
        cwd="/",
    )
    return Path(done.stdout) if done.stdout else None


def _room(state: Path) -> list[Finding]:
    existing = next(folder for folder in (state.absolute(), *state.absolute().parents) if folder.exists())
    disk_mb = shutil.disk_usage(existing).free >> 20
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    memory_mb = next(int(line.split()[1]) >> 10 for line in lines if line.startswith("MemAvailable:"))
    return [
        Finding(
            item=f"disk space at {existing}",
            state="ok" if disk_mb >= MIN_DISK_MB else "missing" if disk_mb < MIN_DISK_MB // 4 else "low",
            why="images and guests' disks are kept there",
            detail=f"{disk_mb} MiB free, {MIN_DISK_MB} MiB wanted",
            mend="" if disk_mb >= MIN_DISK_MB else "free some, or choose another --state",
        ),
        Finding(
            item="memory",
            state="ok" if memory_mb >= MIN_MEMORY_MB else "low",
            why="the cloud takes some 200 MiB, and each guest its own",
            detail=f"{memory_mb} MiB available, {MIN_MEMORY_MB} MiB wanted",
            mend="" if memory_mb >= MIN_MEMORY_MB else "end something that is not needed",
        ),
    ]


def _tools(tools: dict[str, tuple[str, str]]) -> list[Finding]:
    path = os.environ.get("PATH", "") + ":/usr/sbin:/usr/bin:/sbin:/bin"
    return [
        Finding(item=name, state="ok", why=why, detail=found)
        if (found := shutil.which(name, path=path))
        else Finding(item=name, state="missing", why=why, mend=f"{INSTALL} (or apt-get install {package})")
        for name, (why, package) in tools.items()
    ]


def _libvirt() -> Finding:
    why = "Nephos drives guests through libvirt and its QEMU driver"
    if importlib.util.find_spec("libvirt") is None:
        return Finding(item="libvirt's Python binding", state="missing", why=why, mend=INSTALL)
    if not any((folder / QEMU_DRIVER).exists() for folder in (Path("/usr/lib/x86_64-linux-gnu"), Path("/usr/lib"))):
        mend = f"{INSTALL} (or apt-get install libvirt-daemon-driver-qemu)"
        return Finding(item="libvirt's QEMU driver", state="missing", why=why, mend=mend)
    return Finding(item="libvirt", state="ok", why=why)


def _tun() -> Finding:
    why = "QEMU opens guests' network cards there"
    try:
        os.close(os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        mend = "load the module tun, or let this container use the device"
        return Finding(item="/dev/net/tun", state="missing", why=why, detail=error.strerror or "", mend=mend)
    return Finding(item="/dev/net/tun", state="ok", why=why)


def _features() -> list[Finding]:
    absent = {feature.name: words for feature, words in features.absent()}
    return [
        Finding(
            item=f"kernel feature {each.name}",
            state="missing" if each.name in absent else "ok",
            why=each.why,
            detail=absent.get(each.name, ""),
            mend=_mend(each) if each.name in absent else "",
        )
        for each in features.FEATURES
    ]


def _mend(feature: features.Feature) -> str:
    if not feature.module:
        return "allow namespaces to root on this machine"
    return f"modprobe {feature.module}, or a kernel that has it"
