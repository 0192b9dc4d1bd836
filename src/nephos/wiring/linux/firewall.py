"""The host's ruleset for guests: who a frame comes from, spoofing, DHCP and metadata kept local, security groups.

A port is known by its index, carried in the packet's mark: the sender's in the low half, the receiver's in the high
half. The bridge family knows the taps and sets it; bridged IP packets then pass the inet family (br_netfilter), which
has connection tracking and judges them by mark. Tracking is per network (zones), so equal addresses do not meet.
"""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from nephos.wiring.base import Desired, Network, Port
from nephos.wiring.linux import edge, localip, names, nft
from nephos.wiring.linux.groups import Groups
from nephos.wiring.linux.localip import Led
from nephos.wiring.linux.names import METADATA, METADATA6
from nephos.wiring.linux.nft import DROP, RETURN, Table, concat, field, jump, mangle, masked, match, meta

_MARK = meta("mark")
_IN, _OUT = meta("iifname"), meta("oifname")
_SOURCE, _TARGET = field("ether", "saddr"), field("ether", "daddr")
_BEFORE_BRIDGE = -300


class Plan(NamedTuple):
    """What the rules are written from. `dhcp_macs` and `uplinks` are by network id, as wired on this host; `led` are the
    local IPs that lead to ports here."""

    desired: Desired
    dhcp_macs: Mapping[str, str]
    uplinks: Mapping[str, tuple[str, ...]]
    zones: Mapping[str, int]
    led: Sequence[Led] = ()

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


def link_local(mac: str) -> str:
    """The IPv6 link-local address that a MAC gives (RFC 4291, modified EUI-64)."""
    octets = bytes.fromhex(mac.replace(":", ""))
    body = bytes([octets[0] ^ 2]) + octets[1:3] + b"\xff\xfe" + octets[3:]
    return str(ipaddress.IPv6Address(b"\xfe\x80" + b"\0" * 6 + body))


def bridge_table(name: str, plan: Plan) -> Table:
    """The bridge family's part: identity, spoofing, what stays on the host."""
    table = Table("bridge", name)
    _sets(table, plan)
    table.hook("prerouting", "prerouting", _BEFORE_BRIDGE)
    table.hook("forward", "forward", _BEFORE_BRIDGE)
    table.hook("postrouting", "postrouting", _BEFORE_BRIDGE)
    # A network's bridge carries frames and is no door to the host: nothing that comes in by it is for the host itself.
    table.hook("input", "input", _BEFORE_BRIDGE)
    table.rule("input", match(_IN, "@members"), DROP)
    for chain in ("from_guest", "from_wire", "secured", "secured_arp", "secured_ip", "secured_ip6"):
        table.chain(chain)
    table.rule("prerouting", {"vmap": {"key": _IN, "data": "@sent_packets"}})
    table.rule("prerouting", match(_IN, "@taps"), jump("from_guest"))
    table.rule("prerouting", {"vmap": {"key": _IN, "data": "@marked"}})
    table.rule("prerouting", match(_IN, "@uplinks"), jump("from_wire"))
    _from_guest(table)
    answering = {net: (names.tap(_answerer(plan, net)), mac) for net, mac in plan.dhcp_macs.items()}
    localip.lead(table, plan.led, answering, plan.ports())
    edge.lead(table, plan.desired)
    _from_wire(table)
    _secured(table)
    for port, _ in plan.secured():
        chain = table.chain(f"to_{port.index}")
        kept = masked(_MARK, 0xFFFF)
        table.rule(chain, mangle(_MARK, {"|": [kept, port.index << 16]}))
    table.map("receivers", "ifname", "verdict", ((names.tap(p.id), jump(f"to_{p.index}")) for p, _ in plan.secured()))
    table.rule("forward", {"vmap": {"key": _OUT, "data": "@receivers"}})
    index_mac = match(masked(_TARGET, names.INDEX_MAC_MASK), names.INDEX_MAC_PREFIX)
    table.rule("forward", index_mac, mangle(_TARGET, {"map": {"key": _OUT, "data": "@macs_of_taps"}}))
    table.rule("forward", match(concat(_OUT, _SOURCE), "@local_macs"), DROP)
    table.rule("forward", match(concat(_OUT, field("arp", "daddr ip")), "@local_addresses"), DROP)
    table.rule("forward", match(_OUT, "@dhcp_uplinks"), match(field("udp", "dport"), {"set": [67, 547]}), DROP)
    table.rule("forward", {"vmap": {"key": _OUT, "data": "@to_packets"}})
    table.rule("postrouting", match(_OUT, "@uplinks"), match(_MARK, 0, "!="), mangle(_MARK, 0))
    _limits(table, plan)
    return table


