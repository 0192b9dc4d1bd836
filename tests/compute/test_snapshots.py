"""Images of servers: what becomes of one, what it says of the server, and what stays of one that fails."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from nephos import errors
from nephos.compute.snapshots import steps
from nephos.hosts.guest import Piece
from nephos.hypervisor.base import PIECE
from nephos.image.parts import parts
from tests.compute.agent import make_image
from tests.compute.conftest import Lab
from tests.harness import Client, Response


def snapshot(lab: Lab, server_id: str, name: str = "copy", client: Client | None = None, **metadata: str) -> str:
    reply = lab.act(server_id, "createImage", {"name": name, "metadata": metadata}, client)
    assert reply.status == 202, reply
    return str(reply.json["image_id"])


def image(lab: Lab, image_id: str, client: Client | None = None) -> Any:
    reply = (client or lab.demo).get(f"/image/v2/images/{image_id}")
    return reply.json if reply.status == 200 else None


def test_a_server_becomes_an_image_that_boots(lab: Lab) -> None:
    base = make_image(lab.admin, "base", visibility="public", hw_disk_bus="scsi", img_signature="no", min_ram=64)
    server = lab.boot(imageRef=base)
    server_id, host = server["id"], server["OS-EXT-SRV-ATTR:host"]
    reply = lab.act(server_id, "createImage", {"name": "copy", "metadata": {"colour": "red", "hw_disk_bus": "virtio"}})
    assert reply.status == 202, reply
    image_id = reply.json["image_id"]
    queued = image(lab, image_id)
    assert (queued["status"], queued["disk_format"], queued["size"]) == ("queued", None, None)
    assert lab.show(server_id)["OS-EXT-STS:task_state"] == "image_snapshot_pending"
    assert lab.show(server_id)["status"] == "ACTIVE"
    assert lab.act(server_id, "createImage", {"name": "second"}).status == 409
    lab.agent.settle()
    made = image(lab, image_id)
    expected = {
        "name": "copy",
        "status": "active",
        "disk_format": "raw",
        "container_format": "bare",
        "size": 1024,
        "visibility": "private",
        "min_ram": 64,
        "min_disk": 1,
        "colour": "red",
        "hw_disk_bus": "virtio",
        "base_image_ref": base,
        "instance_uuid": server_id,
        "image_type": "snapshot",
        "image_location": "snapshot",
        "image_state": "available",
        "owner_id": server["tenant_id"],
        "user_id": server["user_id"],
        "owner": server["tenant_id"],
    }
    assert {key: made.get(key) for key in expected} == expected
    assert "img_signature" not in made
    assert lab.demo.request("GET", f"/image/v2/images/{image_id}/file").body == lab.agent.disk
    kinds = [kind for _, kind, _ in lab.agent.done[-2:]]
    assert kinds == ["guest.snapshot", "guest.drop_snapshot"] and lab.agent.done[-1][0] == host
    events = [each["event"] for each in lab.events(server_id, reply.headers["x-openstack-request-id"])]
    assert events == ["snapshot", "image uploaded", "snapshot removed"]
    actions = lab.demo.get(f"/compute/v2.1/servers/{server_id}/os-instance-actions").json["instanceActions"]
    assert actions[0]["action"] == "createImage"
    assert lab.boot(imageRef=image_id)["status"] == "ACTIVE"


def test_where_the_answer_names_the_image(lab: Lab) -> None:
    server_id = lab.boot()["id"]
    path = f"/compute/v2.1/servers/{server_id}/action"
    old = {"OpenStack-API-Version": "compute 2.44"}

    def asked(body: dict[str, Any], **headers: str) -> Response:
        reply = lab.demo.post(path, body, **headers)
        lab.agent.settle()
        return reply

    reply = asked({"createImage": {"name": "a"}}, **old)
    assert reply.status == 202 and not reply.body
    assert image(lab, reply.headers["location"].rpartition("/")[2])["status"] == "active"
    backup = {"name": "b", "backup_type": "daily", "rotation": "1"}
    assert "/images/" in asked({"createBackup": backup}, **old).headers["location"]
    assert "location" not in asked({"createBackup": {**backup, "rotation": 0}}, **old).headers
    assert "image_id" in asked({"createBackup": backup}).json
    many = {f"k{at}": "v" for at in range(200)}
    assert asked({"createImage": {"name": "a", "metadata": many}}, **{"OpenStack-API-Version": "compute 2.38"}).status == 403
    assert asked({"createImage": {"name": "a", "metadata": many}}).status == 413
    assert asked({"createImage": {"name": ""}}).status == 400
    assert asked({"createBackup": {**backup, "rotation": -1}}).status == 400


def test_the_youngest_backups_of_a_type_stay(lab: Lab) -> None:
    server_id = lab.boot()["id"]
    made: list[str] = []
    for at, kind in enumerate(("daily", "daily", "weekly", "daily")):
        body = {"name": f"b{at}", "backup_type": kind, "rotation": 2}
        made.append(lab.act(server_id, "createBackup", body).json["image_id"])
        assert lab.show(server_id)["OS-EXT-STS:task_state"] == "image_backup"
        lab.agent.settle()
    assert [image(lab, each) is not None for each in made] == [False, True, True, True]
    assert image(lab, made[3])["backup_type"] == "daily" and image(lab, made[3])["image_type"] == "backup"
    kept = snapshot(lab, server_id)
    lab.agent.settle()
    lab.act(server_id, "createBackup", {"name": "none", "backup_type": "daily", "rotation": 0})
    lab.agent.settle()
    assert [image(lab, each) is not None for each in (*made, kept)] == [False, False, True, False, True]


def test_what_fails_leaves_no_image_and_no_bytes(lab: Lab) -> None:
    server = lab.boot()
    server_id = server["id"]
    lab.agent.refuse = lambda host, task: "the disk is gone" if task.kind == "guest.snapshot" else None
    image_id = snapshot(lab, server_id)
    lab.agent.settle()
    assert image(lab, image_id) is None and lab.show(server_id)["status"] == "ACTIVE"
    lab.agent.refuse = lambda host, task: None
    whole, lab.agent.disk = lab.agent.disk, b"QFI\xfb" + b"\0" * 1020
    image_id = snapshot(lab, server_id)
    lab.agent.settle()
    assert image(lab, image_id) is None
    history = lab.admin.get(f"/compute/v2.1/servers/{server_id}/os-instance-actions").json["instanceActions"]
    assert "qcow2" in history[0]["message"] and "the disk is gone" in history[1]["message"]
    assert lab.agent.done[-1][1] == "guest.drop_snapshot"
    lab.agent.disk = whole
    before = lab.agent.asked
    lab.harness.cloud.hosts.asker = lambda *subject: before(*subject)[:-1] + b"?"
    image_id = snapshot(lab, server_id)
    lab.agent.settle()
    assert image(lab, image_id) is None
    assert parts(lab.harness.cloud).store.names() == {lab.image}


def test_the_image_or_the_server_goes_first(lab: Lab) -> None:
    server_id = lab.boot()["id"]
    lab.agent.hold = True
    image_id = snapshot(lab, server_id)
    lab.agent.settle()
    assert lab.show(server_id)["OS-EXT-STS:task_state"] == "image_snapshot"
    assert lab.demo.delete(f"/image/v2/images/{image_id}").status == 204
    lab.agent.release()
    lab.agent.settle()
    assert lab.show(server_id)["status"] == "ACTIVE"
    lab.agent.hold = True
    image_id = snapshot(lab, server_id)
    lab.agent.settle()
    assert lab.demo.delete(f"/compute/v2.1/servers/{server_id}").status == 204
    lab.agent.settle()
    lab.agent.release()
    lab.agent.settle()
    assert lab.demo.get(f"/compute/v2.1/servers/{server_id}").status == 404
    assert image(lab, image_id) is None


def test_bytes_that_nobody_wants_any_more_are_not_fetched(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host is asked for pieces, again where its agent was away, until the image or the server is not wanted."""
    monkeypatch.setattr(steps, "_LOOK_EVERY", 0.0)
    server_id = lab.boot()["id"]
    lab.agent.disk = b"\1" * (PIECE + 1000)
    asked: list[int] = []

    def answer(host_id: str, kind: str, subject: str, limit: int | None) -> bytes:
        asked.append(msgspec.json.decode(subject, type=Piece).offset)
        if len(asked) == 1:
            raise errors.Unavailable("The host's agent is not connected.")
        return lab.agent.asked(host_id, kind, subject, limit)

    lab.harness.cloud.hosts.asker = answer
    image_id = snapshot(lab, server_id)
    lab.agent.settle()
    assert asked == [0, 0, PIECE] and image(lab, image_id)["size"] == PIECE + 1000

    def deleted(host_id: str, kind: str, subject: str, limit: int | None) -> bytes:
        asked.append(-1)
        assert lab.demo.delete(f"/image/v2/images/{second}").status == 204
        return lab.agent.asked(host_id, kind, subject, limit)

    lab.harness.cloud.hosts.asker = deleted
    second = snapshot(lab, server_id)
    lab.agent.settle()
    assert asked[3:] == [-1] and image(lab, second) is None and lab.show(server_id)["OS-EXT-STS:task_state"] is None
    assert {name.partition(".")[0] for name in parts(lab.harness.cloud).store.names()} == {lab.image, image_id}


