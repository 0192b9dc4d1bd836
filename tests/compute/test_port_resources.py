"""Minimum bandwidth and packet rate: hosts say what they have, ports ask for it, and the ledger counts it."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import pytest

from nephos.settings import Host, Rates
from tests.compute.conftest import Lab

V = "/network/v2.0"
EGRESS = "NET_BW_EGR_KILOBIT_PER_SEC"
Has = dict[str, dict[str, int]]


class Site:
    """The cloud with a policy of 600 kbit/s at least, and hosts that have what `give` says."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.policy = self.made("qos/policies", "policy", name="least", shared=True)["id"]
        self.rule("minimum_bandwidth", min_kbps=600)
        (public,) = lab.admin.get(f"{V}/networks?name=public").json["networks"]
        self.public: str = public["id"]

    def made(self, path: str, noun: str, **values: Any) -> dict[str, Any]:
        reply = self.lab.admin.post(f"{V}/{path}", {noun: values})
        assert reply.status == 201, reply
        made: dict[str, Any] = reply.json[noun]
        return made

    def rule(self, kind: str, **values: Any) -> None:
        self.made(f"qos/policies/{self.policy}/{kind}_rules", f"{kind}_rule", **values)

    def give(self, **of_host: Has) -> None:
        agent = self.lab.agent
        for name, capacity in of_host.items():
            agent.hello[name] = msgspec.structs.replace(agent.hello[name], network_capacity=capacity)
        agent.arrive()

    def port(self, name: str, policy: bool = True) -> str:
        found = self.made(
            "ports", "port", network_id=self.public, name=name, qos_policy_id=self.policy if policy else None
        )
        return str(found["id"])

    def shown(self, port: str) -> dict[str, Any]:
        found: dict[str, Any] = self.lab.admin.get(f"{V}/ports/{port}").json["port"]
        return found

    def boot(self, port: str, **more: Any) -> dict[str, Any]:
        return self.lab.boot(self.lab.admin, networks=[{"port": port}], **more)

    def providers(self, host: str) -> dict[str, dict[str, Any]]:
        """Name → what placement tells of the providers below a host."""
        headers = {"OpenStack-API-Version": "placement 1.39"}
        tree = self.lab.agent.ids[host]
        listed = self.lab.admin.get(f"/placement/resource_providers?in_tree={tree}", **headers).json
        found = {}
        for each in listed["resource_providers"]:
            if each["uuid"] != tree:
                base = f"/placement/resource_providers/{each['uuid']}"
                found[each["name"]] = {
                    "traits": set(self.lab.admin.get(f"{base}/traits", **headers).json["traits"]),
                    "total": {
                        name: one["total"]
                        for name, one in self.lab.admin.get(f"{base}/inventories", **headers)
                        .json["inventories"]
                        .items()
                    },
                    "used": self.lab.admin.get(f"{base}/usages", **headers).json["usages"],
                }
        return found

    def used(self, host: str = "h1") -> int:
        amount: int = self.providers(host)[f"{host}:network:public"]["used"][EGRESS]
        return amount


@pytest.fixture
def site(lab: Lab) -> Site:
    return Site(lab)


def test_settings_become_what_a_host_says() -> None:
    host = Host(bandwidths={"public": Rates(egress=1000, ingress=500)}, packet_rate=Rates(any=30))
    assert host.network_capacity == {"public": {"egress": 1000, "ingress": 500}, "": {"any": 30}}
    assert Host().network_capacity == {"": {}}


def test_a_hosts_networks_are_providers_below_it(site: Site) -> None:
    site.give(
        h1={"public": {"egress": 1000, "ingress": 2000}, "rp_tunnelled": {"egress": 10}, "": {"any": 30}}, h2={"": {}}
    )
    found = site.providers("h1")
    assert found["h1:network"]["total"] == {"NET_PACKET_RATE_KILOPACKET_PER_SEC": 30}
    assert found["h1:network:public"]["total"] == {EGRESS: 1000, "NET_BW_IGR_KILOBIT_PER_SEC": 2000}
    assert found["h1:network:public"]["traits"] == {"CUSTOM_PHYSNET_PUBLIC", "CUSTOM_VNIC_TYPE_NORMAL"}
    assert found["h1:network:rp_tunnelled"]["traits"] == {"CUSTOM_NETWORK_TUNNEL_PROVIDER", "CUSTOM_VNIC_TYPE_NORMAL"}
    assert site.providers("h2") == {}
    site.give(h1={"public": {"egress": 1500}, "": {}})
    assert {name: each["total"] for name, each in site.providers("h1").items()} == {
        "h1:network": {},
        "h1:network:public": {EGRESS: 1500},
    }
    site.give(h1={"": {}})
    assert site.providers("h1") == {}


