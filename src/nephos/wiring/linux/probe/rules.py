"""Which rule ate a packet: the kernel's own tracing of nftables, and the counters of old iptables.

A table of ours sets `meta nftrace` on the probes alone; `nft monitor trace` then says what every table did with them,
also other people's and those of iptables-nft. Rules of iptables-legacy are not traced, so their counters are compared.
"""

from __future__ import annotations

import json
import re
import subprocess
from contextlib import suppress
from typing import Any, NamedTuple

from nephos.errors import HostFault
from nephos.wiring.linux.probe import frames
from nephos.wiring.linux.system import netns, nft
from nephos.wiring.probe import Arp, Dhcp, Dhcp6, Eaten, Echo, Packet, RouterSolicit, Solicit

PREFIX = "nephos_trace"
_FIRST = -450
_LINE = re.compile(r"trace id (?P<id>\w+) (?P<family>\w+) (?P<table>\S+) (?P<chain>\S+) (?P<rest>.*)")
_RULE = re.compile(r"rule (?P<rule>.*) \(verdict (?P<verdict>[^)]+)\)")
_POLICY = re.compile(r"policy (?P<verdict>\w+)")
_FOR_ALL = (Dhcp, Dhcp6, RouterSolicit, Solicit)
_TUNNEL_HEADERS = 16
"""UDP and VXLAN, in bytes from the transport header on."""


class Verdict(NamedTuple):
    """The end of a packet's way through one chain."""

    family: str
    table: str
    chain: str
    rule: str
    verdict: str


