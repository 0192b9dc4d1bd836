"""A cloud with hosts that answer at once, and what network tests need of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from nephos.hosts import desired
from nephos.kernel.db.engine import Tx
from nephos.network import guests
from nephos.network.guests import NetworkRequest
from nephos.wiring import base
from tests.compute.agent import Agent
from tests.harness import Client, Harness

KINDS: dict[str, Any] = {"network": base.Network, "port": base.Port, "group": base.Group, "router": base.Router}
V = "/network/v2.0"


class Site:
    """A cloud, hosts h1, h2 and h3 (in this order the least loaded first), and its two first users."""

    def __init__(self, harness: Harness) -> None:
        self.harness, self.cloud = harness, harness.cloud
        self.agent = Agent(harness, "h1", "h2", "h3")
        self.admin, self.demo = harness.login("admin", "admin"), harness.login("demo", "demo")
        self.project: str = self.demo.get(V + "/quotas/project").json["project"]["project_id"]

    def make(self, plural: str, client: Client | None = None, **values: Any) -> Any:
        """POST one; the resource. The singular is the plural without its s."""
        name = plural.removesuffix("s").replace("-", "_")
        reply = (client or self.demo).post(f"{V}/{plural}", {name: values})
        assert reply.status == 201, reply
        return reply.json[name]

    def put(self, path: str, body: Any, client: Client | None = None) -> Any:
        reply = (client or self.demo).put(f"{V}/{path}", body)
        assert reply.status == 200, reply
        return reply.json

    def delete(self, path: str, client: Client | None = None) -> None:
        reply = (client or self.demo).delete(f"{V}/{path}")
        assert reply.status == 204, reply

    def network(self, cidr: str = "10.20.0.0/24", **values: Any) -> tuple[str, str]:
        """A network of demo's with one subnet: their ids."""
        network = self.make("networks", name="n")["id"]
        version = 6 if ":" in cidr else 4
        return network, self.make("subnets", network_id=network, ip_version=version, cidr=cidr, **values)["id"]

    def server(self, server_id: str, host: str | None, *requests: NetworkRequest, groups: tuple[str, ...] = ()) -> Any:
        """Ports for a server of demo's on a host, as compute asks for them."""
        return self.write(
            lambda tx: guests.allocate(
                tx,
                self.cloud,
                server_id=server_id,
                project_id=self.project,
                user_id="u",
                hostname=server_id,
                zone="nova",
                requests=requests,
                security_groups=groups,
                host_id=self.agent.ids[host] if host else None,
            )
        )

    def write(self, work: Callable[[Tx], Any]) -> Any:
        return self.cloud.database.write(work)

    def told(self, host: str) -> dict[tuple[str, str], Any]:
        """What a host has pulled so far, decoded, of the kinds that are wired; and it is all that it should have."""
        self.agent.work()
        with self.cloud.database.read() as tx:
            whole = {
                (kind, key): bytes(body)
                for kind, key, body in desired._everything(tx, self.cloud.hosts, self.agent.ids[host])
            }
        have = {key: bytes(body) for key, body in self.agent.items[host].items()}
        assert {k: v for k, v in have.items() if k[0] in KINDS} == {k: v for k, v in whole.items() if k[0] in KINDS}
        return {
            (kind, key): msgspec.msgpack.decode(body, type=KINDS[kind])
            for (kind, key), body in have.items()
            if kind in KINDS
        }

    def of(self, host: str, kind: str) -> dict[str, Any]:
        return {key: item for (each, key), item in self.told(host).items() if each == kind}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with Harness(tmp_path) as harness:
        yield Site(harness)
