"""Rebuild: the same server from an image, with all that a rebuild may change."""

from __future__ import annotations

import base64
from typing import Any

from tests.compute.agent import make_image
from tests.compute.conftest import Lab
from tests.harness import Response


def rebuild(lab: Lab, server_id: str, client: Any = None, version: str = "2.100", **values: Any) -> Response:
    body = {"rebuild": {"imageRef": lab.image, **values}}
    headers = {"OpenStack-API-Version": f"compute {version}"}
    return (client or lab.demo).post(f"/compute/v2.1/servers/{server_id}/action", body, **headers)


def test_it_is_the_same_server_from_another_image(lab: Lab) -> None:
    other = make_image(lab.admin, "other", visibility="public", hw_disk_bus="scsi")
    server = lab.boot(metadata={"a": "1"}, config_drive=True)
    server_id, host = server["id"], server["OS-EXT-SRV-ATTR:host"]
    given = {
        "imageRef": other,
        "name": "renewed",
        "metadata": {"b": "2"},
        "description": "new",
        "hostname": "fresh",
        "accessIPv4": "192.0.2.9",
        "OS-DCF:diskConfig": "AUTO",
        "adminPass": "secret",
        "user_data": base64.b64encode(b"hello").decode(),
        "trusted_image_certificates": ["one", "two"],
    }
    reply = rebuild(lab, server_id, **given)
    assert reply.status == 202, reply
    shown = reply.json["server"]
    assert shown["adminPass"] == "secret" and shown["user_data"] == given["user_data"]
    assert shown["OS-EXT-STS:task_state"] == "rebuilding" and shown["status"] == "REBUILD" and shown["progress"] == 0
    assert reply.headers["location"].endswith(f"/compute/v2.1/servers/{server_id}")
    assert rebuild(lab, server_id).status == 409
    lab.agent.settle()
    now = lab.show(server_id)
    assert (now["status"], now["OS-EXT-STS:task_state"], now["OS-EXT-SRV-ATTR:host"]) == ("ACTIVE", None, host)
    assert now["image"]["id"] == other and now["image"]["properties"]["hw_disk_bus"] == "scsi"
    for key in ("name", "metadata", "description", "accessIPv4", "OS-DCF:diskConfig", "trusted_image_certificates"):
        assert now[key] == given[key]
    assert now["OS-EXT-SRV-ATTR:hostname"] == "fresh" and now["id"] == server_id and now["flavor"] == server["flavor"]
    assert now["created"] == server["created"]
    name, kind, task = lab.agent.done[-1]
    assert (name, kind, task["root"]["id"], task["start"]) == (host, "guest.rebuild", other, True)
    assert task["guest"]["name"] == server["OS-EXT-SRV-ATTR:instance_name"] and not task["keep_ephemeral"]
    actions = lab.demo.get(f"/compute/v2.1/servers/{server_id}/os-instance-actions").json["instanceActions"]
    assert [each["action"] for each in actions] == ["rebuild", "create"]
    events = [each["event"] for each in lab.events(server_id, reply.headers["x-openstack-request-id"])]
    assert events[0] == "filters" and {"image cached", "disk", "running"} <= set(events)


def test_a_stopped_server_stays_stopped_and_one_in_error_is_made_well(lab: Lab) -> None:
    server_id = lab.boot()["id"]
    lab.act(server_id, "os-stop")
    lab.agent.settle()
    assert rebuild(lab, server_id).status == 202
    assert lab.show(server_id)["status"] == "REBUILD"
    lab.agent.settle()
    shown = lab.show(server_id)
    assert (shown["status"], shown["OS-EXT-STS:power_state"]) == ("SHUTOFF", 4)
    assert lab.agent.done[-1][2]["start"] is False
    lab.act(server_id, "os-resetState", {"state": "error"}, lab.admin)
    assert rebuild(lab, server_id, preserve_ephemeral=True).status == 202
    lab.agent.settle()
    assert lab.show(server_id)["status"] == "ACTIVE" and lab.agent.done[-1][2]["keep_ephemeral"] is True


def test_a_host_that_cannot_leaves_the_server_in_error_and_tells_why(lab: Lab) -> None:
    server_id = lab.boot()["id"]
    lab.agent.refuse = lambda host, task: "the disk is full" if task.kind == "guest.rebuild" else None
    rebuild(lab, server_id)
    lab.agent.settle()
    shown = lab.show(server_id)
    assert shown["status"] == "ERROR" and shown["fault"]["message"] == "the disk is full"
    lab.agent.refuse = lambda host, task: None
    assert rebuild(lab, server_id).status == 202
    lab.agent.settle()
    shown = lab.show(server_id)
    assert shown["status"] == "ACTIVE" and "fault" not in shown


