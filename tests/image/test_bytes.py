"""Bytes on their way in and out: broken uploads, deletes in between, too many at once, what a crash leaves, links."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nephos import app, errors
from nephos.image import links
from nephos.image.images import actions
from nephos.image.parts import parts
from nephos.image.transfers import Transfers
from nephos.kernel import clock
from nephos.kernel.auth.who import SYSTEM, Who
from nephos.kernel.operations.worker import Worker
from tests.harness import PASSWORDS, Client, Harness

OCTETS = {"CONTENT_TYPE": "application/octet-stream"}
IMAGES = "/image/v2/images"


def make(client: Client, **values: Any) -> str:
    reply = client.post(IMAGES, {"name": "i", "disk_format": "raw", "container_format": "bare", **values})
    assert reply.status == 201, reply
    return str(reply.json["id"])


def active(client: Client, data: bytes = b"hello", **values: Any) -> str:
    image_id = make(client, **values)
    assert client.request("PUT", f"{IMAGES}/{image_id}/file", data, OCTETS).status == 204
    return image_id


def files(cloud: Harness) -> list[str]:
    root = cloud.cloud.settings.server_dir / "images"
    return sorted(path.name for path in root.iterdir()) if root.exists() else []


class Body(io.BytesIO):
    """A request body that calls back when half of it was read."""

    def __init__(self, data: bytes, half: Callable[[], None]) -> None:
        super().__init__(data)
        self._half: Callable[[], None] | None = half

    def read(self, size: int | None = -1) -> bytes:
        if self._half is not None and self.tell():
            half, self._half = self._half, None
            half()
        return super().read(size)


def put_slowly(
    cloud: Harness, client: Client, image_id: str, data: bytes, half: Callable[[], None], what: str = "file"
) -> int:
    """PUT with a body that does something in between; answers the status."""
    answer: list[int] = []

    def start(status: str, headers: Any, exc_info: Any = None) -> None:
        answer.append(int(status[:3]))

    environ = {
        "REQUEST_METHOD": "PUT",
        "PATH_INFO": f"{IMAGES}/{image_id}/{what}",
        "QUERY_STRING": "",
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "5000",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_X_AUTH_TOKEN": client.token,
        "wsgi.input": Body(data, half),
        "wsgi.errors": io.StringIO(),
        "wsgi.url_scheme": "http",
        **OCTETS,
    }
    b"".join(cloud.front(environ, start))
    return answer[0]


def test_an_upload_that_breaks_off_can_be_done_again(cloud: Harness) -> None:
    demo = cloud.login("demo", "demo")
    image_id = make(demo)
    headers = {**OCTETS, "CONTENT_LENGTH": "100"}
    reply = demo.request("PUT", f"{IMAGES}/{image_id}/file", b"short", headers)
    assert reply.status == 400 and "95 of 100 bytes are missing" in reply.json["message"]
    assert demo.get(f"{IMAGES}/{image_id}").json["status"] == "queued"
    assert files(cloud) == []
    assert demo.request("PUT", f"{IMAGES}/{image_id}/file", b"whole", OCTETS).status == 204


def test_a_refused_image_leaves_no_bytes(cloud: Harness) -> None:
    demo = cloud.login("demo", "demo")
    image_id = make(demo, disk_format="qcow2")
    reply = demo.request("PUT", f"{IMAGES}/{image_id}/file", b"no qcow2", OCTETS)
    assert reply.status == 415 and "does not match" in reply.json["message"]
    assert demo.get(f"{IMAGES}/{image_id}").json["status"] == "queued"
    assert files(cloud) == []


@pytest.mark.parametrize("what", ["file", "stage"])
def test_an_image_deleted_while_its_bytes_come(cloud: Harness, what: str) -> None:
    demo = cloud.login("demo", "demo")
    image_id = make(demo)
    seen: list[str] = []

    def half() -> None:
        seen.append(demo.get(f"{IMAGES}/{image_id}").json["status"])
        assert demo.delete(f"{IMAGES}/{image_id}").status == 204

    assert put_slowly(cloud, demo, image_id, bytes(1 << 20), half, what) == 410
    assert seen == ["saving" if what == "file" else "uploading"]
    assert files(cloud) == []


def test_an_upload_holds_no_transaction(cloud: Harness) -> None:
    demo = cloud.login("demo", "demo")
    image_id = make(demo)
    made: list[str] = []
    assert put_slowly(cloud, demo, image_id, bytes(1 << 20), lambda: made.append(make(demo))) == 204
    assert len(made) == 1
    with cloud.cloud.database.read() as tx:
        row = actions.images_of(tx, [image_id])[image_id].row
    assert row.upload_id is None and row.size == 1 << 20


def test_a_second_upload_waits_for_none(cloud: Harness) -> None:
    demo = cloud.login("demo", "demo")
    image_id = make(demo)
    second: list[int] = []

    def half() -> None:
        second.append(demo.request("PUT", f"{IMAGES}/{image_id}/file", b"other", OCTETS).status)

    assert put_slowly(cloud, demo, image_id, bytes(1 << 20), half) == 204
    assert second == [409]
    assert demo.get(f"{IMAGES}/{image_id}/file").body == bytes(1 << 20)


def test_transfers_are_bounded(cloud: Harness) -> None:
    cloud.cloud.parts["image"] = parts(cloud.cloud)._replace(transfers=Transfers(1))
    demo = cloud.login("demo", "demo")
    image_id, other = make(demo), active(demo)
    replies: list[Any] = []

    def half() -> None:
        replies.append(demo.get(f"{IMAGES}/{other}/file"))

    assert put_slowly(cloud, demo, image_id, bytes(1 << 20), half) == 204
    assert replies[0].status == 503 and replies[0].headers["retry-after"] == "10"
    for _ in range(3):
        assert demo.get(f"{IMAGES}/{other}/file").status == 200
        assert demo.request("HEAD", f"{IMAGES}/{other}/file").status == 200
    assert demo.request("PUT", f"{IMAGES}/{make(demo, disk_format='qcow2')}/file", b"x", OCTETS).status == 415
    assert demo.get(f"{IMAGES}/{other}/file").status == 200


def test_a_start_puts_right_what_a_crash_left(cloud: Harness) -> None:
    demo = cloud.login("demo", "demo")
    keep, lost, gone = active(demo), make(demo), active(demo)
    staged = make(demo)
    assert demo.request("PUT", f"{IMAGES}/{staged}/stage", b"wait", OCTETS).status == 204
    store = parts(cloud.cloud).store
    cloud.cloud.database.write(lambda tx: actions.change(tx, lost, status="saving", upload_id="u"))
    store.create(lost).write(b"half")
    cloud.cloud.database.write(lambda tx: actions.remove(tx, actions.find(tx, SYSTEM, gone)))
    assert files(cloud) == sorted([keep, staged + ".staged", lost + ".part", gone])
    app.seed(cloud.cloud, PASSWORDS)
    assert files(cloud) == sorted([keep, staged + ".staged"])
    assert demo.get(f"{IMAGES}/{lost}").json["status"] == "queued"
    assert demo.get(f"{IMAGES}/{staged}").json["status"] == "uploading"
    assert demo.request("PUT", f"{IMAGES}/{lost}/file", b"again", OCTETS).status == 204


def test_import(cloud: Harness) -> None:
    demo, admin = cloud.login("demo", "demo"), cloud.login("admin", "admin")
    worker = Worker(cloud.cloud.database, cloud.cloud.operations, cloud.cloud.doorbell)
    worker.start()
    try:
        good, bad = make(demo), make(demo, disk_format="qcow2")
        requests: dict[str, str] = {}
        for image_id in (good, bad):
            assert demo.request("PUT", f"{IMAGES}/{image_id}/stage", b"hello", OCTETS).status == 204
            assert demo.get(f"{IMAGES}/{image_id}").json["status"] == "uploading"
            assert demo.get(f"{IMAGES}/{image_id}/file").status == 204
            body = {"method": {"name": "glance-direct"}, "all_stores": True}
            reply = demo.post(f"{IMAGES}/{image_id}/import", body)
            assert reply.status == 202, reply
            requests[image_id] = reply.headers["x-openstack-request-id"]
            assert demo.post(f"{IMAGES}/{image_id}/import", body).status == 409
        found = {image_id: _task(demo, image_id) for image_id in (good, bad)}
        assert found[good]["status"] == "success" and found[good]["request_id"] == requests[good]
        assert found[good]["input"]["import_req"]["method"]["name"] == "glance-direct"
        image = demo.get(f"{IMAGES}/{good}").json
        assert image["status"] == "active" and image["size"] == 5
        assert image["checksum"] == "5d41402abc4b2a76b9719d911017c592"
        assert demo.get(f"{IMAGES}/{good}/file").body == b"hello"
        assert found[bad]["status"] == "failure" and "does not match" in found[bad]["message"]
        image = demo.get(f"{IMAGES}/{bad}").json
        assert image["status"] == "queued" and image["os_glance_failed_import"] == "file"
        assert files(cloud) == [good]
        task_id = found[good]["id"]
        assert admin.get(f"/image/v2/tasks/{task_id}").json["status"] == "success"
        assert demo.get(f"/image/v2/tasks/{task_id}").status == 403
    finally:
        worker.stop()


def _task(client: Client, image_id: str) -> Any:
    deadline = clock.monotonic() + 10
    while clock.monotonic() < deadline:
        (task,) = client.get(f"{IMAGES}/{image_id}/tasks").json["tasks"]
        if task["status"] != "processing":
            return task
        clock.sleep(0.02)
    raise AssertionError("the import did not end")


def test_an_image_deleted_while_it_is_imported(cloud: Harness) -> None:
    demo = cloud.login("demo", "demo")
    image_id = make(demo)
    demo.request("PUT", f"{IMAGES}/{image_id}/stage", b"hello", OCTETS)
    assert demo.post(f"{IMAGES}/{image_id}/import", {"method": {"name": "glance-direct"}}).status == 202
    operations, database = cloud.cloud.operations, cloud.cloud.database
    with database.read() as tx:
        (operation_id,) = operations.due(tx)
    outside = database.write(lambda tx: operations.advance(tx, operation_id))
    assert outside is not None
    result = outside.work()
    assert demo.delete(f"{IMAGES}/{image_id}").status == 204
    assert files(cloud) == [image_id]
    with database.read() as tx:
        task = operations.task_of(tx, operation_id)
    database.write(lambda tx: operations.resume(tx, task, result, None, (), None))
    assert files(cloud) == []


def test_a_link_opens_one_image_for_a_while(cloud: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    demo = cloud.login("demo", "demo")
    image_id, queued = active(demo, b"some bytes"), make(demo)
    link = links.link(cloud.cloud, "task:1", "host-1", image_id)
    assert set(link) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
    path, size = links.open_link(cloud.cloud, link)
    assert path.read_bytes() == b"some bytes" and size == 10
    assert links.open_link(cloud.cloud, link, "host-1")[0] == path
    with pytest.raises(errors.Forbidden, match="another host"):
        links.open_link(cloud.cloud, link, "host-2")
    for wrong in ("", "x", link[:-1], link[1:], link + "A", "A" * len(link), link.swapcase(), "ä", "%00"):
        with pytest.raises(errors.Forbidden, match="no image link"):
            links.open_link(cloud.cloud, wrong)
    with pytest.raises(errors.NotFound):
        links.open_link(cloud.cloud, links.link(cloud.cloud, "t", "h", queued))
    late = clock.now_us() + (links.SECONDS + 2) * 1_000_000
    with monkeypatch.context() as patch:
        patch.setattr(clock, "now_us", lambda: late)
        with pytest.raises(errors.Forbidden, match="over"):
            links.open_link(cloud.cloud, link)
    assert demo.delete(f"{IMAGES}/{image_id}").status == 204
    with pytest.raises(errors.NotFound):
        links.open_link(cloud.cloud, link)


def test_links_outlive_a_restart_and_are_of_one_cloud(tmp_path: Path) -> None:
    with Harness(tmp_path / "a") as cloud:
        image_id = active(cloud.login("demo", "demo"))
        link = links.link(cloud.cloud, "t", "h", image_id)
        key = cloud.cloud.settings.server_dir / "image-links.key"
        assert key.stat().st_mode & 0o777 == 0o600 and len(key.read_bytes()) == 32
    with Harness(tmp_path / "a") as again:
        assert links.open_link(again.cloud, link)[1] == 5
    with Harness(tmp_path / "b") as other, pytest.raises(errors.Forbidden):
        links.open_link(other.cloud, link)


def test_what_boots(cloud: Harness) -> None:
    demo = cloud.login("demo", "demo")
    project = demo.get(f"{IMAGES}/{make(demo)}").json["owner"]
    image_id = active(
        demo, b"disk", min_ram=64, min_disk=2, kernel_id="k", ramdisk_id="r", name="ü", visibility="private"
    )
    mine, other = Who(user_id="u", project_id=project), Who(user_id="v", project_id="p")
    with cloud.cloud.database.read() as tx:
        before = tx.queries
        found = actions.boot_image(tx, mine, image_id)
        assert tx.queries - before == 2
        assert (found.name, found.size, found.min_ram, found.min_disk) == ("ü", 4, 64, 2)
        assert found.properties == {"kernel_id": "k", "ramdisk_id": "r"}
        assert found.sha256 == hashlib.sha256(b"disk").hexdigest()
        with pytest.raises(errors.BadRequest, match="Can not find requested image"):
            actions.boot_image(tx, other, image_id)
        with pytest.raises(errors.BadRequest, match="Can not find requested image"):
            actions.boot_image(tx, mine, "nothing")
    demo.post(f"{IMAGES}/{image_id}/actions/deactivate")
    with cloud.cloud.database.read() as tx, pytest.raises(errors.BadRequest, match="not active: it is deactivated"):
        actions.boot_image(tx, mine, image_id)
