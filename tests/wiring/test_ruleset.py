"""A ruleset that changes: only what differs is sent, in an order that the kernel takes, and everything when it must be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from nephos.errors import HostFault
from nephos.wiring.base import Limits
from nephos.wiring.linux.rates.qos import Queue
from nephos.wiring.linux.system import nft
from nephos.wiring.linux.system.nft import ACCEPT, DROP, Table, jump, match, meta
from nephos.wiring.linux.system.record import Record
from nephos.wiring.linux.vet import _limits


def table(*ports: int, rules: tuple[int, ...] = (), hook: int = 0, members: tuple[str, ...] = ()) -> Table:
    """A chain a port, reached by a map, and one that all of them share."""
    found = Table("inet", "t")
    found.hook("judge", "forward", hook)
    found.chain("group")
    for port in rules:
        found.rule("group", match({"payload": {"protocol": "tcp", "field": "dport"}}, port), ACCEPT)
    for port in ports:
        found.rule(found.chain(f"port_{port}"), jump("group"), DROP)
    found.map("ports", "mark", "verdict", ((port, jump(f"port_{port}")) for port in ports))
    found.set("members", "ipv4_addr", members, interval=True)
    found.set("macs", ["mark", "ether_addr"], ({"concat": [port, "02:00:00:00:00:01"]} for port in ports))
    found.rule("judge", {"vmap": {"key": meta("mark"), "data": "@ports"}})
    return found


def words(commands: list[dict[str, Any]] | None) -> list[str]:
    """`add rule group`, `flush chain group`…"""
    assert commands is not None
    found = []
    for command in commands:
        ((verb, what),) = command.items()
        ((kind, body),) = what.items()
        found.append(f"{verb} {kind} {body.get('chain') or body['name']}")
    return found


def test_a_rule_more_sends_its_chain_and_no_other() -> None:
    thousand = tuple(range(1, 1001))
    commands = table(*thousand, rules=(80, 443)).difference(table(*thousand, rules=(80,)))
    assert words(commands) == ["flush chain group", "add rule group", "add rule group"]


def test_nothing_more_sends_nothing() -> None:
    assert table(1, 2, rules=(80,)).difference(table(1, 2, rules=(80,))) == []


def test_what_is_pointed_at_comes_first_and_goes_last() -> None:
    assert words(table(1, 2).difference(table(1))) == [
        "add chain port_2",
        "add element ports",
        "add element macs",
        "add rule port_2",
    ]
    assert words(table(1).difference(table(1, 2))) == [
        "flush chain port_2",
        "delete element ports",
        "delete element macs",
        "delete chain port_2",
    ]


def test_a_set_that_joins_its_elements_is_filled_anew() -> None:
    """Taking 10.0.0.5 out of what was joined to 10.0.0.0/24 would make a hole."""
    commands = table(members=("10.0.0.0/24",)).difference(table(members=("10.0.0.0/24", "10.0.0.5")))
    assert words(commands) == ["flush set members", "add element members"]
    assert words(table().difference(table(members=("10.0.0.5",)))) == ["flush set members"]


def test_a_hook_of_another_kind_needs_the_whole_table() -> None:
    assert table(hook=1).difference(table()) is None
    other = table()
    other.set("macs", "mark", [1])
    assert other.difference(table()) is None


class Kernel:
    """Stands for nft and the kernel's count of changes; refuses what it is told to."""

    def __init__(self) -> None:
        self.sent: list[list[dict[str, Any]]] = []
        self.count, self.refuses = 1, False

    def run(self, namespace: str | None, *arguments: str, text: str | None = None) -> str:
        if text is None:
            return "a listing"
        if self.refuses:
            self.refuses = False
            raise HostFault("no")
        self.sent.append(msgspec.json.decode(text)["nftables"])
        self.count += 1
        return ""

    def generation(self) -> int:
        return self.count

    def close(self) -> None:
        pass


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    one = Kernel()
    monkeypatch.setattr(nft, "run", one.run)
    monkeypatch.setattr(nft, "Netfilter", lambda: one)
    return one


def test_everything_is_sent_first_after_others_and_when_a_change_is_refused(kernel: Kernel, tmp_path: Path) -> None:
    ruleset = nft.Ruleset(None, Record(tmp_path / "host.json"))
    assert ruleset.replace([table(1, rules=(80,))]) and ruleset.replaced == 1
    assert not ruleset.replace([table(1, rules=(80,))])
    assert ruleset.replace([table(1, rules=(80, 81))]) and ruleset.replaced == 1
    assert words(kernel.sent[-1]) == ["flush chain group", "add rule group", "add rule group"]
    kernel.count += 1  # somebody else's change
    assert ruleset.replace([table(1, rules=(80,))]) and ruleset.replaced == 2
    kernel.refuses = True
    assert ruleset.replace([table(1, rules=(82,))]) and ruleset.replaced == 3
    assert words(kernel.sent[-1])[:3] == ["add table t", "delete table t", "add table t"]
    assert ruleset.replace([table(1, rules=(82, 83))]) and ruleset.replaced == 3


def test_an_unknown_past_is_replaced_whole(kernel: Kernel, tmp_path: Path) -> None:
    """A driver that started anew does not know what the kernel has."""
    nft.Ruleset(None, Record(tmp_path / "host.json")).replace([table(1)])
    again = nft.Ruleset(None, Record(tmp_path / "host.json"))
    assert not again.replace([table(1)])
    assert again.replace([table(1, 2)]) and again.replaced == 1


@pytest.mark.parametrize(
    ("kbits", "burst", "queue"),
    [
        (2000, 0, Queue(250_000, 200_000)),
        (2000, 256, Queue(250_000, 32_000)),
        (1, 0, Queue(125, 4_000)),
        (0, 0, Queue(125, 4_000)),
        (10_000_000, 1, Queue(1_250_000_000, 5_000_000)),
    ],
)
def test_a_bucket_holds_at_least_what_the_kernels_clock_needs(kbits: int, burst: int, queue: Queue) -> None:
    assert Queue.of(kbits, burst) == queue


def test_a_bucket_that_the_kernel_rounded_is_the_same() -> None:
    assert Queue(250_000, 32_000).near(Queue(250_000, 31_999))
    assert not Queue(250_000, 32_000).near(Queue(250_001, 32_000))
    assert not Queue(250_000, 32_000).near(None)


@pytest.mark.parametrize("limits", [Limits(dscp=64), Limits(to_kbits=-1), Limits(sent_packets=1 << 31)])
def test_limits_out_of_range_are_refused(limits: Limits) -> None:
    with pytest.raises(ValueError, match="out of range"):
        _limits(limits)
