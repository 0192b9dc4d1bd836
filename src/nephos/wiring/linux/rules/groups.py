"""Security groups as chains: one a group and direction, and one for each combination of groups that ports have.

Meaning as in Neutron: only what a rule allows passes, and answers to it; a port always gets DHCP and IPv6 neighbour
discovery, and reaches the metadata service. What is the same for all ports is judged before a packet gets to a port's
own chains, so that another port costs a few set elements and no rule.
"""

from __future__ import annotations

import hashlib

from nephos.wiring.base import Desired, Network, Port, Rule
from nephos.wiring.linux.system import names, nft
from nephos.wiring.linux.system.names import METADATA, METADATA6
from nephos.wiring.linux.system.nft import (
    ACCEPT,
    DROP,
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
)

DEAD = 0x4E500001
"""The conntrack mark of a flow whose rule went away."""
OURS, PASSED = 0x10000, 0xFFFFFFFF
"""Marks of packets between the families: one that came to a network by no port of this host, and one of a connection that
groups let pass. The first is nobody's, and is gone before receivers are told; the second would be a port's to itself."""
_WITH_PORTS = {6: "tcp", 17: "udp", 33: "dccp", 132: "sctp", 136: "udplite"}
_NUMBERS = {
    "icmp": 1, "igmp": 2, "egp": 8, "tcp": 6, "udp": 17, "dccp": 33, "rsvp": 46, "gre": 47, "esp": 50, "ah": 51,
    "ipv6-icmp": 58, "icmpv6": 58, "icmp6": 58, "ipip": 4, "ipv6-encap": 41, "ipv6-route": 43, "ipv6-frag": 44, "ipv6-nonxt": 59, "ipv6-opts": 60,
    "ospf": 89, "vrrp": 112, "pgm": 113, "sctp": 132, "udplite": 136,
}  # fmt: skip
_ND_FROM_GUEST, _ND_TO_GUEST = [131, 132, 133, 135, 136, 143], [130, 134, 135, 136]
_MARK, _AFTER_TRACKING = meta("mark"), -190
_SENDER, _RECEIVER = masked(_MARK, 0xFFFF), masked(_MARK, 0xFFFF0000)
_STATE: Expression = {"ct": {"key": "state"}}
_ANSWERS: Expression = {"match": {"op": "in", "left": _STATE, "right": ["established", "related"]}}
_LET = {"egress": goto("ingress"), "ingress": ACCEPT}
"""What a direction's chain does with what may pass."""


def _by_state(let: Expression) -> Expression:
    return {"vmap": {"key": _STATE, "data": {"set": [["established", let], ["related", let], ["invalid", DROP]]}}}


def stateless(port: Port, desired: Desired) -> bool:
    """Whether rules judge each packet of a port: it has groups, and none that knows connections."""
    groups = [group for group in map(desired.groups.get, port.groups) if group is not None]
    return bool(groups) and not any(group.stateful for group in groups)


