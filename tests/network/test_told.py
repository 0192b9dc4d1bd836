"""What hosts are told: after every change each has pulled exactly what it should have, and it is the right thing."""

from __future__ import annotations

import msgspec
from sqlalchemy import select

from nephos.hosts import reports, wire
from nephos.hosts.store import change
from nephos.network import guests, wiring
from nephos.network.guests import NetworkRequest
from nephos.network.seed import PUBLIC
from nephos.wiring import base
from tests.network.conftest import Site, V

HOSTS = ("h1", "h2", "h3")


def settled(site: Site) -> None:
    for host in HOSTS:
        site.told(host)


def test_the_seeds_router_lives_where_the_first_host_came(site: Site) -> None:
    told = site.told("h1")
    networks = [item for (kind, _), item in told.items() if kind == "network"]
    assert {(item.kind, item.physical, item.external) for item in networks} == {
        ("flat", PUBLIC, True),
        ("vxlan", None, False),
    }
    (router,) = site.of("h1", "router").values()
    assert [one.address for one in router.gateway.addresses] == ["172.24.4.2"]
    assert router.gateway.nexthops == ("172.24.4.1",)
    assert router.gateway.snat
    assert [one.address for leg in router.interfaces for one in leg.addresses] == ["10.0.0.1"]
    assert site.told("h2") == {}
    ports = site.demo.get(f"{V}/ports?device_owner=network:router_interface").json["ports"]
    assert [port["status"] for port in ports] == ["ACTIVE"]


def test_a_local_ip_is_told_where_its_ports_are(site: Site) -> None:
    network, _ = site.network()
    (first,) = site.server("s1", "h2", NetworkRequest(network_id=network))
    (second,) = site.server("s2", "h3", NetworkRequest(network_id=network))
    local = site.make("local_ips", network_id=network, local_ip_address="10.20.0.77")["id"]
    settled(site)
    for port in (first, second):
        reply = site.demo.post(
            f"{V}/local_ips/{local}/port_associations", {"port_association": {"fixed_port_id": port}}
        )
        assert reply.status == 201, reply
    told = site.of("h2", "port")
    assert told[first].local == (base.LocalIp(address="10.20.0.77", fixed="10.20.0.3"),)
    assert site.of("h3", "port")[second].local == (base.LocalIp(address="10.20.0.77", fixed="10.20.0.4"),)
    hosts = site.demo.get(f"{V}/local_ips/{local}/port_associations?sort_key=fixed_ip").json["port_associations"]
    assert [each["host"] for each in hosts] == ["h2", "h3"]
    site.delete(f"local_ips/{local}/port_associations/{first}")
    assert site.of("h2", "port")[first].local == ()
    site.put(f"ports/{second}", {"port": {"fixed_ips": [{"ip_address": "10.20.0.40"}]}})
    assert site.of("h3", "port")[second].local == ()


def test_a_server_on_one_host_then_on_another(site: Site) -> None:
    network, subnet = site.network()
    (first,) = site.server("s1", "h2", NetworkRequest(network_id=network))
    (second,) = site.server("s2", "h3", NetworkRequest(network_id=network))
    settled(site)
    item: base.Network = site.of("h2", "network")[network]
    assert item.kind == "vxlan"
    assert item.mtu == 1450
    assert item.peers == ("10.9.0.3",)
    ends = {end.port_id: end for end in item.endpoints}
    assert set(ends) == {first, second}
    assert ends[first].tunnel is None
    assert ends[second].tunnel == "10.9.0.3"
    assert ends[second].hostname == "s2"
    assert ends[second].addresses == (base.Address(address="10.20.0.4", prefix=24, subnet_id=subnet),)
    (sub,) = item.subnets
    assert (sub.dhcp, sub.dhcp_address, sub.gateway) == (True, "10.20.0.2", "10.20.0.1")
    assert item.dhcp_mac == site.of("h3", "network")[network].dhcp_mac
    port: base.Port = site.of("h2", "port")[first]
    assert port.index == 1
    assert port.device_id == "s1"
    assert len(port.groups) == 1
    (group,) = site.of("h2", "group").values()
    assert group.members == ("10.20.0.3", "10.20.0.4")
    assert {(rule.direction, rule.remote_group_id) for rule in group.rules} == {("egress", None), ("ingress", group.id)}

    # hosts that are asked for together are told the same as each alone, and the network is read once for all of them
    alone = {host: site.of(host, "network")[network] for host in ("h2", "h3")}
    with site.cloud.database.read() as tx:
        together = {"h2": wiring.networks(tx, site.agent.ids["h2"], [network])[network]}
        first_took = tx.queries
        together["h3"] = wiring.networks(tx, site.agent.ids["h3"], [network])[network]
        assert tx.queries - first_took <= first_took - 4
    assert together == alone

    site.write(lambda tx: guests.bind(tx, site.cloud, "s1", site.agent.ids["h3"]))
    settled(site)
    assert site.told("h2") == {}
    assert {port.index for port in site.of("h3", "port").values()} == {1, 2}
    assert site.of("h3", "network")[network].peers == ()
    site.write(lambda tx: guests.release(tx, site.cloud, "s1"))
    site.write(lambda tx: guests.release(tx, site.cloud, "s2"))
    settled(site)
    assert site.told("h3") == {}


