"""The way of a traced packet as the ledger has it: which IP version, what is asked for, over which stops."""

from __future__ import annotations

import re

import pytest

from nephos import errors
from nephos.network import ways
from nephos.network.guests import NetworkRequest
from nephos.wiring.probe import At
from tests.network.conftest import Site

STATEFUL, STATELESS, SLAAC = "dhcpv6-stateful", "dhcpv6-stateless", "slaac"


def port(site: Site, network: str, server: str, host: str) -> str:
    (made,) = site.server(server, host, NetworkRequest(network_id=network))
    return str(made)


def way(site: Site, port_id: str, target: str) -> ways.Way:
    with site.cloud.database.read() as tx:
        return ways.way(tx, port_id, target)


def refused(site: Site, port_id: str, target: str, words: str) -> None:
    with pytest.raises(errors.NephosError, match=re.escape(words)):
        way(site, port_id, target)


def kinds(found: ways.Way) -> list[At]:
    return [stop.point.at for stop in found.stops]


def six(site: Site, cidr: str, mode: str | None) -> tuple[str, str]:
    modes = {"ipv6_ra_mode": mode, "ipv6_address_mode": mode} if mode else {}
    return site.network(cidr, **modes)


def test_a_guest_asks_for_what_its_ipv6_subnet_has(site: Site) -> None:
    for number, (mode, asks, answers) in enumerate(
        (
            (STATEFUL, ("router", "stateful"), "the router and DHCPv6"),
            (STATELESS, ("router", "stateless"), "the router and DHCPv6"),
            (SLAAC, ("router",), "the router"),
            (None, ("stateful",), "DHCPv6"),
        )
    ):
        network, subnet = six(site, f"fd00:{number + 16}::/64", mode)
        own = port(site, network, f"s{number}", "h1")
        if "router" in asks:
            refused(site, own, "dhcp", "nobody advertises it")
        router = site.make("routers", name="r")["id"]
        leg = site.put(f"routers/{router}/add_router_interface", {"subnet_id": subnet})["port_id"]
        found = way(site, own, "dhcp")
        assert (found.kind, found.asks, found.who) == ("autoconfiguration", asks, answers)
        assert found.address.startswith("fe80::") and found.stops[0].point.id == own
        assert (At.LEG in kinds(found)) is ("router" in asks) and (At.DHCP in kinds(found)) is (asks != ("router",))
        mac = site.admin.get(f"/network/v2.0/ports/{leg}").json["port"]["mac_address"]
        assert found.routers == (mac,)
        assert way(site, own, "dhcp6") == found


def test_ipv6_is_for_ports_without_ipv4_and_for_whom_it_is_asked(site: Site) -> None:
    network, subnet = site.network("10.20.0.0/24")
    four = port(site, network, "s1", "h1")
    refused(site, four, "dhcp6", "has no IPv6 address to ask for")
    refused(site, four, "fd00::9", "has no IPv6 address to send from")
    values = {"network_id": network, "ip_version": 6, "cidr": "fd00:2::/64"}
    second = site.make("subnets", **values, ipv6_ra_mode=SLAAC, ipv6_address_mode=SLAAC)["id"]
    both = port(site, network, "s2", "h2")
    assert way(site, both, "metadata").target == "169.254.169.254"
    found = way(site, both, "metadata6")
    assert (found.target, found.nexthop) == ("fe80::a9fe:a9fe", "fe80::a9fe:a9fe") and found.address.startswith("fe80::")
    assert way(site, both, "dhcp").kind == "dhcp" and way(site, both, four).target.startswith("10.20.0.")
    only, _ = six(site, "fd00:3::/64", None)
    alone = port(site, only, "s3", "h1")
    assert way(site, alone, "metadata").target == "fe80::a9fe:a9fe"
    refused(site, alone, "192.0.2.1", "has no IPv4 address to send from")
    plain = port(site, site.network("10.21.0.0/24")[0], "s4", "h1")
    refused(site, alone, plain, "has no IPv6 address")
    for bad in ("fe80::1%eth0", "ff02::1", "::ffff:192.0.2.1"):
        refused(site, both, bad, "what is traced is the way to an address of one machine")
    for each in (subnet, second):
        router = site.make("routers", name="r")["id"]
        site.put(f"routers/{router}/add_router_interface", {"subnet_id": each})
    found = way(site, both, "gateway6")
    assert (found.target, found.nexthop) == ("fd00:2::1", "fd00:2::1") and kinds(found)[-1] is At.LEG
    assert way(site, both, "gateway").target == "10.20.0.1"
    refused(site, both, "internet6", "no external gateway over IPv6")