def test_the_server_that_has_the_agent_fetches_the_bytes(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "_PASS_SECONDS", 0.0)
    monkeypatch.setattr(steps, "MOST_PASSED", 3)
    server = lab.boot()
    looks: list[str] = []

    def connected() -> set[str]:
        looks.append("")
        return set() if len(looks) == 1 else {lab.agent.ids[server["OS-EXT-SRV-ATTR:host"]]}

    hosts = lab.harness.cloud.hosts
    monkeypatch.setattr(hosts, "connected", connected)
    first = snapshot(lab, server["id"])
    lab.agent.settle()
    assert len(looks) == 2 and image(lab, first)["status"] == "active"
    monkeypatch.setattr(hosts, "connected", lambda: looks.append("") or set())
    second = snapshot(lab, server["id"])
    lab.agent.settle()
    assert len(looks) == 2 + 3 and image(lab, second)["status"] == "active", "the way round is taken in the end"


def test_one_of_another_project_is_shared_with_the_servers(lab: Lab) -> None:
    server = lab.boot()
    image_id = snapshot(lab, server["id"], client=lab.admin)
    lab.agent.settle()
    made = image(lab, image_id, lab.admin)
    assert made["visibility"] == "shared" and made["instance_owner"] == server["tenant_id"]
    members = lab.admin.get(f"/image/v2/images/{image_id}/members").json["members"]
    assert [each["member_id"] for each in members] == [server["tenant_id"]]
    assert lab.demo.get(f"/image/v2/images/{image_id}").status == 200


def test_a_guest_that_shuts_down_meanwhile_is_stopped(lab: Lab) -> None:
    server = lab.boot()
    lab.agent.hold = True
    snapshot(lab, server["id"])
    lab.agent.settle()
    lab.agent.saw(server["OS-EXT-SRV-ATTR:host"], "power", server["id"], "shutdown")
    lab.agent.release()
    lab.agent.settle()
    assert lab.show(server["id"])["status"] == "SHUTOFF"
    assert lab.act(server["id"], "createImage", {"name": "off"}).status == 202
    lab.agent.settle()
    assert lab.act(server["id"], "os-resetState", {"state": "error"}, lab.admin).status == 202
    assert lab.act(server["id"], "createImage", {"name": "wrong"}).status == 409