def test_changes_of_a_port_a_group_and_a_subnet_arrive(site: Site) -> None:
    network, subnet = site.network()
    web = site.make("security-groups", name="web")["id"]
    db = site.make("security-groups", name="db")["id"]
    (port,) = site.server("s1", "h2", NetworkRequest(network_id=network), groups=("web",))
    site.server("s2", "h3", NetworkRequest(network_id=network), groups=("db",))
    settled(site)
    rule = site.make(
        "security-group-rules", security_group_id=web, direction="ingress", remote_group_id=db, protocol="tcp"
    )
    settled(site)
    assert site.of("h2", "group")[db] == base.Group(id=db, members=("10.20.0.4",))
    assert {one.protocol for one in site.of("h2", "group")[web].rules} == {None, "6"}
    changes: list[tuple[str, object]] = [
        (f"ports/{port}", {"port": {"fixed_ips": [{"ip_address": "10.20.0.77"}]}}),
        (f"ports/{port}", {"port": {"allowed_address_pairs": [{"ip_address": "192.0.2.0/24"}]}}),
        (f"ports/{port}", {"port": {"extra_dhcp_opts": [{"opt_name": "mtu", "opt_value": "1300"}]}}),
        (f"ports/{port}", {"port": {"security_groups": [db]}}),
        (f"ports/{port}", {"port": {"admin_state_up": False}}),
        (f"subnets/{subnet}", {"subnet": {"dns_nameservers": ["9.9.9.9"]}}),
        (f"subnets/{subnet}", {"subnet": {"enable_dhcp": False}}),
        (f"subnets/{subnet}", {"subnet": {"enable_dhcp": True}}),
        (f"networks/{network}", {"network": {"dns_domain": "example.org."}}),
        (
            f"ports/{port}",
            {"port": {"security_groups": [], "allowed_address_pairs": [], "port_security_enabled": False}},
        ),
    ]
    for path, body in changes:
        site.put(path, body)
        settled(site)
    item = site.of("h2", "port")[port]
    assert [one.address for one in item.addresses] == ["10.20.0.77"]
    assert (item.admin_up, item.port_security, item.groups, item.pairs) == (False, False, (), ())
    assert site.of("h2", "network")[network].domain == "example.org."
    assert site.of("h2", "group") == {}
    site.delete(f"security-group-rules/{rule['id']}")
    site.delete(f"security-groups/{web}")
    settled(site)


def test_routers_take_their_networks_along(site: Site) -> None:
    network, subnet = site.network()
    router = site.make("routers", name="r")["id"]
    settled(site)
    assert not any(router in site.of(host, "router") for host in HOSTS)
    site.put(f"routers/{router}/add_router_interface", {"subnet_id": subnet})
    settled(site)
    (home,) = [host for host in HOSTS if router in site.of(host, "router")]
    assert home == "h2", "the host with the fewest routers"
    assert network in site.of(home, "network")
    public = site.demo.get(f"{V}/networks?name=public").json["networks"][0]["id"]
    site.put(f"routers/{router}", {"router": {"external_gateway_info": {"network_id": public}}})
    settled(site)
    assert public in site.of(home, "network")
    (port,) = site.server("s1", "h3", NetworkRequest(network_id=network))
    floating = site.make("floatingips", floating_network_id=public, port_id=port)
    assert floating["status"] == "ACTIVE"
    settled(site)
    assert site.of(home, "router")[router].floating == (
        base.Floating(address=floating["floating_ip_address"], fixed="10.20.0.3"),
    )
    site.put(f"routers/{router}", {"router": {"routes": [{"destination": "10.99.0.0/24", "nexthop": "10.20.0.9"}]}})
    settled(site)
    assert site.of(home, "router")[router].routes == (base.Route(destination="10.99.0.0/24", nexthop="10.20.0.9"),)
    site.put(f"routers/{router}", {"router": {"routes": [], "admin_state_up": False}})
    site.write(lambda tx: guests.release(tx, site.cloud, "s1"))
    settled(site)
    assert site.of(home, "router")[router].floating == ()
    shown = site.demo.get(f"{V}/floatingips/{floating['id']}").json["floatingip"]
    assert (shown["port_id"], shown["router_id"], shown["status"]) == (None, None, "DOWN")
    site.put(f"routers/{router}", {"router": {"external_gateway_info": {}}})
    site.put(f"routers/{router}/remove_router_interface", {"subnet_id": subnet})
    settled(site)
    assert not any(router in site.of(host, "router") for host in HOSTS)
    assert site.told("h2") == {}


