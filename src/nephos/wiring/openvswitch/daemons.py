"""The daemons of a host's own Open vSwitch: its database and its switch, with all their files in one folder.

They are apart from an Open vSwitch that the machine may run for itself, and go on when the agent ends.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
from pathlib import Path

from nephos.errors import HostFault
from nephos.kernel import clock
from nephos.wiring.linux.system import netlink

log = logging.getLogger(__name__)
_SCHEMA = Path("/usr/share/openvswitch/vswitch.ovsschema")
_FOREIGN = Path("/run/openvswitch/ovs-vswitchd.pid")
_SECONDS = 10
OFCTL = ("ovs-ofctl", "--protocols=OpenFlow13", "--names")
_SYSTEM = "/usr/sbin:/usr/bin:/sbin:/bin"


class Daemons:
    """`folder` is theirs alone. `userspace` tells that packets are switched by the daemon, because the kernel has no
    Open vSwitch."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.userspace = not netlink.has_generic_family("ovs_datapath")
        places = {f"OVS_{name}": str(folder) for name in ("RUNDIR", "LOGDIR", "DBDIR", "SYSCONFDIR")}
        self._environment = {"PATH": _SYSTEM, **places}

    def check(self) -> None:
        """Raises HostFault when Open vSwitch cannot be run here."""
        if shutil.which("ovs-vswitchd", path=_SYSTEM) is None or not _SCHEMA.exists():
            raise HostFault("Open vSwitch is not installed on this host; install the package openvswitch-switch")
        if not self.userspace and _process(_FOREIGN, "ovs-vswitchd") is not None:
            raise HostFault(
                "this host runs an Open vSwitch of its own, and the kernel's datapath serves one: stop the service "
                "openvswitch-switch, or choose the switch 'linux'"
            )

    def ensure(self) -> bool:
        """Start what does not run; whether anything did not."""
        self.check()
        database, switch = self._pid("ovsdb-server"), self._pid("ovs-vswitchd")
        if database is not None and switch is not None:
            return False
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if database is None:
            if not (self._folder / "conf.db").exists():
                self.run("ovsdb-tool", "create", str(self._folder / "conf.db"), str(_SCHEMA))
            self._start("ovsdb-server", str(self._folder / "conf.db"), f"--remote=punix:{self._folder}/db.sock")
            self.run("ovs-vsctl", "--no-wait", "init")
        if switch is None:
            apart = ["--disable-system"] if self.userspace else []
            self._start("ovs-vswitchd", f"unix:{self._folder}/db.sock", *apart)
        return True

    def differing(self, bridge: str, rules: str) -> list[str]:
        """The OpenFlow rules of a bridge that differ from these: `-` before those that it has, `+` before those that it lacks."""
        # It ends with 2 when there are differences, as diff(1) does with 1.
        return self.run(*OFCTL, "diff-flows", bridge, "/proc/self/fd/0", text=rules, good=(0, 2)).splitlines()

    def run(self, *words: str, text: str | None = None, good: tuple[int, ...] = (0,)) -> str:
        """Run one of Open vSwitch's tools on these daemons; what it printed. Raises HostFault with what it said."""
        try:
            done = subprocess.run(
                words,
                input=text,
                capture_output=True,
                text=True,
                env=self._environment,
                timeout=_SECONDS + 5,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as problem:
            raise HostFault(f"{words[0]}: {problem}") from problem
        if done.returncode not in good:
            raise HostFault(f"{words[0]}: {done.stderr.strip() or done.stdout.strip() or done.returncode}")
        return done.stdout

    def transact(self, commands: list[list[str]]) -> None:
        """Run ovs-vsctl commands in one transaction and wait until the switch follows it."""
        words = [word for command in commands for word in ("--", *command)]
        self.run("ovs-vsctl", f"--timeout={_SECONDS}", *words)

    def stop(self) -> None:
        """End both and remove their files."""
        for name in ("ovs-vswitchd", "ovsdb-server"):
            if (pid := self._pid(name)) is not None:
                _end(pid)
        if self._folder.is_dir():
            shutil.rmtree(self._folder)

    def running(self) -> list[str]:
        return [name for name in ("ovsdb-server", "ovs-vswitchd") if self._pid(name) is not None]

    def _start(self, name: str, *words: str) -> None:
        log.info("starting %s", name)
        said = [f"--log-file={self._folder}/{name}.log", "-vconsole:off", "-vsyslog:off", "-vfile:warn"]
        self.run(name, *words, f"--pidfile={self._folder}/{name}.pid", *said, "--detach", "--no-chdir")

    def _pid(self, name: str) -> int | None:
        return _process(self._folder / f"{name}.pid", name)


def _process(file: Path, name: str) -> int | None:
    """The process of a pid file, if it is still the one that wrote it."""
    try:
        pid = int(file.read_text())
        words = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError):
        return None
    return pid if name.encode() in words.split(b"\0", 1)[0] else None


def _end(pid: int) -> None:
    """SIGTERM, and SIGKILL for one that does not end of it."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        for number in (signal.SIGTERM, signal.SIGKILL):
            signal.pidfd_send_signal(handle, number)
            until = clock.monotonic() + _SECONDS / 2
            while clock.monotonic() < until:
                try:
                    signal.pidfd_send_signal(handle, 0)
                except ProcessLookupError:
                    return
                if _zombie(pid):
                    return
                clock.sleep(0.02)
    except ProcessLookupError:
        return
    finally:
        os.close(handle)


def _zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True
