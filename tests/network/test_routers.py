"""Routers on hosts: where they live, and that their host always knows all of them and nothing that is gone."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from sqlalchemy import select

from nephos.kernel.db.engine import Tx
from nephos.network.routers import placing
from nephos.network.routers.desired import routers as provide
from nephos.network.routers.store import router
from nephos.wiring import base
from tests.harness import Harness
from tests.network.conftest import Site, V


def public(site: Site) -> str:
    return str(site.admin.get(V + "/networks?name=public").json["networks"][0]["id"])


def host_of(site: Site, router_id: str) -> str | None:
    with site.cloud.database.read() as tx:
        host_id = tx.scalar(select(router.c.host_id).where(router.c.id == router_id))
    return next((name for name, key in site.agent.ids.items() if key == host_id), None)


def connected(site: Site, cidr: str, **values: Any) -> tuple[str, str, str]:
    """A router with one interface: router, network, subnet."""
    network, subnet = site.network(cidr)
    made = site.make("routers", name="r", **values)["id"]
    site.put(f"routers/{made}/add_router_interface", {"subnet_id": subnet})
    return made, network, subnet


def test_lives_nowhere_without_legs_and_leaves_its_host_with_the_last(site: Site) -> None:
    made = site.make("routers", name="r")["id"]
    assert host_of(site, made) is None
    _, subnet = site.network("10.1.0.0/24")
    leg = site.put(f"routers/{made}/add_router_interface", {"subnet_id": subnet})["port_id"]
    host = host_of(site, made)
    assert host is not None
    shown = site.admin.get(f"{V}/ports/{leg}").json["port"]
    assert (shown["binding:host_id"], shown["status"]) == (host, "ACTIVE")
    assert made in site.of(host, "router")
    site.put(f"routers/{made}/remove_router_interface", {"subnet_id": subnet})
    assert host_of(site, made) is None
    assert made not in site.of(host, "router")


def test_the_host_is_told_addresses_nexthop_routes_and_floating_ips(site: Site) -> None:
    made, network, subnet = connected(site, "10.2.0.0/24", external_gateway_info={"network_id": public(site)})
    port = site.make("ports", network_id=network)
    floating = site.make("floatingips", floating_network_id=public(site), port_id=port["id"])
    site.put(f"routers/{made}", {"router": {"routes": [{"destination": "192.0.2.0/24", "nexthop": "10.2.0.9"}]}})
    host = host_of(site, made)
    assert host is not None
    shown = site.demo.get(f"{V}/routers/{made}").json["router"]
    outer = shown["external_gateway_info"]["external_fixed_ips"][0]
    wired: base.Router = site.of(host, "router")[made]
    assert wired.gateway is not None
    assert wired.gateway.addresses == (
        base.Address(address=outer["ip_address"], prefix=24, subnet_id=outer["subnet_id"]),
    )
    assert (wired.gateway.nexthops, wired.gateway.snat) == (("172.24.4.1",), True)
    (leg,) = wired.interfaces
    assert leg.addresses == (base.Address(address="10.2.0.1", prefix=24, subnet_id=subnet),)
    assert leg.network_id == network
    assert wired.routes == (base.Route(destination="192.0.2.0/24", nexthop="10.2.0.9"),)
    fixed = port["fixed_ips"][0]["ip_address"]
    assert wired.floating == (base.Floating(address=floating["floating_ip_address"], fixed=fixed),)
    assert {network, public(site)} <= site.of(host, "network").keys(), "the host carries the router's networks"


def test_every_change_reaches_the_host(site: Site) -> None:
    made, network, _ = connected(site, "10.3.0.0/24", external_gateway_info={"network_id": public(site)})
    port = site.make("ports", network_id=network)
    host = host_of(site, made)
    assert host is not None
    before = site.of(host, "router")[made]

    def changed() -> base.Router:
        nonlocal before
        wired: base.Router = site.of(host, "router")[made]
        assert wired != before
        before = wired
        return wired

    site.put(f"routers/{made}", {"router": {"admin_state_up": False}})
    assert changed().admin_up is False
    floating = site.make("floatingips", floating_network_id=public(site))["id"]
    site.put(f"floatingips/{floating}", {"floatingip": {"port_id": port["id"]}})
    assert len(changed().floating) == 1
    site.put(f"floatingips/{floating}", {"floatingip": {"port_id": None}})
    assert changed().floating == ()
    site.put(f"floatingips/{floating}", {"floatingip": {"port_id": port["id"]}})
    assert len(changed().floating) == 1
    site.delete(f"ports/{port['id']}")
    assert changed().floating == ()
    site.put(
        f"routers/{made}",
        {"router": {"external_gateway_info": {"network_id": public(site), "enable_snat": False}}},
        site.admin,
    )
    gateway = changed().gateway
    assert gateway is not None and gateway.snat is False
    site.put(f"routers/{made}", {"router": {"external_gateway_info": None}})
    assert changed().gateway is None
    second = site.network("10.4.0.0/24")[1]
    leg = site.put(f"routers/{made}/add_router_interface", {"subnet_id": second})["port_id"]
    assert len(changed().interfaces) == 2
    site.put(f"ports/{leg}", {"port": {"fixed_ips": [{"ip_address": "10.4.0.77"}]}})
    assert [each.addresses[0].address for each in changed().interfaces if each.port_id == leg] == ["10.4.0.77"]


def test_the_least_loaded_host_takes_the_next(site: Site) -> None:
    made = [connected(site, f"10.{number}.0.0/24")[0] for number in range(10, 16)]
    with site.cloud.database.read() as tx:
        homes = Counter(tx.column(select(router.c.host_id)))
    assert sorted(homes.values()) == [2, 2, 3], "six routers and the first cloud's one on three hosts"
    assert all(host_of(site, each) for each in made)


def test_waits_for_a_host_that_is_up(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("nephos.hosts.actions.up", lambda row, now: False)
        made, network, _ = connected(site, "10.5.0.0/24", external_gateway_info={"network_id": public(site)})
        port = site.make("ports", network_id=network)
        floating = site.make("floatingips", floating_network_id=public(site), port_id=port["id"])
        assert host_of(site, made) is None
        assert floating["status"] == "DOWN", "nobody carries it"
    site.agent.arrive()
    host = host_of(site, made)
    assert host is not None
    assert site.of(host, "router")[made].floating[0].address == floating["floating_ip_address"]
    assert site.demo.get(f"{V}/floatingips/{floating['id']}").json["floatingip"]["status"] == "ACTIVE"


def test_moves_to_a_host_that_reaches_its_external_network(tmp_path: Path) -> None:
    with Harness(tmp_path) as harness:
        site = Site(harness)
        connectors = msgspec.structs.replace(site.agent.hello["h3"], physical=("public",))
        site.agent.hello["h3"] = connectors
        site.agent.arrive()
        made, network, _ = connected(site, "10.6.0.0/24")
        while host_of(site, made) == "h3":
            made, network, _ = connected(site, "10.6.0.0/24")
        before = host_of(site, made)
        assert before is not None and made in site.of(before, "router")
        site.put(f"routers/{made}", {"router": {"external_gateway_info": {"network_id": public(site)}}})
        assert host_of(site, made) == "h3"
        assert made in site.of("h3", "router") and network in site.of("h3", "network")
        assert made not in site.of(before, "router") and network not in site.of(before, "network")
        ports = site.admin.get(f"{V}/ports?device_id={made}").json["ports"]
        assert {port["binding:host_id"] for port in ports} == {"h3"}


def test_moves_when_a_host_comes_that_reaches_its_external_network(site: Site) -> None:
    made, network, _ = connected(site, "10.9.0.0/24", external_gateway_info={"network_id": public(site)})
    inner, _, _ = connected(site, "10.10.0.0/24")
    before, stays = host_of(site, made), host_of(site, inner)
    assert before is not None and made in site.of(before, "router"), "no host reaches it, so one that is up tries"
    other = next(name for name in site.agent.names if name != before)
    site.agent.hello[other] = msgspec.structs.replace(site.agent.hello[other], physical=("public",))
    site.agent.arrive()
    assert host_of(site, made) == other
    assert made in site.of(other, "router") and network in site.of(other, "network")
    assert made not in site.of(before, "router")
    assert host_of(site, inner) == stays, "a router without a gateway reaches all it needs anywhere"


def test_a_page_of_routers_costs_the_same_as_one(site: Site) -> None:
    """What a host is told, too."""
    wanted = {"network_id": public(site)}
    for number in range(3):
        connected(site, f"10.{20 + number}.0.0/24", external_gateway_info=wanted)

    def queries() -> int:
        with site.cloud.database.read() as tx:
            for name in site.agent.names:
                provide(tx, site.agent.ids[name], None)
            return tx.queries

    few = queries()
    for number in range(6):
        connected(site, f"10.{30 + number}.0.0/24", external_gateway_info=wanted)
    assert queries() == few


def test_routes_through_a_gateway_hold_it(site: Site) -> None:
    made, _, _ = connected(site, "10.7.0.0/24", external_gateway_info={"network_id": public(site)})
    site.put(f"routers/{made}", {"router": {"routes": [{"destination": "192.0.2.0/24", "nexthop": "172.24.4.200"}]}})
    reply = site.demo.put(f"{V}/routers/{made}", {"router": {"external_gateway_info": None}})
    assert (reply.status, reply.json["NeutronError"]["type"]) == (400, "InvalidRoutes")
    assert site.demo.get(f"{V}/routers/{made}").json["router"]["external_gateway_info"] is not None


def test_ipv6_subnets_of_a_network_share_a_leg(site: Site) -> None:
    network, first = site.network("2001:db8:1::/64")
    second = site.make("subnets", network_id=network, ip_version=6, cidr="2001:db8:2::/64")["id"]
    four = site.make("subnets", network_id=network, ip_version=4, cidr="10.8.0.0/24")["id"]
    made = site.make("routers", name="r")["id"]
    legs = {
        subnet: site.put(f"routers/{made}/add_router_interface", {"subnet_id": subnet})["port_id"]
        for subnet in (first, second, four)
    }
    assert legs[first] == legs[second] != legs[four]
    host = host_of(site, made)
    assert host is not None
    by_port = {leg.port_id: leg for leg in site.of(host, "router")[made].interfaces}
    assert [each.address for each in by_port[legs[first]].addresses] == ["2001:db8:1::1", "2001:db8:2::1"]
    gone = site.put(f"routers/{made}/remove_router_interface", {"subnet_id": first})
    assert (gone["port_id"], gone["subnet_ids"]) == (legs[first], [first])
    by_port = {leg.port_id: leg for leg in site.of(host, "router")[made].interfaces}
    assert [each.address for each in by_port[legs[second]].addresses] == ["2001:db8:2::1"]
    site.put(f"routers/{made}/remove_router_interface", {"subnet_id": second})
    assert site.demo.get(f"{V}/ports/{legs[second]}").status == 404


def test_what_nobody_reaches_goes_to_one_that_is_up_and_stays(site: Site) -> None:
    """Its wiring then says what is missing; every change would move the router otherwise."""
    some = next(iter(site.agent.ids.values()))
    plain = SimpleNamespace(ha=False, zone_hints=[])

    def choose(tx: Tx, needed: set[str], *present: str) -> list[str]:
        return placing.choose(tx, site.cloud, plain, needed, present)

    with site.cloud.database.read() as tx:
        assert set(choose(tx, {"nobody has it"})) < set(site.agent.ids.values())
        for present in site.agent.ids.values():
            assert choose(tx, {"nobody has it"}, present) == [present]
        assert choose(tx, set(), some) == [some]


@pytest.mark.parametrize("verb", ["add_router_interface", "remove_router_interface"])
def test_what_belongs_to_others_is_not_touched(site: Site, verb: str) -> None:
    others = site.make("networks", site.admin, name="theirs")["id"]
    subnet = site.make("subnets", site.admin, network_id=others, ip_version=4, cidr="10.9.0.0/24")["id"]
    port = site.make("ports", site.admin, network_id=others)["id"]
    theirs = site.make("routers", site.admin, name="theirs")["id"]
    mine = site.make("routers", name="mine")["id"]
    for path, body in ((mine, {"subnet_id": subnet}), (mine, {"port_id": port}), (theirs, {"subnet_id": subnet})):
        reply = site.demo.put(f"{V}/routers/{path}/{verb}", body)
        assert reply.status == 404, reply
    shown = site.admin.get(f"{V}/ports/{port}").json["port"]
    assert (shown["device_id"], shown["device_owner"]) == ("", "")
