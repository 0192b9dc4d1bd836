"""Taking addresses: quick however large the pool, never twice, and none lost."""

from __future__ import annotations

import ipaddress
import threading
import time
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, insert, select, text, update

from nephos.network.networks import actions as networks
from nephos.network.subnets import actions as subnets
from nephos.network.subnets import addresses
from nephos.network.subnets.store import address, subnet
from tests.harness import Harness
from tests.network.conftest import Site, V


def address_of(port: Any) -> str:
    return str(port["fixed_ips"][0]["ip_address"])


def test_one_after_the_other_and_not_again_at_once(site: Site) -> None:
    network, _ = site.network("10.20.0.0/24")
    ports = [site.make("ports", network_id=network) for _ in range(3)]
    assert [address_of(port) for port in ports] == ["10.20.0.3", "10.20.0.4", "10.20.0.5"]
    site.delete(f"ports/{ports[1]['id']}")
    assert address_of(site.make("ports", network_id=network)) == "10.20.0.6"


def test_round_the_pool(site: Site) -> None:
    network, _ = site.network("10.20.0.0/29", enable_dhcp=False)
    ports = [site.make("ports", network_id=network) for _ in range(5)]
    assert sorted(address_of(port) for port in ports) == [f"10.20.0.{last}" for last in range(2, 7)]
    site.delete(f"ports/{ports[2]['id']}")
    assert address_of(site.make("ports", network_id=network)) == address_of(ports[2])


def test_another_subnet_when_one_is_full(site: Site) -> None:
    network, first = site.network("10.20.0.0/30", enable_dhcp=False)
    second = site.make("subnets", network_id=network, ip_version=4, cidr="10.21.0.0/24", enable_dhcp=False)["id"]
    taken = [site.make("ports", network_id=network)["fixed_ips"][0]["subnet_id"] for _ in range(2)]
    assert taken == [first, second]


def test_a_million_addresses(site: Site) -> None:
    """A pool of a /12: with only the last one free, and with none, it takes few queries and no time."""
    network, subnet_id = site.network("10.16.0.0/12", enable_dhcp=False)
    port = site.make("ports", network_id=network, fixed_ips=[])["id"]
    fill = text(
        "WITH RECURSIVE n(x) AS (SELECT 2 UNION ALL SELECT x + 1 FROM n WHERE x < :last) "
        "INSERT INTO network_address (subnet_id, address, number, port_id, place) SELECT :subnet, 'a' || x, x, "
        ":port, 0 FROM n"
    )
    last = (1 << 20) - 2
    site.write(lambda tx: tx.execute(fill, {"last": last, "subnet": subnet_id, "port": port}))
    hole = last - 77
    site.write(lambda tx: tx.execute(delete(address).where(address.c.subnet_id == subnet_id, address.c.number == hole)))
    with site.cloud.database.read() as tx:
        row = subnets.get(tx, subnet_id)
        before, began = tx.queries, time.monotonic()
        assert addresses.free(tx, row, int(ipaddress.ip_address("10.16.0.0"))) == hole
        assert tx.queries - before <= 8
        assert time.monotonic() - began < 5
    assert address_of(site.make("ports", network_id=network)) == str(ipaddress.ip_address("10.16.0.0") + hole)
    reply = site.demo.post(V + "/ports", {"port": {"network_id": network}})
    assert reply.status == 409
    assert reply.json["NeutronError"]["type"] == "IpAddressGenerationFailure"


def test_an_empty_pool_of_a_million_takes_three_queries(site: Site) -> None:
    _, subnet_id = site.network("10.16.0.0/12")
    with site.cloud.database.read() as tx:
        row = subnets.get(tx, subnet_id)
        before = tx.queries
        assert addresses.free(tx, row, int(ipaddress.ip_address("10.16.0.0"))) == 3
        assert tx.queries - before <= 2


def test_a_wide_ipv6_range(site: Site) -> None:
    network, subnet_id = site.network("fd00::/48", enable_dhcp=False)
    first = address_of(site.make("ports", network_id=network))
    assert first == "fd00::2"
    far = site.make("ports", network_id=network, fixed_ips=[{"ip_address": "fd00:0:0:ffff:ffff:ffff:ffff:fffe"}])
    assert far["fixed_ips"] == [{"subnet_id": subnet_id, "ip_address": "fd00::ffff:ffff:ffff:ffff:fffe"}]
    assert address_of(site.make("ports", network_id=network)) == "fd00::3"


