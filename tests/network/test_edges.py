"""Ports' edge in the ledger: what hosts are told of limits, trunks and address groups, and what they say back."""

from __future__ import annotations

import json
from typing import Any

import pytest

from nephos.doctor.audit import audit
from nephos.network import guests
from nephos.network.guests import NetworkRequest
from nephos.wiring import base
from tests.harness import Client
from tests.network.conftest import Site, V


def policy(site: Site, **rules: dict[str, Any]) -> str:
    """A QoS policy of demo's with one rule of each kind given."""
    made = site.admin.post(f"{V}/qos/policies", {"policy": {"name": "gold", "project_id": site.project}})
    key = str(made.json["policy"]["id"])
    for kind, values in rules.items():
        reply = site.admin.post(f"{V}/qos/policies/{key}/{kind}_rules", {f"{kind}_rule": values})
        assert reply.status == 201, reply
    return key


def test_limits_reach_the_host_and_the_ports_own_come_first(site: Site) -> None:
    gold = policy(site, bandwidth_limit={"max_kbps": 1000, "max_burst_kbps": 10}, dscp_marking={"dscp_mark": 26})
    least = policy(site, minimum_bandwidth={"min_kbps": 5})
    network, _ = site.network()
    (port,) = site.server("s", "h2", NetworkRequest(network_id=network))
    assert site.of("h2", "port")[port].limits is None
    site.put(f"networks/{network}", {"network": {"qos_policy_id": gold}})
    wanted = base.Limits(sent_kbits=1000, sent_burst=10, dscp=26)
    assert site.of("h2", "port")[port].limits == wanted
    rule = {"packet_rate_limit_rule": {"max_kpps": 2, "direction": "ingress"}}
    assert site.admin.post(f"{V}/qos/policies/{gold}/packet_rate_limit_rules", rule).status == 201
    assert site.of("h2", "port")[port].limits == base.Limits(
        sent_kbits=1000, sent_burst=10, dscp=26, to_packets=2000, to_packets_burst=0
    )
    site.put(f"ports/{port}", {"port": {"qos_policy_id": least}})
    assert site.of("h2", "port")[port].limits == base.Limits(least_sent_kbits=5)
    shown = site.admin.get(f"{V}/ports/{port}").json["port"]
    (asked,) = shown["resource_request"]["request_groups"]
    assert asked["required"] == ["CUSTOM_NETWORK_TUNNEL_PROVIDER", "CUSTOM_VNIC_TYPE_NORMAL"], "it is of the tunnels"
    site.put(f"ports/{port}", {"port": {"qos_policy_id": None}})
    site.put(f"networks/{network}", {"network": {"qos_policy_id": None}})
    assert site.of("h2", "port")[port].limits is None


def test_a_minimum_on_a_physical_network_is_a_request_for_resources(site: Site) -> None:
    least = policy(site, minimum_bandwidth={"min_kbps": 5}, minimum_packet_rate={"min_kpps": 3, "direction": "any"})
    public = site.demo.get(f"{V}/networks?name=public").json["networks"][0]["id"]
    port = site.make("ports", site.admin, network_id=public, qos_policy_id=least)
    first, second = port["resource_request"]["request_groups"]
    assert first["resources"] == {"NET_BW_EGR_KILOBIT_PER_SEC": 5}
    assert set(first["required"]) == {"CUSTOM_PHYSNET_PUBLIC", "CUSTOM_VNIC_TYPE_NORMAL"}
    assert second["resources"] == {"NET_PACKET_RATE_KILOPACKET_PER_SEC": 3}
    assert port["resource_request"]["same_subtree"] == [first["id"], second["id"]]


