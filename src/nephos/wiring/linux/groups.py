"""Security groups as chains: one a group and direction, shared by the ports that use it, and one a port that joins them.

Meaning as in Neutron: only what a rule allows passes, and answers to it; a port always gets DHCP and IPv6 neighbour
discovery, and reaches the metadata service.
"""

from __future__ import annotations

from nephos.wiring.base import Desired, Network, Port, Rule
from nephos.wiring.linux import nft
from nephos.wiring.linux.names import METADATA
from nephos.wiring.linux.nft import ACCEPT, DROP, Expression, Table, field, jump, match, meta

_WITH_PORTS = {6: "tcp", 17: "udp", 33: "dccp", 132: "sctp", 136: "udplite"}
_NUMBERS = {
    "icmp": 1, "igmp": 2, "egp": 8, "tcp": 6, "udp": 17, "dccp": 33, "rsvp": 46, "gre": 47, "esp": 50, "ah": 51,
    "ipv6-icmp": 58, "icmpv6": 58, "icmp6": 58, "ipip": 4, "ipv6-encap": 41, "ipv6-route": 43, "ipv6-frag": 44, "ipv6-nonxt": 59, "ipv6-opts": 60,
    "ospf": 89, "vrrp": 112, "pgm": 113, "sctp": 132, "udplite": 136,
}  # fmt: skip
_ND_FROM_GUEST, _ND_TO_GUEST = [131, 132, 133, 135, 136, 143], [130, 134, 135, 136]


class Groups:
    """Writes chains for groups as ports ask for them, each once."""

    def __init__(self, table: Table, desired: Desired) -> None:
        self._table = table
        self._desired = desired
        self._chains: dict[tuple[str, str], str] = {}
        self._members: dict[tuple[str, int], str] = {}
        self.unclear: dict[str, str] = {}

    def add_port(self, port: Port, network: Network) -> None:
        """The two chains of a port: `from_<index>` and `to_<index>`."""
        groups = [group for group in map(self._desired.groups.get, port.groups) if group is not None]
        stateful = not groups or any(group.stateful for group in groups)
        sender, receiver = self._table.chain(f"from_{port.index}"), self._table.chain(f"to_{port.index}")
        sport, dport = field("udp", "sport"), field("udp", "dport")
        for chain in (sender, receiver):
            if stateful:
                self._table.rule(chain, match({"ct": {"key": "mark"}}, DEAD), DROP)
                self._table.rule(chain, _BY_STATE)
        self._table.rule(sender, match(meta("nfproto"), "ipv4"), match(sport, 68), match(dport, 67), ACCEPT)
        self._table.rule(sender, match(field("ip", "daddr"), METADATA), match(field("tcp", "dport"), 80), ACCEPT)
        self._table.rule(sender, match(field("icmpv6", "type"), {"set": _ND_FROM_GUEST}), ACCEPT)
        self._table.rule(sender, match(meta("nfproto"), "ipv6"), match(sport, 546), match(dport, 547), ACCEPT)
        servers = [subnet.dhcp_address for subnet in network.subnets if subnet.dhcp_address and subnet.version == 4]
        if servers:
            known = match(field("ip", "saddr"), {"set": servers})
            self._table.rule(receiver, known, match(sport, 67), match(dport, 68), ACCEPT)
            # Where the network has DHCP, a group that lets UDP in does not let a second DHCP server in (S3-54).
            self._table.rule(receiver, match(meta("nfproto"), "ipv4"), match(sport, 67), match(dport, 68), DROP)
        if not stateful:
            self._table.rule(receiver, match(field("ip", "saddr"), METADATA), match(field("tcp", "sport"), 80), ACCEPT)
        self._table.rule(receiver, match(field("icmpv6", "type"), {"set": _ND_TO_GUEST}), ACCEPT)
        if any(subnet.version == 6 for subnet in network.subnets):
            self._table.rule(receiver, match(meta("nfproto"), "ipv6"), match(sport, 547), match(dport, 546), ACCEPT)
        for group in groups:
            self._table.rule(sender, jump(self._group(group.id, "egress")))
            self._table.rule(receiver, jump(self._group(group.id, "ingress")))
        self._table.rule(sender, DROP)
        self._table.rule(receiver, DROP)

    def _group(self, group_id: str, direction: str) -> str:
        key = (group_id, direction)
        if key not in self._chains:
            chain = self._table.chain(f"{direction}_{group_id.replace('-', '_')}")
            self._chains[key] = chain
            for rule in self._desired.groups[group_id].rules:
                if rule.direction != direction:
                    continue
                try:
                    self._table.rule(chain, *self._conditions(rule), ACCEPT)
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


DEAD = 0x4E500001
"""The conntrack mark of a flow whose rule went away."""
_BY_STATE: Expression = {
    "vmap": {
        "key": {"ct": {"key": "state"}},
        "data": {"set": [["established", ACCEPT], ["related", ACCEPT], ["invalid", DROP]]},
    }
}


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
