"""Which gateway a router's packets leave by, where it has several.

The main table leads by the main gateway, or by all of them at once (ECMP, RFC 2992). Each gateway has a table of its own
beside it, with its networks and its default route, and a number, the index of its device. A connection remembers in its
mark the gateway that it came in or first left by, and its packets from inside are led there: so answers leave where the
question came from, and a connection stays when gateways come and go. What a guest with a floating IP begins leaves by
the gateway that has the address, and what the router itself says by the gateway that it says it as.

Marks: bits 8 to 23 are the number, bit 31 tells a wish, which nearer routes come before.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import NamedTuple

from nephos.errors import HostFault
from nephos.wiring.base import Router, RouterGateway
from nephos.wiring.linux.system import names
from nephos.wiring.linux.system.netlink import MAIN_TABLE, Link, PolicyRule, Route

SHIFT, NUMBERS, WISH = 8, 0xFFFF00, 1 << 31
_FIRST_TABLE = 1000
_FOLLOW, _NEARER, _WISHED = 1000, 2000, 3000
"""Priorities: where the connection belongs; all of the main table but its default route; where it is wished."""


def outside(gateway: RouterGateway) -> str:
    """The device of a gateway."""
    return names.leg_device(gateway.port_id, gateway=True)


class Way(NamedTuple):
    """A route: `hops` are (next hop or None, device); several share the traffic. `table` is the kernel's number."""

    destination: str
    hops: tuple[tuple[str | None, str], ...]
    table: int = MAIN_TABLE

    def route(self, links: Mapping[str, Link]) -> Route:
        (gateway, device), *others = [(by, links[name].index) for by, name in self.hops]
        return Route(self.destination, gateway, device, self.table, tuple(others))


def numbers(router: Router, links: Mapping[str, Link]) -> dict[str, int]:
    """Gateway (port) → its number; none where there is only one gateway."""
    if len(router.gateways) < 2:
        return {}
    return {each.port_id: links[outside(each)].index for each in router.gateways}


def ways(router: Router, wanted: Mapping[str, set[str]], number: Mapping[str, int]) -> list[Way]:
    """The routes of a router whose devices have the addresses `wanted`. Raises HostFault for a next hop on none of its
    networks."""
    found = []
    leading = router.gateways if router.ecmp else router.gateways[:1]
    for version, destination in ((4, "0.0.0.0/0"), (6, "::/0")):
        hops = [(by, outside(each)) for each in leading for by in each.nexthops if _version(by) == version]
        if hops:
            found.append(Way(destination, tuple(hops)))
    for gateway in router.gateways if number else ():
        table, device = _FIRST_TABLE + number[gateway.port_id], outside(gateway)
        for each in gateway.addresses:
            network = ipaddress.ip_interface(f"{each.address}/{each.prefix}").network
            found.append(Way(str(network), ((None, device),), table))
        for by in gateway.nexthops:
            found.append(Way("::/0" if _version(by) == 6 else "0.0.0.0/0", ((by, device),), table))
    for extra in router.routes:
        address = ipaddress.ip_address(extra.nexthop)
        on = (
            name
            for name, cidrs in wanted.items()
            if any(address in ipaddress.ip_interface(one).network for one in cidrs)
        )
        device = next(on, "")
        if not device:
            raise HostFault(f"next hop {extra.nexthop} is on none of the router's networks")
        found.append(Way(extra.destination, ((extra.nexthop, device),)))
    return found


def _version(address: str) -> int:
    return 6 if ":" in address else 4


def rules(router: Router, number: Mapping[str, int]) -> set[PolicyRule]:
    """Which table is asked for what, in both IP versions."""
    found = set()
    for gateway in router.gateways if number else ():
        of_it = number[gateway.port_id]
        table, mask = _FIRST_TABLE + of_it, WISH | NUMBERS
        for version in (4, 6):
            found.add(PolicyRule(version, _FOLLOW, table, mark=of_it << SHIFT, mask=mask))
            found.add(PolicyRule(version, _NEARER, MAIN_TABLE, suppress=0))
            found.add(PolicyRule(version, _WISHED, table, mark=WISH | of_it << SHIFT, mask=mask))
        for each in gateway.addresses:
            found.add(PolicyRule(_version(each.address), _WISHED, table, source=each.address))
    return found
