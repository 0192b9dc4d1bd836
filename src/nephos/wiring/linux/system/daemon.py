"""A daemon of ours in a namespace, with its configuration and its pid file in one folder.

It runs on its own, so it outlives the agent; a later agent finds it by its pid file and goes on with it when it runs in
the right namespace with a configuration in that folder.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
from pathlib import Path

from nephos.errors import HostFault
from nephos.wiring.linux.system import netns


class Daemon:
    """`command` is run in the namespace; it goes into the background by itself and writes `folder`/pid."""

    def __init__(self, folder: Path, namespace: str, command: list[str]) -> None:
        self.folder = folder
        self._namespace = namespace
        self._command = command

    def pid(self) -> int | None:
        """The process that serves now: alive, ours by its command line, in the namespace of that name."""
        try:
            number = int((self.folder / "pid").read_text())
            words = Path(f"/proc/{number}/cmdline").read_bytes().split(b"\0")
            there = Path(f"/proc/{number}/ns/net").stat().st_ino
        except (OSError, ValueError):
            return None
        return (
            number if _ours(words, self._command[0], self.folder) and there == netns.identity(self._namespace) else None
        )

    def start(self) -> None:
        """HostFault with its own words when it does not start. What an earlier one noted of itself is forgotten: its
        process id may be somebody else's now."""
        for note in self.folder.glob("*pid"):
            note.unlink()
        done = netns.inside(
            self._namespace,
            lambda: subprocess.run(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                check=False,
                timeout=20,
            ),
        )
        if done.returncode:
            raise HostFault(f"{self._command[0]} for {self._namespace} did not start: {done.stderr.strip()}")

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it is there."""
        pid = self.pid()
        if pid is not None:
            os.kill(pid, number)

    def stop(self) -> None:
        """End whatever of the program runs on this folder, in whichever namespace, and wait until it is gone."""
        for number in processes(self._command[0], self.folder):
            end(number)

    def read(self, name: str) -> str | None:
        try:
            return (self.folder / name).read_text()
        except OSError:
            return None

    def differs(self, name: str, text: str) -> bool:
        return self.read(name) != text

    def write(self, name: str, text: str, *, mode: int = 0o644) -> None:
        part = self.folder / f"{name}.part"
        part.write_text(text)
        part.chmod(mode)
        part.replace(self.folder / name)


def _ours(words: list[bytes], program: str, folder: Path) -> bool:
    """Whether a command line is of this program, with a file of this folder (or below it) as its argument."""
    inside = f"{folder}/".encode()
    return words[0].rsplit(b"/", 1)[-1] == program.encode() and any(inside in word for word in words[1:])


def processes(program: str, folder: Path) -> list[int]:
    """Every process of this machine that runs the program on files of `folder` or below."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if _ours(words, program, folder):
                found.append(int(entry.name))
    return found


def end(number: int) -> None:
    """End a process: politely, then not."""
    try:
        handle = os.pidfd_open(number)
    except ProcessLookupError:
        return
    try:
        for how in (signal.SIGTERM, signal.SIGKILL):
            os.kill(number, how)
            if select.select([handle], [], [], 2.0)[0]:
                return
    except ProcessLookupError:
        pass
    finally:
        os.close(handle)
