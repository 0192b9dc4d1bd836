"""Network namespaces: making them, and working inside them from a process that stays outside.

A socket keeps the namespace it was made in, and a child process that of the thread which forked it. So a short-lived
thread that enters the namespace is all it takes; no other thread of the process notices.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
FOLDER = Path("/run/netns")
_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def exists(name: str) -> bool:
    return (FOLDER / name).exists()


def identity(name: str) -> int | None:
    """The inode that tells this namespace from one of the same name made later; None when there is none.

    A name can be left without a namespace (after a reboot, say): then it is a plain file of the folder.
    """
    try:
        found = (FOLDER / name).stat()
        return found.st_ino if found.st_dev != FOLDER.stat().st_dev else None
    except OSError:
        return None


def listing() -> list[str]:
    """Names of all namespaces of this host."""
    try:
        return sorted(entry.name for entry in FOLDER.iterdir())
    except FileNotFoundError:
        return []


def create(name: str) -> None:
    """Make the namespace. A name left behind without one (after a crash, a reboot) is cleared first."""
    if exists(name) and identity(name) is None:
        (FOLDER / name).unlink()
    _ip("netns", "add", name)


def delete(name: str) -> None:
    """Remove the namespace and all devices in it. Nothing when there is none."""
    if exists(name):
        _ip("netns", "delete", name)


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")


def inside(name: str | None, work: Callable[[], T]) -> T:
    """Run `work` in a thread that has entered the namespace, and return or raise what it does. None: stay here."""
    if name is None:
        return work()
    answer: list[T] = []
    failure: list[BaseException] = []

    def body() -> None:
        try:
            handle = os.open(FOLDER / name, os.O_RDONLY | os.O_CLOEXEC)
            try:
                if _libc.setns(handle, _CLONE_NEWNET):
                    code = ctypes.get_errno()
                    raise OSError(code, f"enter namespace {name}: {os.strerror(code)}")
            finally:
                os.close(handle)
            answer.append(work())
        except BaseException as problem:
            failure.append(problem)

    thread = threading.Thread(target=body, name=f"netns {name}")
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return answer[0]
