"""The supervisor that `nephos up` leaves behind: it starts server and agent, and starts them again when they die.

It imports nothing but the standard library, so that it stays small.
"""

from __future__ import annotations

import json
import os
import pwd
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

CALM_SECONDS = 10.0
STOP_SECONDS = 15.0


def command(role: str, state: Path) -> list[str]:
    """What is run for `agent`, `server`, `server-2` …"""
    name, _, number = role.partition("-")
    return [sys.executable, "-m", "nephos", name, "--state", str(state), *(["--number", number] if number else [])]


class Supervisor:
    """Keeps the roles of one state directory running: the servers, by role, and the agent. `enter` is put before the
    agent's command."""

    def __init__(self, state: Path, *, user: str, servers: list[str], enter: list[str]) -> None:
        self._state, self._user, self._enter = state, user, enter
        self._roles = (*servers, "agent")
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._next: dict[str, float] = {}
        self._pause: dict[str, float] = {}
        self._stopping = False

    def run(self) -> None:
        """Until SIGTERM or SIGINT."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        while not self._stopping:
            for role in self._roles:
                self._keep(role)
            time.sleep(0.2)
        self._end()
        self._file.unlink(missing_ok=True)

    @property
    def _file(self) -> Path:
        return self._state / "run" / "processes.json"

    def _stop(self, *_: object) -> None:
        self._stopping = True

    def _keep(self, role: str) -> None:
        child = self._children.get(role)
        now = time.monotonic()
        if child is not None:
            if child.poll() is None:
                if now - self._next[role] > CALM_SECONDS:
                    self._pause[role] = 0.1
                return
            self._log(f"{role} (pid {child.pid}) ended with {child.returncode}; it is started again")
            del self._children[role]
            pause = self._pause.get(role, 0.1)
            self._pause[role] = min(pause * 2, 5.0)
            self._next[role] = now + (pause if pause > 0.1 else 0.0)
        if now >= self._next.get(role, 0.0):
            self._children[role] = self._start(role)
            self._next[role] = now
            self._write()

    def _start(self, role: str) -> subprocess.Popen[bytes]:
        words = command(role, self._state)
        with (self._state / "log" / f"{role}.out").open("ab") as out:
            if role == "agent":
                return subprocess.Popen(self._enter + words, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd="/")
            owner = pwd.getpwnam(self._user)
            return subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                cwd="/",
                user=owner.pw_uid,
                group=owner.pw_gid,
                extra_groups=[],
                env={**os.environ, "HOME": "/nonexistent"},
            )

    def _write(self) -> None:
        data = {"supervisor": os.getpid(), **{role: child.pid for role, child in self._children.items()}}
        part = self._file.with_suffix(".part")
        part.write_text(json.dumps(data))
        part.replace(self._file)

    def _end(self) -> None:
        for child in self._children.values():
            child.terminate()
        end = time.monotonic() + STOP_SECONDS
        for child in self._children.values():
            try:
                child.wait(max(0.1, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()

    def _log(self, words: str) -> None:
        with (self._state / "log" / "supervisor.log").open("a") as log:
            log.write(f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} {words}\n")


def running(state: Path) -> dict[str, int]:
    """Process ids by role, of those that live: supervisor, server, server-2 …, agent. Empty when the cloud is down."""
    try:
        data: dict[str, Any] = json.loads((state / "run" / "processes.json").read_text())
    except (OSError, ValueError):
        return {}
    return {role: pid for role, pid in data.items() if _is_ours(pid, state)}


def _is_ours(pid: int, state: Path) -> bool:
    """Whether a process id still belongs to this cloud, and not to whoever got the number since."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return str(state).encode() in words and any(b"nephos" in word for word in words)


def tree(state: Path) -> list[dict[str, Any]]:
    """Every process of the cloud's roles: role, pid, uid. A role's children are of that role."""
    parents: dict[int, int] = {}
    uids: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            uids[int(entry.name)] = entry.stat().st_uid
        except OSError:
            continue
        parents[int(entry.name)] = int(fields[1])
    known = running(state)
    roles = {pid: role for role, pid in known.items()}
    found = [{"role": role, "pid": pid, "uid": uids.get(pid, -1)} for role, pid in known.items()]
    for pid in sorted(parents):
        if pid in roles:
            continue
        parent = parents[pid]
        while parent in parents and parent not in roles:
            parent = parents[parent]
        role = roles.get(parent)
        if role is not None and role.startswith("server"):
            found.append({"role": role, "pid": pid, "uid": uids[pid]})
    return found
