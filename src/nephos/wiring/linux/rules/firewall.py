"""The host's ruleset for guests: who a frame comes from, spoofing, DHCP and metadata kept local, security groups.

A port is known by its index, carried in the packet's mark: the sender's in the low half, the receiver's in the high
half. The bridge family knows the taps and sets it; bridged IP packets then pass the inet family (br_netfilter), which
has connection tracking and judges them by mark. Tracking is per network (zones), so equal addresses do not meet.

Every packet pays for each rule that it meets, and most for a look at a device's name. So one look leads to a chain of the
port's or network's own, where names and addresses are constants, and what most packets are is judged first (decision 0017).
"""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec

from nephos.wiring.base import Desired, Network, Port, WiringSettings
from nephos.wiring.linux.routers import edge
from nephos.wiring.linux.rules import guard, localip
from nephos.wiring.linux.rules.groups import OURS, PASSED, Groups, stateless
from nephos.wiring.linux.rules.localip import Led
from nephos.wiring.linux.system import names, nft
from nephos.wiring.linux.system.names import METADATA, METADATA6, link_local
from nephos.wiring.linux.system.nft import (
    ACCEPT,
    DROP,
    RETURN,
    Expression,
    Table,
    concat,
    field,
    goto,
    jump,
    mangle,
    masked,
    match,
    meta,
    raw,
)

_MARK = meta("mark")
_IN, _OUT = meta("iifname"), meta("oifname")
_SOURCE, _TARGET = field("ether", "saddr"), field("ether", "daddr")
_BEFORE_BRIDGE, _TCP = -300, 6
_TARGET_AT, _SOURCE_AT = 0, 48
"""The bits of a frame where its MACs begin."""
_GUEST = jump("from_guest")


class Plan(NamedTuple):
    """What the rules are written from. `dhcp_macs` and `uplinks` are by network id, as wired on this host; `led` are the
    local IPs that lead to ports here."""

    desired: Desired
    dhcp_macs: Mapping[str, str]
    uplinks: Mapping[str, tuple[str, ...]]
    zones: Mapping[str, int]
    led: Sequence[Led] = ()
    indexes: Mapping[str, int] = {}
    """Device name → the kernel's number of it."""
    overheard: Sequence[str] = ()
    """Devices whose frames are for a switch, and not for the host, which gets them too."""
    absent: Sequence[str] = ()
    """The ports of physical networks' bridges that the host itself is not on."""

    def ports(self) -> Iterator[tuple[Port, Network]]:
        for port in self.desired.ports.values():
            network = self.desired.networks.get(port.network_id)
            if network is not None:
                yield port, network

    def members(self) -> Iterator[str]:
        """Every device that is a port of a network's bridge."""
        yield from self.ways_out()
        for port, _ in self.ports():
            yield names.tap(port.id)
        for network_id in self.dhcp_macs:
            yield names.tap(_answerer(self, network_id))
        for router in self.desired.routers.values():
            for leg in router.legs:
                yield names.tap(leg.port_id)

    def ways_out(self) -> Iterator[str]:
        """Every device by which a network leaves the host."""
        for devices in self.uplinks.values():
            yield from devices

    def secured(self) -> list[tuple[Port, Network]]:
        return [(port, network) for port, network in self.ports() if port.port_security]

    @property
    def quick(self) -> bool:
        """Whether a packet of a connection that groups let pass need not be asked where it goes: no port here looks at
        single packets, as a stateless one or one with a packet rate does, and no local IP is led."""
        ports = [port for port, _ in self.ports()]
        limited = any(port.limits is not None and port.limits.to_packets is not None for port in ports)
        return not (self.led or limited or any(stateless(port, self.desired) for port in ports))


def _answerer(plan: Plan, network_id: str) -> str:
    """The id by which the device of a network's namespace is called."""
    return plan.desired.networks[network_id].dhcp_port_id or network_id


