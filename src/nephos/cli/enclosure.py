"""Where a cloud with real guests lives when it is not the machine's own: network, mount and UTS namespaces of its own.

A sleeping process holds them, so that guests, DHCP and routers outlive the agent. The name `nephos-<hash>` in
/run/netns lets people reach in: `ip netns exec nephos-1a2b3c4d ssh …`.
"""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import time
from pathlib import Path

from nephos.errors import HostFault

_START_SECONDS = 5.0


def name_of(state: Path) -> str:
    return "nephos-" + hashlib.sha256(str(state).encode()).hexdigest()[:8]


def ensure(state: Path, host_name: str) -> list[str]:
    """Make the namespaces unless they stand. Answers the argument vector that runs a command inside them.

    Raises HostFault with the reason when they cannot be made.
    """
    pid = holder(state)
    if pid is None:
        pid = _make(state, host_name)
    return ["nsenter", "--target", str(pid), "--net", "--mount", "--uts", "--"]


def holder(state: Path) -> int | None:
    """The process that holds the namespaces, None when there is none."""
    file = state / "run" / "holder.pid"
    try:
        pid = int(file.read_text())
        words = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError):
        return None
    return pid if words.startswith(b"sleep\0infinity") else None


def remove(state: Path) -> None:
    """End the namespaces and all that only they held."""
    pid = holder(state)
    subprocess.run(["ip", "netns", "delete", name_of(state)], capture_output=True, check=False)
    if pid is not None:
        os.kill(pid, signal.SIGKILL)
    (state / "run" / "holder.pid").unlink(missing_ok=True)


def _make(state: Path, host_name: str) -> int:
    subprocess.run(["ip", "netns", "delete", name_of(state)], capture_output=True, check=False)
    before = Path("/proc/self/ns/net").readlink()
    child = subprocess.Popen(
        ["unshare", "--net", "--mount", "--uts", "--propagation", "private", "sleep", "infinity"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        cwd="/",
    )
    end = time.monotonic() + _START_SECONDS
    while not Path(f"/proc/{child.pid}/cmdline").read_bytes().startswith(b"sleep"):
        if child.poll() is not None or time.monotonic() > end:
            raise HostFault("The namespaces for this cloud could not be made: unshare failed.")
        time.sleep(0.01)
    if Path(f"/proc/{child.pid}/ns/net").readlink() == before:
        raise HostFault("The namespaces for this cloud could not be made: unshare changed nothing.")
    (state / "run" / "holder.pid").write_text(str(child.pid))
    enter = ["nsenter", "--target", str(child.pid), "--net", "--mount", "--uts", "--"]
    Path("/run/netns").mkdir(exist_ok=True)
    for words in (
        ["ip", "netns", "attach", name_of(state), str(child.pid)],
        [*enter, "ip", "link", "set", "lo", "up"],
        [*enter, "hostname", host_name],
        [*enter, "mount", "-t", "tmpfs", "tmpfs", "/run/netns"],
    ):
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode:
            raise HostFault(
                f"The namespaces for this cloud could not be made: {' '.join(words)}: {done.stderr.strip()}"
            )
    return child.pid
