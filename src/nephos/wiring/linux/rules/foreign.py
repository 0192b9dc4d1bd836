"""Other people's firewalls: a FORWARD chain that rejects what it does not know must not break guests (S4-02).

An accept of ours in a table of its own would not help, because accept ends only its own chain. So a few narrow accepts
go to the head of each foreign chain that could refuse; they carry a comment by which they are found and removed.
"""

from __future__ import annotations

import json
import logging
from typing import Any, NamedTuple

from nephos.errors import HostFault
from nephos.wiring.linux.system import nft
from nephos.wiring.linux.system.nft import ACCEPT, Expression, match, meta

log = logging.getLogger(__name__)


class Chain(NamedTuple):
    """A foreign base chain of the forward hook, and what is in it. `handles` are of our own rules."""

    family: str
    table: str
    name: str
    handles: list[int]
    ours: list[list[Expression]]
    ours_first: bool
    refuses: bool


class ForeignChains:
    """Keeps our accepts in them."""

    def __init__(self, comment: str) -> None:
        self._comment = comment
        self.changes = 0

    def _items(self) -> list[dict[str, Any]]:
        """All tables but our own, which may be large."""
        tables = [
            one["table"] for one in json.loads(nft.run(None, "-j", "list", "tables"))["nftables"] if "table" in one
        ]
        found: list[dict[str, Any]] = []
        for table in tables:
            if table["family"] in ("ip", "ip6", "inet") and not table["name"].startswith("nephos"):
                text = nft.run(None, "-j", "-a", "list", "table", table["family"], table["name"])
                found += json.loads(text)["nftables"]
        return found

    def _chains(self) -> list[Chain]:
        items = self._items()
        rules: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
        for item in items:
            if rule := item.get("rule"):
                rules.setdefault((rule["family"], rule["table"], rule["chain"]), []).append(rule)
        found = []
        for item in items:
            chain = item.get("chain")
            if not chain or chain.get("hook") != "forward":
                continue
            body = rules.get((chain["family"], chain["table"], chain["name"]), [])
            ours = [rule for rule in body if rule.get("comment") == self._comment]
            found.append(
                Chain(
                    chain["family"],
                    chain["table"],
                    chain["name"],
                    [rule["handle"] for rule in ours],
                    [rule["expr"] for rule in ours],
                    body[: len(ours)] == ours,
                    chain.get("policy") == "drop" or len(body) > len(ours),
                )
            )
        return found

    def ensure(self, bridges: list[str]) -> None:
        """Let pass what is bridged on our networks' bridges and what enters or leaves by `bridges`, the physical ones
        that the host routes for."""
        wanted = [[match(meta("iifname"), "brq*"), match(meta("oifname"), "brq*"), ACCEPT]]
        for bridge in bridges:
            wanted.append([match(meta("iifname"), bridge), ACCEPT])
            wanted.append([match(meta("oifname"), bridge), ACCEPT])
        commands: list[dict[str, Any]] = []
        for chain in self._chains():
            if not chain.refuses and not chain.ours:
                continue
            if chain.ours_first and chain.ours == wanted:
                continue
            place = {"family": chain.family, "table": chain.table, "chain": chain.name}
            commands += [{"delete": {"rule": {**place, "handle": handle}}} for handle in chain.handles]
            for expressions in reversed(wanted):
                commands.append({"insert": {"rule": {**place, "expr": expressions, "comment": self._comment}}})
        if commands:
            log.info("putting our accepts at the head of foreign forward chains")
            nft.run(None, "-j", "-f", "-", text=json.dumps({"nftables": commands}))
            self.changes += 1

    def remove(self) -> None:
        """Take our rules out again."""
        for chain in self._chains():
            for handle in chain.handles:
                try:
                    nft.run(None, "delete", "rule", chain.family, chain.table, chain.name, "handle", str(handle))
                except HostFault:
                    log.warning("a rule of ours in %s %s was already gone", chain.table, chain.name)