def _limits(table: Table, plan: Plan) -> None:
    """Packet rates, and marks on what guests send (DSCP, RFC 2474)."""
    limited = [(port, port.limits) for port, _ in plan.ports() if port.limits is not None]
    sent, to, marked = [], [], []
    for port, limits in limited:
        device = names.tap(port.id)
        if limits.sent_packets is not None:
            sent.append(
                (device, jump(_rate(table, f"sent_{port.index}", limits.sent_packets, limits.sent_packets_burst)))
            )
        if limits.to_packets is not None:
            to.append((device, jump(_rate(table, f"got_{port.index}", limits.to_packets, limits.to_packets_burst))))
        if limits.dscp is not None:
            marked.append((device, jump(f"dscp_{limits.dscp}")))
    for mark in sorted({limits.dscp for _, limits in limited if limits.dscp is not None}):
        chain = table.chain(f"dscp_{mark}")
        table.rule(chain, mangle(field("ip", "dscp"), mark))
        table.rule(chain, mangle(field("ip6", "dscp"), mark))
    table.map("sent_packets", "ifname", "verdict", sent)
    table.map("to_packets", "ifname", "verdict", to)
    table.map("marked", "ifname", "verdict", marked)


def _rate(table: Table, chain: str, packets: int, burst: int) -> str:
    """A chain that drops what is above a rate; without a burst, a tenth of a second's packets may come at once."""
    rate = {"rate": packets, "per": "second", "rate_unit": "packets", "burst": burst or max(packets // 10, 5)}
    table.rule(table.chain(chain), {"limit": {**rate, "inv": True}} if packets else DROP, *([DROP] if packets else []))
    return chain


LEARNED = ("learned4", "learned6")
ROGUE = {"rogue_dhcp": "DHCP", "rogue_dhcp6": "DHCPv6", "rogue_ra": "router advertisement"}
OUTSIDE = "rogue_outside"
"""Sets that packets tell by: addresses behind ports, and servers that are none. OUTSIDE is the inet family's."""


def _sets(table: Table, plan: Plan) -> None:
    ports, secured = list(plan.ports()), plan.secured()
    table.set("taps", "ifname", (names.tap(port.id) for port, _ in ports))
    table.set("uplinks", "ifname", plan.ways_out())
    table.set("members", "ifname", dict.fromkeys(plan.members()))
    local = [(net, uplink, mac) for net, mac in plan.dhcp_macs.items() for uplink in plan.uplinks.get(net, ())]
    table.set("dhcp_uplinks", "ifname", (uplink for _, uplink, _ in local))
    table.set("local_macs", ["ifname", "ether_addr"], (concat(uplink, mac) for _, uplink, mac in local))
    addresses = [
        concat(uplink, address)
        for net, uplink, _ in local
        for address in [METADATA, *dhcp_addresses(plan.desired.networks[net], 4)]
    ]
    table.set("local_addresses", ["ifname", "ipv4_addr"], addresses)
    table.map("senders", "ifname", "mark", ((names.tap(port.id), port.index) for port, _ in secured))
    for name, kind in zip(LEARNED, ("ipv4_addr", "ipv6_addr"), strict=True):
        table.seen(name, ["ifname", "ether_addr", kind], most=8192, seconds=600)
    for name in ROGUE:
        kind = "ipv4_addr" if name == "rogue_dhcp" else "ipv6_addr"
        table.seen(name, ["ifname", "ether_addr", kind], most=1024, seconds=3600)
    taps = [(names.tap(port.id), port, plan.dhcp_macs.get(port.network_id)) for port, _ in ports]
    table.map("index_macs", "ifname", "ether_addr", ((tap, names.index_mac(port.index)) for tap, port, _ in taps))
    table.map("macs_of_taps", "ifname", "ether_addr", ((tap, port.mac) for tap, port, _ in taps))
    table.map("metadata_macs", "ifname", "ether_addr", ((tap, mac) for tap, _, mac in taps if mac))
    allowed = [(port.index, mac, cidr) for port, _ in secured for mac, cidrs in sources(port).items() for cidr in cidrs]
    table.set("macs", ["mark", "ether_addr"], (concat(*pair) for pair in sorted({item[:2] for item in allowed})))
    for version, kind in ((4, "ipv4_addr"), (6, "ipv6_addr")):
        elements = [
            concat(index, mac, nft.part(cidr)) for index, mac, cidr in allowed if (":" in cidr) == (version == 6)
        ]
        table.set(f"addresses{version}", ["mark", "ether_addr", kind], elements, interval=True)


def dhcp_addresses(network: Network, version: int) -> list[str]:
    return [subnet.dhcp_address for subnet in network.subnets if subnet.version == version and subnet.dhcp_address]


def _from_guest(table: Table) -> None:
    """Nobody may use the MACs that stand for indexes; metadata requests get the one of the tap they entered by."""
    for address in (_SOURCE, _TARGET):
        table.rule("from_guest", match(masked(address, names.INDEX_MAC_MASK), names.INDEX_MAC_PREFIX), DROP)
    table.rule("from_guest", mangle(_MARK, {"map": {"key": _IN, "data": "@senders"}}))
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


def _from_wire(table: Table) -> None:
    """From a tunnel or uplink: no mark, no index MAC, and nothing from or for a DHCP port, which is on every host."""
    table.rule("from_wire", mangle(_MARK, 0))
    for address in (_SOURCE, _TARGET):
        table.rule("from_wire", match(masked(address, names.INDEX_MAC_MASK), names.INDEX_MAC_PREFIX), DROP)
        table.rule("from_wire", match(concat(_IN, address), "@local_macs"), DROP)
    table.rule("from_wire", match(concat(_IN, field("arp", "daddr ip")), "@local_addresses"), DROP)
    table.rule("from_wire", match(_IN, "@dhcp_uplinks"), match(field("udp", "dport"), {"set": [67, 547]}), DROP)


def _secured(table: Table) -> None:
    """Anti-spoofing: only the port's own MACs and addresses, no DHCP server, no router advertisement."""
    table.rule("secured", match(concat(_MARK, _SOURCE), "@macs", "!="), DROP)
    for ethertype, chain in (("arp", "secured_arp"), ("ip", "secured_ip"), ("ip6", "secured_ip6")):
        table.rule("secured", match(field("ether", "type"), ethertype), {"goto": {"target": chain}})
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


def inet_table(name: str, plan: Plan) -> tuple[Table, dict[str, str]]:
    """The inet family's part: zones and security groups. Also the groups with a rule that cannot be written, and why;
    such a rule lets nothing pass."""
    table = Table("inet", name)
    zones = [(names.bridge(network), zone) for network, zone in plan.zones.items()]
    table.hook("zones", "prerouting", _BEFORE_BRIDGE)
    if zones:
        choice = {"map": {"key": _IN, "data": {"set": [list(pair) for pair in zones]}}}
        table.rule("zones", mangle({"ct": {"key": "zone"}}, choice))
    localip.answer(table, plan.led)
    groups = Groups(table, plan.desired)
    groups.write(plan.secured())
    return table, groups.unclear
