"""What a subnet is made of, checked: range, gateway, pools, routes and modes. Nothing here reads the ledger."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from itertools import pairwise

from nephos.network import addressing, problems
from nephos.network.addressing import IPAddress, IPNetwork

MOST_DNS, MOST_ROUTES = 5, 20


LEAST_MTU = {4: 68, 6: 1280}
"""IP version → the narrowest link that carries it (RFC 791, RFC 8200)."""


def check_range(range_: IPNetwork, *, dhcp: bool) -> None:
    """Raises InvalidInput for a range that cannot be served."""
    words = "Invalid input for operation: "
    if range_.version == 6 and int(range_.network_address) == 0:
        raise problems.bad(f"{words}IPv6 subnet '::' is not supported.")
    if not dhcp:
        return
    if range_.prefixlen > (30 if range_.version == 4 else 126):
        raise problems.bad(f"{words}Subnet has a prefix length that is incompatible with DHCP service enabled.")
    if range_.is_multicast:
        raise problems.bad(f"{words}Multicast IP subnet is not supported if enable_dhcp is True.")
    if range_.is_loopback:
        raise problems.bad(f"{words}Loopback IP subnet is not supported if enable_dhcp is True.")
    if range_.version == 4 and int(range_.network_address) == 0:
        raise problems.bad(f"{words}First IP '0.0.0.0' of network is not supported if enable_dhcp is True.")


def check_modes(version: int, prefixlen: int, *, dhcp: bool, ra: str | None, address: str | None) -> None:
    """The combinations of IPv6 modes that mean something. Raises InvalidInput."""
    words = "Invalid input for operation: "
    for name, mode in (("ipv6_ra_mode", ra), ("ipv6_address_mode", address)):
        if mode is None:
            continue
        if version == 4:
            raise problems.bad(f"{words}{name} is not valid when ip_version is 4.")
        if not dhcp:
            raise problems.bad(
                f"{words}ipv6_ra_mode or ipv6_address_mode cannot be set when enable_dhcp is set to False."
            )
    if ra and address and ra != address:
        raise problems.bad(
            f"{words}ipv6_ra_mode set to '{ra}' with ipv6_address_mode set to '{address}' is not valid. If both "
            "attributes are set, they must be the same value."
        )
    if (address or ra) in ("slaac", "dhcpv6-stateless") and prefixlen != 64:
        raise problems.bad(
            f"{words}Invalid CIDR for IPv6 address mode: it needs the prefix length 64, this is {prefixlen}."
        )


def gateway_of(range_: IPNetwork, wanted: str | None, *, given: bool) -> str | None:
    """The gateway: the one given, else the range's first address. Raises InvalidInput for one that cannot be it."""
    if not given:
        if range_.num_addresses == 1:
            return None
        return str(range_.network_address + (1 if range_.num_addresses > 2 or range_.version == 6 else 0))
    if not wanted:
        return None
    found = same_version(range_.version, addressing.address("gateway_ip", wanted), "gateway_ip")
    if found.is_link_local and range_.version == 6:
        return str(found)
    ends = (range_.network_address, range_.broadcast_address)
    if found not in range_ or (range_.version == 4 and range_.num_addresses > 2 and found in ends):
        raise problems.bad(
            f"Invalid input for operation: Gateway is not valid on subnet: {found} is no host of {range_}."
        )
    return str(found)


def same_version(version: int, found: IPAddress, attribute: str) -> IPAddress:
    """Raises InvalidInput when an address is of the other IP version."""
    if found.version != version:
        raise problems.bad(
            f"Invalid input for operation: {attribute} '{found}' does not match the ip_version '{version}'."
        )
    return found


