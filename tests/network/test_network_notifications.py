"""What the network service tells. Event types and the shape of payloads are those of Neutron's notifier hook."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nephos.network import guests
from nephos.network.guests import NetworkRequest
from tests.harness import Harness
from tests.network.conftest import Site, V
from tests.told import Message, Told, listening


@pytest.fixture
def listened(tmp_path: Path) -> Iterator[tuple[Site, Told]]:
    with Harness(tmp_path, listening) as harness:
        site = Site(harness)
        yield site, Told(harness)


def both(messages: list[Message], event: str) -> tuple[Any, Any]:
    """The payloads of one `.start` and one `.end`, which are all that was told."""
    assert [each.event for each in messages] == [f"{event}.start", f"{event}.end"]
    assert {each.topic for each in messages} == {"notifications.info"}
    assert {each.service for each in messages} == {"neutron"}
    return messages[0].payload, messages[1].payload


def test_a_networks_life(listened: tuple[Site, Told]) -> None:
    site, told = listened
    network = site.make("networks", name="n")
    start, end = both(told.new(), "network.create")
    assert start == {"network": {"name": "n"}}
    assert end == {"network": network}
    changed = site.demo.put(f"{V}/networks/{network['id']}", {"network": {"name": "m"}}).json["network"]
    start, end = both(told.new(), "network.update")
    assert start == {"network": {"name": "m"}, "id": network["id"]}
    assert end == {"network": changed}
    assert site.demo.delete(f"{V}/networks/{network['id']}").status == 204
    start, end = both(told.new(), "network.delete")
    assert start == {"network_id": network["id"]}
    assert end == {"network": changed, "network_id": network["id"]}


def test_every_noun_tells_without_a_line_of_its_own(listened: tuple[Site, Told]) -> None:
    site, told = listened
    network = site.make("networks", name="n")
    told.new()
    subnet = site.make("subnets", network_id=network["id"], ip_version=4, cidr="10.1.0.0/24")
    both(told.new(), "subnet.create")
    router = site.make("routers", name="r")
    both(told.new(), "router.create")
    group = site.make("security-groups", name="g")
    both(told.new(), "security_group.create")
    site.make("security-group-rules", security_group_id=group["id"], direction="ingress")
    both(told.new(), "security_group_rule.create")
    path = f"{V}/routers/{router['id']}"
    info = site.demo.put(f"{path}/add_router_interface", {"subnet_id": subnet["id"]}).json
    [message] = told.new()
    assert (message.event, message.payload) == ("router.interface.create", {"router_interface": info})
    info = site.demo.put(f"{path}/remove_router_interface", {"subnet_id": subnet["id"]}).json
    [message] = told.new()
    assert (message.event, message.payload) == ("router.interface.delete", {"router_interface": info})


def test_many_at_once_are_one(listened: tuple[Site, Told]) -> None:
    site, told = listened
    body = {"networks": [{"name": "a"}, {"name": "b"}]}
    made = site.demo.post(f"{V}/networks", body).json
    start, end = both(told.new(), "network.create")
    assert (start, end) == (body, made)


def test_what_is_refused_is_not_told(listened: tuple[Site, Told]) -> None:
    site, told = listened
    network = site.make("networks", name="n")
    site.make("ports", network_id=network["id"])
    told.new()
    assert site.demo.delete(f"{V}/networks/{network['id']}").status == 409
    assert site.demo.put(f"{V}/networks/{network['id']}", {"network": {"shared": True}}).status == 403
    assert told.new() == []


def test_ports_that_compute_makes_are_told_as_well(listened: tuple[Site, Told]) -> None:
    site, told = listened
    network = site.make("networks", name="n")
    site.make("subnets", network_id=network["id"], ip_version=4, cidr="10.1.0.0/24")
    own = site.make("ports", network_id=network["id"])
    told.new()
    requests = [NetworkRequest(network_id=network["id"]), NetworkRequest(port_id=own["id"])]
    ids = site.cloud.database.write(
        lambda tx: guests.allocate(
            tx,
            site.cloud,
            server_id="s-1",
            project_id=site.project,
            user_id="u",
            hostname="vm",
            zone="nova",
            requests=requests,
            host_id=site.agent.ids["h1"],
        )
    )
    messages = told.new()
    assert [each.event for each in messages] == [
        "port.create.start",
        "port.create.end",
        "port.update.start",
        "port.update.end",
    ]
    made, adopted = messages[1].payload["port"], messages[3].payload["port"]
    assert [made["id"], adopted["id"]] == ids
    assert (made["device_id"], made["binding:host_id"], made["device_owner"]) == ("s-1", "h1", "compute:nova")
    shown = site.admin.get(f"{V}/ports/{made['id']}").json["port"]
    assert {name: made[name] for name in shown if name in made} == {name: shown[name] for name in shown if name in made}
    site.cloud.database.write(lambda tx: guests.release(tx, site.cloud, "s-1"))
    messages = told.new()
    assert [each.event for each in messages] == [
        "port.delete.start",
        "port.delete.end",
        "port.update.start",
        "port.update.end",
    ]
    assert messages[1].payload["port_id"] == made["id"]
    assert messages[3].payload["port"]["device_id"] == ""


def test_what_metering_labels_counted_is_told(listened: tuple[Site, Told]) -> None:
    """As `l3.meter` of Neutron's metering agent; a host speaks for its own routers, and for labels of their projects."""
    site, told = listened
    (router,) = site.of("h1", "router").values()
    label = site.admin.post(f"{V}/metering/metering-labels", {"metering_label": {"name": "all", "shared": True}}).json
    label_id = label["metering_label"]["id"]
    mine = site.admin.post(f"{V}/metering/metering-labels", {"metering_label": {"name": "admin's"}}).json
    told.new()
    counted = f'["{router.id}", 12, 3400, 60]'
    site.agent.saw("h1", "meter", label_id, counted)
    [message] = told.new()
    assert (message.event, message.whole["publisher_id"], message.topic) == ("l3.meter", "metering.h1", "notifications.info")
    last = message.payload.pop("last_update")
    assert message.payload == {
        "label_id": label_id,
        "project_id": site.project,
        "router_id": router.id,
        "pkts": 12,
        "bytes": 3400,
        "time": 60,
        "first_update": last - 60,
        "host": "h1",
    }
    site.agent.saw("h2", "meter", label_id, counted)
    site.agent.saw("h1", "meter", mine["metering_label"]["id"], counted)
    site.agent.saw("h1", "meter", label_id, '["elsewhere", 1, 1, 1]')
    site.agent.saw("h1", "meter", label_id, '["what", "is this"]')
    assert told.new() == []
