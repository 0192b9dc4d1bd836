"""The libvirtd that a host's guests run under: the machine's own, one that Nephos starts, or a private one.

- `system` uses the machine's libvirtd when it answers; otherwise it starts one with a configuration of ours (sockets
  for root only, no polkit, no virtlogd), which only that process sees: /etc/libvirt stays as it is.
- `private` runs a libvirtd of its own in a mount namespace of its own, where the directories that libvirt compiles in
  are bind mounts of directories below the state directory. Two clouds, or two hosts, then live side by side.

Only what was started here is ever stopped. Guests are not children of libvirtd: they go on when it stops, and the
next one finds them.

Run as a module (`enter`), it is the second half of a start: see `_enter`.
"""

from __future__ import annotations

import contextlib
import ctypes
import grp
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec

from nephos.errors import HostFault
from nephos.kernel import clock

SYSTEM_SOCKETS = (Path("/run/libvirt/virtqemud-sock"), Path("/run/libvirt/libvirt-sock"))
LIB_DIR = Path("/var/lib/libvirt")
_BINDS = {
    "etc": Path("/etc/libvirt"),
    "lib": LIB_DIR,
    "cache": Path("/var/cache/libvirt"),
    "log": Path("/var/log/libvirt"),
    "run": Path("/run/libvirt"),
}
_START_SECONDS = 30.0
_QEMU_USERS = ("libvirt-qemu", "qemu")
_SOCKET_LIMIT = 107
_KVM = Path("/dev/kvm")
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_ENTER = (sys.executable, "-m", "nephos.hypervisor.daemon")
_PR_SET_CHILD_SUBREAPER = 36


class Daemon(msgspec.Struct, frozen=True, kw_only=True):
    """A libvirtd that answers.

    `socket` is its read-write socket and `lib_dir` its /var/lib/libvirt, both as this process sees them. `ours` tells
    whether Nephos started it, now or earlier; `directory` then holds its pid file. `said` is a sentence for people.
    """

    socket: Path
    lib_dir: Path = LIB_DIR
    ours: bool = False
    directory: Path | None = None
    said: str = ""


def system(directory: Path, *, kvm: bool) -> Daemon:
    """The machine's libvirtd, started with our own configuration, kept in `directory`, if none runs.

    `kvm` tells whether KVM works on this machine; when it does not, a libvirtd that is started here does not see it.
    Raises HostFault with the daemon's own words when it cannot be started.
    """
    pid_file = directory / "libvirtd.pid"
    for path in SYSTEM_SOCKETS:
        if _answers(path):
            pid = _running(pid_file)
            if pid is None:
                return Daemon(socket=path, said=f"using the libvirt that runs on this machine ({path})")
            said = f"using the libvirtd that Nephos started earlier (pid {pid})"
            return Daemon(socket=path, ours=True, directory=directory, said=said)
    directory.mkdir(parents=True, exist_ok=True, mode=0o755)
    config = directory / "libvirtd.conf"
    config.write_text(_libvirtd_conf(directory))
    qemu_conf = directory / "qemu.conf"
    qemu_conf.write_text(_qemu_conf(alone=False, kvm=kvm))
    path = SYSTEM_SOCKETS[1]
    unshare = ["unshare", "--mount", "--propagation", "slave", "--"]
    own = ["configured", str(qemu_conf), *([] if kvm else ["hide-kvm"])]
    start = ["start", "libvirtd", "-f", str(config), "-p", str(pid_file)]
    _launch([*unshare, *_ENTER, *own, *start], path, directory)
    return Daemon(
        socket=path,
        ours=True,
        directory=directory,
        said=f"no libvirtd ran on this machine: started one with Nephos' own configuration ({config})",
    )


def private(directory: Path, *, kvm: bool, enter: Sequence[str] = ()) -> Daemon:
    """A libvirtd of its own below `directory`, in a mount namespace of its own; started unless it runs already.

    `enter` is an argument vector that runs its argument in the network and UTS namespace meant for the guests, such as
    `nsenter --net=/run/netns/x --`; taps must exist there. `kvm` and errors as in `system`.
    """
    directory = directory.absolute()
    path = directory / "run" / "libvirt-sock"
    if len(str(path)) > _SOCKET_LIMIT:
        raise HostFault(f"{path}: the path of a UNIX socket may have {_SOCKET_LIMIT} characters at most")
    pid_file = directory / "libvirtd.pid"
    daemon = Daemon(socket=path, lib_dir=directory / "lib", ours=True, directory=directory)
    pid = _running(pid_file)
    if pid is not None and _answers(path):
        return msgspec.structs.replace(daemon, said=f"using this cloud's own libvirtd (pid {pid})")
    _forget_last_boot(directory)
    for name in _BINDS:
        (directory / name).mkdir(parents=True, exist_ok=True, mode=0o711 if name in ("lib", "run") else 0o755)
    directory.chmod(0o711)
    (directory / "etc" / "libvirtd.conf").write_text(_libvirtd_conf(directory))
    (directory / "etc" / "qemu.conf").write_text(_qemu_conf(alone=True, kvm=kvm))
    unshare = ["unshare", "--mount", "--propagation", "private", "--"]
    own = ["private", str(directory), *([] if kvm else ["hide-kvm"])]
    start = ["start", "libvirtd", "-f", str(directory / "etc" / "libvirtd.conf"), "-p", str(pid_file)]
    _launch([*enter, *unshare, *_ENTER, *own, *start], path, directory)
    return msgspec.structs.replace(daemon, said=f"started a libvirtd for this cloud alone ({directory})")