class Groups:
    """Writes the judging part of the inet table: the chain forward, egress and ingress after it, and all that they jump to."""

    def __init__(self, table: Table, desired: Desired) -> None:
        self._table = table
        self._desired = desired
        self._chains: dict[tuple[str, str], str] = {}
        self._members: dict[tuple[str, int], str] = {}
        self.unclear: dict[str, str] = {}
        """Groups with a rule that cannot be written, and why; such a rule lets nothing pass."""

    def connections(self) -> None:
        """Mark what belongs to a connection before it is looked up where it goes, which costs as much as all of this: most
        packets do. But not what is for or from a DHCP server, of which there are rules for single packets."""
        self._table.hook("connections", "prerouting", _AFTER_TRACKING)
        self._table.rule("connections", match(_MARK, 0), ACCEPT)
        self._table.rule("connections", match(meta("l4proto"), 17), jump(self._table.chain("datagrams")))
        self._table.rule("datagrams", match(field("udp", "sport"), 67), ACCEPT)
        self._table.rule("datagrams", match(field("udp", "dport"), {"set": [67, 547]}), ACCEPT)
        self._table.rule("connections", match({"ct": {"key": "mark"}}, DEAD, "!="), _ANSWERS, mangle(_MARK, PASSED))
        # From here on it may leave the host, where no mark of ours may mean anything.
        self._table.rule("forward", match(_MARK, PASSED), mangle(_MARK, 0), ACCEPT)

    def write(self, ports: list[tuple[Port, Network]]) -> None:
        """Judge these ports, each a secured one with its network."""
        # What the sender may send, then what the receiver may get.
        for chain in ("egress", "ingress"):
            self._table.chain(chain)
        self._table.rule("forward", match(_MARK, 0), ACCEPT)
        self._table.rule("forward", goto("egress"))
        self._table.rule("egress", match(_SENDER, 0), goto("ingress"))
        self._table.rule("ingress", match(_RECEIVER, 0), mangle(_MARK, 0), ACCEPT)
        self._always_sent()
        self._always_received([network for _, network in ports])
        for chain, mark, shift in (("egress", _SENDER, 0), ("ingress", _RECEIVER, 16)):
            stateful: list[tuple[int, Expression]] = []
            without: list[tuple[int, Expression]] = []
            for port, _ in ports:
                verdict = (port.index << shift, jump(self._profile(port, chain)))
                (without if stateless(port, self._desired) else stateful).append(verdict)
            by_port = self._table.map(f"{chain}_stateless", "mark", "verdict", without)
            self._table.rule(chain, {"vmap": {"key": mark, "data": by_port}})
            self._table.rule(chain, match({"ct": {"key": "mark"}}, DEAD), DROP)
            self._table.rule(chain, _by_state(_LET[chain]))
            by_port = self._table.map(f"{chain}_stateful", "mark", "verdict", stateful)
            self._table.rule(chain, {"vmap": {"key": mark, "data": by_port}})
            self._table.rule(chain, DROP)

    def _always_sent(self) -> None:
        sport, dport, let = field("udp", "sport"), field("udp", "dport"), _LET["egress"]
        self._table.rule("egress", match(meta("nfproto"), "ipv4"), match(sport, 68), match(dport, 67), let)
        self._table.rule("egress", match(meta("nfproto"), "ipv6"), match(sport, 546), match(dport, 547), let)
        for version, address in (("ip", METADATA), ("ip6", METADATA6)):
            self._table.rule("egress", match(field(version, "daddr"), address), match(field("tcp", "dport"), 80), let)
        self._table.rule("egress", match(field("icmpv6", "type"), {"set": _ND_FROM_GUEST}), let)

    def _always_received(self, networks: list[Network]) -> None:
        """Bridged packets enter by their network's bridge, as far as the inet family can tell."""
        served = {
            (names.bridge(network.id), subnet.dhcp_address)
            for network in networks
            for subnet in network.subnets
            if subnet.dhcp_address and subnet.version == 4
        }
        sport, dport, bridge = field("udp", "sport"), field("udp", "dport"), meta("iifname")
        servers = self._table.set("dhcp_servers", ["ifname", "ipv4_addr"], (concat(*pair) for pair in sorted(served)))
        bridges = self._table.set("dhcp_bridges", "ifname", sorted({name for name, _ in served}))
        offer = [match(meta("nfproto"), "ipv4"), match(sport, 67), match(dport, 68)]
        self._table.rule("ingress", *offer, match(concat(bridge, field("ip", "saddr")), servers), ACCEPT)
        # Where the network has DHCP, a group that lets UDP in does not let a second DHCP server in (S3-54).
        seen = self._table.seen("rogue_outside", ["ifname", "ipv4_addr"], most=1024, seconds=3600)
        told = nft.note(seen, bridge, field("ip", "saddr"))
        self._table.rule("ingress", *offer, match(bridge, bridges), told, DROP)
        self._table.rule("ingress", match(meta("nfproto"), "ipv6"), match(sport, 547), match(dport, 546), ACCEPT)
        for version, address in (("ip", METADATA), ("ip6", METADATA6)):
            self._table.rule(
                "ingress", match(field(version, "saddr"), address), match(field("tcp", "sport"), 80), ACCEPT
            )
        self._table.rule("ingress", match(field("icmpv6", "type"), {"set": _ND_TO_GUEST}), ACCEPT)

    def _profile(self, port: Port, direction: str) -> str:
        """The chain of ports with the same groups: each group's chain in turn, then nothing more passes."""
        groups = sorted(name for name in set(port.groups) if name in self._desired.groups)
        digest = hashlib.sha256(" ".join(groups).encode()).hexdigest()[:16]
        key = (digest, direction)
        if key not in self._chains:
            self._chains[key] = chain = self._table.chain(f"{direction}_of_{digest}")
            for group in groups:
                self._table.rule(chain, jump(self._group(group, direction)))
            self._table.rule(chain, DROP)
        return self._chains[key]

    def _group(self, group_id: str, direction: str) -> str:
        key = (group_id, direction)
        if key not in self._chains:
            chain = self._table.chain(f"{direction}_{group_id.replace('-', '_')}")
            self._chains[key] = chain
            for rule in self._desired.groups[group_id].rules:
                if rule.direction != direction:
                    continue
                try:
                    self._table.rule(chain, *self._conditions(rule), _LET[direction])
                except (ValueError, KeyError) as problem:
                    self.unclear[group_id] = f"a rule cannot be enforced here and lets nothing pass: {problem}"
        return self._chains[key]

    def _conditions(self, rule: Rule) -> list[Expression]:
        family = "ip" if rule.version == 4 else "ip6"
        found = [match(meta("nfproto"), "ipv4" if rule.version == 4 else "ipv6")]
        far = field(family, "saddr" if rule.direction == "ingress" else "daddr")
        if rule.remote_group_id is not None:
            found.append(match(far, self._set_of(rule.remote_group_id, rule.version)))
        elif rule.remote_cidr is not None and not rule.remote_cidr.endswith("/0"):
            found.append(match(far, nft.prefix(rule.remote_cidr)))
        return found + _protocol(rule)

    def _set_of(self, group_id: str, version: int) -> str:
        key = (group_id, version)
        if key not in self._members:
            group = self._desired.groups.get(group_id)
            members = [one for one in (group.members if group else ()) if (":" in one) == (version == 6)]
            name = f"members{version}_{group_id.replace('-', '_')}"
            kind = "ipv4_addr" if version == 4 else "ipv6_addr"
            elements = [nft.prefix(one) for one in dict.fromkeys(members)]
            self._members[key] = self._table.set(name, kind, elements, interval=True)
        return self._members[key]


