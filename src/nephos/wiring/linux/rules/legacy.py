"""Other people's firewalls of the old kind (iptables-legacy), which nftables neither shows nor counts: see `foreign`."""

from __future__ import annotations

import logging
import shlex
import subprocess
from contextlib import suppress
from pathlib import Path

from nephos.errors import HostFault

log = logging.getLogger(__name__)
_TOOLS = {"iptables-legacy": "ip_tables_names", "ip6tables-legacy": "ip6_tables_names"}
"""Tool → the file that lists the tables in use."""


class LegacyChains:
    """Keeps our accepts at the head of FORWARD, where that could refuse, and takes them out again."""

    def __init__(self, comment: str) -> None:
        self._comment = comment
        self.changes = 0

    def ensure(self, bridges: list[str]) -> None:
        """As `foreign.ForeignChains.ensure`. Cheap where the old kind is not used."""
        wanted = [["-i", "brq+", "-o", "brq+"]]
        for bridge in bridges:
            wanted += [["-i", bridge], ["-o", bridge]]
        rules = [[*each, "-m", "comment", "--comment", self._comment, "-j", "ACCEPT"] for each in wanted]
        for tool in self._in_use():
            policy, found = self._forward(tool)
            ours = [rule for rule in found if self._comment in rule]
            if not ours and policy == "ACCEPT" and not found:
                continue
            if found[: len(rules)] == rules and ours == rules:
                continue
            log.info("putting our accepts at the head of %s FORWARD", tool)
            self._delete(tool, ours)
            for rule in reversed(rules):
                _run(tool, "-I", "FORWARD", *rule)
            self.changes += 1

    def remove(self) -> None:
        """Take our rules out again."""
        for tool in self._in_use():
            self._delete(tool, [rule for rule in self._forward(tool)[1] if self._comment in rule])

    def _delete(self, tool: str, rules: list[list[str]]) -> None:
        for rule in rules:
            with suppress(HostFault):
                _run(tool, "-D", "FORWARD", *rule)

    @staticmethod
    def _in_use() -> list[str]:
        found = []
        for tool, names in _TOOLS.items():
            with suppress(OSError):
                if "filter" in Path("/proc/thread-self/net", names).read_text().split():
                    found.append(tool)
        return found

    @staticmethod
    def _forward(tool: str) -> tuple[str, list[list[str]]]:
        """The policy of FORWARD, and its rules in the tool's own words, without the chain's name."""
        policy, rules = "ACCEPT", []
        for line in _run(tool, "-S", "FORWARD").splitlines():
            words = shlex.split(line)
            if words[0] == "-P":
                policy = words[2]
            elif words[0] == "-A":
                rules.append(words[2:])
        return policy, rules


def _run(*words: str) -> str:
    """Raises HostFault with the tool's own words; waits for whoever else changes rules."""
    tool, *rest = words
    try:
        done = subprocess.run([tool, "-w", "5", *rest], capture_output=True, text=True, check=False)
    except FileNotFoundError as missing:
        raise HostFault(f"{tool} is not installed, and rules of that kind are in use") from missing
    if done.returncode:
        raise HostFault(f"{' '.join(words)}: {done.stderr.strip()}")
    return done.stdout
