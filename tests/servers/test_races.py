"""Many clients of two servers on one ledger reach for the last thing: exactly as many get it as there are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests import engines
from tests.compute.agent import Agent, make_image
from tests.harness import Client, Harness, Response

CLIENTS = 40


class Pair:
    """Two servers on one ledger; on the embedded one, one server that is both."""

    def __init__(self, one: Harness, other: Harness) -> None:
        self.servers = (one, other)

    def race(self, count: int, ask: Callable[[Client, int], Response]) -> Counter[int]:
        """`count` requests by demo, as many at a time as there are clients. Answers how often each status came."""
        clients = [server.login("demo", "demo") for server in self.servers]
        with ThreadPoolExecutor(CLIENTS) as threads:
            replies = list(threads.map(lambda number: ask(clients[number % 2], number), range(count)))
        wrong = [reply for reply in replies if reply.status >= 500]
        assert not wrong, wrong[0]
        return Counter(reply.status for reply in replies)

    def demo(self) -> Client:
        return self.servers[1].login("demo", "demo")


@pytest.fixture(params=engines.ENGINES)
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Pair]:
    with engines.ledger(request.param, tmp_path) as url, Harness(tmp_path, database=url) as one:
        if request.param == "sqlite":
            yield Pair(one, one)
            return
        with Harness(tmp_path, database=url) as other:
            yield Pair(one, other)


def test_two_hundred_creates_fill_a_quota_of_ten(pair: Pair) -> None:
    Agent(pair.servers[0], "h1")
    image = make_image(pair.servers[0].login("admin", "admin"), visibility="public")

    def ask(client: Client, number: int) -> Response:
        server: dict[str, Any] = {"name": f"s{number}", "flavorRef": "1", "imageRef": image, "networks": "none"}
        return client.post(
            "/compute/v2.1/servers", {"server": server}, **{"OpenStack-API-Version": "compute 2.90"}
        )

    assert pair.race(200, ask) == {202: 10, 403: 190}
    assert len(pair.demo().get("/compute/v2.1/servers").json["servers"]) == 10


def test_networks_stop_at_their_quota(pair: Pair) -> None:
    admin = pair.servers[0].login("admin", "admin")
    demo = pair.demo()
    project = demo.get("/network/v2.0/networks?name=private").json["networks"][0]["project_id"]
    assert admin.put(f"/network/v2.0/quotas/{project}", {"quota": {"network": 10}}).status == 200
    had = len(demo.get(f"/network/v2.0/networks?project_id={project}").json["networks"])
    found = pair.race(60, lambda client, _: client.post("/network/v2.0/networks", {"network": {}}))
    assert found == {201: 10 - had, 409: 50 + had}


def test_fifty_clients_one_address(pair: Pair) -> None:
    demo = pair.demo()
    network = demo.get("/network/v2.0/networks?name=private").json["networks"][0]
    subnet = demo.get(f"/network/v2.0/subnets?network_id={network['id']}&ip_version=4").json["subnets"][0]
    wanted = subnet["allocation_pools"][0]["end"]
    body = {"port": {"network_id": network["id"], "fixed_ips": [{"subnet_id": subnet["id"], "ip_address": wanted}]}}
    assert pair.race(50, lambda client, _: client.post("/network/v2.0/ports", body)) == {201: 1, 409: 49}
    ports = demo.get(f"/network/v2.0/ports?fixed_ips=ip_address={wanted}").json["ports"]
    assert len(ports) == 1


def test_fifty_clients_get_fifty_addresses(pair: Pair) -> None:
    demo = pair.demo()
    network = demo.get("/network/v2.0/networks?name=private").json["networks"][0]
    body = {"port": {"network_id": network["id"]}}
    assert pair.race(50, lambda client, _: client.post("/network/v2.0/ports", body)) == {201: 50}
    ports = demo.get(f"/network/v2.0/ports?network_id={network['id']}&device_owner=").json["ports"]
    addresses = [each["ip_address"] for port in ports for each in port["fixed_ips"]]
    assert len(addresses) == len(set(addresses)) >= 50