def test_many_at_once_one_winner_each(site: Site) -> None:
    network, _ = site.network("10.20.0.0/24", enable_dhcp=False)
    won: list[str] = []
    lost: list[int] = []

    def ask(wanted: str | None) -> None:
        for _ in range(12):
            body: dict[str, Any] = {"network_id": network}
            if wanted:
                body["fixed_ips"] = [{"ip_address": wanted}]
            reply = site.demo.post(V + "/ports", {"port": body})
            if reply.status == 201:
                won.append(address_of(reply.json["port"]))
            else:
                assert reply.status == 409, reply
                lost.append(reply.status)

    threads = [threading.Thread(target=ask, args=(wanted,)) for wanted in (None, None, None, "10.20.0.9", "10.20.0.9")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == len(set(won))
    assert won.count("10.20.0.9") == 1
    assert len(won) + len(lost) == 60


_CASES = st.tuples(
    st.lists(st.tuples(st.integers(1, 120), st.integers(0, 40)), min_size=1, max_size=3),
    st.sets(st.integers(1, 200)),
    st.integers(0, 220),
)


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with Harness(tmp_path_factory.mktemp("pools")) as harness:
        cloud = harness.cloud

        def work(tx: Any) -> tuple[str, str]:
            network = networks.create(tx, cloud, networks.New(project_id="p", name="n"))
            new = subnets.New(project_id="p", network_id=network, version=4, cidr="10.30.0.0/16", dhcp=True)
            subnet_id = subnets.create(tx, cloud, new)
            port = tx.scalar(select(address.c.port_id).where(address.c.subnet_id == subnet_id))
            return subnet_id, str(port)

        yield cloud, *cloud.database.write(work)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(_CASES)
def test_what_is_given_is_free_and_of_the_pools(empty: Any, case: Any) -> None:
    cloud, subnet_id, port = empty
    spans, taken, cursor = case
    base = ipaddress.ip_address("10.30.0.0")
    pools, at = [], 0
    for gap, length in spans:
        pools.append((at + gap, at + gap + length))
        at += gap + length + 1

    def work(tx: Any) -> int | None:
        tx.execute(delete(address).where(address.c.subnet_id == subnet_id))
        rows = [
            {"subnet_id": subnet_id, "address": str(base + n), "number": n, "port_id": port, "place": 0} for n in taken
        ]
        if rows:
            tx.execute(insert(address), rows)
        shown = [[str(base + low), str(base + high)] for low, high in pools]
        tx.execute(update(subnet).where(subnet.c.id == subnet_id).values(pools=shown, next=cursor))
        return addresses.free(tx, subnets.get(tx, subnet_id), int(base))

    found = cloud.database.write(work)
    free = {n for low, high in pools for n in range(low, high + 1)} - taken
    assert (found in free) if free else found is None


@pytest.mark.parametrize(
    ("first", "last"),
    [("fffc", "fffe"), ("7fff:ffff:ffff:fffe", "8000::1"), ("4000::", "4000::2"), ("8000::", "8000::2")],
    ids=["end", "middle", "quarter", "upper half"],
)
def test_pools_anywhere_in_a_range_of_64_bits(site: Site, first: str, last: str) -> None:
    """Every address of the pool is given out, once, and then none."""
    low, high = (
        ipaddress.ip_address(f"2001:db8:0:7:{'ffff:ffff:ffff:' if len(each) == 4 else ''}{each}")
        for each in (first, last)
    )
    pool = [str(ipaddress.IPv6Address(number)) for number in range(int(low), int(high) + 1)]
    network, _ = site.network(
        "2001:db8:0:7::/64", enable_dhcp=False, allocation_pools=[{"start": pool[0], "end": pool[-1]}]
    )
    given = [address_of(site.make("ports", network_id=network)) for _ in pool]
    assert sorted(given) == sorted(pool)
    full = site.demo.post(f"{V}/ports", {"port": {"network_id": network}})
    assert full.status == 409 and full.json["NeutronError"]["type"] == "IpAddressGenerationFailure"