def test_an_image_that_its_host_cannot_run_touches_nothing(lab: Lab) -> None:
    server_id = lab.boot()["id"]
    arm = make_image(lab.admin, "arm", visibility="public", hw_architecture="aarch64")
    assert rebuild(lab, server_id, imageRef=arm).status == 202
    done = len(lab.agent.done)
    lab.agent.settle()
    shown = lab.show(server_id)
    assert shown["status"] == "ERROR" and "ImagePropertiesFilter" in shown["fault"]["message"]
    assert shown["image"]["id"] == lab.image and len(lab.agent.done) == done


def test_a_delete_comes_before_a_rebuild(lab: Lab) -> None:
    server = lab.boot()
    lab.agent.hold = True
    assert rebuild(lab, server["id"]).status == 202
    lab.agent.settle()
    assert lab.show(server["id"])["OS-EXT-STS:task_state"] == "rebuild_spawning"
    assert lab.demo.delete(f"/compute/v2.1/servers/{server['id']}").status == 204
    lab.agent.settle()
    lab.agent.release()
    lab.agent.settle()
    assert lab.demo.get(f"/compute/v2.1/servers/{server['id']}").status == 404
    assert server["id"] not in lab.agent.guests[server["OS-EXT-SRV-ATTR:host"]]


def test_keys_and_files(lab: Lab) -> None:
    made = lab.demo.post("/compute/v2.1/os-keypairs", {"keypair": {"name": "k"}}, **{"OpenStack-API-Version": "compute 2.1"})
    assert made.status == 200
    server_id = lab.boot()["id"]
    assert rebuild(lab, server_id, key_name="k").json["server"]["key_name"] == "k"
    lab.agent.settle()
    assert rebuild(lab, server_id).json["server"]["key_name"] == "k"
    lab.agent.settle()
    assert rebuild(lab, server_id, key_name=None).json["server"]["key_name"] is None
    lab.agent.settle()
    assert rebuild(lab, server_id, key_name="none").status == 400
    files = [{"path": "/etc/motd", "contents": base64.b64encode(b"hi").decode()}]
    reply = rebuild(lab, server_id, version="2.1", personality=files)
    assert reply.status == 202 and "key_name" not in reply.json["server"] and "OS-EXT-STS:vm_state" not in reply.json["server"]
    lab.agent.settle()
    assert rebuild(lab, server_id, version="2.1", personality=files * 6).status == 403
    assert rebuild(lab, server_id, metadata={f"k{at}": "v" for at in range(200)}).status == 403


def test_what_is_refused(lab: Lab) -> None:
    server_id = lab.boot()["id"]
    wrong: list[tuple[str, dict[str, Any]]] = [
        ("2.18", {"description": "x"}),
        ("2.53", {"key_name": None}),
        ("2.56", {"user_data": None}),
        ("2.57", {"personality": []}),
        ("2.62", {"trusted_image_certificates": None}),
        ("2.89", {"hostname": "h"}),
        ("2.93", {"hostname": "a.b"}),
        ("2.100", {"imageRef": "tiny"}),
        ("2.100", {"imageRef": "6f6a1f1e-0f33-4a11-a35d-2b7a2b7f5cf4"}),
        ("2.100", {"trusted_image_certificates": ["one", "one"]}),
        ("2.100", {"accessIPv4": "::1"}),
        ("2.100", {"user_data": "?"}),
        ("2.100", {"name": " "}),
    ]
    for version, values in wrong:
        reply = rebuild(lab, server_id, version=version, **values)
        assert reply.status == 400, (values, reply)
    assert lab.show(server_id)["status"] == "ACTIVE"


def test_states_and_images_that_do_not_do(lab: Lab) -> None:
    server_id = lab.boot()["id"]
    large = make_image(lab.admin, "large", visibility="public", min_disk=500)
    assert rebuild(lab, server_id, imageRef=large).status == 400
    lab.act(server_id, "pause")
    lab.agent.settle()
    assert rebuild(lab, server_id).status == 409
    lab.act(server_id, "unpause")
    lab.agent.settle()
    lab.act(server_id, "lock")
    assert rebuild(lab, server_id).status == 409
    assert rebuild(lab, server_id, lab.admin).status == 202