def stop(daemon: Daemon) -> None:
    """End what `system` or `private` started; nothing when it was not ours. Guests go on."""
    if not daemon.ours or daemon.directory is None:
        return
    _end(daemon.directory / "libvirtd.pid")


def qemu_user() -> tuple[str, str] | None:
    """The user and group that distributions run QEMU as, where there is one."""
    for name in _QEMU_USERS:
        with contextlib.suppress(KeyError):
            user = pwd.getpwnam(name)
            try:
                return name, grp.getgrnam(name).gr_name
            except KeyError:
                return name, grp.getgrgid(user.pw_gid).gr_name
    return None


def _forget_last_boot(directory: Path) -> None:
    """What libvirt keeps in /run is about processes; unlike /run, our directory would outlive a reboot of the host."""
    stamp = directory / "boot"
    boot = _BOOT_ID.read_text()
    if stamp.exists() and stamp.read_text() != boot:
        shutil.rmtree(directory / "run", ignore_errors=True)
    directory.mkdir(parents=True, exist_ok=True)
    stamp.write_text(boot)


def _libvirtd_conf(directory: Path) -> str:
    known = directory / "host_uuid"
    if not known.exists():
        known.parent.mkdir(parents=True, exist_ok=True)
        known.write_text(clock.uuid4())
    return f"""\
# Written by Nephos. Sockets are for root alone, so no polkit is asked.
auth_unix_ro = "none"
auth_unix_rw = "none"
unix_sock_group = "root"
unix_sock_ro_perms = "0700"
unix_sock_rw_perms = "0700"
host_uuid = "{known.read_text().strip()}"
max_client_requests = 20
log_outputs = "3:file:{directory}/libvirtd.log"
"""


def _qemu_conf(*, alone: bool, kvm: bool) -> str:
    who = qemu_user()
    lines = ["# Written by Nephos."]
    if who:
        lines += [f'user = "{who[0]}"', f'group = "{who[1]}"']
    lines += [
        "dynamic_ownership = 1",
        "remember_owner = 0",
        "# QEMU writes the console logs itself: no virtlogd has to run.",
        'stdio_handler = "file"',
    ]
    if alone:
        lines += [
            "# AppArmor's and SELinux's rules name the directories of the machine's own libvirt, not these.",
            'security_driver = "none"',
            "# Every libvirtd of a machine shares one cgroup tree; two of them would use the same names in it.",
            "cgroup_controllers = [ ]",
        ]
    if not kvm:
        lines += [
            "# A /dev for each QEMU cannot be made from one in which /dev/kvm is covered.",
            "namespaces = [ ]",
        ]
    return "\n".join(lines) + "\n"


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(5)
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True


def _launch(argv: list[str], path: Path, directory: Path) -> None:
    """Start a libvirtd that stays, and return when its socket answers."""
    if shutil.which("libvirtd") is None:
        raise HostFault("libvirtd is not installed")
    log = directory / "libvirtd.out"
    with log.open("wb") as output:
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True, cwd="/"
        )
    until = clock.monotonic() + _START_SECONDS
    while not _answers(path):
        if process.poll() is not None:
            words = log.read_text(errors="replace").strip()
            raise HostFault(f"libvirtd ended with status {process.returncode} instead of starting: {words}")
        if clock.monotonic() > until:
            process.kill()
            raise HostFault(f"libvirtd does not answer at {path} after {_START_SECONDS:.0f} s; see {directory}")
        clock.sleep(0.01)


def _running(pid_file: Path) -> int | None:
    """The pid in the file, if that process really is the one that was started with this pid file."""
    try:
        pid = int(pid_file.read_text())
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return None
    return pid if str(pid_file).encode() in arguments else None


def _end(pid_file: Path) -> None:
    pid = _running(pid_file)
    if pid is not None:
        for number, seconds in ((signal.SIGTERM, 10.0), (signal.SIGKILL, 5.0)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
            until = clock.monotonic() + seconds
            while _running(pid_file) is not None and clock.monotonic() < until:
                clock.sleep(0.02)
    pid_file.unlink(missing_ok=True)


def _enter(words: list[str]) -> None:
    """Prepare the process, then become the daemon. Words: [private DIRECTORY | configured QEMU.CONF] [hide-kvm]
    start PROGRAM ARGUMENT…

    The process takes in orphans: QEMU detaches from libvirtd, and an init that reaps only now and then (containers,
    micro-VMs) would make libvirt wait seconds for each QEMU that has long ended. A shell does the reaping, being the
    smallest program at hand that waits for children it does not know.
    """
    while words:
        match words.pop(0):
            case "private":
                directory = Path(words.pop(0))
                for name, target in _BINDS.items():
                    target.mkdir(parents=True, exist_ok=True)
                    _mount(directory / name, target)
            case "configured":
                _mount(Path(words.pop(0)), _BINDS["etc"] / "qemu.conf")
            case "hide-kvm":
                if _KVM.exists():
                    # An unreadable file: libvirt and QEMU then agree that there is no KVM, and libvirt may keep what
                    # it learned about QEMU from one start to the next.
                    with tempfile.NamedTemporaryFile() as nothing:
                        Path(nothing.name).chmod(0)
                        _mount(Path(nothing.name), _KVM)
            case "start":
                ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
                os.execv("/bin/sh", ["sh", "-c", '"$@" & wait $!', "sh", *words])
            case word:
                sys.exit(f"{word}: not understood")


def _mount(source: Path, target: Path) -> None:
    subprocess.run(["mount", "--bind", str(source), str(target)], check=True)


if __name__ == "__main__":
    _enter(sys.argv[1:])
