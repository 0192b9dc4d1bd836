"""Floating IPs: one address for one, however many ask at once; and whom they may lead to."""

from __future__ import annotations

import threading
from typing import Any

from tests.harness import Response
from tests.network.conftest import Site, V


def outside(site: Site, last: int) -> str:
    """An external network with the addresses .10 to .`last`."""
    network = site.make("networks", site.admin, name="outside", **{"router:external": True})["id"]
    site.make(
        "subnets",
        site.admin,
        network_id=network,
        ip_version=4,
        cidr="198.51.100.0/24",
        enable_dhcp=False,
        allocation_pools=[{"start": "198.51.100.10", "end": f"198.51.100.{last}"}],
    )
    return str(network)


def reached(site: Site, external: str, client: Any = None, cidr: str = "10.20.0.0/24") -> tuple[str, str]:
    """A network behind a router to the external one: (network, router)."""
    network = site.make("networks", client, name="inside")["id"]
    subnet = site.make("subnets", client, network_id=network, ip_version=4, cidr=cidr)["id"]
    router = site.make("routers", client, name="r", external_gateway_info={"network_id": external})["id"]
    site.put(f"routers/{router}/add_router_interface", {"subnet_id": subnet}, client)
    return network, router


def test_those_who_ask_at_once_get_different_addresses_and_the_last_a_conflict(site: Site) -> None:
    external = outside(site, 14)
    replies: list[Response] = []

    def ask() -> None:
        for _ in range(2):
            replies.append(site.demo.post(V + "/floatingips", {"floatingip": {"floating_network_id": external}}))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    given = [each.json["floatingip"]["floating_ip_address"] for each in replies if each.status == 201]
    assert sorted(given) == [f"198.51.100.{last}" for last in range(10, 15)]
    refused = [each for each in replies if each.status != 201]
    assert {each.status for each in refused} == {409}
    assert external in refused[0].json["NeutronError"]["message"]
    ports = site.admin.get(f"{V}/ports?network_id={external}").json["ports"]
    assert len(ports) == 5, "nothing is left of those that were refused"


def test_an_address_goes_round_before_it_is_given_again(site: Site) -> None:
    external = outside(site, 40)
    first = site.make("floatingips", floating_network_id=external)
    site.delete(f"floatingips/{first['id']}")
    second = site.make("floatingips", floating_network_id=external)
    assert second["floating_ip_address"] != first["floating_ip_address"]


def test_other_projects_ports_are_not_led_to_but_by_an_administrator(site: Site) -> None:
    external = outside(site, 40)
    theirs, _ = reached(site, external, site.admin)
    port = site.make("ports", site.admin, network_id=theirs)["id"]
    mine = site.make("floatingips", floating_network_id=external)["id"]
    reply = site.demo.put(f"{V}/floatingips/{mine}", {"floatingip": {"port_id": port}})
    assert (reply.status, reply.json["NeutronError"]["type"]) == (404, "PortNotFound")
    shown = site.put(f"floatingips/{mine}", {"floatingip": {"port_id": port}}, site.admin)["floatingip"]
    assert (shown["port_id"], shown["project_id"], shown["status"]) == (port, site.project, "ACTIVE")


def test_a_floating_ip_of_another_project_is_not_there(site: Site) -> None:
    external = outside(site, 40)
    theirs = site.make("floatingips", site.admin, floating_network_id=external)["id"]
    assert site.demo.get(f"{V}/floatingips/{theirs}").status == 404
    assert site.demo.put(f"{V}/floatingips/{theirs}", {"floatingip": {"description": "mine"}}).status == 404
    assert site.demo.delete(f"{V}/floatingips/{theirs}").status == 404
    assert site.demo.get(f"{V}/floatingips?id={theirs}").json == {"floatingips": []}


def test_ports_of_routers_and_dhcp_get_none(site: Site) -> None:
    external = outside(site, 40)
    network, router = reached(site, external)
    for port in site.admin.get(f"{V}/ports?network_id={network}").json["ports"]:
        assert port["device_owner"] in ("network:router_interface", "network:dhcp")
        wanted = {"floatingip": {"floating_network_id": external, "port_id": port["id"], "project_id": site.project}}
        reply = site.admin.post(V + "/floatingips", wanted)
        assert (reply.status, reply.json["NeutronError"]["type"]) == (400, "BadRequest"), reply
    assert site.demo.get(V + "/floatingips").json == {"floatingips": []}
    assert site.demo.get(f"{V}/routers/{router}").status == 200


