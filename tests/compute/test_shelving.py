"""Shelving: the disk becomes an image, the host is freed, and the server comes back with what it had."""

from __future__ import annotations

from typing import Any

from nephos.compute.servers import store
from nephos.placement.allocations import actions as allocations
from tests.compute.conftest import Lab


def shelve(lab: Lab, server_id: str) -> dict[str, Any]:
    reply = lab.act(server_id, "shelve")
    assert reply.status == 202, reply
    lab.agent.settle()
    return lab.show(server_id)


def image_of(lab: Lab, server_id: str) -> dict[str, Any] | None:
    """The image that a server was shelved as."""
    found = lab.admin.get("/image/v2/images").json["images"]
    return next((each for each in found if each.get("instance_uuid") == server_id), None)


def held(lab: Lab, server_id: str) -> bool:
    """Whether the server has capacity of a host."""
    with lab.harness.cloud.database.read() as tx:
        return server_id in allocations.consumers(tx)


def after(lab: Lab, seconds: int) -> None:
    compute = lab.harness.cloud.settings.compute
    compute.shelved_offload_time = seconds


def test_a_server_is_shelved_and_comes_back(lab: Lab) -> None:
    network_id = lab.demo.post("/network/v2.0/networks", {"network": {"name": "n"}}).json["network"]["id"]
    subnet = {"subnet": {"network_id": network_id, "cidr": "10.1.0.0/24", "ip_version": 4}}
    assert lab.demo.post("/network/v2.0/subnets", subnet).status == 201
    server = lab.boot(networks=[{"uuid": network_id}], metadata={"a": "1"})
    server_id, host = server["id"], server["OS-EXT-SRV-ATTR:host"]
    lab.agent.hold = True
    reply = lab.act(server_id, "shelve")
    assert reply.status == 202 and lab.show(server_id)["OS-EXT-STS:task_state"] == "shelving"
    assert lab.act(server_id, "shelve").status == 409
    lab.agent.release()
    lab.agent.settle()
    shown = lab.show(server_id)
    assert (shown["status"], shown["OS-EXT-STS:task_state"], shown["OS-EXT-STS:power_state"]) == (
        "SHELVED_OFFLOADED",
        None,
        4,
    )
    assert shown["OS-EXT-SRV-ATTR:host"] is None and shown["hostId"] == "" and shown["addresses"] == server["addresses"]
    assert server_id not in lab.agent.guests[host] and not held(lab, server_id)
    assert ("guest", server_id) not in lab.agent.items[host]
    (port,) = lab.admin.get(f"/network/v2.0/ports?device_id={server_id}").json["ports"]
    assert port["binding:host_id"] == "" and port["status"] == "DOWN"
    made = image_of(lab, server_id)
    assert made is not None and (made["name"], made["status"]) == ("s-shelved", "active")
    kinds = [kind for _, kind, _ in lab.agent.done[1:]]
    assert kinds[:2] == ["guest.power", "guest.snapshot"] and set(kinds[2:]) == {"guest.drop_snapshot", "guest.destroy"}
    for action in ("os-start", "os-stop", "pause", "createImage"):
        assert lab.act(server_id, action, {"name": "x"} if action == "createImage" else None).status == 409
    assert lab.act(server_id, "shelveOffload", None, lab.admin).status == 409
    reply = lab.act(server_id, "unshelve")
    assert reply.status == 202 and lab.show(server_id)["OS-EXT-STS:task_state"] == "unshelving"
    lab.agent.settle()
    now = lab.show(server_id)
    assert now["status"] == "ACTIVE" and now["addresses"] == server["addresses"] and now["metadata"] == {"a": "1"}
    assert now["image"]["id"] == lab.image and held(lab, server_id)
    name, kind, task = lab.agent.done[-1]
    assert (name, kind, task["root"]["id"]) == (now["OS-EXT-SRV-ATTR:host"], "guest.create", made["id"])
    assert image_of(lab, server_id) is None
    (port,) = lab.admin.get(f"/network/v2.0/ports?device_id={server_id}").json["ports"]
    assert port["binding:host_id"] == name and port["status"] == "ACTIVE"
    history = lab.demo.get(f"/compute/v2.1/servers/{server_id}/os-instance-actions").json["instanceActions"]
    assert [each["action"] for each in history] == ["unshelve", "shelve", "create"]


def test_it_stays_on_its_host_for_as_long_as_the_settings_say(lab: Lab) -> None:
    after(lab, -1)
    server = lab.boot()
    server_id, host = server["id"], server["OS-EXT-SRV-ATTR:host"]
    lab.act(server_id, "pause")
    lab.agent.settle()
    shown = shelve(lab, server_id)
    assert (shown["status"], shown["OS-EXT-SRV-ATTR:host"]) == ("SHELVED", host)
    assert lab.agent.item(host, server_id).power == "shutdown" and held(lab, server_id)
    assert lab.act(server_id, "unshelve", {"availability_zone": "nova"}).status == 409
    assert lab.act(server_id, "unshelve").status == 202
    lab.agent.settle()
    assert lab.show(server_id)["status"] == "ACTIVE" and lab.agent.guests[host][server_id] == "running"
    assert image_of(lab, server_id) is None
    shelve(lab, server_id)
    assert lab.act(server_id, "shelveOffload").status == 403
    made = image_of(lab, server_id)
    assert made is not None
    assert lab.act(server_id, "shelveOffload", None, lab.admin).status == 202
    assert lab.show(server_id)["OS-EXT-STS:task_state"] == "shelving_offloading"
    lab.agent.settle()
    assert lab.show(server_id)["status"] == "SHELVED_OFFLOADED" and server_id not in lab.agent.guests[host]
    assert lab.demo.delete(f"/compute/v2.1/servers/{server_id}").status == 204
    lab.agent.settle()
    assert lab.demo.get(f"/compute/v2.1/servers/{server_id}").status == 404 and image_of(lab, server_id) is None