def test_subports_live_where_their_parent_lives(site: Site) -> None:
    outer, _ = site.network("10.20.0.0/24")
    inner, _ = site.network("10.21.0.0/24")
    parent, child = site.make("ports", network_id=outer)["id"], site.make("ports", network_id=inner)["id"]
    tagged = [{"port_id": child, "segmentation_type": "vlan", "segmentation_id": 7}]
    trunk = site.make("trunks", port_id=parent, sub_ports=tagged)["id"]
    site.server("s", "h2", NetworkRequest(port_id=parent))
    told = site.of("h2", "port")
    assert (told[child].trunk, told[child].tag, told[child].admin_up) == (parent, 7, True)
    assert (told[parent].trunk, told[parent].tag) == (None, None)
    assert inner in site.of("h2", "network")
    assert site.demo.get(f"{V}/trunks/{trunk}").json["trunk"]["status"] == "DOWN"

    site.write(lambda tx: guests.activate(tx, site.cloud, "s"))
    assert site.demo.get(f"{V}/trunks/{trunk}").json["trunk"]["status"] == "ACTIVE"
    assert site.demo.get(f"{V}/ports/{child}").json["port"]["status"] == "ACTIVE"
    site.put(f"trunks/{trunk}", {"trunk": {"admin_state_up": False}})
    assert site.of("h2", "port")[child].admin_up is False
    assert site.demo.delete(f"{V}/trunks/{trunk}").status == 409
    site.put(f"trunks/{trunk}", {"trunk": {"admin_state_up": True}})
    site.put(f"trunks/{trunk}/remove_subports", {"sub_ports": [{"port_id": child}]})
    assert child not in site.of("h2", "port") and inner not in site.of("h2", "network")


def test_address_groups_are_told_to_the_hosts_whose_rules_name_them(site: Site) -> None:
    network, _ = site.network()
    offices = site.make("address-groups", addresses=["192.0.2.0/24"])["id"]
    group = site.make("security-groups", name="g")["id"]
    rule = site.make(
        "security-group-rules", security_group_id=group, direction="ingress", remote_address_group_id=offices
    )
    site.server("s", "h2", NetworkRequest(network_id=network), groups=(group,))
    told = site.of("h2", "group")
    assert told[offices].members == ("192.0.2.0/24",) and told[offices].rules == ()
    assert offices in {each.remote_group_id for each in told[group].rules}
    site.put(f"address-groups/{offices}/add_addresses", {"addresses": ["2001:db8::/32"]})
    assert site.of("h2", "group")[offices].members == ("192.0.2.0/24", "2001:db8::/32")
    assert offices not in site.of("h3", "group")
    site.delete(f"security-group-rules/{rule['id']}")
    assert offices not in site.of("h2", "group")


def test_what_a_host_saw_is_shown_to_operators_and_audited(site: Site) -> None:
    network, _ = site.network()
    (port,) = site.server("s", "h2", NetworkRequest(network_id=network))
    site.told("h2")
    site.agent.saw("h2", "learned", port, json.dumps([["fa:16:3e:cc:00:01", "10.20.0.77"]]))
    site.agent.saw("h2", "rogue", port, json.dumps([["DHCP", "fa:16:3e:00:00:01", "10.20.0.66", 3]]))
    site.agent.saw("h2", "rogue", network, json.dumps([["DHCP", "", "10.20.0.67", 1]]))
    site.agent.saw("h2", "port_wiring", port, "VLAN 7 cannot be carried here")
    site.agent.work()
    shown = site.admin.get(f"{V}/ports/{port}").json["port"]
    assert shown["nephos:learned_addresses"] == [{"mac_address": "fa:16:3e:cc:00:01", "ip_address": "10.20.0.77"}]
    (blocked,) = shown["nephos:blocked_servers"]
    assert (blocked["what"], blocked["ip_address"], blocked["frames"]) == ("DHCP", "10.20.0.66", 3)
    assert (shown["binding:vif_type"], shown["nephos:wiring_error"]) == (
        "binding_failed",
        "VLAN 7 cannot be carried here",
    )
    mine = site.demo.get(f"{V}/ports/{port}").json["port"]
    assert not [name for name in mine if name.startswith("nephos:")]
    found = {(each.kind, each.name): each.why for each in audit(site.cloud) if each.name in (port, network)}
    assert "10.20.0.67, 1 blocked" in found["network", network]
    assert {each.why for each in audit(site.cloud) if each.name == port} >= {
        "a DHCP server that is none of the cloud's: 10.20.0.66 (fa:16:3e:00:00:01), 3 blocked",
        "is not wired: VLAN 7 cannot be carried here",
    }
    site.agent.saw("h2", "port_wiring", port, "")
    site.agent.work()
    assert site.admin.get(f"{V}/ports/{port}").json["port"]["binding:vif_type"] == "bridge"