def test_a_new_tunnel_address_reaches_the_peers(site: Site) -> None:
    network, _ = site.network()
    site.server("s1", "h2", NetworkRequest(network_id=network))
    site.server("s2", "h3", NetworkRequest(network_id=network))
    settled(site)
    hello = site.agent.hello["h3"]
    site.agent.hello["h3"] = wire.HostHello(
        hello.name, "", hello.hypervisor_type, 1, hello.vcpus, hello.ram_mb, hello.disk_gb, {}, "10.9.9.9", ("public",)
    )
    site.agent.arrive()
    settled(site)
    assert site.of("h2", "network")[network].peers == ("10.9.9.9",)


def test_a_dhcp_port_that_is_switched_off_answers_nowhere(site: Site) -> None:
    network, _ = site.network()
    assert site.server("s1", "h2", NetworkRequest(network_id=network))
    (port,) = site.demo.get(f"{V}/ports?network_id={network}&device_owner=network:dhcp").json["ports"]
    assert port["status"] == "ACTIVE" and site.of("h2", "network")[network].subnets[0].dhcp
    off = site.put(f"ports/{port['id']}", {"port": {"admin_state_up": False}})["port"]
    item = site.of("h2", "network")[network]
    assert (off["status"], item.dhcp_mac, item.subnets[0].dhcp) == ("DOWN", None, False)
    on = site.put(f"ports/{port['id']}", {"port": {"admin_state_up": True}})["port"]
    assert on["status"] == "ACTIVE" and site.of("h2", "network")[network].subnets[0].dhcp


def test_dhcp_is_silent_where_an_operator_said_so(site: Site) -> None:
    network, _ = site.network()
    site.server("s1", "h2", NetworkRequest(network_id=network))
    settled(site)
    agents = site.admin.get(f"{V}/agents?agent_type=DHCP agent&host=h2").json["agents"]
    path = f"agents/{agents[0]['id']}/dhcp-networks"
    site.delete(f"{path}/{network}", site.admin)
    settled(site)
    item = site.of("h2", "network")[network]
    assert (item.dhcp_mac, item.subnets[0].dhcp) == (None, False)
    assert site.admin.post(f"{V}/{path}", {"network_id": network}).status == 201
    settled(site)
    assert site.of("h2", "network")[network].subnets[0].dhcp


def test_the_address_really_taken_is_shown_to_operators(site: Site) -> None:
    network, _ = site.network()
    (port,) = site.server("s1", "h2", NetworkRequest(network_id=network))
    at = 1_700_000_000_000_000

    def report(host: str, taken: str) -> None:
        seen = wire.Seen(host, "address_taken", port, taken, at)
        reports.take(site.cloud, wire.Report(1, (), (seen,)), site.agent.ids)

    report("h2", "10.20.0.3")
    report("h1", "6.6.6.6")
    shown = site.admin.get(f"{V}/ports/{port}").json["port"]
    assert shown["nephos:address_taken"] == "10.20.0.3", "a host speaks only for its own ports"
    assert shown["nephos:address_taken_at"] == "2023-11-14T22:13:20Z"
    assert "nephos:address_taken" not in site.demo.get(f"{V}/ports/{port}").json["port"]


def test_metadata_is_refreshed_when_a_port_or_its_floating_ip_changes(site: Site) -> None:
    """What a guest reads at 169.254.169.254 tells its addresses: its host hears of the guest at once."""
    network, subnet = site.network("10.30.0.0/24")
    made = site.make("routers", name="r", external_gateway_info={"network_id": outside(site)})["id"]
    site.put(f"routers/{made}/add_router_interface", {"subnet_id": subnet})
    site.server("s1", "h1", NetworkRequest(network_id=network))
    (port,) = site.demo.get(f"{V}/ports?device_id=s1").json["ports"]
    told = select(change.c.revision).where(
        change.c.kind == "guest", change.c.item_id == "s1", change.c.host_id == site.agent.ids["h1"]
    )

    def news() -> int:
        return int(site.write(lambda tx: tx.scalar(told)) or 0)

    floating = site.make("floatingips", floating_network_id=outside(site))["id"]
    before = news()
    for path, body in (
        (f"floatingips/{floating}", {"floatingip": {"port_id": port["id"]}}),
        (f"floatingips/{floating}", {"floatingip": {"port_id": None}}),
        (f"ports/{port['id']}", {"port": {"fixed_ips": [{"subnet_id": subnet}, {"subnet_id": subnet}]}}),
    ):
        site.put(path, body)
        assert news() > before, path
        before = news()


