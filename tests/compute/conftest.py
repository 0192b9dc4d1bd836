"""A cloud with hosts that answer at once, an image to boot, and one user of each kind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.compute.agent import Agent, make_image
from tests.harness import Client, Harness, Response

LATEST = "compute 2.100"


class Lab:
    """`boot` makes a server without networks and lets it run; `new` only asks for it."""

    def __init__(self, harness: Harness, *hosts: str, **capacity: int) -> None:
        self.harness = harness
        self.agent = Agent(harness, *hosts, **capacity)
        self.admin = harness.login("admin", "admin")
        self.demo = harness.login("demo", "demo")
        for client in (self.admin, self.demo):
            client.headers["OpenStack-API-Version"] = LATEST
        self.image = make_image(self.admin, visibility="public")

    def new(self, client: Client | None = None, hints: Any = None, **values: Any) -> Response:
        server = {"name": "s", "flavorRef": "1", "imageRef": self.image, "networks": "none", **values}
        body: dict[str, Any] = {"server": server}
        if hints is not None:
            body["os:scheduler_hints"] = hints
        return (client or self.demo).post("/compute/v2.1/servers", body)

    def boot(self, client: Client | None = None, hints: Any = None, **values: Any) -> dict[str, Any]:
        reply = self.new(client, hints, **values)
        assert reply.status == 202, reply
        self.agent.settle()
        return self.show(str(reply.json["server"]["id"]))

    def show(self, server_id: str, client: Client | None = None) -> dict[str, Any]:
        reply = (client or self.admin).get(f"/compute/v2.1/servers/{server_id}")
        assert reply.status == 200, reply
        shown: dict[str, Any] = reply.json["server"]
        return shown

    def act(self, server_id: str, action: str, body: Any = None, client: Client | None = None) -> Response:
        return (client or self.demo).post(f"/compute/v2.1/servers/{server_id}/action", {action: body})

    def events(self, server_id: str, request_id: str) -> list[dict[str, Any]]:
        path = f"/compute/v2.1/servers/{server_id}/os-instance-actions/{request_id}"
        events: list[dict[str, Any]] = self.admin.get(path).json["instanceAction"]["events"]
        return events


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with Harness(tmp_path) as harness:
        yield Lab(harness, "h1", "h2", "h3")