def test_the_router_that_is_the_gateway_leads(site: Site) -> None:
    """Two routers between the same subnet and the external network: guests send their answers to the gateway."""
    external = outside(site, 40)
    network, _ = site.network("10.21.0.0/24")
    aside = site.make("routers", name="aside", external_gateway_info={"network_id": external})["id"]
    leg = site.make("ports", network_id=network, fixed_ips=[{"ip_address": "10.21.0.254"}])["id"]
    site.put(f"routers/{aside}/add_router_interface", {"port_id": leg})
    port = site.make("ports", network_id=network)["id"]
    floating = site.make("floatingips", floating_network_id=external, port_id=port)
    assert floating["router_id"] == aside, "the only one"
    site.delete(f"floatingips/{floating['id']}")
    gateway = site.make("routers", name="gateway", external_gateway_info={"network_id": external})["id"]
    subnet = site.demo.get(f"{V}/subnets?network_id={network}").json["subnets"][0]["id"]
    site.put(f"routers/{gateway}/add_router_interface", {"subnet_id": subnet})
    assert site.make("floatingips", floating_network_id=external, port_id=port)["router_id"] == gateway


def test_a_list_costs_the_same_for_many(site: Site) -> None:
    external = outside(site, 90)
    network, _ = reached(site, external)

    def queries(count: int) -> int:
        for _ in range(count):
            port = site.make("ports", network_id=network)["id"]
            site.make("floatingips", floating_network_id=external, port_id=port)
        seen: list[int] = []
        read = site.cloud.database.read

        class Counting:
            def __enter__(self) -> Any:
                self.inner = read()
                self.tx = self.inner.__enter__()
                return self.tx

            def __exit__(self, *why: Any) -> Any:
                seen.append(self.tx.queries)
                return self.inner.__exit__(*why)

        site.cloud.database.read = Counting  # type: ignore[method-assign,assignment]
        try:
            found = site.demo.get(V + "/floatingips").json["floatingips"]
        finally:
            site.cloud.database.read = read  # type: ignore[method-assign]
        assert all(each["port_details"]["network_id"] == network for each in found)
        return sum(seen)

    assert queries(2) == queries(6)


def test_hosts_are_told_the_limits_of_floating_ips_and_gateways(site: Site) -> None:
    """Their own policy's, or else that of their network; and when it changes."""
    (router,) = site.of("h1", "router").values()
    (public,) = [one["id"] for one in site.demo.get(f"{V}/networks?router:external=true").json["networks"]]
    made = [site.admin.post(f"{V}/qos/policies", {"policy": {"name": each, "shared": True}}) for each in ("a", "b")]
    policies = [each.json["policy"]["id"] for each in made]
    network, subnet = site.network()
    site.put(f"routers/{router.id}/add_router_interface", {"subnet_id": subnet})
    port = site.make("ports", network_id=network)["id"]
    floating = site.make("floatingips", floating_network_id=public, port_id=port)["id"]
    for policy_id, kbits in zip(policies, (1000, 2000), strict=True):
        rule = {"bandwidth_limit_rule": {"max_kbps": kbits, "direction": "ingress"}}
        assert site.admin.post(f"{V}/qos/policies/{policy_id}/bandwidth_limit_rules", rule).status == 201

    def limits() -> tuple[int | None, int | None]:
        site.told("h1")
        (told,) = site.of("h1", "router").values()
        (way,) = told.floating
        return way.limits and way.limits.to_kbits, told.gateway.limits and told.gateway.limits.to_kbits

    assert limits() == (None, None)
    site.put(f"networks/{public}", {"network": {"qos_policy_id": policies[0]}}, site.admin)
    assert limits() == (1000, 1000)
    site.put(f"floatingips/{floating}", {"floatingip": {"qos_policy_id": policies[1]}})
    assert limits() == (2000, 1000)
    info = {"network_id": public, "qos_policy_id": policies[1]}
    site.put(f"routers/{router.id}", {"router": {"external_gateway_info": info}})
    assert limits() == (2000, 2000)
    (rule,) = site.admin.get(f"{V}/qos/policies/{policies[1]}/bandwidth_limit_rules").json["bandwidth_limit_rules"]
    changed = {"bandwidth_limit_rule": {"max_kbps": 3000}}
    site.put(f"qos/policies/{policies[1]}/bandwidth_limit_rules/{rule['id']}", changed, site.admin)
    assert limits() == (3000, 3000)