def outside(site: Site) -> str:
    return str(site.admin.get(V + "/networks?name=public").json["networks"][0]["id"])


def test_two_hosts_between_which_vxlan_is_blocked_take_the_same_way_round(site: Site) -> None:
    """Both of the pair, whichever of them says that it is blocked; nobody else; and back when both say that it passes."""
    network, _ = site.network()
    for number, host in enumerate(HOSTS, 1):
        site.server(f"s{number}", host, NetworkRequest(network_id=network))
    settled(site)

    def sets(host: str, fallback: str | None) -> None:
        site.agent.hello[host] = msgspec.structs.replace(site.agent.hello[host], tunnel_fallback=fallback)
        site.agent.arrive()

    def say(host: str, of: str, value: str, kind: str = "overlay") -> None:
        address = site.agent.hello[of].tunnel_address
        assert address is not None
        seen = wire.Seen(site.agent.ids[host], kind, address, value, 1_700_000_000_000_000)
        site.write(lambda tx: site.cloud.hosts.notices[kind][0](tx, seen))

    def told() -> str:
        findings = site.admin.get("/nephos/v1/audit").json["findings"]
        (found,) = [each for each in findings if each["kind"] == "tunnel"]
        assert found["name"] == "h2 → h1"
        return str(found["why"])

    def ways() -> dict[str, tuple[str, ...]]:
        settled(site)
        return {host: site.of(host, "network")[network].detours for host in HOSTS}

    one, two, three = (str(site.agent.hello[host].tunnel_address) for host in HOSTS)
    sets("h1", "geneve:6082")
    say("h1", "h2", "down")
    assert ways() == {"h1": (), "h2": (), "h3": ()}, "h2 sets none"
    sets("h2", "gre")
    assert ways() == {"h1": (), "h2": (), "h3": ()}, "they set two"
    sets("h2", "geneve:6082")
    assert ways() == {"h1": (two,), "h2": (one,), "h3": ()}
    assert set(site.of("h1", "network")[network].peers) == {two, three}
    say("h2", "h1", "down")
    say("h1", "h2", "up 1450/1450")
    assert ways() == {"h1": (two,), "h2": (one,), "h3": ()}, "one direction is blocked still"
    shown = {each["name"]: each["tunnels"] for each in site.admin.get("/nephos/v1/hosts").json["hosts"]}
    way = {"fallback": "geneve:6082", "fallback_up": None, "fallback_mtu": None}
    assert shown["h2"] == [{"peer": one, "up": False, "mtu": None, **way}]
    assert [each["fallback"] for each in shown["h1"]] == ["geneve:6082"]
    assert told().endswith("its networks go by geneve:6082 meanwhile")
    say("h2", "h1", "down", "detour")
    assert told().endswith("nor are those by geneve:6082, its fall-back")
    say("h2", "h1", "up 1350/1450", "detour")
    assert told().endswith("its networks go by geneve:6082 meanwhile, where the underlay's MTU is 1400")
    assert site.make("networks", name="narrow")["mtu"] == 1350
    say("h2", "h1", "up 1450/1450", "detour")
    assert told().endswith("its networks go by geneve:6082 meanwhile")
    assert site.make("networks", name="wide")["mtu"] == 1450
    shown = {each["name"]: each["tunnels"] for each in site.admin.get("/nephos/v1/hosts").json["hosts"]}
    assert shown["h2"] == [{"peer": one, "up": False, "mtu": None, **way, "fallback_up": True, "fallback_mtu": 1450}]
    say("h2", "h1", "gone", "detour")
    say("h2", "h1", "up 1450/1450")
    assert ways() == {"h1": (), "h2": (), "h3": ()}
    say("h1", "h2", "down")
    assert ways()["h1"] == (two,)
    say("h1", "h2", "gone")
    assert ways() == {"h1": (), "h2": (), "h3": ()}
    say("h1", "h2", "down")
    sets("h2", None)
    assert ways() == {"h1": (), "h2": (), "h3": ()}, "a host that has none any more"
