"""Routers leave hosts that are lost, and highly available ones are on two: what the ledger decides and hosts are told."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select, update

from nephos.hosts.store import host
from nephos.hosts.wire import Seen
from nephos.kernel import clock
from nephos.network.routers import placing
from nephos.network.routers.store import router
from tests.network.conftest import Site, V
from tests.network.test_routers import connected, host_of, public


@pytest.fixture
def site(site: Site) -> Site:
    """Every host reaches the physical network."""
    site.write(lambda tx: tx.execute(update(host).values(physical=["public"])))
    return site


def lose(site: Site, *names: str) -> None:
    """These hosts were last heard of long ago; the rounds that the server makes find that out."""
    ids = [site.agent.ids[name] for name in names]
    site.write(lambda tx: tx.execute(update(host).where(host.c.id.in_(ids)).values(last_seen=1)))
    turn(site)


def turn(site: Site) -> None:
    for each in site.cloud.hosts.rounds:
        site.write(each)


def says(site: Site, name: str, router_id: str, state: str, at: int | None = None) -> None:
    """A host reports the state of a highly available router."""
    seen = Seen(site.agent.ids[name], "router_state", router_id, state, at or clock.now_us())
    site.write(lambda tx: [notice(tx, seen) for notice in site.cloud.hosts.notices["router_state"]])


def agents_of(site: Site, router_id: str) -> dict[str, str | None]:
    found = site.admin.get(f"{V}/routers/{router_id}/l3-agents").json["agents"]
    return {each["host"]: each["ha_state"] for each in found}


def l3_agent(site: Site, name: str) -> str:
    agents = site.admin.get(f"{V}/agents?agent_type=L3%20agent&host={name}").json["agents"]
    return str(agents[0]["id"])


def ha_router(site: Site, cidr: str, **values: Any) -> tuple[str, str, str]:
    made = site.make("routers", site.admin, name="r", ha=True, project_id=site.project, **values)["id"]
    _, subnet = site.network(cidr)
    leg = site.put(f"routers/{made}/add_router_interface", {"subnet_id": subnet})["port_id"]
    return made, subnet, leg


def test_a_router_leaves_a_host_that_is_down_and_the_host_hears_of_it_when_it_is_back(site: Site) -> None:
    made, network, _ = connected(site, "10.1.0.0/24", external_gateway_info={"network_id": public(site)})
    port = site.make("ports", network_id=network)["id"]
    site.make("floatingips", floating_network_id=public(site), port_id=port)
    first = host_of(site, made)
    assert first is not None
    before = site.of(first, "router")[made]
    lose(site, first)
    second = host_of(site, made)
    assert second not in (None, first)
    assert site.of(str(second), "router")[made] == before, "the same router, whole, on the other host"
    for leg in before.legs:
        shown = site.admin.get(f"{V}/ports/{leg.port_id}").json["port"]
        assert (shown["binding:host_id"], shown["status"]) == (second, "ACTIVE")
    assert made not in site.of(first, "router"), "what the host hears when it is there again"
    turn(site)
    assert host_of(site, made) == second, "it does not move back by itself"


def test_a_router_stays_when_nobody_else_is_there(site: Site) -> None:
    made, _, _ = connected(site, "10.1.0.0/24")
    before = host_of(site, made)
    lose(site, *site.agent.ids)
    assert host_of(site, made) == before


def test_floating_ips_are_down_while_no_agent_has_their_router(site: Site) -> None:
    external = public(site)
    made, network, _ = connected(site, "10.1.0.0/24", external_gateway_info={"network_id": external})
    port = site.make("ports", network_id=network)["id"]
    floating = site.make("floatingips", floating_network_id=external, port_id=port)
    idle = site.make("floatingips", floating_network_id=external)

    def status() -> tuple[str, ...]:
        shown = (site.demo.get(f"{V}/floatingips/{one['id']}").json["floatingip"] for one in (floating, idle))
        return tuple(one["status"] for one in shown)

    assert status() == ("ACTIVE", "DOWN")
    first = l3_agent(site, str(host_of(site, made)))
    site.delete(f"agents/{first}/l3-routers/{made}", site.admin)
    assert (host_of(site, made), status()) == (None, ("DOWN", "DOWN"))
    assert site.admin.post(f"{V}/agents/{l3_agent(site, 'h3')}/l3-routers", {"router_id": made}).status == 201
    assert (host_of(site, made), status()) == ("h3", ("ACTIVE", "DOWN"))


def test_members_see_no_agents_as_with_any_list_of_this_api(site: Site) -> None:
    agent = l3_agent(site, "h1")
    assert site.demo.get(f"{V}/agents").json == {"agents": []}
    assert site.demo.get(f"{V}/agents/{agent}").status == 404
    assert site.admin.get(f"{V}/agents/{agent}").json["agent"]["host"] == "h1"


def test_an_l3_agent_that_is_switched_off_gives_its_routers_away_and_gets_none(site: Site) -> None:
    made, _, _ = connected(site, "10.1.0.0/24")
    first = str(host_of(site, made))
    agent = l3_agent(site, first)
    site.put(f"agents/{agent}", {"agent": {"admin_state_up": False}}, site.admin)
    assert host_of(site, made) not in (None, first)
    others = [connected(site, f"10.1.{number}.0/24")[0] for number in range(1, 5)]
    assert first not in {host_of(site, each) for each in others}
    refused = site.admin.post(f"{V}/agents/{agent}/l3-routers", {"router_id": made})
    assert (refused.status, refused.json["NeutronError"]["type"]) == (409, "InvalidL3Agent")


def test_a_highly_available_router_is_on_two_hosts_and_one_is_active(site: Site) -> None:
    made, _, _ = ha_router(site, "10.1.0.0/24", external_gateway_info={"network_id": public(site)})
    shown = site.admin.get(f"{V}/routers/{made}").json["router"]
    assert shown["ha"] is True
    hosts = agents_of(site, made)
    assert len(hosts) == 2 and set(hosts.values()) == {"standby"}, "until a host says that it is active"
    active = str(host_of(site, made))
    (other,) = hosts.keys() - {active}
    here, there = site.of(active, "router")[made], site.of(other, "router")[made]
    assert here.ha is not None and there.ha is not None
    assert here.ha.number == there.ha.number == 1
    assert here.ha.virtual.address == "169.254.0.1"
    assert here.ha.leg.port_id != there.ha.leg.port_id
    assert here.interfaces == there.interfaces and here.gateways == there.gateways
    networks = {each.network_id for each in here.legs}
    for name in hosts:
        assert networks <= site.of(name, "network").keys(), "both carry the router's networks and the HA network"
    # The hidden network is its own: nobody but an administrator sees it, and every host knows where the other is.
    (network,) = networks & {
        one["id"] for one in site.admin.get(f"{V}/networks").json["networks"] if "HA net" in one["name"]
    }
    assert site.demo.get(f"{V}/networks/{network}").status == 404
    says(site, active, made, "active")
    assert agents_of(site, made) == {active: "active", other: "standby"}


def test_when_the_other_host_becomes_active_the_legs_and_all_forwarding_follow(site: Site) -> None:
    made, _, leg = ha_router(site, "10.1.0.0/24")
    network = site.admin.get(f"{V}/ports/{leg}").json["port"]["network_id"]
    active = str(host_of(site, made))
    (other,) = agents_of(site, made).keys() - {active}
    (third,) = site.agent.ids.keys() - {active, other}
    guest = site.make("ports", site.admin, network_id=network, **{"binding:host_id": third})["id"]
    tunnels = {row.name: row.tunnel_address for row in site.write(lambda tx: tx.all(select(host)))}
    assert all(tunnels.values())
    assert {tunnels[active], tunnels[other]} <= set(site.of(third, "network")[network].peers), "before it is needed"
    says(site, active, made, "active", 1000)
    says(site, other, made, "active", 2000)
    says(site, active, made, "active", 1500)
    assert agents_of(site, made) == {active: "standby", other: "active"}, "late news change nothing"
    assert host_of(site, made) == other
    shown = site.admin.get(f"{V}/ports/{leg}").json["port"]
    assert (shown["binding:host_id"], shown["status"]) == (other, "ACTIVE")
    assert {tunnels[active], tunnels[other]} <= set(site.of(third, "network")[network].peers), (
        "who stands by is believed"
    )
    (endpoint,) = [one for one in site.of(third, "network")[network].endpoints if one.port_id == leg]
    assert endpoint.tunnel == tunnels[other]
    assert guest in site.of(third, "port")
    says(site, third, made, "active", 3000)
    assert host_of(site, made) == other, "a host that does not have the router has nothing to say"


def test_a_lost_host_of_a_highly_available_router_is_replaced(site: Site) -> None:
    made, _, _ = ha_router(site, "10.1.0.0/24")
    active = str(host_of(site, made))
    before = set(agents_of(site, made))
    lose(site, active)
    after = set(agents_of(site, made))
    assert len(after) == 2 and active not in after
    assert host_of(site, made) in before & after, "the one that stood by is active now"
    assert made not in site.of(active, "router")


def test_highly_available_or_not_can_be_changed_while_it_is_down(site: Site) -> None:
    made, _, _ = connected(site, "10.1.0.0/24")
    refused = site.admin.put(f"{V}/routers/{made}", {"router": {"ha": True}})
    assert (refused.status, refused.json["NeutronError"]["type"]) == (400, "BadRequest")
    site.put(f"routers/{made}", {"router": {"ha": True, "admin_state_up": False}}, site.admin)
    site.put(f"routers/{made}", {"router": {"admin_state_up": True}})
    assert len(agents_of(site, made)) == 2
    site.put(f"routers/{made}", {"router": {"ha": False, "admin_state_up": False}}, site.admin)
    assert list(agents_of(site, made).values()) == [None]
    names = [one["name"] for one in site.admin.get(f"{V}/networks").json["networks"]]
    assert not [name for name in names if name.startswith("HA network")], "the HA network goes with its last router"


def test_operators_put_a_highly_available_router_on_hosts_and_take_it_away(site: Site) -> None:
    made, _, _ = ha_router(site, "10.1.0.0/24")
    (third,) = site.agent.ids.keys() - agents_of(site, made).keys()
    reply = site.admin.post(f"{V}/agents/{l3_agent(site, third)}/l3-routers", {"router_id": made})
    assert reply.status == 201
    assert len(agents_of(site, made)) == 3
    one, two = sorted(agents_of(site, made).keys() - {third})
    prefer = {name: f"{V}/agents/{l3_agent(site, name)}/l3-routers/{made}" for name in (one, two, third)}
    assert site.admin.put(prefer[one], {"ha_chassis_priority": 300}).status == 200
    assert site.admin.put(prefer[two], {"ha_chassis_priority": 20}).status == 200
    assert site.admin.put(prefer[third], {"ha_chassis_priority": 20}).status == 409
    assert site.admin.put(prefer[third], {"ha_chassis_priority": 32768}).status == 400
    assert [site.of(name, "router")[made].ha.rank for name in (one, two, third)] == [2, 1, 0]
    agents = site.admin.get(f"{V}/routers/{made}/l3-agents").json["agents"]
    assert {each["host"]: each["ha_chassis_priority"] for each in agents} == {one: 300, two: 20, third: None}
    active = str(host_of(site, made))
    assert site.admin.delete(f"{V}/agents/{l3_agent(site, active)}/l3-routers/{made}").status == 204
    assert active not in agents_of(site, made) and len(agents_of(site, made)) == 2
    assert host_of(site, made) not in (None, active)


def test_deleting_a_highly_available_router_leaves_nothing(site: Site) -> None:
    made, subnet, _ = ha_router(site, "10.1.0.0/24", external_gateway_info={"network_id": public(site)})
    hosts = agents_of(site, made)
    site.put(f"routers/{made}/remove_router_interface", {"subnet_id": subnet})
    site.delete(f"routers/{made}")
    for name in hosts:
        assert made not in site.of(name, "router")
    left = site.admin.get(f"{V}/ports?device_id={made}").json["ports"]
    assert left == []
    assert not list(site.write(lambda tx: [f for check in site.cloud.audits for f in check(tx)]))


def test_a_host_with_the_fewest_routers_takes_over_and_numbers_differ(site: Site) -> None:
    numbers = set()
    for place in range(3):
        made, _, _ = ha_router(site, f"10.1.{place}.0/24")
        numbers.add(site.write(lambda tx, made=made: tx.scalar(select(router.c.ha_number).where(router.c.id == made))))
    assert numbers == {1, 2, 3}
    rows = site.write(lambda tx: [placing.hosts_of(tx, row) for row in tx.all(select(router).where(router.c.ha))])
    assert len({tuple(sorted(each)) for each in rows}) > 1, "not all on the same two"


def test_a_gateway_that_does_not_answer_is_told_by_audit_until_it_does(site: Site) -> None:
    made, _, _ = connected(site, "10.1.0.0/24", external_gateway_info={"network_id": public(site)})
    host = str(host_of(site, made))
    (leg,) = site.of(host, "router")[made].gateways

    def report(kind: str, name: str) -> None:
        seen = Seen(site.agent.ids[name], kind, leg.port_id, "172.24.4.1", clock.now_us())
        site.write(lambda tx: [notice(tx, seen) for notice in site.cloud.hosts.notices[kind]])

    def findings() -> list[str]:
        return [each.why for each in site.write(lambda tx: [f for check in site.cloud.audits for f in check(tx)])]

    (other, *_) = site.agent.ids.keys() - {host}
    report("gateway_silent", other)
    assert findings() == [], "a host speaks for its own ports"
    report("gateway_silent", host)
    report("gateway_silent", host)
    (why,) = findings()
    assert "172.24.4.1" in why and f"does not answer on host {host}" in why
    report("gateway_answers", host)
    assert findings() == []
