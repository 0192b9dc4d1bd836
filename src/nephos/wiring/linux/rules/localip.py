"""Local IPs: what a guest sends to one gets to a port of its own host, and nothing of it leaves the host.

The bridge family leads packets from guests' taps to the port before anybody else looks at them, so that security groups
judge them by the port's own address. Which connection came to which local IP is kept in its conntrack mark, and the inet
family gives answers the local IP back as their source, after groups have judged them. Who asks where a local IP is (ARP)
is answered by the network's namespace; that MAC stands for nothing, for whatever is sent to the address is led anyway.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from nephos.wiring.base import Network, Port
from nephos.wiring.linux.system import names
from nephos.wiring.linux.system.nft import DROP, Expression, Table, concat, field, jump, mangle, masked, match, meta
from nephos.wiring.linux.system.record import Record

_MARK, _IN, _OUT = meta("mark"), meta("iifname"), meta("oifname")
_FLOW: Expression = {"ct": {"key": "mark"}}
_NUMBER, _REST = 0xFFFF0000, 0xFFFF
_BROADCAST = "ff:ff:ff:ff:ff:ff"


class Led(NamedTuple):
    """A local IP that leads to a port of this host. Its `number` is in the high half of the packet's mark between the two
    families, and of the connection's mark from then on; the low half is zero, so it is no dead connection's."""

    number: int
    network_id: str
    address: str
    port: Port
    fixed: str
    translated: bool


def led(record: Record, ports: Iterable[Port], networks: set[str]) -> list[Led]:
    """The local IPs of ports in these networks. Of several ports that one leads to it is the one with the lowest id."""
    found: dict[tuple[str, str], Led] = {}
    for port in sorted(ports, key=lambda port: port.id):
        for one in port.local if port.admin_up and port.network_id in networks else ():
            key = (port.network_id, one.address)
            if key not in found:
                number = record.local(f"{port.id}/{one.address}")
                found[key] = Led(number, *key, port, one.fixed, one.translated)
    gone = record.value.local.keys() - {f"{each.port.id}/{each.address}" for each in found.values()}
    for name in gone:
        del record.value.local[name]
    if gone:
        record.save()
    return list(found.values())


def lead(
    table: Table,
    all_led: Sequence[Led],
    answering: Mapping[str, tuple[str, str]],
    ports: Iterable[tuple[Port, Network]],
) -> None:
    """Add to the bridge family's table, whose chain from_guest sees what the guests of `ports` send. `answering` has by
    network the device of its namespace and that one's MAC."""
    if not all_led:
        return
    guests: dict[str, list[Port]] = {}
    for port, _ in ports:
        guests.setdefault(port.network_id, []).append(port)
    # The port itself reaches who has the address elsewhere.
    callers = [
        (concat(names.tap(port.id), one.address), one.number)
        for one in all_led
        for port in guests.get(one.network_id, ())
        if port.id != one.port.id
    ]
    table.map("local_ips", ["ifname", "ipv4_addr"], "verdict", ((at, jump(f"local_{led}")) for at, led in callers))
    table.map("local_arp", ["ifname", "ipv4_addr"], "verdict", ((at, jump(f"where_{led}")) for at, led in callers))
    asked = (concat(answering[one.network_id][0], one.address) for one in all_led)
    table.set("local_asked", ["ifname", "ipv4_addr"], asked)
    kept = (concat(names.tap(one.port.id), one.address) for one in all_led if not one.translated)
    table.set("local_kept", ["ifname", "ipv4_addr"], kept)
    for one in all_led:
        chain = table.chain(f"local_{one.number}")
        table.rule(chain, mangle(field("ether", "daddr"), one.port.mac))
        if one.translated:
            table.rule(chain, mangle(_MARK, {"|": [masked(_MARK, _REST), one.number << 16]}))
            table.rule(chain, mangle(field("ip", "daddr"), one.fixed))
        chain = table.chain(f"where_{one.number}")
        table.rule(chain, mangle(field("ether", "daddr"), answering[one.network_id][1]))
    target = field("arp", "daddr ip")
    table.rule("from_guest", {"vmap": {"key": concat(_IN, field("ip", "daddr")), "data": "@local_ips"}})
    question = match(field("arp", "operation"), "request")
    table.rule("from_guest", question, {"vmap": {"key": concat(_IN, target), "data": "@local_arp"}})
    # Only who was sent to the namespace is answered by it; others ask for the one who has the address.
    to_all = match(field("ether", "daddr"), _BROADCAST)
    table.rule("forward", to_all, match(concat(_OUT, target), "@local_asked"), DROP)
    for source in (field("arp", "saddr ip"), field("ip", "saddr")):
        table.rule("forward", match(_OUT, "@uplinks"), match(concat(_IN, source), "@local_kept"), DROP)


def answer(table: Table, all_led: Sequence[Led]) -> None:
    """Add to the inet family's table: which local IP a connection came to, and who answers."""
    if not all_led:
        return
    bridges = {"set": sorted({names.bridge(one.network_id) for one in all_led})}
    table.hook("to_local", "prerouting", -150)
    here, led_here = match(_IN, bridges), match(masked(_MARK, _NUMBER), 0, "!=")
    table.rule("to_local", here, led_here, match(_FLOW, 0), mangle(_FLOW, masked(_MARK, _NUMBER)))
    table.rule("to_local", here, led_here, mangle(_MARK, masked(_MARK, _REST)))
    translated = [(one.number << 16, one.address) for one in all_led if one.translated]
    table.map("local_sources", "mark", "ipv4_addr", translated)
    table.hook("from_local", "forward", 2)
    answers = match({"ct": {"key": "direction"}}, "reply")
    given: Expression = {"map": {"key": _FLOW, "data": "@local_sources"}}
    table.rule("from_local", match(meta("nfproto"), "ipv4"), answers, mangle(field("ip", "saddr"), given))