class Tracing:
    """Between `start` and `stop` the kernel tells what its rules do with the packets, in one namespace."""

    def __init__(self, token: str, packets: tuple[Packet, ...], tunnel_port: int, namespace: str | None) -> None:
        self._table = f"{PREFIX}_{token}"
        self._packets = packets
        self._port = tunnel_port
        self._namespace = namespace
        self._monitor: subprocess.Popen[str] | None = None
        self._legacy: dict[str, int] = {}
        self._marks: list[tuple[int, bool]] = []

    def start(self) -> None:
        """Raises HostFault when nft refuses."""
        nft.run(self._namespace, "-f", "-", text=self._script())
        self._monitor = netns.inside(
            self._namespace,
            lambda: subprocess.Popen(
                ["nft", "monitor", "trace"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
            ),
        )
        self._legacy = _legacy_counters(self._namespace)

    def stop(self) -> list[Eaten]:
        """What was eaten meanwhile. Takes everything away again."""
        said = ""
        if self._monitor is not None:
            self._monitor.terminate()
            said, _ = self._monitor.communicate()
        with suppress(HostFault):
            nft.run(self._namespace, "-f", "-", text=self._removal())
        found = self._judge(said)
        for rule, count in _legacy_counters(self._namespace).items():
            if count > self._legacy.get(rule, 0) and (refusing := _legacy_refusal(rule)):
                found.append(Eaten(packet=-1, answer=False, namespace=self._namespace or "", foreign=True, **refusing))
        return found

    def _script(self) -> str:
        """The table. A mark of ours in the comment-like position is not needed: each pattern has a chain of its own, and
        the chain's name in the trace tells which packet it is."""
        lines = []
        for family in self._families():
            chains, jumps = [], {"prerouting": [], "output": []}  # type: ignore[var-annotated]
            for number, packet in enumerate(self._packets):
                for pattern in frames.patterns(packet):
                    chain = f"p{number}{'a' if pattern.answer else 'q'}"
                    for hook, condition in _conditions(family, packet, pattern, self._port):
                        jumps[hook].append(f"{condition} meta nftrace set 1 jump {chain}")
                    chains.append(f"chain {chain} {{\nreturn\n}}")
            lines.append(f"table {family} {self._table} {{")
            lines += list(dict.fromkeys(chains))
            for hook, rules in jumps.items():
                if family == "arp" and hook == "prerouting":
                    hook = "input"
                lines.append(f"chain {hook} {{ type filter hook {hook} priority {_FIRST}; policy accept;")
                lines += rules
                lines.append("}")
            lines.append("}")
        return "\n".join(lines)

    def _removal(self) -> str:
        return "\n".join(f"delete table {family} {self._table}" for family in self._families())

    def _families(self) -> tuple[str, ...]:
        return ("bridge", "inet") if self._namespace is None else ("ip", "ip6", "arp")

    def _judge(self, said: str) -> list[Eaten]:
        whose: dict[str, tuple[int, bool]] = {}
        ends: list[tuple[str, Verdict]] = []
        for line in said.splitlines():
            parts = _LINE.match(line)
            if parts is None:
                continue
            name = re.fullmatch(r"p(\d+)([aq])", parts["chain"])
            if parts["table"] == self._table and name:
                whose[parts["id"]] = (int(name[1]), name[2] == "a")
            rule, policy = _RULE.match(parts["rest"]), _POLICY.match(parts["rest"])
            verdict = rule["verdict"] if rule else policy["verdict"] if policy else ""
            text = rule["rule"] if rule else ""
            if _by_design(parts["family"], parts["table"], parts["chain"], text):
                continue
            if verdict == "drop" or text.startswith("reject") or " reject" in text:
                ends.append(
                    (parts["id"], Verdict(parts["family"], parts["table"], parts["chain"], text, verdict or "reject"))
                )
        found: dict[Verdict, Eaten] = {}
        for number, verdict in ends:
            packet, answer = whose.get(number, (-1, False))
            ours = verdict.family == "inet" and verdict.table.startswith("nephos")
            if ours and packet >= 0 and not answer and isinstance(self._packets[packet], _FOR_ALL):
                # It reaches other guests too, whose groups drop their copy.
                continue
            found.setdefault(
                verdict,
                Eaten(
                    packet=packet,
                    answer=answer,
                    family=verdict.family,
                    table=verdict.table,
                    chain=verdict.chain,
                    verdict="reject" if "reject" in verdict.rule else verdict.verdict,
                    namespace=self._namespace or "",
                    rule=verdict.rule,
                    number=self._number(verdict),
                    foreign=not verdict.table.startswith("nephos"),
                ),
            )
        return list(found.values())

    def _number(self, verdict: Verdict) -> int | None:
        """The rule's place in its chain, from 1, as iptables -L --line-numbers counts."""
        if not verdict.rule:
            return None
        try:
            listing = nft.run(self._namespace, "list", "chain", verdict.family, verdict.table, verdict.chain)
        except HostFault:
            return None
        rules = [line.strip() for line in listing.splitlines()[2:]]
        rules = [line for line in rules if line and line != "}" and not line.startswith("type ")]
        wanted = _plain(verdict.rule)
        for place, rule in enumerate(rules, 1):
            if _plain(rule) == wanted:
                return place
        return None


def _by_design(family: str, table: str, chain: str, rule: str) -> bool:
    """What our own rules always drop: a flooded copy for the host itself, or one that must not leave for a DHCP port that
    is on every host."""
    if family != "bridge" or not table.startswith("nephos"):
        return False
    return chain == "input" or chain.startswith("out_") or (chain == "forward" and "@local_" in rule)


def _plain(rule: str) -> str:
    """A rule's text without what differs from one listing to the next."""
    rule = re.sub(r"counter packets \d+ bytes \d+", "counter", rule)
    return re.sub(r"\s+", " ", re.sub(r' comment ".*"', "", rule)).strip()


def _conditions(family: str, packet: Packet, pattern: frames.Pattern, port: int) -> list[tuple[str, str]]:
    """(hook, match) for a pattern in a table family. A raw match holds 16 bytes."""
    data = pattern.data[:16]
    value, bits = f"0x{data.hex()}", len(data) * 8
    arp = isinstance(packet, Arp)
    number = frames.version(packet)
    if family == "bridge":
        kind = "arp" if arp else "ip" if number == 4 else "ip6"
        return [("prerouting", f"ether type {kind} @ll,{pattern.offset * 8},{bits} {value}{_type(packet, pattern)}")]
    if family == "arp":
        if not arp:
            return []
        place = (pattern.offset - frames.ETHER) * 8
        return [(hook, f"@nh,{place},{bits} {value}") for hook in ("prerouting", "output")]
    inside = (_TUNNEL_HEADERS + pattern.offset) * 8
    # A short pattern may be anything: what is inside is IPv6 then.
    six = f"@th,{(_TUNNEL_HEADERS + 12) * 8},16 0x86dd " if number == 6 else ""
    outer = [(hook, f"udp dport {port} {six}@th,{inside},{bits} {value}") for hook in ("prerouting", "output")]
    if arp:
        return outer if family == "inet" else []
    if family == ("ip6" if number == 4 else "ip"):
        return []
    place = pattern.offset - frames.ETHER - (frames.IPV4 if number == 4 else frames.IPV6)
    chosen = f"{f'meta nfproto ipv{number} ' if family == 'inet' else ''}meta l4proto {frames.protocol(packet)}"
    base, place = ("th", place) if place >= 0 else ("nh", pattern.offset - frames.ETHER)
    bare = f"{chosen} @{base},{place * 8},{bits} {value}{_type(packet, pattern)}"
    return [*(outer if family == "inet" else []), ("prerouting", bare), ("output", bare)]


def _type(packet: Packet, pattern: frames.Pattern) -> str:
    """What tells kinds of ICMP apart: an echo and its reply differ in the type alone."""
    answer = pattern.answer
    match packet:
        case Echo():
            family = "icmp" if frames.version(packet) == 4 else "icmpv6"
            return f" {family} type {'echo-reply' if answer else 'echo-request'}"
        case Solicit():
            return f" icmpv6 type {'nd-neighbor-advert' if answer else 'nd-neighbor-solicit'}"
        case RouterSolicit():
            return f" icmpv6 type {'nd-router-advert' if answer else 'nd-router-solicit'}"
    return ""


def sweep(namespace: str | None) -> None:
    """Remove tables that a killed probe left."""
    for item in json.loads(nft.run(namespace, "-j", "list", "tables"))["nftables"]:
        table = item.get("table")
        if table and table["name"].startswith(PREFIX):
            with suppress(HostFault):
                nft.run(namespace, "delete", "table", table["family"], table["name"])


def _legacy_counters(namespace: str | None) -> dict[str, int]:
    """Rule or policy of iptables-legacy's filter table → packets. Empty where there is none."""

    def save() -> str:
        if "filter" not in _tables():
            return ""
        done = subprocess.run(
            ["iptables-legacy-save", "-c", "-t", "filter"], capture_output=True, text=True, check=False
        )
        return done.stdout

    try:
        said = netns.inside(namespace, save)
    except OSError:
        return {}
    found: dict[str, int] = {}
    numbers: dict[str, int] = {}
    for line in said.splitlines():
        if line.startswith(":"):
            name, policy, count = line[1:].split(" ", 2)
            found[f"{name} 0 policy {policy}"] = int(count.strip("[]").split(":")[0])
        elif line.startswith("["):
            count, _, rule = line.partition("] ")
            chain = rule.split()[1]
            numbers[chain] = numbers.get(chain, 0) + 1
            found[f"{chain} {numbers[chain]} {rule}"] = int(count[1:].split(":")[0])
    return found


def _tables() -> str:
    with suppress(OSError), open("/proc/thread-self/net/ip_tables_names") as file:  # noqa: PTH123
        return file.read()
    return ""


def _legacy_refusal(line: str) -> dict[str, Any] | None:
    chain, number, rule = line.split(" ", 2)
    policy = rule.startswith("policy ")
    if not (rule == "policy DROP" or re.search(r"-j (DROP|REJECT)\b", rule)):
        return None
    return {
        "family": "iptables-legacy",
        "table": "filter",
        "chain": chain,
        "verdict": "reject" if "REJECT" in rule else "drop",
        "rule": "" if policy else rule,
        "number": None if policy else int(number),
    }