def test_a_server_goes_where_its_port_gets_what_it_asks_for(site: Site) -> None:
    site.give(h1={"public": {"egress": 1000}}, h2={"other": {"egress": 9000}}, h3={"public": {"egress": 100}})
    port = site.port("web")
    assert site.shown(port)["binding:profile"] == {}
    server = site.boot(port)
    assert (server["status"], server["OS-EXT-SRV-ATTR:host"]) == ("ACTIVE", "h1")
    assert site.used() == 600
    (group,) = site.shown(port)["resource_request"]["request_groups"]
    headers = {"OpenStack-API-Version": "placement 1.39"}
    taken = site.lab.admin.get(f"/placement/allocations/{server['id']}", **headers).json["allocations"]
    (provider,) = [key for key, each in taken.items() if EGRESS in each["resources"]]
    assert site.shown(port)["binding:profile"] == {"allocation": {group["id"]: provider}}
    # A second does not fit beside it, and is told why; one without minimum goes anywhere.
    late = site.boot(site.port("late"))
    assert late["status"] == "ERROR"
    why = late["fault"]["message"]
    assert "PortResourceFilter removed 3" in why
    assert f"port late asks for 600 {EGRESS} of one provider with CUSTOM_PHYSNET_PUBLIC, CUSTOM_VNIC_TYPE_NORMAL" in why
    assert site.boot(site.port("plain", policy=False))["status"] == "ACTIVE"
    assert site.used() == 600
    # What is deleted gives it back.
    assert site.lab.admin.delete(f"/compute/v2.1/servers/{server['id']}").status == 204
    site.lab.agent.settle()
    assert site.used() == 0
    # So does a guest that could not be built.
    site.lab.agent.refuse = lambda host, task: "no disk" if task.kind == "guest.create" else None
    assert site.boot(site.port("broken"))["status"] == "ERROR"
    assert site.used() == 0


def test_all_of_a_servers_ports_count_together_and_packets_of_the_host(site: Site) -> None:
    site.rule("minimum_packet_rate", min_kpps=20, direction="any")
    site.give(h1={"public": {"egress": 1200}, "": {"any": 30}}, h2={"public": {"egress": 1200}, "": {"any": 40}})
    ports = [{"port": site.port("a")}, {"port": site.port("b")}]
    server = site.lab.boot(site.lab.admin, networks=ports)
    assert server["OS-EXT-SRV-ATTR:host"] == "h2", "h1 has packets for one only"
    used = {name: each["used"] for name, each in site.providers("h2").items()}
    assert used == {"h2:network": {"NET_PACKET_RATE_KILOPACKET_PER_SEC": 40}, "h2:network:public": {EGRESS: 1200}}


def test_a_network_with_a_policy_and_the_tunnels(site: Site) -> None:
    network = site.made("networks", "network", name="inner", qos_policy_id=site.policy)["id"]
    site.made("subnets", "subnet", network_id=network, ip_version=4, cidr="10.9.0.0/24")
    wanted = [{"uuid": network}]
    refused = site.lab.boot(site.lab.admin, networks=wanted)
    assert "a port on network inner asks for" in refused["fault"]["message"]
    site.give(h2={"rp_tunnelled": {"egress": 600}})
    server = site.lab.boot(site.lab.admin, networks=wanted)
    assert (server["status"], server["OS-EXT-SRV-ATTR:host"]) == ("ACTIVE", "h2")
    assert site.providers("h2")["h2:network:rp_tunnelled"]["used"] == {EGRESS: 600}


def test_a_card_more_takes_its_part_and_gives_it_back(site: Site) -> None:
    site.give(h1={"public": {"egress": 1000}})
    server = site.boot(site.port("first"))
    more, plain = site.port("more"), site.port("plain", policy=False)
    path = f"/compute/v2.1/servers/{server['id']}/os-interface"
    attach = lambda port: site.lab.agent.during(  # noqa: E731
        lambda: site.lab.admin.post(path, {"interfaceAttachment": {"port_id": port}})
    )
    refused = attach(more)
    assert refused.status == 400 and "port more asks for 600" in refused.body.decode()
    assert site.lab.admin.get(f"{V}/ports/{more}").json["port"]["device_id"] == "", "the port is free again"
    assert attach(plain).status == 200
    assert site.used() == 600
    site.give(h1={"public": {"egress": 1200}})
    assert attach(more).status == 200
    assert site.used() == 1200
    assert site.lab.admin.delete(f"{path}/{more}").status == 202
    site.lab.agent.settle()
    assert site.used() == 600


