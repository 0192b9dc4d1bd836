"""nftables by JSON: a few words to write rules with, and a ruleset that is replaced whole, only when it must be.

The JSON schema is libnftables-json(5).
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import subprocess
from collections.abc import Iterable
from typing import Any

from nephos.errors import HostFault
from nephos.wiring.linux import netns
from nephos.wiring.linux.netlink import Netfilter
from nephos.wiring.linux.record import Record

Expression = dict[str, Any]
Value = Any
ACCEPT: Expression = {"accept": None}
DROP: Expression = {"drop": None}
RETURN: Expression = {"return": None}


def meta(key: str) -> Expression:
    return {"meta": {"key": key}}


def field(protocol: str, name: str) -> Expression:
    return {"payload": {"protocol": protocol, "field": name}}


def masked(left: Value, mask: Value) -> Expression:
    return {"&": [left, mask]}


def match(left: Value, right: Value, op: str = "==") -> Expression:
    return {"match": {"op": op, "left": left, "right": right}}


def mangle(key: Value, value: Value) -> Expression:
    return {"mangle": {"key": key, "value": value}}


def concat(*parts: Value) -> Expression:
    return {"concat": list(parts)}


def prefix(cidr: str) -> Value:
    """An address or network as a set element or a right-hand side."""
    network = ipaddress.ip_network(cidr, strict=False)
    if network.prefixlen == network.max_prefixlen:
        return str(network.network_address)
    return {"prefix": {"addr": str(network.network_address), "len": network.prefixlen}}


def jump(chain: str) -> Expression:
    return {"jump": {"target": chain}}


class Table:
    """A table being written. `commands` replaces whatever table of that name there was."""

    def __init__(self, family: str, name: str) -> None:
        self.family, self.name = family, name
        self._chains: list[dict[str, Any]] = []
        self._sets: list[dict[str, Any]] = []
        self._rules: list[dict[str, Any]] = []

    def _of(self, more: dict[str, Any]) -> dict[str, Any]:
        return {"family": self.family, "table": self.name, **more}

    def chain(self, name: str) -> str:
        self._chains.append({"chain": self._of({"name": name})})
        return name

    def hook(self, name: str, hook: str, priority: int, *, kind: str = "filter", device: str | None = None) -> str:
        """A base chain. Its policy is accept, so that a ruleset that is being replaced never has a closed moment."""
        more: dict[str, Any] = {"name": name, "type": kind, "hook": hook, "prio": priority, "policy": "accept"}
        if device:
            more["dev"] = device
        self._chains.append({"chain": self._of(more)})
        return name

    def set(self, name: str, kind: str | list[str], elements: Iterable[Value], *, interval: bool = False) -> str:
        """A set; an interval one holds networks, overlapping ones too when it has one field."""
        more: dict[str, Any] = {"name": name, "type": kind}
        if interval:
            more["flags"] = ["interval"]
            if isinstance(kind, str):
                more["auto-merge"] = True
        if found := list(elements):
            more["elem"] = found
        self._sets.append({"set": self._of(more)})
        return f"@{name}"

    def map(self, name: str, kind: str, target: str, elements: Iterable[tuple[Value, Value]]) -> str:
        more: dict[str, Any] = {"name": name, "type": kind, "map": target}
        if found := [list(pair) for pair in elements]:
            more["elem"] = found
        self._sets.append({"map": self._of(more)})
        return f"@{name}"

    def rule(self, chain: str, *expressions: Expression) -> None:
        self._rules.append({"rule": self._of({"chain": chain, "expr": list(expressions)})})

    def chains(self) -> list[str]:
        return [item["chain"]["name"] for item in self._chains]

    def commands(self) -> list[dict[str, Any]]:
        table = {"table": {"family": self.family, "name": self.name}}
        body = [*self._chains, *self._sets, *self._rules]
        return [{"add": table}, {"delete": table}, {"add": table}, *({"add": item} for item in body)]


def run(namespace: str | None, *arguments: str, text: str | None = None) -> str:
    """Run nft in a namespace; HostFault with its own words when it refuses."""
    done = netns.inside(
        namespace,
        lambda: subprocess.run(["nft", *arguments], input=text, capture_output=True, text=True, check=False),
    )
    if done.returncode:
        raise HostFault(f"nft refused: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


class Ruleset:
    """The tables of this cloud in one namespace, loaded in one transaction when their text or the kernel differs.

    The kernel counts changes of a namespace's nftables; only when that count moved since the last look are the tables
    read back, so an unchanged host costs one netlink message.
    """

    def __init__(self, namespace: str | None, record: Record) -> None:
        self._namespace = namespace
        self._record = record
        self._key = namespace or "host"
        self._netfilter = netns.inside(namespace, Netfilter)
        self.loads = 0
        self.chains: set[tuple[str, str]] = set()
        """(family, name) of every chain that was wanted last."""

    def close(self) -> None:
        self._netfilter.close()

    @property
    def netfilter(self) -> Netfilter:
        return self._netfilter

    def replace(self, tables: list[Table]) -> bool:
        """Make the tables so; answers whether anything had to be loaded.

        The record holds the digests of what was wanted and of how the kernel lists it, and the kernel's count. The
        listing is read only when somebody else's change has moved the count, because it costs as much as loading.
        """
        text = json.dumps({"nftables": [command for table in tables for command in table.commands()]})
        wanted = hashlib.sha256(text.encode()).hexdigest()
        generation = self._netfilter.generation()
        known, listed, seen = self._record.value.loaded.get(self._key, ("", "", -1))
        self.chains = {(table.family, name) for table in tables for name in table.chains()}
        moved = False
        if known == wanted:
            if seen == generation:
                return False
            moved = True
            if listed and self._listing(tables) == listed:
                self._remember(wanted, listed, generation)
                return False
        run(self._namespace, "-j", "-f", "-", text=text)
        self.loads += 1
        after = self._netfilter.generation()
        # More than our own one change: somebody else was at work meanwhile, so look again next time.
        undisturbed = after == generation + 1 or moved
        self._remember(wanted, self._listing(tables) if moved else "", after if undisturbed else -1)
        return True

    def _remember(self, wanted: str, listed: str, generation: int) -> None:
        self._record.value.loaded[self._key] = (wanted, listed, generation)
        self._record.save()

    def forget(self) -> None:
        if self._record.value.loaded.pop(self._key, None) is not None:
            self._record.save()

    def _listing(self, tables: list[Table]) -> str:
        """A digest of what the kernel has; empty when a table is missing."""
        found = hashlib.sha256()
        for table in tables:
            try:
                found.update(run(self._namespace, "list", "table", table.family, table.name).encode())
            except HostFault:
                return ""
        return found.hexdigest()
