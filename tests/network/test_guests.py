"""A server's ports: what a request may ask for, how they are made, shown and given back."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select

from nephos import errors
from nephos.kernel.auth.who import Who
from nephos.network import guests
from nephos.network.guests import NetworkRequest
from nephos.network.ports.store import port
from tests.network.conftest import Site, V


def check(site: Site, requests: Any, groups: tuple[str, ...] = ()) -> list[NetworkRequest]:
    who = Who(user_id="u", project_id=site.project, roles=frozenset({"member", "reader"}))
    with site.cloud.database.read() as tx:
        return guests.check(tx, site.cloud, who, requests, groups)


def refusal(site: Site, requests: Any, groups: tuple[str, ...] = ()) -> errors.NephosError:
    with pytest.raises(errors.NephosError) as refused:
        check(site, requests, groups)
    return refused.value


def test_the_one_network_is_taken_when_none_is_named(site: Site) -> None:
    private = site.demo.get(f"{V}/networks?name=private").json["networks"][0]["id"]
    assert check(site, None) == [NetworkRequest(network_id=private)]
    assert check(site, "auto") == [NetworkRequest(network_id=private)]
    assert check(site, "none") == []
    site.network()
    several = refusal(site, None)
    assert several.status == 409
    assert several.message == "Multiple possible networks found, use a Network ID to be more specific."


def test_without_networks_there_are_no_ports_and_auto_says_what_is_missing(site: Site) -> None:
    who = Who(user_id="u", project_id="somebody", roles=frozenset({"member"}))
    with site.cloud.database.read() as tx:
        assert guests.check(tx, site.cloud, who, None) == []
        with pytest.raises(errors.BadRequest, match="Unable to automatically allocate a network"):
            guests.check(tx, site.cloud, who, "auto")


def test_what_is_asked_for_must_be_there(site: Site) -> None:
    network, _ = site.network()
    bare = site.make("networks", name="bare")["id"]
    hidden = site.make("networks", site.admin, name="hidden")["id"]
    public = site.demo.get(f"{V}/networks?name=public").json["networks"][0]["id"]
    used = site.make("ports", network_id=network, device_id="other")["id"]
    unaddressed = site.make("ports", network_id=network, fixed_ips=[])["id"]
    nobody = "00000000-0000-0000-0000-000000000000"
    cases: list[tuple[NetworkRequest, int, str]] = [
        (NetworkRequest(network_id=nobody), 400, f"Network {nobody} could not be found."),
        (NetworkRequest(network_id=hidden), 400, f"Network {hidden} could not be found."),
        (NetworkRequest(network_id=public), 403, "external network"),
        (NetworkRequest(network_id=bare), 400, "requires a subnet"),
        (NetworkRequest(port_id=nobody), 400, f"Port id {nobody} could not be found."),
        (NetworkRequest(port_id=used), 409, f"Port {used} is still in use."),
        (NetworkRequest(port_id=unaddressed), 400, "requires a FixedIP"),
        (NetworkRequest(network_id=network, fixed_ip="10.99.0.1"), 400, "not a valid ip address for network"),
        (NetworkRequest(network_id=network, fixed_ip="10.20.0.3"), 400, "already in use on instance other"),
        (NetworkRequest(network_id=network, fixed_ip="nonsense"), 400, "not an IP address"),
    ]
    for request, status, words in cases:
        refused = refusal(site, [request])
        assert (refused.status, words in refused.message) == (status, True), refused.message
    assert refusal(site, [NetworkRequest(network_id=network)], ("nothing",)).status == 400
    site.make("security-groups", name="twin")
    site.make("security-groups", name="twin")
    assert refusal(site, [NetworkRequest(network_id=network)], ("twin",)).status == 409


def test_the_limit_of_ports(site: Site) -> None:
    network, _ = site.network()
    site.put(f"quotas/{site.project}", {"quota": {"port": 5, "force": True}}, site.admin)
    assert check(site, [NetworkRequest(network_id=network)])
    refused = refusal(site, [NetworkRequest(network_id=network)] * 6)
    assert isinstance(refused, errors.OverQuota)
    assert refused.status == 403


def test_ports_of_a_server_from_the_request_to_their_removal(site: Site) -> None:
    network, subnet = site.network()
    second, _ = site.network("fd00:7::/64", ipv6_ra_mode="slaac", ipv6_address_mode="slaac")
    own = site.make("ports", network_id=network, name="own", fixed_ips=[{"ip_address": "10.20.0.50"}])
    requests = (
        NetworkRequest(network_id=second, tag="six"),
        NetworkRequest(port_id=own["id"]),
        NetworkRequest(network_id=network, fixed_ip="10.20.0.60"),
    )
    made = site.server("s1", "h2", *requests)
    assert made[1] == own["id"]
    assert site.server("s1", "h2", *requests) == made, "again: what it has"
    with site.cloud.database.read() as tx:
        before = tx.queries
        found = guests.ports_of(tx, ["s1", "s2"])["s1"]
        assert tx.queries - before <= 3
        assert [ref.name for ref in guests.security_groups_of(tx, ["s1"])["s1"]] == ["default"]
    assert [one.id for one in found] == made
    assert [one.tag for one in found] == ["six", None, None]
    assert [one.port_state for one in found] == ["DOWN"] * 3
    assert [address.address for one in found[1:] for address in one.addresses] == ["10.20.0.50", "10.20.0.60"]
    assert found[0].addresses[0].version == 6
    assert {one.security_groups for one in found} == {("default",)}
    assert [one.mtu for one in found] == [1450] * 3
    assert found[1].addresses[0].subnet_id == subnet
    shown = site.admin.get(f"{V}/ports/{made[0]}").json["port"]
    assert (shown["device_owner"], shown["device_id"]) == ("compute:nova", "s1")
    assert (shown["binding:host_id"], shown["binding:vif_type"]) == ("h2", "bridge")

    site.write(lambda tx: guests.activate(tx, site.cloud, "s1"))
    assert site.demo.get(f"{V}/ports/{made[2]}").json["port"]["status"] == "ACTIVE"
    site.write(lambda tx: guests.unbind(tx, site.cloud, "s1"))
    assert site.demo.get(f"{V}/ports/{made[2]}").json["port"]["status"] == "DOWN"
    site.write(lambda tx: guests.release(tx, site.cloud, "s1"))
    with site.cloud.database.read() as tx:
        assert guests.ports_of(tx, ["s1"]) == {}
        assert tx.column(select(port.c.id).where(port.c.id.in_(made))) == [own["id"]]
    kept = site.demo.get(f"{V}/ports/{own['id']}").json["port"]
    assert (kept["device_id"], kept["device_owner"], kept["status"], kept["name"]) == ("", "", "DOWN", "own")
    assert kept["fixed_ips"] == own["fixed_ips"]


def test_a_port_goes_to_one_server_only(site: Site) -> None:
    network, _ = site.network()
    own = site.make("ports", network_id=network)["id"]
    site.server("s1", "h1", NetworkRequest(port_id=own))
    with pytest.raises(errors.Conflict, match="still in use"):
        site.server("s2", "h1", NetworkRequest(port_id=own))


def test_ports_come_and_go_while_the_server_runs(site: Site) -> None:
    network, _ = site.network()
    (first,) = site.server("s1", "h2", NetworkRequest(network_id=network))
    more: dict[str, Any] = {"project_id": site.project, "user_id": "u", "hostname": "s1", "zone": "nova"}
    second = site.write(
        lambda tx: guests.attach(
            tx,
            site.cloud,
            server_id="s1",
            request=NetworkRequest(network_id=network, tag="new"),
            host_id=site.agent.ids["h2"],
            **more,
        )
    )
    with site.cloud.database.read() as tx:
        assert [(one.id, one.tag, one.order) for one in guests.ports_of(tx, ["s1"])["s1"]] == [
            (first, None, 0),
            (second, "new", 1),
        ]
    site.write(lambda tx: guests.detach(tx, site.cloud, "s1", first))
    with pytest.raises(errors.NotFound):
        site.write(lambda tx: guests.detach(tx, site.cloud, "s1", first))
    added = site.write(lambda tx: guests.add_fixed_ip(tx, site.cloud, "s1", network))
    with site.cloud.database.read() as tx:
        (one,) = guests.ports_of(tx, ["s1"])["s1"]
    assert added in [address.address for address in one.addresses]
    assert len(one.addresses) == 2
    site.write(lambda tx: guests.remove_fixed_ip(tx, site.cloud, "s1", added))
    with pytest.raises(errors.BadRequest):
        site.write(lambda tx: guests.remove_fixed_ip(tx, site.cloud, "s1", added))


def test_groups_of_a_server(site: Site) -> None:
    network, _ = site.network()
    site.make("security-groups", name="web")
    site.server("s1", "h2", NetworkRequest(network_id=network))
    values = {"server_id": "s1", "project_id": site.project}

    def names() -> list[str]:
        with site.cloud.database.read() as tx:
            return [ref.name for ref in guests.security_groups_of(tx, ["s1"]).get("s1", [])]

    site.write(lambda tx: guests.add_security_group(tx, site.cloud, group="web", **values))
    assert names() == ["default", "web"]
    site.write(lambda tx: guests.remove_security_group(tx, site.cloud, group="default", **values))
    assert names() == ["web"]
    for group in ("default", "nothing"):
        with pytest.raises(errors.NotFound):
            site.write(lambda tx, group=group: guests.remove_security_group(tx, site.cloud, group=group, **values))


def test_floating_addresses_of_a_server(site: Site) -> None:
    private = site.demo.get(f"{V}/networks?name=private").json["networks"][0]["id"]
    public = site.demo.get(f"{V}/networks?name=public").json["networks"][0]["id"]
    site.server("s1", "h2", NetworkRequest(network_id=private))
    address = site.make("floatingips", floating_network_id=public)["floating_ip_address"]
    values: dict[str, Any] = {"server_id": "s1", "project_id": site.project, "address": address}
    site.write(lambda tx: guests.associate_floating(tx, site.cloud, fixed=None, **values))
    with site.cloud.database.read() as tx:
        (one,) = guests.ports_of(tx, ["s1"])["s1"]
    assert [(each.address, each.fixed_address) for each in one.floating] == [(address, one.addresses[0].address)]
    site.write(lambda tx: guests.disassociate_floating(tx, site.cloud, **values))
    with pytest.raises(errors.Conflict):
        site.write(lambda tx: guests.disassociate_floating(tx, site.cloud, **values))
    values["address"] = "172.24.4.199"
    with pytest.raises(errors.NotFound):
        site.write(lambda tx: guests.associate_floating(tx, site.cloud, fixed=None, **values))


def test_the_auto_allocated_topology(site: Site) -> None:
    site.make(
        "subnetpools",
        site.admin,
        name="auto",
        prefixes=["10.128.0.0/16"],
        default_prefixlen=24,
        shared=True,
        is_default=True,
    )
    with site.cloud.database.read() as tx:
        who = Who(user_id="u", project_id=site.admin.get(V + "/quotas/project").json["project"]["project_id"])
        wanted = guests.check(tx, site.cloud, who, "auto")
    assert wanted == [NetworkRequest()]
    values: dict[str, Any] = {"project_id": who.project_id, "user_id": "u", "hostname": "s", "zone": "nova"}
    for server in ("s1", "s2"):
        site.write(
            lambda tx, server=server: guests.allocate(
                tx, site.cloud, server_id=server, requests=wanted, host_id=None, **values
            )
        )
    with site.cloud.database.read() as tx:
        found = guests.ports_of(tx, ["s1", "s2"])
    assert {each.network_name for ports in found.values() for each in ports} == {"auto_allocated_network"}
    assert site.admin.get(f"{V}/networks?name=auto_allocated_network").json["networks"][0]["subnets"]
