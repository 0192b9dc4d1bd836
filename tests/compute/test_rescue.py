"""Rescue: a server runs from an image with its own disks beside, and comes back."""

from __future__ import annotations

from tests.compute.agent import make_image
from tests.compute.conftest import Lab


def test_there_and_back(lab: Lab) -> None:
    image = make_image(lab.admin, "rescue", visibility="public", hw_rescue_bus="scsi")
    server = lab.boot(config_drive=True)
    server_id, host = server["id"], server["OS-EXT-SRV-ATTR:host"]
    reply = lab.act(server_id, "rescue", {"rescue_image_ref": image, "adminPass": "secret"})
    assert reply.status == 200 and reply.json == {"adminPass": "secret"}
    assert lab.show(server_id)["OS-EXT-STS:task_state"] == "rescuing"
    lab.agent.settle()
    shown = lab.show(server_id)
    assert (shown["status"], shown["OS-EXT-STS:vm_state"], shown["OS-EXT-STS:power_state"]) == ("RESCUE", "rescued", 1)
    assert shown["image"]["id"] == lab.image and lab.agent.guests[host][server_id] == "rescued"
    assert lab.agent.item(host, server_id).power == "running"
    name, kind, task = lab.agent.done[-1]
    assert (name, kind, task["root"]["id"]) == (host, "guest.rescue", image)
    assert task["properties"] == {"hw_rescue_bus": "scsi"} and task["guest"]["properties"] == {}
    for action, body in (("rescue", None), ("rebuild", {"imageRef": image}), ("os-stop", None), ("createImage", {"name": "x"})):
        assert lab.act(server_id, action, body).status == 409, action
    assert lab.act(server_id, "unrescue").status == 202
    assert lab.show(server_id)["OS-EXT-STS:task_state"] == "unrescuing"
    lab.agent.settle()
    assert lab.show(server_id)["status"] == "ACTIVE" and lab.agent.guests[host][server_id] == "running"
    assert lab.act(server_id, "unrescue").status == 409
    history = lab.demo.get(f"/compute/v2.1/servers/{server_id}/os-instance-actions").json["instanceActions"]
    assert [each["action"] for each in history] == ["unrescue", "rescue", "create"]


def test_its_own_image_and_a_password_by_itself(lab: Lab) -> None:
    server_id = lab.boot()["id"]
    lab.act(server_id, "os-stop")
    lab.agent.settle()
    reply = lab.act(server_id, "rescue")
    assert reply.status == 200 and len(reply.json["adminPass"]) == 12
    lab.agent.settle()
    assert lab.show(server_id)["status"] == "RESCUE" and lab.agent.done[-1][2]["root"]["id"] == lab.image
    assert lab.demo.delete(f"/compute/v2.1/servers/{server_id}").status == 204
    lab.agent.settle()
    assert lab.demo.get(f"/compute/v2.1/servers/{server_id}").status == 404


def test_what_is_refused(lab: Lab) -> None:
    server_id = lab.boot()["id"]
    assert lab.act(server_id, "rescue", {"rescue_image_ref": "6f6a1f1e-0f33-4a11-a35d-2b7a2b7f5cf4"}).status == 400
    assert lab.act(server_id, "rescue", {"image": "x"}).status == 400
    lab.act(server_id, "pause")
    lab.agent.settle()
    assert lab.act(server_id, "rescue").status == 409
    lab.act(server_id, "unpause")
    lab.agent.settle()
    lab.act(server_id, "lock")
    assert lab.act(server_id, "rescue").status == 409


def test_a_host_that_cannot_brings_the_guest_back(lab: Lab) -> None:
    server = lab.boot()
    server_id, host = server["id"], server["OS-EXT-SRV-ATTR:host"]
    lab.agent.refuse = lambda name, task: "no such bus" if task.kind == "guest.rescue" else None
    lab.act(server_id, "rescue")
    lab.agent.settle()
    shown = lab.show(server_id)
    assert (shown["status"], shown["OS-EXT-STS:task_state"]) == ("ACTIVE", None)
    assert lab.agent.done[-1][1] == "guest.unrescue" and lab.agent.guests[host][server_id] == "running"
    history = lab.admin.get(f"/compute/v2.1/servers/{server_id}/os-instance-actions").json["instanceActions"]
    assert history[0]["message"] == "no such bus"
    lab.agent.refuse = lambda name, task: "nothing goes" if task.kind != "guest.destroy" else None
    lab.act(server_id, "rescue")
    lab.agent.settle()
    shown = lab.show(server_id)
    assert shown["status"] == "ERROR" and shown["fault"]["message"] == "nothing goes"
