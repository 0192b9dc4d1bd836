"""The state of the world in one file, for a start that failed (S1-42)."""

from __future__ import annotations

import subprocess
from pathlib import Path

import msgspec

from nephos.kernel import clock
from nephos.settings import Settings

_COMMANDS = (
    ("uname", "-a"),
    ("free", "-m"),
    ("df", "-h"),
    ("ps", "axfo", "pid,ppid,user,stat,etime,rss,args"),
    ("ss", "-lntup"),
    ("ip", "-d", "addr"),
    ("ip", "route"),
    ("ip", "netns"),
    ("bridge", "link"),
    ("nft", "list", "ruleset"),
    ("virsh", "-c", "qemu:///system", "list", "--all"),
)
_TAIL = 20_000


def dump(settings: Settings, why: str) -> Path:
    """Write settings, processes, sockets, links, rules and the ends of the logs. Holds no secret. Answers the file."""
    stamp = (clock.iso(clock.now_us()) or "").replace(":", "")
    settings.log_dir.mkdir(parents=True, exist_ok=True)
    path = settings.log_dir / f"worlddump-{stamp}.txt"
    parts = [
        f"# why\n{why}\n",
        f"# settings\n{msgspec.json.format(msgspec.json.encode(settings, enc_hook=str)).decode()}\n",
    ]
    for words in _COMMANDS:
        parts.append(f"# {' '.join(words)}\n{_output(words)}\n")
    for log in sorted(settings.log_dir.glob("*.log")) + sorted(settings.log_dir.glob("*.out")):
        text = log.read_text(errors="replace")
        parts.append(f"# {log}\n{text[-_TAIL:]}\n")
    path.write_text("\n".join(parts))
    path.chmod(0o600)
    return path


def _output(words: tuple[str, ...]) -> str:
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=10, check=False, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired) as wrong:
        return f"({wrong})"
    return done.stdout + done.stderr
