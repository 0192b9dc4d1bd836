"""The way of a traced packet as the ledger has it: which IP version, what is asked for, over which stops."""

from __future__ import annotations

import re

import msgspec
import pytest
from sqlalchemy import select

from nephos import errors
from nephos.network import ways
from nephos.network.guests import NetworkRequest
from nephos.network.routers.store import router as router_table
from nephos.wiring.probe import At
from tests.network.conftest import Site
from tests.network.test_routers import connected, public

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


def test_the_gateway_that_a_routers_packets_leave_by(site: Site) -> None:
    """As the router sends them: by a nearer network, by that which has the port's floating IP, else by the main gateway, or by
    any where connections are shared; and to the next hop of an extra route."""
    for name in site.agent.hello:
        site.agent.hello[name] = msgspec.structs.replace(site.agent.hello[name], physical=("public", "second"))
    site.agent.arrive()
    flat = {"provider:network_type": "flat", "provider:physical_network": "second", "router:external": True}
    second = site.make("networks", site.admin, name="second", **flat)["id"]
    site.make("subnets", site.admin, network_id=second, ip_version=4, cidr="203.0.113.0/24", enable_dhcp=False)
    first = public(site)
    router, network, _ = connected(site, "10.30.0.0/24")
    # The gateway that is added first is the other one: the main one is not simply the oldest.
    for each in (second, first):
        site.put(f"routers/{router}/add_external_gateways", {"router": {"external_gateways": [{"network_id": each}]}})
    ports = {name: port(site, network, name, "h1") for name in ("plain", "floating")}
    kept = site.make("floatingips", floating_network_id=second, port_id=ports["floating"])

    def leaves(name: str, target: str) -> list[str]:
        """The physical networks by which the way ends, and may end."""
        found = way(site, ports[name], target)
        endings = [found.stops, *found.others]
        assert all(each[0].gateway for each in found.others)
        return [each[-1].point.id for each in endings]

    with site.cloud.database.read() as tx:
        main = tx.scalar(select(router_table.c.gateway_network_id).where(router_table.c.id == router))
    one, other = ("second", "public") if main == second else ("public", "second")
    assert leaves("plain", "192.0.2.1") == [one]
    assert leaves("floating", "192.0.2.1") == ["second"]
    assert leaves("floating", "172.24.4.1") == ["public"], "a nearer network comes first"
    assert leaves("plain", "203.0.113.1") == ["second"]
    assert way(site, ports["floating"], "internet").target == "203.0.113.1"
    assert way(site, ports["plain"], "internet").target == {"second": "203.0.113.1", "public": "172.24.4.1"}[one]
    site.put(f"routers/{router}", {"router": {"enable_default_route_ecmp": True}}, site.admin)
    assert leaves("plain", "192.0.2.1") == [one, other]
    assert leaves("floating", "192.0.2.1") == ["second"]
    site.put(f"routers/{router}", {"router": {"enable_default_route_ecmp": False}}, site.admin)
    address = site.demo.get(f"/network/v2.0/ports/{ports['floating']}").json["port"]["fixed_ips"][0]["ip_address"]
    routes = [{"destination": "192.0.2.0/24", "nexthop": "203.0.113.9"}, {"destination": "192.0.2.128/25", "nexthop": address}]
    site.put(f"routers/{router}", {"router": {"routes": routes}})
    assert leaves("plain", "192.0.2.1") == ["second"]
    found = way(site, ports["plain"], "192.0.2.129")
    assert found.stops[-1].point.id == ports["floating"], "the guest that is the next hop"
    site.put(f"routers/{router}", {"router": {"routes": []}})
    site.delete(f"floatingips/{kept['id']}")
    assert leaves("floating", "192.0.2.1") == [one]