def test_of_two_at_the_same_instant_one_gets_it(site: Site) -> None:
    site.give(h1={"public": {"egress": 700}}, h2={"public": {"egress": 700}})
    ports = [site.port(f"p{at}") for at in range(6)]
    with ThreadPoolExecutor(6) as pool:
        made = list(pool.map(lambda port: site.lab.new(site.lab.admin, networks=[{"port": port}]), ports))
    end, states = time.monotonic() + 60, ["BUILD"]
    while "BUILD" in states and time.monotonic() < end:
        # a ledger whose transactions meet each other may put off a build for some seconds
        site.lab.agent.settle()
        states = sorted(site.lab.show(each.json["server"]["id"])["status"] for each in made)
    assert states == ["ACTIVE", "ACTIVE", "ERROR", "ERROR", "ERROR", "ERROR"]
    assert (site.used("h1"), site.used("h2")) == (600, 600)


def test_rules_that_change_are_counted_or_refused(site: Site) -> None:
    site.give(h1={"public": {"egress": 1000}})
    port = site.port("web")
    assert site.boot(port)["status"] == "ACTIVE"
    base = f"{V}/qos/policies/{site.policy}/minimum_bandwidth_rules"
    (rule,) = site.lab.admin.get(base).json["minimum_bandwidth_rules"]
    change = lambda rate: site.lab.admin.put(  # noqa: E731
        f"{base}/{rule['id']}", {"minimum_bandwidth_rule": {"min_kbps": rate}}
    )
    assert change(900).status == 200
    assert site.used() == 900
    refused = change(1100)
    assert refused.status == 409
    assert refused.json["NeutronError"]["type"] == "QosPlacementAllocationUpdateConflict"
    assert "port web asks for 1100" in refused.json["NeutronError"]["message"]
    assert site.used() == 900
    (rule,) = site.lab.admin.get(base).json["minimum_bandwidth_rules"]
    assert rule["min_kbps"] == 900, "the rule is what it was"
    put = lambda path, body: site.lab.admin.put(f"{V}/{path}", body).status  # noqa: E731
    assert put(f"ports/{port}", {"port": {"qos_policy_id": None}}) == 200
    assert site.used() == 0
    assert put(f"networks/{site.public}", {"network": {"qos_policy_id": site.policy}}) == 200
    assert site.used() == 900
    assert site.lab.admin.delete(f"{base}/{rule['id']}").status == 204
    assert site.used() == 0


def test_what_a_running_servers_port_did_not_ask_for_is_not_counted_later(site: Site) -> None:
    site.give(h1={"public": {"egress": 1000}, "": {"any": 30}})
    first, port = site.policy, site.port("web")
    site.policy = site.made("qos/policies", "policy", name="more", shared=True)["id"]
    site.rule("minimum_bandwidth", min_kbps=700)
    site.rule("minimum_packet_rate", min_kpps=20, direction="any")
    server = site.boot(port)
    plain = site.port("plain", policy=False)
    second = site.boot(plain)
    used = lambda: (site.used(), site.providers("h1")["h1:network"]["used"])  # noqa: E731
    none = {"NET_PACKET_RATE_KILOPACKET_PER_SEC": 0}
    assert used() == (600, none)

    def police(which: str, policy: str | None) -> None:
        assert site.lab.admin.put(f"{V}/ports/{which}", {"port": {"qos_policy_id": policy}}).status == 200

    police(port, site.policy)
    assert used() == (700, none), "bandwidth it had before, packets not"
    assert len(site.shown(port)["resource_request"]["request_groups"]) == 2
    assert len(site.shown(port)["binding:profile"]["allocation"]) == 1
    police(plain, site.policy)
    assert used() == (700, none) and "allocation" not in site.shown(plain)["binding:profile"]
    police(port, first)
    assert used() == (600, none)
    # On its next host it asks for everything.
    for each in (server, second):
        assert site.lab.admin.delete(f"/compute/v2.1/servers/{each['id']}").status == 204
    site.lab.agent.settle()
    assert site.boot(plain)["status"] == "ACTIVE"
    assert used() == (700, {"NET_PACKET_RATE_KILOPACKET_PER_SEC": 20})
