"""Runs the tools that build images."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from nephos.errors import HostFault


def run(*argv: str, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> str:
    """Runs a command and returns its output. Raises `HostFault` with the command and all that it said."""
    whole = {**os.environ, "LC_ALL": "C", **(env or {})}
    try:
        done = subprocess.run(
            argv, cwd=cwd, env=whole, text=True, errors="replace", stdin=subprocess.DEVNULL, capture_output=True,
            check=False,
        )  # fmt: skip
    except FileNotFoundError as error:
        raise HostFault(f"The program {argv[0]} is not on this machine; `make install` installs it.") from error
    if done.returncode != 0:
        said = (done.stderr + done.stdout).strip() or "it said nothing"
        raise HostFault(f"`{' '.join(argv)}` failed with exit code {done.returncode}: {said}")
    return done.stdout
