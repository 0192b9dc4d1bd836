"""Words on the terminal, seconds of each part, and a log of everything that ran."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path


class InstallError(Exception):
    """The machine could not be made ready. The text says what failed and what to do."""


class Report:
    """Prints progress and keeps the seconds of each part (S1-34). Safe to use from several threads."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self._lock = threading.Lock()
        self._start = time.monotonic()
        self._parts: list[tuple[str, float]] = []
        log.parent.mkdir(parents=True, exist_ok=True)
        self._file = log.open("a", encoding="utf-8")

    def say(self, text: str) -> None:
        with self._lock:
            print(text, flush=True)
            self._note(text)

    def warn(self, text: str) -> None:
        with self._lock:
            print(f"warning: {text}", file=sys.stderr, flush=True)
            self._note(f"warning: {text}")

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Times a part; a part that failed is timed too."""
        begin = time.monotonic()
        try:
            yield
        finally:
            with self._lock:
                self._parts.append((name, time.monotonic() - begin))

    def run(
        self, argv: Sequence[str], *, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command, its output captured and logged; does not raise on failure."""
        begin = time.monotonic()
        done = subprocess.run(
            list(argv), env=env, cwd=cwd, text=True, stdin=subprocess.DEVNULL, capture_output=True, check=False
        )
        with self._lock:
            self._note(f"$ {' '.join(argv)}\n{done.stdout}{done.stderr}")
            self._note(f"exit {done.returncode} after {time.monotonic() - begin:.2f} s")
        return done

    def must(
        self, argv: Sequence[str], *, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Like `run`, but raises `InstallError` with the end of the output."""
        done = self.run(argv, env=env, cwd=cwd)
        if done.returncode != 0:
            raise InstallError(f"`{' '.join(argv)}` failed (exit {done.returncode}):\n{tail(done)}")
        return done

    def seconds(self) -> dict[str, object]:
        """{"parts": [{"name", "seconds"}], "total": seconds}: parts may overlap, so they can sum to more."""
        return {
            "parts": [{"name": name, "seconds": round(took, 2)} for name, took in self._parts],
            "total": round(time.monotonic() - self._start, 2),
        }

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self.seconds(), indent=1) + "\n", encoding="utf-8")

    def summary(self) -> str:
        parts = ", ".join(f"{name} {took:.1f} s" for name, took in self._parts if took >= 0.05)
        total = time.monotonic() - self._start
        return f"machine ready in {total:.1f} s" + (f" ({parts}; parts overlap)" if parts else "")

    def _note(self, text: str) -> None:
        self._file.write(text.rstrip("\n") + "\n")
        self._file.flush()


def tail(done: subprocess.CompletedProcess[str], lines: int = 20) -> str:
    """The last lines of what a command said."""
    said = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    return "\n".join(f"  {line}" for line in said[-lines:])