def test_time_frees_the_host(lab: Lab) -> None:
    after(lab, 1)
    server_id = lab.boot()["id"]
    assert shelve(lab, server_id)["status"] == "SHELVED"
    database = lab.harness.cloud.database
    for turn in lab.harness.cloud.hosts.rounds:
        database.write(turn)
    assert lab.show(server_id)["OS-EXT-STS:task_state"] is None
    database.write(lambda tx: store.change(tx, server_id, shelved_at=tx.now - 2_000_000))
    for turn in lab.harness.cloud.hosts.rounds:
        database.write(turn)
    assert lab.show(server_id)["OS-EXT-STS:task_state"] == "shelving_offloading"
    lab.agent.settle()
    assert lab.show(server_id)["status"] == "SHELVED_OFFLOADED"


def test_a_zone_and_a_host_are_chosen(lab: Lab) -> None:
    made = lab.admin.post("/compute/v2.1/os-aggregates", {"aggregate": {"name": "a", "availability_zone": "east"}})
    lab.admin.post(f"/compute/v2.1/os-aggregates/{made.json['aggregate']['id']}/action", {"add_host": {"host": "h3"}})
    server_id = lab.boot(availability_zone="nova")["id"]
    shelve(lab, server_id)
    assert lab.act(server_id, "unshelve", {}).status == 400
    assert lab.act(server_id, "unshelve", {"availability_zone": "west"}).status == 400
    assert lab.act(server_id, "unshelve", {"host": "h3"}).status == 403
    assert lab.act(server_id, "unshelve", {"host": "h9"}, lab.admin).status == 400
    assert lab.act(server_id, "unshelve", {"host": "h3"}, lab.admin).status == 409
    assert lab.act(server_id, "unshelve", {"availability_zone": "east"}).status == 202
    lab.agent.settle()
    shown = lab.show(server_id)
    assert (shown["OS-EXT-SRV-ATTR:host"], shown["OS-EXT-AZ:availability_zone"]) == ("h3", "east")
    assert shown["pinned_availability_zone"] == "east"
    shelve(lab, server_id)
    body = {"availability_zone": None, "host": "h2"}
    assert lab.act(server_id, "unshelve", body, lab.admin).status == 202
    lab.agent.settle()
    shown = lab.show(server_id)
    assert shown["OS-EXT-SRV-ATTR:host"] == "h2" and shown["pinned_availability_zone"] is None


def test_what_fails_leaves_the_server_as_it_was(lab: Lab) -> None:
    server = lab.boot()
    server_id, host = server["id"], server["OS-EXT-SRV-ATTR:host"]
    lab.agent.refuse = lambda name, task: "no room" if task.kind == "guest.snapshot" else None
    shown = shelve(lab, server_id)
    assert (shown["status"], shown["OS-EXT-STS:power_state"]) == ("ACTIVE", 1)
    assert lab.agent.guests[host][server_id] == "running" and image_of(lab, server_id) is None
    lab.agent.refuse = lambda name, task: None
    assert shelve(lab, server_id)["status"] == "SHELVED_OFFLOADED"
    lab.agent.refuse = lambda name, task: "no memory" if task.kind == "guest.create" else None
    lab.act(server_id, "unshelve")
    lab.agent.settle()
    shown = lab.show(server_id)
    assert (shown["status"], shown["OS-EXT-STS:task_state"]) == ("SHELVED_OFFLOADED", None)
    assert shown["OS-EXT-SRV-ATTR:host"] is None and not held(lab, server_id) and image_of(lab, server_id) is not None
    lab.agent.refuse = lambda name, task: None
    made = image_of(lab, server_id)
    assert made is not None and lab.demo.delete(f"/image/v2/images/{made['id']}").status == 204
    assert lab.act(server_id, "unshelve").status == 409


def test_the_disk_is_not_given_up_without_its_image(lab: Lab) -> None:
    after(lab, -1)
    server_id = lab.boot()["id"]
    shelve(lab, server_id)
    made = image_of(lab, server_id)
    assert made is not None and lab.demo.delete(f"/image/v2/images/{made['id']}").status == 204
    assert lab.act(server_id, "shelveOffload", None, lab.admin).status == 409
    assert lab.act(server_id, "unshelve").status == 202
    lab.agent.settle()
    assert lab.show(server_id)["status"] == "ACTIVE"


def test_a_delete_comes_first(lab: Lab) -> None:
    server = lab.boot()
    server_id = server["id"]
    lab.agent.hold = True
    lab.act(server_id, "shelve")
    lab.agent.settle()
    assert lab.demo.delete(f"/compute/v2.1/servers/{server_id}").status == 204
    lab.agent.settle()
    lab.agent.release()
    lab.agent.settle()
    assert lab.demo.get(f"/compute/v2.1/servers/{server_id}").status == 404 and image_of(lab, server_id) is None
    assert server_id not in lab.agent.guests[server["OS-EXT-SRV-ATTR:host"]]
