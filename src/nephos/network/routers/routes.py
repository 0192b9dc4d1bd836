"""Static routes of routers, and what they are checked against: the router's legs."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from sqlalchemy import bindparam, select

from nephos.kernel.db.engine import Tx
from nephos.network import addressing, problems
from nephos.network.ports.store import GATEWAY, ROUTER, port
from nephos.network.subnets.store import address, subnet

MOST_ROUTES = 30
attached = (
    select(
        port.c.id, port.c.network_id, address.c.address, subnet.c.id.label("subnet_id"), subnet.c.cidr, subnet.c.version
    )
    .join(address, address.c.port_id == port.c.id)
    .join(subnet, subnet.c.id == address.c.subnet_id)
    .where(port.c.device_id == bindparam("router"), port.c.device_owner.in_(bindparam("owners", expanding=True)))
    .order_by(port.c.created_at, port.c.id, address.c.place)
)
"""The legs of a router, with owners of some kinds, by address."""


def checked(tx: Tx, router_id: str, wanted: Sequence[tuple[str, str]]) -> list[list[str]]:
    """(destination, next hop) pairs in their own form. Raises BadRequest for a next hop that no leg reaches."""
    if len(wanted) > MOST_ROUTES:
        raise problems.bad(
            f"Unable to complete operation for {router_id}. The number of routes exceeds the maximum {MOST_ROUTES}.",
            "RoutesExhausted",
        )
    legs = tx.all(attached, {"router": router_id, "owners": [ROUTER, GATEWAY]})
    ranges = [ipaddress.ip_network(leg.cidr) for leg in legs]
    own = {leg.address for leg in legs}
    found: list[list[str]] = []
    for destination, nexthop in wanted:
        to, hop = addressing.network("routes", destination), addressing.address("routes", nexthop)
        why = None
        if to.version != hop.version:
            why = "the destination and the nexthop are of different IP versions"
        elif not any(hop in range_ for range_ in ranges):
            why = "the nexthop is not connected with router"
        elif str(hop) in own:
            why = "the nexthop is used by router"
        if why:
            raise problems.bad(f"Invalid format for routes: {destination} via {nexthop}, {why}.", "InvalidRoutes")
        pair = [str(to), str(hop)]
        if pair in found:
            raise problems.invalid("routes", f"Duplicate items in the list: {destination} via {nexthop}")
        found.append(pair)
    return found
