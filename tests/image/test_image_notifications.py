"""What the image service tells. Event types and fields are those of Glance's notifier."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness import Client, Harness
from tests.told import Told, listening

IMAGES = "/image/v2/images"
FIELDS = {
    "id", "name", "status", "created_at", "updated_at", "min_disk", "min_ram", "protected", "checksum", "owner",
    "disk_format", "container_format", "size", "virtual_size", "is_public", "visibility", "properties", "tags",
    "deleted", "deleted_at",
}  # fmt: skip
OCTETS = {"CONTENT_TYPE": "application/octet-stream"}


@pytest.fixture
def admin(tmp_path: Path) -> Iterator[Client]:
    with Harness(tmp_path, listening) as harness:
        yield harness.login("admin", "admin")


def test_an_images_life(admin: Client) -> None:
    told = Told(admin.harness)
    new = {"name": "i", "disk_format": "raw", "container_format": "bare", "os_distro": "debian", "tags": ["t"]}
    image = admin.post(IMAGES, new).json
    [message] = told.new()
    assert (message.event, message.service, message.topic) == ("image.create", "glance", "notifications.info")
    payload = message.payload
    assert payload.keys() == FIELDS
    assert (payload["id"], payload["status"], payload["tags"]) == (image["id"], "queued", ["t"])
    assert (payload["properties"], payload["deleted"]) == ({"os_distro": "debian"}, False)
    path = f"{IMAGES}/{image['id']}"
    assert admin.request("PUT", path + "/file", b"bytes", OCTETS).status == 204
    messages = told.new()
    assert [each.event for each in messages] == ["image.prepare", "image.upload", "image.activate"]
    assert [each.payload["status"] for each in messages] == ["saving", "active", "active"]
    assert messages[2].payload["size"] == 5
    patch = [{"op": "replace", "path": "/name", "value": "j"}]
    kind = {"CONTENT_TYPE": "application/openstack-images-v2.1-json-patch"}
    assert admin.request("PATCH", path, patch, kind).status == 200
    assert admin.put(path + "/tags/new").status == 204
    assert admin.delete(path + "/tags/new").status == 204
    assert admin.post(path + "/actions/deactivate").status == 204
    messages = told.new()
    assert [each.event for each in messages] == ["image.update"] * 4
    assert [each.payload["name"] for each in messages] == ["j"] * 4
    assert [each.payload["tags"] for each in messages] == [["t"], ["new", "t"], ["t"], ["t"]]
    assert messages[3].payload["status"] == "deactivated"
    assert admin.delete(path).status == 204
    [message] = told.new()
    assert (message.event, message.payload["deleted"]) == ("image.delete", True)
    assert message.payload["deleted_at"] is not None


def test_bytes_that_are_refused_are_told_as_an_error(admin: Client) -> None:
    told = Told(admin.harness)
    image = admin.post(IMAGES, {"disk_format": "qcow2", "container_format": "bare"}).json
    reply = admin.request("PUT", f"{IMAGES}/{image['id']}/file", b"no qcow2 at all" * 100, OCTETS)
    assert reply.status >= 400
    messages = told.new()
    assert [(each.event, each.topic) for each in messages] == [
        ("image.create", "notifications.info"),
        ("image.prepare", "notifications.info"),
        ("image.upload", "notifications.error"),
    ]
    assert image["id"] in messages[2].payload


def test_members(admin: Client) -> None:
    image = admin.post(IMAGES, {"visibility": "shared"}).json
    told = Told(admin.harness)
    path = f"{IMAGES}/{image['id']}/members"
    admin.post(path, {"member": "p-1"})
    admin.put(path + "/p-1", {"status": "accepted"})
    admin.delete(path + "/p-1")
    messages = told.new()
    assert [(each.event, each.payload["status"]) for each in messages] == [
        ("image.member.create", "pending"),
        ("image.member.update", "accepted"),
        ("image.member.delete", "accepted"),
    ]
    assert messages[0].payload.keys() == {
        "image_id", "member_id", "status", "created_at", "updated_at", "deleted", "deleted_at",
    }  # fmt: skip
    assert [each.payload["deleted"] for each in messages] == [False, False, True]