def sources(port: Port) -> dict[str, list[str]]:
    """MAC → the networks that this port may send from, link-local addresses included; none overlap."""
    kept = [one.address for one in port.local if not one.translated]
    return _sources(port.mac, (*(address.address for address in port.addresses), *kept), port.pairs)


@functools.lru_cache(1 << 16)
def _sources(own: str, addresses: tuple[str, ...], pairs: tuple[tuple[str, str | None], ...]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {own: list(addresses)}
    for cidr, mac in pairs:
        found.setdefault(mac or own, []).append(cidr)
    result: dict[str, list[str]] = {}
    for mac, cidrs in found.items():
        networks = [ipaddress.ip_network(cidr, strict=False) for cidr in [*cidrs, link_local(mac)]]
        four = ipaddress.collapse_addresses(one for one in networks if isinstance(one, ipaddress.IPv4Network))
        six = ipaddress.collapse_addresses(one for one in networks if isinstance(one, ipaddress.IPv6Network))
        result[mac] = [*map(str, four), *map(str, six)]
    return result


def bridge_table(name: str, plan: Plan) -> Table:
    """The bridge family's part: identity, spoofing, what stays on the host."""
    table = Table("bridge", name)
    _sets(table, plan)
    table.hook("prerouting", "prerouting", _BEFORE_BRIDGE)
    table.hook("forward", "forward", _BEFORE_BRIDGE)
    # A network's bridge carries frames and is no door to the host: nothing that comes in by it is for the host itself.
    table.hook("input", "input", _BEFORE_BRIDGE)
    table.rule("input", match(_IN, "@members"), DROP)
    if plan.absent:
        # Guests of a flat network would speak to the host there by any address that it has elsewhere.
        table.rule("input", match(_IN, {"set": list(plan.absent)}), DROP)
    for chain in ("from_guest", "secured", "secured_arp", "secured_ip", "secured_ip6"):
        table.chain(chain)
    # A number is found sooner than a name, and is nobody else's; what was made anew has another, and its old name.
    table.rule("prerouting", {"vmap": {"key": meta("iif"), "data": "@senders_at"}})
    table.rule("prerouting", {"vmap": {"key": _IN, "data": "@senders"}})
    quick = plan.quick
    if quick:
        table.rule("forward", match(_MARK, PASSED), ACCEPT)
        table.rule("forward", match(_MARK, OURS), mangle(_MARK, 0))
    table.rule("forward", {"vmap": {"key": _OUT, "data": "@receivers"}})
    _from_guest(table)
    answering = {net: (names.tap(_answerer(plan, net)), mac) for net, mac in plan.dhcp_macs.items()}
    localip.lead(table, plan.led, answering, plan.ports())
    edge.lead(table, plan.desired)
    _secured(table)
    senders, receivers = [], []
    led = {one.network_id for one in plan.led}
    for port, network in plan.ports():
        senders.append((names.tap(port.id), goto(_sender(table, port, quick=network.id not in led))))
        receivers.append((names.tap(port.id), jump(_receiver(table, port))))
    for net, uplinks in plan.uplinks.items():
        into, out = _wire(table, plan, net, OURS if quick else 0)
        senders += [(uplink, goto(into)) for uplink in uplinks]
        receivers += [(uplink, jump(out)) for uplink in uplinks]
    table.map("senders", "ifname", "verdict", senders)
    at = [(plan.indexes[device], verdict) for device, verdict in senders if device in plan.indexes]
    table.map("senders_at", "iface_index", "verdict", at, size=nft.room(len(at)))
    table.map("receivers", "ifname", "verdict", receivers)
    return table


def _sender(table: Table, port: Port, *, quick: bool) -> str:
    """The chain of what comes from a port: who it is, its limits (packet rate; DSCP, RFC 2474), and whether it may.

    `quick`: what is surely right needs no other chain. That is IPv4 from the port's own MAC and address but a DHCP server's
    answer and a question for metadata, and TCP of IPv6 but the latter; by their places in a frame without a tag.
    """
    chain = table.chain(f"from_{port.index}")
    limits = port.limits
    if limits is not None and limits.sent_packets is not None:
        table.rule(chain, *_over(limits.sent_packets, limits.sent_packets_burst))
    if port.port_security:
        table.rule(chain, mangle(_MARK, port.index))
    dscp = limits.dscp if limits is not None else None
    if port.port_security and quick and dscp is None and not port.mac.startswith(names.INDEX_MAC_PREFIX[:11]):
        for address in port.addresses:
            table.rule(chain, *_surely(port.mac, address.address), ACCEPT)
    table.rule(chain, _GUEST)
    if dscp is not None:
        table.rule(chain, mangle(field("ip", "dscp"), dscp))
        table.rule(chain, mangle(field("ip6", "dscp"), dscp))
    return chain


@functools.lru_cache(1 << 16)
def _surely(mac: str, address: str) -> tuple[msgspec.Raw, ...]:
    """Conditions of the quick way: source MAC and type at once, source and destination by place, so that nothing else of
    the packet is looked at."""
    source = ipaddress.ip_address(address)
    four = source.version == 4
    ether = f"0x{mac.replace(':', '')}{'0800' if four else '86dd'}"
    at, bits, metadata = (96, 32, METADATA) if four else (64, 128, METADATA6)
    conditions = (
        match(raw("ll", _SOURCE_AT, 64), ether),
        match(raw("nh", at, bits), f"0x{source.packed.hex()}"),
        match(raw("nh", at + bits, bits), f"0x{ipaddress.ip_address(metadata).packed.hex()}", "!="),
        match(raw("th", 0, 16), 67, "!=") if four else match(meta("l4proto"), _TCP),
    )
    return tuple(map(nft.encoded, conditions))


def _receiver(table: Table, port: Port) -> str:
    """The chain of what goes to a port. An index MAC, by which the metadata service answers a tap, becomes the port's."""
    chain = table.chain(f"to_{port.index}")
    if port.port_security:
        table.rule(chain, mangle(_MARK, {"|": [masked(_MARK, 0xFFFF), port.index << 16]}))
    table.rule(chain, _index_mac(_TARGET_AT), mangle(_TARGET, port.mac))
    if port.limits is not None and port.limits.to_packets is not None:
        table.rule(chain, *_over(port.limits.to_packets, port.limits.to_packets_burst))
    return chain


def _over(packets: int, burst: int) -> list[Expression]:
    """Drop what is above a rate; without a burst, a tenth of a second's packets may come at once."""
    rate = {"rate": packets, "per": "second", "rate_unit": "packets", "burst": burst or max(packets // 10, 5)}
    return [{"limit": {**rate, "inv": True}}, DROP] if packets else [DROP]


@functools.cache
def _index_mac(offset: int) -> Expression:
    """Whether the MAC at this bit of the frame stands for an index: by its first four octets, without a mask."""
    return match(raw("ll", offset, 32), f"0x{names.INDEX_MAC_PREFIX.replace(':', '')[:8]}")


def _wire(table: Table, plan: Plan, network_id: str, mark: int) -> tuple[str, str]:
    """The chains of what comes from a network's tunnels and uplinks, and of what leaves by them.

    What comes has `mark`, nobody's. Nobody out there asks this host's DHCP port, which is on every host, and nobody here another's:
    the bridge keeps it from tunnels and uplinks, and what is asked of all is stopped here. The mark of IP packets is needed
    until groups have judged them, and goes then.
    """
    number, mac = plan.zones[network_id], plan.dhcp_macs.get(network_id)
    into, out = table.chain(f"wire_{number}"), table.chain(f"out_{number}")
    table.rule(into, mangle(_MARK, mark))
    for chain in (into, out):
        table.rule(chain, match(meta("l4proto"), _TCP), RETURN)
    for place in (_SOURCE_AT, _TARGET_AT):
        table.rule(into, _index_mac(place), DROP)
    if mac is not None:
        asked = {"set": [METADATA, *dhcp_addresses(plan.desired.networks[network_id], 4)]}
        for chain in (into, out):
            table.rule(chain, match(field("arp", "daddr ip"), asked), DROP)
            table.rule(chain, match(field("udp", "dport"), {"set": [67, 547]}), DROP)
    table.rule(out, match(field("ether", "type"), "arp"), mangle(_MARK, 0))
    return into, out


LEARNED = ("learned4", "learned6")
ROGUE = {"rogue_dhcp": "DHCP", "rogue_dhcp6": "DHCPv6", "rogue_ra": "router advertisement"}
OUTSIDE = "rogue_outside"
"""Sets that packets tell by: addresses behind ports, and servers that are none. OUTSIDE is the inet family's."""


def _sets(table: Table, plan: Plan) -> None:
    ports, secured = list(plan.ports()), plan.secured()
    table.set("uplinks", "ifname", plan.ways_out())
    table.set("members", "ifname", dict.fromkeys(plan.members()))
    for name, kind in zip(LEARNED, ("ipv4_addr", "ipv6_addr"), strict=True):
        table.seen(name, ["ifname", "ether_addr", kind], most=8192, seconds=600)
    for name in ROGUE:
        kind = "ipv4_addr" if name == "rogue_dhcp" else "ipv6_addr"
        table.seen(name, ["ifname", "ether_addr", kind], most=1024, seconds=3600)
    taps = [(names.tap(port.id), port, plan.dhcp_macs.get(port.network_id)) for port, _ in ports]
    table.map("index_macs", "ifname", "ether_addr", ((tap, names.index_mac(port.index)) for tap, port, _ in taps))
    table.map("metadata_macs", "ifname", "ether_addr", ((tap, mac) for tap, _, mac in taps if mac))
    allowed = [(port.index, mac, cidr) for port, _ in secured for mac, cidrs in sources(port).items() for cidr in cidrs]
    table.set("macs", ["mark", "ether_addr"], (_element(*pair) for pair in sorted({item[:2] for item in allowed})))
    for version, kind in ((4, "ipv4_addr"), (6, "ipv6_addr")):
        elements = [_element(*item) for item in allowed if (":" in item[2]) == (version == 6)]
        table.set(f"addresses{version}", ["mark", "ether_addr", kind], elements, interval=True)


@functools.lru_cache(1 << 17)
def _element(index: int, mac: str, cidr: str | None = None) -> Expression:
    return concat(index, mac, *([nft.part(cidr)] if cidr is not None else []))


def dhcp_addresses(network: Network, version: int) -> list[str]:
    return [subnet.dhcp_address for subnet in network.subnets if subnet.version == version and subnet.dhcp_address]


def _from_guest(table: Table) -> None:
    """Nobody may use the MACs that stand for indexes; metadata requests get the one of the tap they entered by."""
    for place in (_SOURCE_AT, _TARGET_AT):
        table.rule("from_guest", _index_mac(place), DROP)
    table.rule("from_guest", match(_MARK, 0, "!="), jump("secured"))
    arp_ip, claimed = field("arp", "saddr ip"), {"set": [135, 136]}
    table.rule("from_guest", match(arp_ip, "0.0.0.0", "!="), nft.note("@learned4", _IN, _SOURCE, arp_ip))
    six = field("ip6", "saddr")
    told = [match(field("icmpv6", "type"), claimed), match(six, "::", "!=")]
    table.rule("from_guest", *told, nft.note("@learned6", _IN, _SOURCE, six))
    for version, answerer in (("ip", METADATA), ("ip6", METADATA6)):
        table.rule(
            "from_guest",
            match(field(version, "daddr"), answerer),
            match(field("tcp", "dport"), 80),
            mangle(_TARGET, {"map": {"key": _IN, "data": "@metadata_macs"}}),
            mangle(_SOURCE, {"map": {"key": _IN, "data": "@index_macs"}}),
        )


def _secured(table: Table) -> None:
    """Anti-spoofing: only the port's own MACs and addresses, no DHCP server, no router advertisement."""
    table.rule("secured", match(concat(_MARK, _SOURCE), "@macs", "!="), DROP)
    for ethertype, chain in (("arp", "secured_arp"), ("ip", "secured_ip"), ("ip6", "secured_ip6")):
        table.rule("secured", match(field("ether", "type"), ethertype), goto(chain))
    table.rule("secured", DROP)
    arp_mac, arp_ip = field("arp", "saddr ether"), field("arp", "saddr ip")
    table.rule("secured_arp", match(concat(_MARK, arp_mac), "@macs", "!="), DROP)
    table.rule("secured_arp", match(arp_ip, "0.0.0.0"), RETURN)
    table.rule("secured_arp", match(concat(_MARK, arp_mac, arp_ip), "@addresses4", "!="), DROP)
    sport, dport = field("udp", "sport"), field("udp", "dport")
    table.rule("secured_ip", match(field("ip", "saddr"), "0.0.0.0"), match(sport, 68), match(dport, 67), RETURN)
    server = nft.note("@rogue_dhcp", _IN, _SOURCE, field("ip", "saddr"))
    table.rule("secured_ip", match(sport, 67), match(dport, 68), server, DROP)
    table.rule("secured_ip", match(concat(_MARK, _SOURCE, field("ip", "saddr")), "@addresses4", "!="), DROP)
    kind = field("icmpv6", "type")
    six = field("ip6", "saddr")
    table.rule("secured_ip6", match(sport, 547), match(dport, 546), nft.note("@rogue_dhcp6", _IN, _SOURCE, six), DROP)
    table.rule("secured_ip6", match(kind, {"set": [134, 137]}), nft.note("@rogue_ra", _IN, _SOURCE, six), DROP)
    table.rule("secured_ip6", match(field("ip6", "saddr"), "::"), match(kind, {"set": [133, 135, 143]}), RETURN)
    table.rule("secured_ip6", match(concat(_MARK, _SOURCE, field("ip6", "saddr")), "@addresses6", "!="), DROP)


def inet_table(name: str, plan: Plan, settings: WiringSettings) -> tuple[Table, dict[str, str]]:
    """The inet family's part: zones, who may speak to tunnels, and security groups. Also the groups with a rule that cannot
    be written, and why; such a rule lets nothing pass."""
    table = Table("inet", name)
    bridges = [(plan.indexes.get(names.bridge(network)), zone) for network, zone in plan.zones.items()]
    zones = [(index, zone) for index, zone in bridges if index is not None]
    table.hook("zones", "prerouting", _BEFORE_BRIDGE)
    if plan.overheard:
        # A guest would otherwise speak to the host, and by it to whatever the host routes to.
        table.rule("zones", match(_IN, {"set": list(plan.overheard)}), DROP)
    if zones:
        choice = {"map": {"key": meta("iif"), "data": {"set": [list(pair) for pair in zones]}}}
        table.rule("zones", mangle({"ct": {"key": "zone"}}, choice))
    localip.answer(table, plan.led)
    groups = Groups(table, plan.desired)
    table.hook("forward", "forward", 0)
    if plan.quick:
        groups.connections()
    guard.write(table, settings, plan.desired.networks.values())
    groups.write(plan.secured())
    return table, groups.unclear


def arp_table(name: str, plan: Plan) -> Table:
    """The ARP family's part: the host does not answer for its own addresses where frames are not for it. Whoever asked would
    have two answers, and believe the wrong one."""
    table = Table("arp", name)
    if plan.overheard:
        table.hook("input", "input", 0)
        table.rule("input", match(_IN, {"set": list(plan.overheard)}), DROP)
    return table
