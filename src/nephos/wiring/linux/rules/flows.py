"""Connections whose rule went away: they are cut, while those that are still allowed go on (Neutron's promise).

Deleting a tracked connection would not do: the guest's next packet would start it anew in the allowed direction. It is
marked dead instead, and the ports' chains drop what is dead. Only a port that lost a rule or a remote group's member
makes the driver read the connection table.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping

from nephos.wiring.base import Desired, Group, Port, Rule
from nephos.wiring.linux.rules.groups import DEAD, protocol_number
from nephos.wiring.linux.system.names import METADATA, METADATA6
from nephos.wiring.linux.system.netlink import Flow, Netfilter


class Flows:
    """Remembers what each port was permitted, and cuts what no longer is."""

    def __init__(self) -> None:
        self._rules: dict[str, frozenset[Rule]] = {}
        self._members: dict[str, frozenset[str]] = {}

    def cut(self, netfilter: Netfilter, desired: Desired, zones: Mapping[str, int]) -> int:
        """Compare with the last pass and cut. Answers how many connections were cut."""
        members = {group.id: frozenset(group.members) for group in desired.groups.values()}
        shrunk = {name for name, before in self._members.items() if before - members.get(name, frozenset())}
        rules = {p.id: frozenset(_rules(p, desired.groups)) for p in desired.ports.values() if p.port_security}
        lost = [
            desired.ports[name]
            for name, now in rules.items()
            if self._rules.get(name, now) - now or any(rule.remote_group_id in shrunk for rule in now)
        ]
        self._rules, self._members = rules, members
        if not lost:
            return 0
        owners = {
            (zones[port.network_id], address.address): port
            for port in lost
            if port.network_id in zones
            for address in port.addresses
        }
        count = 0
        for flow in netfilter.flows({zone for zone, _ in owners}):
            if flow.mark == DEAD:
                continue
            sender, receiver = owners.get((flow.zone, flow.source)), owners.get((flow.zone, flow.target))
            kept = (sender is None or _allowed(flow, sender, "egress", desired)) and (
                receiver is None or _allowed(flow, receiver, "ingress", desired)
            )
            if not kept:
                netfilter.mark_flow(flow, DEAD)
                count += 1
        return count


def _rules(port: Port, groups: Mapping[str, Group]) -> Iterator[Rule]:
    for name in port.groups:
        if (group := groups.get(name)) is not None:
            yield from group.rules


def _allowed(flow: Flow, port: Port, direction: str, desired: Desired) -> bool:
    if (flow.target in (METADATA, METADATA6) and flow.target_port == 80) or (flow.source_port, flow.target_port) == (68, 67):
        return True
    far = ipaddress.ip_address(flow.target if direction == "egress" else flow.source)
    return any(
        rule.direction == direction and rule.version == far.version and _matches(rule, flow, far, desired)
        for rule in _rules(port, desired.groups)
    )


def _matches(rule: Rule, flow: Flow, far: ipaddress.IPv4Address | ipaddress.IPv6Address, desired: Desired) -> bool:
    try:
        number = protocol_number(rule)
    except ValueError:
        return False
    if number is not None and number != flow.protocol:
        return False
    if rule.remote_group_id is not None:
        remote = desired.groups.get(rule.remote_group_id)
        members = remote.members if remote is not None else ()
        if not any(far in ipaddress.ip_network(one, strict=False) for one in members):
            return False
    elif rule.remote_cidr is not None and far not in ipaddress.ip_network(rule.remote_cidr, strict=False):
        return False
    if number is None or rule.port_min is None:
        return True
    if number in (1, 58):
        return flow.kind == rule.port_min and rule.port_max in (None, flow.code)
    high = rule.port_max if rule.port_max is not None else rule.port_min
    return rule.port_min <= flow.target_port <= high
