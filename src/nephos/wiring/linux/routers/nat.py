"""A router's ruleset: floating IPs, port forwarding, source NAT, helpers, NDP proxy and metering."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from nephos.wiring.base import Forwarding, Router, RouterGateway
from nephos.wiring.linux.routers.gateways import SHIFT, WISH, outside
from nephos.wiring.linux.system import nft
from nephos.wiring.linux.system.nft import ACCEPT, DROP, Expression, Table, field, mangle, masked, match, meta

METERS = "nephos_meters"
_HAIRPIN = 1
_SOURCE, _TARGET, _MARK = field("ip", "saddr"), field("ip", "daddr"), meta("mark")
_IN, _OUT = meta("iifname"), meta("oifname")
_HELPER_KINDS = {"h323": {"tcp": "Q.931", "udp": "RAS"}}
"""What the kernel calls a helper, where it is another name."""


def tables(router: Router, number: Mapping[str, int], homes: Mapping[str, str]) -> list[Table]:
    """The tables of a router's namespace: `number` is that of each gateway (port) where there are several, `homes` the
    gateway that has each floating address (`gateways`)."""
    return [_nat(router, number, homes), _rules(router, number, homes), _meters(router)]


def _own(gateway: RouterGateway) -> str | None:
    return next((one.address for one in gateway.addresses if ":" not in one.address), None)


def _nat(router: Router, number: Mapping[str, int], homes: Mapping[str, str]) -> Table:
    """Floating IPs both ways, source NAT for all others, and both for guests that call a neighbour's floating IP.

    Where there are several gateways a guest is its floating IP only at the one that has it.
    """
    table = Table("ip", "nephos")
    pairs = {one.address: one.fixed for one in router.floating if ":" not in one.address}
    back: dict[str, str] = {}
    for address, fixed in sorted(pairs.items()):
        back.setdefault(fixed, address)
    table.map("floating", "ipv4_addr", "ipv4_addr", sorted(pairs.items()))
    table.map("fixed", "ipv4_addr", "ipv4_addr", sorted(back.items()))
    if not router.gateways:
        return table
    outer = [outside(each) for each in router.gateways]
    to_fixed: Expression = {"dnat": {"addr": {"map": {"key": _TARGET, "data": "@floating"}}}}
    to_floating: Expression = {"snat": {"addr": {"map": {"key": _SOURCE, "data": "@fixed"}}}}
    table.hook("hairpin", "prerouting", -150)
    known = sorted({*pairs, *(one.address for one in router.forwardings)})
    inner = match(_IN, {"set": outer}, "!=")
    if known:
        table.rule("hairpin", inner, match(_TARGET, {"set": known}), mangle(_MARK, _HAIRPIN))
    for chain, hook in (("prerouting", "prerouting"), ("output", "output")):
        table.hook(chain, hook, -100, kind="nat")
        for rule in forwarding_rules(router.forwardings):
            table.rule(chain, *rule)
        table.rule(chain, to_fixed)
    table.hook("postrouting", "postrouting", 100, kind="nat")
    hairpin = match(_MARK, _HAIRPIN)
    table.rule("postrouting", hairpin, to_floating)
    for gateway in router.gateways:
        leaving, own = match(_OUT, outside(gateway)), _own(gateway)
        here = to_floating
        if number:
            mine = {fixed: address for fixed, address in back.items() if homes.get(address) == gateway.port_id}
            known_here = table.map(f"fixed{number[gateway.port_id]}", "ipv4_addr", "ipv4_addr", sorted(mine.items()))
            here = {"snat": {"addr": {"map": {"key": _SOURCE, "data": known_here}}}}
        table.rule("postrouting", leaving, here)
        if own is not None and gateway is router.gateway:
            table.rule("postrouting", hairpin, {"snat": {"addr": own}})
        if own is not None and gateway.snat:
            table.rule("postrouting", leaving, match(_SOURCE, own, "!="), {"snat": {"addr": own}})
    return table


def forwarding_rules(forwardings: tuple[Forwarding, ...]) -> Iterator[list[Expression]]:
    """One rule for each that leads to one port, or keeps the port; a map of ports for the others."""
    for one in forwardings:
        port = field("th", "dport")
        first, last = one.outside
        chosen = [match(_TARGET, one.address), match(meta("l4proto"), one.protocol)]
        chosen.append(match(port, first if first == last else {"range": [first, last]}))
        to: Expression = {"addr": one.fixed}
        if one.inside[0] == one.inside[1]:
            yield [*chosen, {"dnat": {**to, "port": one.inside[0]}}]
        elif one.inside == one.outside:
            yield [*chosen, {"dnat": to}]
        else:
            shift = one.inside[0] - first
            pairs = [[number, number + shift] for number in range(first, last + 1)]
            yield [*chosen, {"dnat": {**to, "port": {"map": {"key": port, "data": {"set": pairs}}}}}]


def _rules(router: Router, number: Mapping[str, int], homes: Mapping[str, str]) -> Table:
    """What is not translation: helpers, the guard of NDP proxy, the choice among several gateways, and what a router that
    has just become the active one does with packets of connections that it does not know yet."""
    table = Table("inet", "nephos")
    table.hook("helpers", "prerouting", -200)
    table.hook("output", "output", -200)
    for place, one in enumerate(router.helpers):
        kind = _HELPER_KINDS.get(one.helper, {}).get(one.protocol, one.helper)
        table.helper(f"helper{place}", kind, one.protocol)
        for chain in ("helpers", "output"):
            chosen = [match(meta("l4proto"), one.protocol), match(field("th", "dport"), one.port)]
            table.rule(chain, *chosen, {"ct helper": f"helper{place}"})
    if router.ha is not None:
        # The kernel reports the groups that it leaves when it is active no more, without an address, and from the MAC that
        # is another host's now: bridges and switches would send there what is for the active one.
        reports = match(field("icmpv6", "type"), {"set": [131, 132, 143]})
        table.rule("output", match(field("ip6", "saddr"), "::"), reports, DROP)
    if number:
        _choose(table, router, number, homes)
    table.hook("input", "input", 0)
    # It would answer with a reset, and end a connection that the guest's next packet brings back.
    flags = masked(field("tcp", "flags"), {"|": [{"|": ["fin", "syn"]}, {"|": ["rst", "ack"]}]})
    state: Expression = {"ct": {"key": "state"}}
    table.rule("input", match(state, "new", "in"), match(flags, "syn", "!="), DROP)
    table.hook("forward", "forward", 0)
    if router.proxied is not None:
        outer = {"set": [outside(each) for each in router.gateways]}
        table.set("proxied", "ipv6_addr", router.proxied)
        coming = [match(_IN, outer), match(meta("nfproto"), "ipv6")]
        table.rule("forward", *coming, match(field("ip6", "daddr"), "@proxied"), ACCEPT)
        table.rule("forward", *coming, match(state, {"set": ["established", "related"]}, "in"), ACCEPT)
        table.rule("forward", *coming, DROP)
    return table


def _choose(table: Table, router: Router, number: Mapping[str, int], homes: Mapping[str, str]) -> None:
    """Mark packets from inside with the gateway that they shall leave by (`gateways`)."""
    mark: Expression = {"ct": {"key": "mark"}}
    state: Expression = {"ct": {"key": "state"}}
    marks = [(outside(each), number[each.port_id] << SHIFT) for each in router.gateways]
    fresh, inner = match(state, "new", "in"), match(_IN, {"set": [device for device, _ in marks]}, "!=")
    wishes = {
        one.fixed: WISH | number[homes[one.address]] << SHIFT
        for one in router.floating
        if one.address in homes and ":" not in one.fixed
    }
    table.map("wishes", "ipv4_addr", "mark", sorted(wishes.items()))
    # before the mark of those who call a neighbour's floating IP, which is for another purpose
    table.hook("arriving", "prerouting", -151)
    table.hook("leaving", "postrouting", 90)
    for device, value in marks:
        table.rule("arriving", match(_IN, device), fresh, mangle(mark, value))
        table.rule("leaving", match(_OUT, device), match(mark, 0), mangle(mark, value))
    table.rule("arriving", inner, match(mark, 0, "!="), mangle(_MARK, mark), ACCEPT)
    table.rule("arriving", inner, mangle(_MARK, {"map": {"key": _SOURCE, "data": "@wishes"}}))


def _meters(router: Router) -> Table:
    """Counters, one a label. They go on when another rule changes, for only what differs is sent to the kernel."""
    table = Table("inet", METERS)
    if not router.meters or not router.gateways:
        return table
    outer = {"set": [outside(each) for each in router.gateways]}
    table.hook("forward", "forward", 10)
    for meter in router.meters:
        name = meter_name(meter.id)
        table.counter(name)
        chain = table.chain(f"of_{name}")
        for direction, excluded, source, destination in meter.rules:
            chosen = [match(_IN if direction == "ingress" else _OUT, outer)]
            for key, cidr in (("saddr", source), ("daddr", destination)):
                if cidr is not None:
                    chosen.append(match(field("ip6" if ":" in cidr else "ip", key), nft.prefix(cidr)))
            table.rule(chain, *chosen, *([] if excluded else [{"counter": name}]), nft.RETURN)
        table.rule("forward", nft.jump(chain))
    return table


def meter_name(label_id: str) -> str:
    """Of the counter that stands for a metering label."""
    return f"meter_{label_id.replace('-', '_')}"
