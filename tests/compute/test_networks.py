"""A server's ports, addresses and groups: compute and network in one ledger, so they come and go together."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from nephos.agent.guestdata import GuestData
from tests.compute.conftest import Lab
from tests.harness import Client

OLD = "compute 2.35"


class Net:
    """A network of demo's with a subnet behind a router to the outside."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.id = self.post("networks", network={"name": "blue"})["id"]
        subnet = {"network_id": self.id, "ip_version": 4, "cidr": "10.9.0.0/24", "dns_nameservers": ["9.9.9.9"]}
        self.subnet = self.post("subnets", subnet=subnet)["id"]

    def post(self, nouns: str, client: Client | None = None, **body: Any) -> dict[str, Any]:
        reply = (client or self.lab.demo).post(f"/network/v2.0/{nouns}", body)
        assert reply.status == 201, reply
        made: dict[str, Any] = next(iter(reply.json.values()))
        return made

    def ports(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.lab.demo.get(f"/network/v2.0/ports?network_id={self.id}").json["ports"]
        return [each for each in found if each["device_owner"].startswith("compute:")]


@pytest.fixture
def net(lab: Lab) -> Net:
    return Net(lab)


def test_ports_come_and_go_with_the_server(lab: Lab, net: Net) -> None:
    server = lab.boot(networks=[{"uuid": net.id}])
    assert server["status"] == "ACTIVE" and server["security_groups"] == [{"name": "default"}]
    (address,) = server["addresses"]["blue"]
    (port,) = net.ports()
    assert port["status"] == "ACTIVE" and port["device_id"] == server["id"]
    assert port["fixed_ips"] == [{"subnet_id": net.subnet, "ip_address": address["addr"]}]
    assert address == {
        "addr": address["addr"],
        "version": 4,
        "OS-EXT-IPS:type": "fixed",
        "OS-EXT-IPS-MAC:mac_addr": port["mac_address"],
    }
    host = server["OS-EXT-SRV-ATTR:host"]
    assert ("port", port["id"]) in lab.agent.items[host]
    item = lab.agent.item(host, server["id"])
    told = msgspec.msgpack.decode(item.data, type=GuestData)
    (place,) = told.cards[0].places
    assert item.ports == (port["id"],) and told.fixed_ip == address["addr"] and told.cards[0].mac == port["mac_address"]
    assert (place.prefix, place.gateway, place.dns, place.dhcp) == (24, "10.9.0.1", ("9.9.9.9",), True)
    assert lab.agent.done[-1][2]["guest"]["nics"][0]["mac"] == port["mac_address"]
    lab.demo.delete(f"/compute/v2.1/servers/{server['id']}")
    lab.agent.settle()
    assert net.ports() == [] and ("port", port["id"]) not in lab.agent.items[host]


def test_the_order_of_the_request_is_the_order_of_the_cards(lab: Lab, net: Net) -> None:
    other = net.post("networks", network={"name": "red"})["id"]
    net.post("subnets", subnet={"network_id": other, "ip_version": 4, "cidr": "10.8.0.0/24"})
    mine = net.post("ports", port={"network_id": net.id, "name": "mine"})
    wanted = [{"uuid": other, "tag": "first"}, {"port": mine["id"]}, {"uuid": other, "fixed_ip": "10.8.0.77"}]
    server = lab.boot(networks=wanted)
    url = f"/compute/v2.1/servers/{server['id']}/os-interface"
    found = lab.demo.get(url).json["interfaceAttachments"]
    shown = [(each["net_id"], each["tag"]) for each in found]
    assert shown == [(other, "first"), (net.id, None), (other, None)] and found[1]["port_id"] == mine["id"]
    assert found[2]["fixed_ips"][0]["ip_address"] == "10.8.0.77" and found[0]["port_state"] == "ACTIVE"
    assert lab.demo.get(f"{url}/{mine['id']}").json["interfaceAttachment"] == found[1]
    assert lab.demo.get(f"{url}/{net.id}").status == 404
    nics = [nic["port_id"] for nic in lab.agent.done[-1][2]["guest"]["nics"]]
    assert nics == [each["port_id"] for each in found]
    lab.demo.delete(f"/compute/v2.1/servers/{server['id']}")
    lab.agent.settle()
    kept = lab.demo.get(f"/network/v2.0/ports/{mine['id']}").json["port"]
    assert kept["device_id"] == "" and kept["status"] == "DOWN"


def test_what_networks_can_not_be_asked_for(lab: Lab, net: Net) -> None:
    used = lab.boot(networks=[{"uuid": net.id}])
    port = lab.demo.get(f"/compute/v2.1/servers/{used['id']}/os-interface").json["interfaceAttachments"][0]["port_id"]
    nothing = "5a1f5d0e-8f4c-4c51-bf3a-8d7a3dbb1c11"
    for networks, status in (
        ([{"uuid": nothing}], 400),
        ([{"port": nothing}], 400),
        ([{"uuid": net.id, "fixed_ip": "10.200.0.1"}], 400),
        ([{"uuid": net.id, "fixed_ip": "10.9.0.300"}], 400),
        ([{"port": port}], 409),
        ([{"port": port, "fixed_ip": "10.9.0.9"}], 400),
        ([{}], 400),
    ):
        reply = lab.new(networks=networks)
        assert reply.status == status, (networks, reply)
    assert lab.new(networks=[{"uuid": net.id}], security_groups=[{"name": "none"}]).status == 400
    assert len(net.ports()) == 1


def test_a_server_that_fails_leaves_no_port(lab: Lab, net: Net) -> None:
    lab.agent.refuse = lambda host, task: "no" if task.kind == "guest.create" else None
    server = lab.boot(networks=[{"uuid": net.id}])
    assert server["status"] == "ERROR" and server["addresses"] == {} and net.ports() == []


def test_addresses_change_while_it_runs(lab: Lab, net: Net) -> None:
    server = lab.boot(networks=[{"uuid": net.id}])
    host = server["OS-EXT-SRV-ATTR:host"]
    lab.demo.headers["OpenStack-API-Version"] = OLD
    assert lab.act(server["id"], "addFixedIp", {"networkId": net.id}).status == 202
    found = lab.demo.get(f"/compute/v2.1/servers/{server['id']}/ips").json["addresses"]["blue"]
    assert len(found) == 2 and set(found[0]) == {"addr", "version"}
    assert lab.demo.get(f"/compute/v2.1/servers/{server['id']}/ips/blue").json == {"blue": found}
    assert lab.demo.get(f"/compute/v2.1/servers/{server['id']}/ips/red").status == 404
    (listed,) = lab.demo.get("/compute/v2.1/servers/detail").json["servers"]
    assert [each["addr"] for each in listed["addresses"]["blue"]] == [each["addr"] for each in found]
    lab.agent.settle()
    assert found[1]["addr"].encode() in bytes(lab.agent.item(host, server["id"]).data)
    assert lab.demo.get(f"/compute/v2.1/servers?ip={found[1]['addr']}").json["servers"][0]["id"] == server["id"]
    assert lab.demo.get("/compute/v2.1/servers?ip=10.77").json["servers"] == []
    assert lab.act(server["id"], "removeFixedIp", {"address": found[1]["addr"]}).status == 202
    assert lab.act(server["id"], "removeFixedIp", {"address": "10.9.0.99"}).status == 400
    (listed,) = lab.demo.get("/compute/v2.1/servers/detail").json["servers"]
    assert len(listed["addresses"]["blue"]) == 1
    assert lab.act(server["id"], "addFixedIp", {"networkId": "x"}).status in (400, 404)


def test_cards_come_and_go_while_it_runs(lab: Lab, net: Net) -> None:
    server = lab.boot()
    host = server["OS-EXT-SRV-ATTR:host"]
    url = f"/compute/v2.1/servers/{server['id']}/os-interface"
    body = {"interfaceAttachment": {"net_id": net.id, "fixed_ips": [{"ip_address": "10.9.0.50"}], "tag": "new"}}
    reply = lab.agent.during(lambda: lab.demo.post(url, body))
    assert reply.status == 200, reply
    made = reply.json["interfaceAttachment"]
    assert made["fixed_ips"] == [{"subnet_id": net.subnet, "ip_address": "10.9.0.50"}] and made["tag"] == "new"
    assert lab.agent.done[-1][1] == "guest.plug" and lab.agent.done[-1][2]["nic"]["mac"] == made["mac_addr"]
    assert lab.show(server["id"])["addresses"]["blue"][0]["addr"] == "10.9.0.50"
    (port,) = net.ports()
    lab.agent.settle()
    assert port["status"] == "ACTIVE" and lab.agent.item(host, server["id"]).ports == (port["id"],)
    mine = net.post("ports", port={"network_id": net.id})
    second = lab.agent.during(lambda: lab.demo.post(url, {"interfaceAttachment": {"port_id": mine["id"]}}))
    assert second.status == 200 and second.json["interfaceAttachment"]["port_id"] == mine["id"]
    for port_id in (port["id"], mine["id"]):
        assert lab.demo.delete(f"{url}/{port_id}").status == 202
        lab.agent.settle()
        assert lab.agent.done[-1][1:] == ("guest.unplug", {"id": server["id"], "port_id": port_id})
    assert [each["id"] for each in lab.demo.get(f"/network/v2.0/ports/{mine['id']}").json.values()] == [mine["id"]]
    assert lab.demo.get(f"/network/v2.0/ports/{port['id']}").status == 404
    assert (
        lab.demo.get(url).json == {"interfaceAttachments": []} and lab.demo.delete(f"{url}/{port['id']}").status == 404
    )
    actions = f"/compute/v2.1/servers/{server['id']}/os-instance-actions"
    history = lab.demo.get(actions).json["instanceActions"]
    names = [each["action"] for each in history]
    assert names == ["detach_interface"] * 2 + ["attach_interface"] * 2 + ["create"]
    last = lab.demo.get(f"{actions}/{history[0]['request_id']}").json["instanceAction"]["events"]
    assert ("compute_detach_interface", "Success") in {(each["event"], each["result"]) for each in last}


def test_a_card_that_a_host_does_not_take_leaves_no_port(lab: Lab, net: Net) -> None:
    server = lab.boot()
    url = f"/compute/v2.1/servers/{server['id']}/os-interface"
    lab.agent.refuse = lambda host, task: "no slot is free" if task.kind == "guest.plug" else None
    reply = lab.agent.during(lambda: lab.demo.post(url, {"interfaceAttachment": {"net_id": net.id}}))
    assert reply.status == 500 and "no slot is free" in reply.json["computeFault"]["message"]
    assert net.ports() == [] and lab.demo.get(url).json == {"interfaceAttachments": []}
    nothing = "5a1f5d0e-8f4c-4c51-bf3a-8d7a3dbb1c11"
    for attachment in (
        {"net_id": nothing},
        {"port_id": nothing},
        {"net_id": net.id, "port_id": nothing},
        {"fixed_ips": [{"ip_address": "10.9.0.9"}]},
        {"net_id": net.id, "fixed_ips": [{"ip_address": "10.99.0.9"}]},
        {"net_id": "x"},
        {"colour": "red"},
    ):
        assert lab.demo.post(url, {"interfaceAttachment": attachment}).status in (400, 404), attachment
    assert net.ports() == []


def test_security_groups_of_a_server(lab: Lab, net: Net) -> None:
    group = net.post("security-groups", security_group={"name": "web"})
    server = lab.boot(networks=[{"uuid": net.id}], security_groups=[{"name": "web"}])
    assert server["security_groups"] == [{"name": "web"}]
    url = f"/compute/v2.1/servers/{server['id']}/os-security-groups"
    assert [each["id"] for each in lab.demo.get(url).json["security_groups"]] == [group["id"]]
    assert lab.act(server["id"], "addSecurityGroup", {"name": "default"}).status == 202
    assert [each["name"] for each in lab.demo.get(url).json["security_groups"]] == ["default", "web"]
    assert lab.act(server["id"], "removeSecurityGroup", {"name": "web"}).status == 202
    assert lab.show(server["id"])["security_groups"] == [{"name": "default"}]
    assert lab.act(server["id"], "removeSecurityGroup", {"name": "web"}).status == 404
    assert lab.act(server["id"], "addSecurityGroup", {"name": "none"}).status == 404
    assert lab.act(server["id"], "addSecurityGroup", {}).status == 400


def test_the_old_security_groups(lab: Lab) -> None:
    lab.demo.headers["OpenStack-API-Version"] = OLD
    url = "/compute/v2.1/os-security-groups"
    made = lab.demo.post(url, {"security_group": {"name": " ünï ", "description": "d"}}).json["security_group"]
    assert made["name"] == " ünï " and made["rules"] == []
    rule = {"parent_group_id": made["id"], "ip_protocol": "tcp", "from_port": 22, "to_port": "22"}
    opened = lab.demo.post("/compute/v2.1/os-security-group-rules", {"security_group_rule": rule})
    assert opened.status == 200 and opened.json["security_group_rule"]["ip_range"] == {"cidr": "0.0.0.0/0"}
    assert lab.demo.post("/compute/v2.1/os-security-group-rules", {"security_group_rule": rule}).status == 400
    shown = lab.demo.get(f"{url}/{made['id']}").json["security_group"]
    assert shown["rules"] == [opened.json["security_group_rule"]]
    assert {each["name"] for each in lab.demo.get(url).json["security_groups"]} == {"default", " ünï "}
    everybodys = f"{url}?all_tenants=1"
    lab.admin.headers["OpenStack-API-Version"] = OLD
    assert made["id"] in {each["id"] for each in lab.admin.get(everybodys).json["security_groups"]}
    assert made["id"] not in {each["id"] for each in lab.admin.get(url).json["security_groups"]}
    assert len({each["tenant_id"] for each in lab.demo.get(everybodys).json["security_groups"]}) == 1
    for wrong in (
        {"from_port": 99999},
        {"ip_protocol": "smoke"},
        {"cidr": "10.0.0.0/99"},
        {"parent_group_id": "no"},
        {"from_port": 80, "to_port": 22},
    ):
        body = {"security_group_rule": rule | wrong}
        assert lab.demo.post("/compute/v2.1/os-security-group-rules", body).status == 400, wrong
    rule_id = opened.json["security_group_rule"]["id"]
    assert lab.demo.delete(f"/compute/v2.1/os-security-group-rules/{rule_id}").status == 202
    assert lab.demo.put(f"{url}/{made['id']}", {"security_group": {"name": "b", "description": ""}}).status == 200
    assert lab.demo.delete(f"{url}/{made['id']}").status == 202
    assert lab.demo.get(f"{url}/{made['id']}").status == 404
    lab.demo.headers["OpenStack-API-Version"] = "compute 2.36"
    assert lab.demo.get(url).status == 404


def test_the_old_floating_ips(lab: Lab, net: Net) -> None:
    (outside,) = lab.admin.get("/network/v2.0/networks?router:external=true").json["networks"]
    router = net.post("routers", router={"name": "r", "external_gateway_info": {"network_id": outside["id"]}})
    leg = lab.demo.put(f"/network/v2.0/routers/{router['id']}/add_router_interface", {"subnet_id": net.subnet})
    assert leg.status == 200, leg
    server = lab.boot(networks=[{"uuid": net.id}])
    lab.demo.headers["OpenStack-API-Version"] = OLD
    assert lab.demo.get("/compute/v2.1/os-floating-ip-pools").json == {"floating_ip_pools": [{"name": "public"}]}
    made = lab.demo.post("/compute/v2.1/os-floating-ips", {"pool": "public"}).json["floating_ip"]
    assert made["instance_id"] is None and made["pool"] == "public"
    assert lab.act(server["id"], "addFloatingIp", {"address": made["ip"]}).status == 202
    shown = lab.demo.get(f"/compute/v2.1/os-floating-ips/{made['id']}").json["floating_ip"]
    assert shown["instance_id"] == server["id"] and shown["fixed_ip"].startswith("10.9.0.")
    (listed,) = lab.demo.get("/compute/v2.1/servers/detail").json["servers"]
    assert [(each["addr"], each["OS-EXT-IPS:type"]) for each in listed["addresses"]["blue"]] == [
        (shown["fixed_ip"], "fixed"),
        (made["ip"], "floating"),
    ]
    assert lab.act(server["id"], "removeFloatingIp", {"address": made["ip"]}).status == 202
    (listed,) = lab.demo.get("/compute/v2.1/servers/detail").json["servers"]
    assert len(listed["addresses"]["blue"]) == 1
    assert lab.act(server["id"], "addFloatingIp", {"address": "203.0.113.9"}).status == 404
    assert lab.demo.delete(f"/compute/v2.1/os-floating-ips/{made['id']}").status == 202
    assert lab.demo.post("/compute/v2.1/os-floating-ips", {"pool": "mars"}).status == 404
    assert {"blue", "private"} <= {
        each["label"] for each in lab.demo.get("/compute/v2.1/os-tenant-networks").json["networks"]
    }


def test_what_a_guest_does_with_its_port_is_on_the_timeline(lab: Lab, net: Net) -> None:
    reply = lab.new(networks=[{"uuid": net.id}])
    lab.agent.settle()
    server = lab.show(reply.json["server"]["id"])
    (port,) = net.ports()
    host, address = server["OS-EXT-SRV-ATTR:host"], server["addresses"]["blue"][0]["addr"]
    for _ in range(2):
        lab.agent.saw(host, "address_taken", port["id"], address)
        lab.agent.saw(host, "metadata_served", port["id"], "/openstack/latest/meta_data.json")
    lab.agent.saw(host, "address_taken", "5a1f5d0e-8f4c-4c51-bf3a-8d7a3dbb1c11", address)
    events = lab.events(server["id"], reply.headers["x-openstack-request-id"])
    names = [each["event"] for each in events]
    assert names.count("address taken") == 1 and names.count("metadata served") == 1
    assert {"port", "address"} <= set(names)
    assert next(each for each in events if each["event"] == "address taken")["details"].startswith(address)


def test_external_events_make_the_host_look_again(lab: Lab) -> None:
    server = lab.boot()
    url = "/compute/v2.1/os-server-external-events"
    event = {"name": "network-changed", "server_uuid": server["id"]}
    assert lab.demo.post(url, {"events": [event]}).status == 403
    good = lab.admin.post(url, {"events": [event]})
    assert good.status == 200 and good.json["events"][0]["code"] == 200
    nobody = event | {"server_uuid": "5a1f5d0e-8f4c-4c51-bf3a-8d7a3dbb1c11"}
    mixed = lab.admin.post(url, {"events": [event, nobody, event | {"name": "network-vif-deleted"}]})
    assert mixed.status == 207 and [each["code"] for each in mixed.json["events"]] == [200, 404, 400]
    assert lab.admin.post(url, {"events": []}).status == 400
    assert lab.admin.post(url, {"events": [event | {"name": "party"}]}).status == 400


def test_a_password_that_the_guest_posted_is_kept_until_it_is_cleared(lab: Lab) -> None:
    server = lab.boot()
    name, url = server["OS-EXT-SRV-ATTR:host"], f"/compute/v2.1/servers/{server['id']}/os-server-password"

    def shown() -> tuple[str, str | None]:
        lab.agent.settle()
        data = msgspec.msgpack.decode(lab.agent.item(name, server["id"]).data, type=GuestData)
        return lab.demo.get(url).json["password"], data.password

    assert shown() == ("", None)
    lab.agent.saw(name, "password", server["id"], "x" * 1021)
    assert shown() == ("", None)
    for value in ("first", "second"):
        lab.agent.saw(name, "password", server["id"], value)
        assert shown() == ("first", "first")
    assert lab.demo.delete(url).status == 204
    assert shown() == ("", None)
    other = min(set(lab.agent.names) - {name})
    lab.agent.saw(other, "password", server["id"], "of a host that has it not")
    assert shown() == ("", None)
    lab.agent.saw(name, "password", server["id"], "second")
    assert shown() == ("second", "second")