@pytest.mark.parametrize(
    "value", ["", "{", "[1]", '[["DHCP", "m", "a", "many"]]', json.dumps([["DHCP", "m", "a", 1]] * 999)]
)
def test_a_host_that_talks_nonsense_or_of_anothers_port_is_not_believed(site: Site, value: str) -> None:
    network, _ = site.network()
    (port,) = site.server("s", "h2", NetworkRequest(network_id=network))
    good = json.dumps([["DHCP", "fa:16:3e:00:00:01", "10.20.0.66", 3]])
    site.agent.saw("h3", "rogue", port, good)
    site.agent.saw("h3", "rogue", network, good)
    site.agent.saw("h2", "rogue", port, value)
    site.agent.saw("h2", "learned", port, value)
    site.agent.work()
    shown = site.admin.get(f"{V}/ports/{port}").json["port"]
    assert "nephos:blocked_servers" not in shown and "nephos:learned_addresses" not in shown
    assert network not in {each.name for each in audit(site.cloud)}


def test_a_port_changes_over_to_a_prepared_host(site: Site) -> None:
    network, _ = site.network()
    (port,) = site.server("s", "h2", NetworkRequest(network_id=network))
    path = f"{V}/ports/{port}/bindings"
    assert site.admin.post(path, {"binding": {"host": "h3"}}).status == 403, "it takes the service role"
    service = _service(site)
    assert service.post(path, {"binding": {"host": "h3"}}).status == 201
    assert service.post(path, {"binding": {"host": "h3"}}).status == 409
    assert service.post(path, {"binding": {"host": "nowhere"}}).status == 400
    listed = site.admin.get(path).json["bindings"]
    assert [(each["host"], each["status"]) for each in listed] == [("h2", "ACTIVE"), ("h3", "INACTIVE")]
    assert service.put(f"{path}/h2/activate").status == 409
    assert service.put(f"{path}/h3/activate").json["binding"]["status"] == "ACTIVE"
    assert port in site.of("h3", "port") and port not in site.of("h2", "port")
    listed = site.admin.get(path).json["bindings"]
    assert [(each["host"], each["status"]) for each in listed] == [("h3", "ACTIVE"), ("h2", "INACTIVE")]
    assert service.delete(f"{path}/h2").status == 204
    assert service.delete(f"{path}/h2").status == 404


def _service(site: Site) -> Client:
    """A client with the service role."""
    made = site.admin.post("/v3/users", {"user": {"name": "nova", "password": "nova-secret", "domain_id": "default"}})
    roles = site.admin.get("/v3/roles?name=service").json["roles"]
    own = site.admin.get(V + "/quotas/project").json["project"]["project_id"]
    path = f"/v3/projects/{own}/users/{made.json['user']['id']}/roles/{roles[0]['id']}"
    assert site.admin.put(path).status == 204
    return site.harness.login("nova", "admin")


@pytest.mark.parametrize(
    ("values", "status"),
    [
        ({"cidr": "0.0.0.0/0"}, 400),
        ({"cidr": "::/0", "ip_version": 6}, 400),
        ({"cidr": "0.0.0.0/0", "enable_dhcp": False}, 201),
        ({"cidr": "10.0.0.0/8"}, 201),
        ({"cidr": "2001:db8::/32", "ip_version": 6}, 201),
        ({"cidr": "10.0.0.0/8", "allocation_pools": [{"start": "10.0.0.1", "end": "11.0.0.0"}]}, 400),
        ({"cidr": "10.0.0.0/8", "gateway_ip": "11.0.0.1"}, 400),
        (
            {
                "cidr": "10.0.0.0/8",
                "gateway_ip": "10.0.0.9",
                "allocation_pools": [{"start": "10.0.0.1", "end": "10.0.0.9"}],
            },
            409,
        ),
        ({"cidr": "10.0.0.0/31"}, 400),
        ({"cidr": "224.0.0.0/8"}, 400),
        ({"cidr": "127.0.0.0/8"}, 400),
    ],
)
def test_ranges_however_large_are_judged_at_once(site: Site, values: dict[str, Any], status: int) -> None:
    network = site.make("networks", name="n")["id"]
    reply = site.demo.post(f"{V}/subnets", {"subnet": {"network_id": network, "ip_version": 4, **values}})
    assert reply.status == status, reply
    if status == 201:
        port = site.make("ports", network_id=network)
        assert port["fixed_ips"]