def protocol_number(rule: Rule) -> int | None:
    """The IP protocol number of a rule; None for any. ValueError for a name that is not known.

    For IPv6, Neutron lets plain "icmp" stand for ICMPv6; 0 is any.
    """
    name = rule.protocol
    if name in (None, "any", "0"):
        return None
    number = int(name) if name.isdigit() else _NUMBERS.get(name)
    if number is None or number > 255:
        raise ValueError(f"protocol {name!r} is not known")
    return 58 if number == 1 and rule.version == 6 else number


def _protocol(rule: Rule) -> list[Expression]:
    number = protocol_number(rule)
    if number is None:
        return []
    if number in (1, 58):
        family = "icmp" if number == 1 else "icmpv6"
        found = [match(meta("l4proto"), number)]
        if rule.port_min is not None:
            found.append(match(field(family, "type"), rule.port_min))
        if rule.port_max is not None:
            found.append(match(field(family, "code"), rule.port_max))
        return found
    if number not in _WITH_PORTS or rule.port_min is None:
        return [match(meta("l4proto"), number)]
    high = rule.port_max if rule.port_max is not None else rule.port_min
    ports = rule.port_min if high == rule.port_min else {"range": [rule.port_min, high]}
    return [match(field(_WITH_PORTS[number], "dport"), ports)]
