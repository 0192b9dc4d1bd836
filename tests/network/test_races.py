"""What fifty clients ask for at the same instant is given to exactly one of them, whatever keeps the ledger."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from tests import engines
from tests.harness import Harness, Response
from tests.network.conftest import Site, V

CLIENTS = 50


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def raced(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    path = tmp_path_factory.mktemp("raced")
    with engines.ledger(request.param, path) as url, Harness(path, database=url) as harness:
        yield Site(harness)


def at_once(site: Site, path: str, body: dict[str, Any]) -> list[Response]:
    """The answers to a POST of every client."""
    barrier, answers = threading.Barrier(CLIENTS), []

    def ask() -> None:
        barrier.wait()
        answers.append(site.demo.post(V + path, body))

    threads = [threading.Thread(target=ask) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def told(answers: list[Response]) -> Counter[tuple[int, str]]:
    """How often each status came, with the type of the fault."""
    return Counter((each.status, each.json.get("NeutronError", {}).get("type", "")) for each in answers)


def test_one_fixed_address(raced: Site) -> None:
    network, subnet = raced.network("10.91.0.0/24")
    wanted = [{"subnet_id": subnet, "ip_address": "10.91.0.77"}]
    answers = at_once(raced, "/ports", {"port": {"network_id": network, "fixed_ips": wanted}})
    assert told(answers) == {(201, ""): 1, (409, "IpAddressAlreadyAllocated"): CLIENTS - 1}
    holder = next(each.json["port"]["id"] for each in answers if each.status == 201)
    assert all(holder in each.json["NeutronError"]["message"] for each in answers if each.status == 409)


def test_one_mac(raced: Site) -> None:
    network = raced.make("networks", name="n")["id"]
    answers = at_once(raced, "/ports", {"port": {"network_id": network, "mac_address": "fa:16:3e:00:00:77"}})
    assert told(answers) == {(201, ""): 1, (409, "MacAddressInUse"): CLIENTS - 1}


def test_the_last_addresses_of_a_pool(raced: Site) -> None:
    network, _ = raced.network(
        "10.92.0.0/24", enable_dhcp=False, allocation_pools=[{"start": "10.92.0.10", "end": "10.92.0.16"}]
    )
    answers = at_once(raced, "/ports", {"port": {"network_id": network}})
    assert told(answers) == {(201, ""): 7, (409, "IpAddressGenerationFailure"): CLIENTS - 7}
    given = {each.json["port"]["fixed_ips"][0]["ip_address"] for each in answers if each.status == 201}
    assert given == {f"10.92.0.{last}" for last in range(10, 17)}


def test_one_range_of_a_network(raced: Site) -> None:
    network = raced.make("networks", name="n")["id"]
    answers = at_once(raced, "/subnets", {"subnet": {"network_id": network, "ip_version": 4, "cidr": "10.93.0.0/24"}})
    assert told(answers) == {(201, ""): 1, (400, "InvalidInput"): CLIENTS - 1}
