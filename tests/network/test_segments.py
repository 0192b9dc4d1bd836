"""Segments: which id a network gets, what each host carries of a network of several, and where ports get addresses."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from sqlalchemy import delete, select, update

from nephos import errors
from nephos.errors import SettingsError
from nephos.hosts import store as hosts
from nephos.network.guests import NetworkRequest
from nephos.network.ports import actions as ports
from nephos.network.segment_ranges import actions as ranges
from nephos.network.segment_ranges.store import segment_range
from nephos.network.segments import actions as segments
from nephos.network.segments import types
from nephos.network.segments.store import segment
from nephos.settings import NetworkRanges
from tests.harness import Harness
from tests.network.conftest import Site, V


def maps(site: Site, **physical: list[str]) -> None:
    """Say which physical networks hosts have."""
    for name, each in physical.items():
        host_id = site.agent.ids[name]
        site.write(lambda tx, host_id=host_id, each=each: tx.execute(  # type: ignore[misc]
            update(hosts.host).where(hosts.host.c.id == host_id).values(physical=each)
        ))  # fmt: skip


def ids_of(site: Site, count: int, **values: object) -> list[int]:
    return [site.make("networks", site.admin, **values)["provider:segmentation_id"] for _ in range(count)]


# --- ids -------------------------------------------------------------------------------------------------------------


def test_a_projects_own_range_comes_first_and_is_nobody_elses(site: Site) -> None:
    span = {"network_type": "geneve", "name": "theirs", "shared": False, "project_id": site.project}
    site.make("network_segment_ranges", site.admin, minimum=10, maximum=12, **span)
    site.write(lambda tx: tx.execute(
        update(segment_range).where(segment_range.c.kind == "geneve", segment_range.c.is_default).values(maximum=16)
    ))  # fmt: skip
    own = {"provider:network_type": "geneve", "project_id": site.project}
    assert sorted(ids_of(site, 3, **own)) == [10, 11, 12]
    assert ids_of(site, 1, **own)[0] not in (10, 11, 12), "then the ranges that are for all"
    other = ids_of(site, 12, **{"provider:network_type": "geneve"})
    assert not set(other) & {10, 11, 12}
    reply = site.admin.post(V + "/networks", {"network": {"provider:network_type": "geneve"}})
    assert reply.status == 409
    assert "default (geneve 1:16)" in reply.json["NeutronError"]["message"]


def test_every_id_of_a_range_is_found_before_it_is_used_up(site: Site) -> None:
    drawn = random.Random(7)
    with site.cloud.database.read() as tx:
        for _ in range(50):
            first = drawn.randrange(1, 2000)
            wanted = ranges.Range("gre", None, first, first + drawn.randrange(0, 1200))
            apart = []
            for _ in range(drawn.randrange(4)):
                low = drawn.randrange(1, 3000)
                apart.append(ranges.Range("gre", None, low, low + drawn.randrange(600)))
            usable = set(range(wanted.minimum, wanted.maximum + 1))
            for one in apart:
                usable -= set(range(one.minimum, one.maximum + 1))
            parts = list(ranges._without(wanted, apart))
            assert {number for low, high in parts for number in range(low, high + 1)} == usable
            left = drawn.choice(sorted(usable)) if usable else None
            taken = {types.key("gre", None, number) for number in usable - {left}}
            assert ranges._free(wanted, parts, lambda keys, taken=taken: taken & set(keys)) == left  # type: ignore[misc]
        assert ranges.take(tx, "gre", None, site.project, lambda keys: set())[1] <= 65535


def test_settings_make_the_default_ranges_anew(site: Site) -> None:
    def defaults() -> set[ranges.Range]:
        with site.cloud.database.read() as tx:
            return {ranges.range_of(row) for row in tx.all(select(segment_range)) if row.is_default}

    before = defaults()
    assert {each.kind for each in before} == {"vxlan", "gre", "geneve"}
    site.cloud.settings.network = NetworkRanges(gre="5:9", vlan={"rack": "100:200"})
    ranges.load(site.cloud)
    assert defaults() == {
        *(each for each in before if each.kind != "gre"),
        ranges.Range("gre", None, 5, 9),
        ranges.Range("vlan", "rack", 100, 200),
    }
    network = site.make("networks", site.admin, **{"provider:network_type": "vlan"})
    assert network["provider:physical_network"] == "rack"
    assert 100 <= network["provider:segmentation_id"] <= 200


@pytest.mark.parametrize(
    "wrong", [{"gre": "9:5"}, {"geneve": "1:16777216"}, {"vlan": {"rack": "0:7"}}, {"gre": "all"}, {"vni_max": 0}]
)
def test_a_range_that_is_none_is_refused_with_its_key(wrong: dict[str, object]) -> None:
    with pytest.raises(SettingsError, match=rf"network\.({'vxlan' if 'vni_max' in wrong else next(iter(wrong))})"):
        ranges.of_settings(NetworkRanges(**wrong))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "version", "most"),
    [("flat", 4, 1500), ("vlan", 6, 1500), ("vxlan", 4, 1450), ("vxlan", 6, 1430), ("gre", 4, 1458), ("gre", 6, 1438),
     ("geneve", 4, 1450)],
)  # fmt: skip
def test_tunnels_take_their_headers_off_the_mtu(kind: str, version: int, most: int) -> None:
    assert types.most_mtu(kind, 1500, version) == most


def test_networks_of_the_previous_release_get_their_segment(site: Site) -> None:
    network = site.make("networks", site.admin, **{"provider:network_type": "gre", "provider:segmentation_id": 9})
    site.write(lambda tx: tx.execute(delete(segment)))
    taken = {"network": {"provider:network_type": "gre", "provider:segmentation_id": 9}}
    assert site.admin.post(V + "/networks", taken).status == 409, "taken, though it has no row of its own yet"
    segments.adopt(site.cloud)
    found = site.admin.get(f"{V}/segments?network_id={network['id']}").json["segments"]
    assert [(each["network_type"], each["segmentation_id"]) for each in found] == [("gre", 9)]
    segments.adopt(site.cloud)
    assert len(site.admin.get(V + "/segments?network_type=gre").json["segments"]) == 1


def test_an_external_network_goes_where_the_outside_is(site: Site) -> None:
    network = site.make("networks", site.admin, **{"router:external": True})
    assert network["provider:network_type"] == "vxlan", "public is taken by the first network, as everywhere"
    site.cloud.settings.network = NetworkRanges(external="uplink")
    maps(site, h2=["uplink"])
    network = site.make("networks", site.admin, **{"router:external": True})
    assert (network["provider:network_type"], network["provider:physical_network"]) == ("flat", "uplink")


# --- hosts -----------------------------------------------------------------------------------------------------------


def test_a_vlan_network_moves_and_its_hosts_follow(site: Site) -> None:
    maps(site, h1=["rack"])
    vlan = {"provider:network_type": "vlan", "provider:physical_network": "rack", "provider:segmentation_id": 5}
    network = site.make("networks", site.admin, project_id=site.project, **vlan)["id"]
    site.make("subnets", network_id=network, ip_version=4, cidr="10.61.0.0/24")
    site.server("s1", "h1", NetworkRequest(network_id=network))
    assert site.of("h1", "network")[network].segment == 5
    site.put(f"networks/{network}", {"network": {"provider:segmentation_id": 6}}, site.admin)
    assert site.of("h1", "network")[network].segment == 6
    refused = site.admin.put(f"{V}/networks/{network}", {"network": {"provider:network_type": "vxlan"}})
    assert refused.status == 400


def test_each_host_carries_the_segment_that_it_can(site: Site) -> None:
    maps(site, h1=["rack"], h2=["rack"], h3=[])
    parts = [
        {"provider:network_type": "vlan", "provider:physical_network": "rack", "provider:segmentation_id": 5},
        {"provider:network_type": "vxlan", "provider:segmentation_id": 50},
    ]
    network = site.make("networks", site.admin, project_id=site.project, segments=parts)["id"]
    site.make("subnets", network_id=network, ip_version=4, cidr="10.62.0.0/24")
    for host in ("h1", "h2", "h3"):
        site.server(f"on-{host}", host, NetworkRequest(network_id=network))
    one, three = (site.of(host, "network")[network] for host in ("h1", "h3"))
    assert (one.kind, one.segment, one.physical, len(one.endpoints)) == ("vlan", 5, "rack", 2)
    assert (three.kind, three.segment, three.physical, len(three.endpoints)) == ("vxlan", 50, None, 1)
    assert one.mtu == three.mtu == 1450


def routed(site: Site) -> tuple[str, dict[str, str]]:
    """A routed network: VLAN 5 of rack-1 with 10.63.1.0/24, VLAN 5 of rack-2 with 10.63.2.0/24; its id, and subnets."""
    maps(site, h1=["rack-1"], h2=["rack-2"], h3=[])
    parts = [
        {"provider:network_type": "vlan", "provider:physical_network": f"rack-{n}", "provider:segmentation_id": 5}
        for n in (1, 2)
    ]
    network = site.make("networks", site.admin, project_id=site.project, segments=parts)["id"]
    found = site.admin.get(f"{V}/segments?network_id={network}").json["segments"]
    subnets = {}
    for each in found:
        number = each["physical_network"][-1]
        made = site.make(
            "subnets", site.admin, network_id=network, ip_version=4, cidr=f"10.63.{number}.0/24", segment_id=each["id"]
        )
        subnets[each["physical_network"]] = made["id"]
    return network, subnets


def test_a_port_of_a_routed_network_gets_its_address_where_its_host_is(site: Site) -> None:
    network, subnets = routed(site)
    for host, rack in (("h1", "rack-1"), ("h2", "rack-2")):
        port = site.make("ports", network_id=network)
        assert (port["fixed_ips"], port["ip_allocation"]) == ([], "deferred")
        site.server(f"on-{host}", host, NetworkRequest(port_id=port["id"]))
        port = site.demo.get(f"{V}/ports/{port['id']}").json["port"]
        assert [each["subnet_id"] for each in port["fixed_ips"]] == [subnets[rack]]
        wired = site.of(host, "network")[network]
        assert [subnet.id for subnet in wired.subnets] == [subnets[rack]], "what is elsewhere is not for the host"
        assert wired.dhcp_mac is not None
        assert [endpoint.port_id for endpoint in wired.endpoints] == [port["id"]]


def test_a_port_that_is_made_on_its_host_gets_its_address_at_once(site: Site) -> None:
    network, subnets = routed(site)
    (port_id,) = site.server("s1", "h2", NetworkRequest(network_id=network))
    port = site.demo.get(f"{V}/ports/{port_id}").json["port"]
    assert [each["subnet_id"] for each in port["fixed_ips"]] == [subnets["rack-2"]]
    assert port["ip_allocation"] == "immediate"


def test_a_host_on_no_segment_is_refused_by_name(site: Site) -> None:
    network, subnets = routed(site)
    with pytest.raises(errors.Conflict, match=r"not connected to any segments") as refused:
        site.server("s3", "h3", NetworkRequest(network_id=network))
    assert refused.value.code == "HostNotConnectedToAnySegment"
    port = site.make("ports", network_id=network, fixed_ips=[{"subnet_id": subnets["rack-1"]}])

    def move(host: str) -> None:
        site.write(lambda tx: ports.bind(tx, site.cloud, ports.get(tx, port["id"]), site.agent.ids[host]))

    move("h1")
    with pytest.raises(errors.Conflict, match="not connected to a segment where the existing fixed_ips") as refused:
        move("h2")
    assert refused.value.code == "HostNotCompatibleWithFixedIps"
    both = [{"subnet_id": subnets[rack]} for rack in ("rack-1", "rack-2")]
    reply = site.demo.post(V + "/ports", {"port": {"network_id": network, "fixed_ips": both}})
    assert (reply.status, reply.json["NeutronError"]["type"]) == (400, "FixedIpsSubnetsNotOnSameSegment")


def test_a_subnet_joins_the_only_segment_later(site: Site) -> None:
    network, subnet = site.network("10.64.0.0/24")
    (only,) = site.admin.get(f"{V}/segments?network_id={network}").json["segments"]
    assert "segment_id" not in site.demo.get(f"{V}/subnets/{subnet}").json["subnet"], "an administrator's matter"
    answer = site.put(f"subnets/{subnet}", {"subnet": {"segment_id": only["id"]}}, site.admin)
    assert answer["subnet"]["segment_id"] == only["id"]
    reply = site.demo.put(f"{V}/subnets/{subnet}", {"subnet": {"segment_id": None}})
    assert reply.status == 403


def test_ranges_are_loaded_before_the_first_network(tmp_path: Path) -> None:
    with Harness(tmp_path) as cloud:
        admin = cloud.login("admin", "admin")
        (vxlan,) = admin.get(f"{V}/network_segment_ranges?network_type=vxlan").json["network_segment_ranges"]
        assert list(vxlan["used"].values()) and len(vxlan["available"]) == ranges.MOST_LISTED
