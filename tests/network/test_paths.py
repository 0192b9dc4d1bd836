"""What hosts say of the tunnels between them: shown to operators, and new networks are made so that their frames pass."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from nephos.hosts import store
from nephos.hosts.wire import Seen
from nephos.network.paths import actions as paths
from tests.compute.agent import Agent
from tests.harness import Harness

V = "/network/v2.0"


class Site:
    def __init__(self, path: Path) -> None:
        self.cloud = Harness(path)
        self.agents = [Agent(self.cloud, name) for name in ("h1", "h2")]
        self.ids = [agent.ids[name] for agent, name in zip(self.agents, ("h1", "h2"), strict=True)]
        for number, host in enumerate(self.ids, 1):
            statement = store.host.update().where(store.host.c.id == host).values(tunnel_address=f"192.0.2.{number}")
            self.cloud.cloud.database.write(lambda tx, statement=statement: tx.execute(statement))  # type: ignore[misc]
        self.admin = self.cloud.login("admin", "admin")

    def say(self, value: str) -> None:
        """The first host, of the second."""
        notice = self.cloud.cloud.hosts.notices["overlay"][0]
        self.cloud.cloud.database.write(lambda tx: notice(tx, Seen(self.ids[0], "overlay", "192.0.2.2", value, tx.now)))

    def mtu(self, name: str) -> int:
        return int(self.admin.post(f"{V}/networks", {"network": {"name": name}}).json["network"]["mtu"])

    def found(self) -> list[tuple[str, str]]:
        listed = self.admin.get("/nephos/v1/audit").json["findings"]
        return [(each["name"], each["why"]) for each in listed if each["kind"] == "tunnel"]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    made.cloud.cloud.database.close()


def test_a_path_that_is_well_is_not_told(site: Site) -> None:
    site.say("up 1450/1450")
    assert site.found() == []
    assert site.mtu("a") == 1450


def test_a_dead_path_is_named_until_it_is_well_or_gone(site: Site) -> None:
    site.say("down")
    ((name, why),) = site.found()
    assert name == "h1 → h2" and "blocked" in why
    site.say("up 1450/1450")
    assert site.found() == []
    site.say("down")
    site.say("gone")
    assert site.found() == []


def test_new_networks_fit_through_the_narrowest_path(site: Site) -> None:
    site.say("up 1350/1450")
    ((_, why),) = site.found()
    assert "1450" in why and "1400" in why
    assert site.mtu("a") == 1350
    reply = site.admin.post(f"{V}/networks", {"network": {"name": "b", "mtu": 1450}})
    assert reply.json["network"]["mtu"] == 1450, "an MTU that somebody asks for is theirs to know"
    site.say("up 1450/1450")
    assert site.mtu("c") == 1450


def test_a_host_that_is_down_is_no_news_of_tunnels(site: Site) -> None:
    site.say("down")
    statement = store.host.update().where(store.host.c.id == site.ids[1]).values(last_seen=0)
    site.cloud.cloud.database.write(lambda tx: tx.execute(statement))
    assert site.found() == []


@pytest.mark.parametrize("value", ["", "up", "up 1/2/3", "up 9999999/1", "up a/b"])
def test_nonsense_counts_as_down(site: Site, value: str) -> None:
    site.say(value)
    with site.cloud.cloud.database.read() as tx:
        (row,) = paths.listing(tx)
    assert not row.up and row.mtu is None