def default_pools(range_: IPNetwork, gateway: str | None) -> list[list[str]]:
    """All of a range but its ends and the gateway."""
    first, last = int(range_.network_address), int(range_.broadcast_address)
    if range_.num_addresses > 2:
        first += 1
        last -= range_.version == 4
    parts = [(first, last)]
    if gateway is not None and ipaddress.ip_address(gateway) in range_:
        hole = int(ipaddress.ip_address(gateway))
        parts = [(low, high) for low, high in ((first, hole - 1), (hole + 1, last)) if low <= high]
    kind: type[IPAddress] = ipaddress.IPv4Address if range_.version == 4 else ipaddress.IPv6Address
    return [[str(kind(low)), str(kind(high))] for low, high in parts]


def pools_of(range_: IPNetwork, wanted: Sequence[tuple[str, str]], gateway: str | None) -> list[list[str]]:
    """The pools as given. Raises by Neutron's names when one is outside, backwards, overlaps or holds the gateway."""
    found: list[tuple[IPAddress, IPAddress]] = []
    for start, end in wanted:
        first, last = (addressing.address("allocation_pools", each) for each in (start, end))
        if first.version != range_.version or last.version != range_.version or int(first) > int(last):
            raise problems.bad(f"The allocation pool {start}-{end} is not valid.", "InvalidAllocationPool")
        inside = first in range_ and last in range_
        ends = range_.num_addresses > 2 and (
            first == range_.network_address or (range_.version == 4 and last == range_.broadcast_address)
        )
        if not inside or ends:
            raise problems.bad(
                f"The allocation pool {start}-{end} spans beyond the subnet cidr {range_}.", "OutOfBoundsAllocationPool"
            )
        found.append((first, last))
    found.sort(key=lambda pool: int(pool[0]))
    for (first, last), (second, end_of_second) in pairwise(found):
        if int(second) <= int(last):
            raise problems.refused(
                f"Found overlapping allocation pools: {first}-{last}, {second}-{end_of_second} for subnet {range_}.",
                "OverlappingAllocationPools",
            )
    check_gateway_free(gateway, [[str(first), str(last)] for first, last in found])
    return [[str(first), str(last)] for first, last in found]


def check_gateway_free(gateway: str | None, pools: Sequence[Sequence[str]]) -> None:
    """Raises GatewayConflictWithAllocationPools."""
    if gateway is None:
        return
    number = ipaddress.ip_address(gateway)
    for first, last in pools:
        low, high = ipaddress.ip_address(first), ipaddress.ip_address(last)
        if low.version == number.version and int(low) <= int(number) <= int(high):
            raise problems.refused(
                f"Gateway ip {gateway} conflicts with allocation pool {first}-{last}.",
                "GatewayConflictWithAllocationPools",
            )


def nameservers(version: int, wanted: Sequence[str]) -> list[str]:
    """Raises BadRequest."""
    if len(wanted) > MOST_DNS:
        raise problems.bad(
            f"Unable to complete operation: the number of DNS nameservers exceeds the limit {MOST_DNS}.",
            "DNSNameServersExhausted",
        )
    found = [
        str(same_version(version, addressing.address("dns_nameservers", each), "dns_nameserver")) for each in wanted
    ]
    if len(set(found)) != len(found):
        raise problems.invalid("dns_nameservers", f"duplicate nameserver in {found}")
    return found


def routes(version: int, wanted: Sequence[tuple[str, str]]) -> list[list[str]]:
    """(destination, next hop) pairs checked. Raises BadRequest."""
    if len(wanted) > MOST_ROUTES:
        raise problems.bad(
            f"Unable to complete operation: the number of host routes exceeds the limit {MOST_ROUTES}.",
            "HostRoutesExhausted",
        )
    found = []
    for destination, nexthop in wanted:
        range_ = addressing.network("host_routes", destination)
        hop = addressing.address("host_routes", nexthop)
        if range_.version != version or hop.version != version:
            raise problems.bad(
                f"Invalid input for operation: host route {destination} via {nexthop} is not of IP version {version}."
            )
        found.append([str(range_), str(hop)])
    if len({tuple(each) for each in found}) != len(found):
        raise problems.invalid("host_routes", "it holds a route twice")
    return found
