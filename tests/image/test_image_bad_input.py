"""Bad input to every POST, PUT and PATCH of the image API: 4xx with a reason, never 500, nothing half made."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.harness import Client, Harness

IMAGES = "/image/v2/images"
NOBODY = "00000000-0000-0000-0000-000000000000"
HUGE = "x" * 300_000
JSON_PATCH = {"CONTENT_TYPE": "application/openstack-images-v2.1-json-patch"}
OLD_PATCH = {"CONTENT_TYPE": "application/openstack-images-v2.0-json-patch"}
OCTETS = {"CONTENT_TYPE": "application/octet-stream"}
MALFORMED: list[bytes] = [
    b"",
    b"{",
    b"[]",
    b"null",
    b"1",
    b'"text"',
    b"{}}",
    b'{"a":}',
    b"\xff\xfe",
    b'{"name": "\x00"}',
    b'{"name": "\\u0000"}',
    b'{"name": "\\ud800"}',
    b"[" * 100_000,
    b'{"a":' * 100_000,
    b'{"name": 1e999}',
]


class Lab:
    def __init__(self, cloud: Harness) -> None:
        self.demo: Client = cloud.login("demo", "demo")
        self.admin: Client = cloud.login("admin", "admin")
        self.image = self.demo.post(IMAGES, {"name": "mine"}).json["id"]
        self.hidden = self.admin.post(IMAGES, {"name": "not yours", "visibility": "private"}).json["id"]
        self.cloud = cloud

    def images(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.admin.get(f"{IMAGES}?limit=1000&sort=id:asc").json["images"]
        return found


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with Harness(tmp_path_factory.mktemp("bad")) as cloud:
        yield Lab(cloud)


def refused(lab: Lab, method: str, path: str, body: Any, headers: dict[str, str] | None = None) -> None:
    before = lab.images()
    reply = lab.demo.request(method, path, body, headers)
    assert 400 <= reply.status < 500, (reply.status, reply.body[:500])
    assert reply.json["message"] and reply.json["code"].startswith(str(reply.status))
    assert lab.images() == before


@pytest.mark.parametrize("raw", MALFORMED, ids=lambda raw: repr(raw[:20]))
def test_malformed_json(lab: Lab, raw: bytes) -> None:
    refused(lab, "POST", IMAGES, raw)
    if raw != b"[]":
        refused(lab, "PATCH", f"{IMAGES}/{lab.image}", raw, JSON_PATCH)
    refused(lab, "POST", f"{IMAGES}/{lab.image}/members", raw)
    refused(lab, "PUT", f"{IMAGES}/{lab.image}/members/x", raw)
    refused(lab, "POST", f"{IMAGES}/{lab.image}/import", raw)


@pytest.mark.parametrize(
    "values",
    [
        {"name": 1},
        {"name": ["x"]},
        {"name": {"a": "b"}},
        {"name": "x" * 256},
        {"name": HUGE},
        {"disk_format": "wrong"},
        {"disk_format": 1},
        {"container_format": "wrong"},
        {"container_format": ""},
        {"visibility": "secret"},
        {"visibility": None},
        {"protected": "yes"},
        {"protected": 1},
        {"os_hidden": None},
        {"min_disk": -1},
        {"min_disk": "1"},
        {"min_disk": 1.5},
        {"min_disk": True},
        {"min_ram": 1 << 40},
        {"min_ram": None},
        {"id": "not a uuid"},
        {"id": "../../../etc/passwd"},
        {"id": None},
        {"id": 7},
        {"id": "22222222-2222-4222-8222-222222222222\n"},
        {"tags": "x"},
        {"tags": [1]},
        {"tags": ["x" * 256]},
        {"tags": [str(each) for each in range(129)]},
        {"tags": None},
        {"owner": 1},
        {"owner": "x" * 256},
        {"owner": None},
        {"custom": 1},
        {"custom": None},
        {"custom": ["x"]},
        {"custom": {"x": "y"}},
        {"x" * 256: "y"},
        {f"p{each}": "x" for each in range(129)},
        {"status": "active"},
        {"size": 1},
        {"checksum": "x"},
        {"created_at": "now"},
        {"updated_at": "now"},
        {"self": "x"},
        {"file": "x"},
        {"schema": "x"},
        {"stores": "x"},
        {"direct_url": "x"},
        {"locations": []},
        {"location": "x"},
        {"deleted": "x"},
        {"os_glance_import_task": "x"},
        {"os_hash_value": "x"},
        {"virtual_size": 5},
    ],
    ids=lambda values: str(values)[:40],
)
def test_what_an_image_is_not(lab: Lab, values: dict[str, Any]) -> None:
    refused(lab, "POST", IMAGES, {"name": "new", **values})
    changes = [{"op": "add", "path": "/" + name, "value": value} for name, value in values.items()]
    refused(lab, "PATCH", f"{IMAGES}/{lab.image}", changes, JSON_PATCH)


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        ([1], JSON_PATCH),
        ([{}], JSON_PATCH),
        ([{"op": "add"}], JSON_PATCH),
        ([{"op": "move", "from": "/name", "path": "/x"}], JSON_PATCH),
        ([{"op": "test", "path": "/name", "value": "x"}], JSON_PATCH),
        ([{"op": "add", "path": "/name"}], JSON_PATCH),
        ([{"op": "add", "path": "name", "value": "x"}], JSON_PATCH),
        ([{"op": "add", "path": "", "value": "x"}], JSON_PATCH),
        ([{"op": "add", "path": "/", "value": "x"}], JSON_PATCH),
        ([{"op": "add", "path": "//name", "value": "x"}], JSON_PATCH),
        ([{"op": "add", "path": "/name/", "value": "x"}], JSON_PATCH),
        ([{"op": "add", "path": "/name/0", "value": "x"}], JSON_PATCH),
        ([{"op": "add", "path": "/tags/0", "value": "x"}], JSON_PATCH),
        ([{"op": "add", "path": "/a~2b", "value": "x"}], JSON_PATCH),
        ([{"op": "add", "path": "/a~", "value": "x"}], JSON_PATCH),
        ([{"op": "add", "path": 1, "value": "x"}], JSON_PATCH),
        ([{"op": 1, "path": "/name", "value": "x"}], JSON_PATCH),
        ([{"op": [], "path": "/name", "value": "x"}], JSON_PATCH),
        ([{"op": "remove", "path": "/id"}], JSON_PATCH),
        ([{"op": "remove", "path": "/tags"}], JSON_PATCH),
        ([{"op": "replace", "path": "/id", "value": NOBODY}], JSON_PATCH),
        (
            [{"op": "replace", "path": "/locations", "value": [{"url": "file:///etc/passwd", "metadata": {}}]}],
            JSON_PATCH,
        ),
        ([{"op": "add", "path": "/locations/-", "value": {"url": "file:///etc/passwd", "metadata": {}}}], JSON_PATCH),
        ([{"add": "/x", "remove": "/y", "value": "z"}], OLD_PATCH),
        ([{"add": 1, "value": "z"}], OLD_PATCH),
        ([{"value": "z"}], OLD_PATCH),
        ([{"op": "add", "path": "/x", "value": "z"}], OLD_PATCH),
        ([], {"CONTENT_TYPE": ""}),
        ([], {"CONTENT_TYPE": "application/json-patch+json"}),
        ([{"op": "add", "path": "/p" + str(each), "value": "x"} for each in range(200)], JSON_PATCH),
    ],
    ids=lambda value: str(value)[:60],
)
def test_bad_patches(lab: Lab, body: Any, headers: dict[str, str]) -> None:
    refused(lab, "PATCH", f"{IMAGES}/{lab.image}", body, headers)


@pytest.mark.parametrize("image", ["nobody", "hidden", "strange"])
def test_images_of_nobody_and_of_others(lab: Lab, image: str) -> None:
    one = IMAGES + "/" + {"nobody": NOBODY, "hidden": lab.hidden, "strange": "%2e%2e%2f%00ü" + "x" * 500}[image]
    patch = [{"op": "replace", "path": "/name", "value": "x"}]
    asks: list[tuple[str, str, Any, dict[str, str] | None]] = [
        ("GET", one, None, None),
        ("PATCH", one, patch, JSON_PATCH),
        ("DELETE", one, None, None),
        ("GET", one + "/file", None, None),
        ("PUT", one + "/file", b"x", OCTETS),
        ("PUT", one + "/stage", b"x", OCTETS),
        ("POST", one + "/import", {"method": {"name": "glance-direct"}}, None),
        ("GET", one + "/tasks", None, None),
        ("PUT", one + "/tags/x", None, None),
        ("DELETE", one + "/tags/x", None, None),
        ("POST", one + "/actions/deactivate", None, None),
        ("POST", one + "/actions/reactivate", None, None),
        ("GET", one + "/members", None, None),
        ("POST", one + "/members", {"member": "x"}, None),
        ("PUT", one + "/members/x", {"status": "accepted"}, None),
        ("DELETE", one + "/members/x", None, None),
    ]
    for method, path, body, headers in asks:
        reply = lab.demo.request(method, path, body, headers)
        assert reply.status == 404, (method, path, reply.status, reply.body)
        refused(lab, method, path, body, headers)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("members", {}),
        ("members", {"member": ""}),
        ("members", {"member": 1}),
        ("members", {"member": None}),
        ("members", {"member": HUGE}),
        ("import", {}),
        ("import", {"method": {}}),
        ("import", {"method": "glance-direct"}),
        ("import", {"method": {"name": 1}}),
        ("import", {"method": {"name": "copy-image"}}),
        ("import", {"method": {"name": "glance-direct"}, "all_stores": "yes"}),
        ("import", {"method": {"name": "glance-direct"}, "stores": "file"}),
        ("import", {"method": {"name": "glance-direct"}, "stores": ["other"]}),
        ("import", {"method": {"name": "glance-direct"}, "stores": ["file"], "all_stores": True}),
        ("import", {"method": {"name": "glance-direct"}}),
    ],
)
def test_bad_members_and_imports(lab: Lab, path: str, body: Any) -> None:
    refused(lab, "POST", f"{IMAGES}/{lab.image}/{path}", body)


@pytest.mark.parametrize(
    "headers",
    [
        {"CONTENT_LENGTH": "x"},
        {"CONTENT_LENGTH": "-1"},
        {"CONTENT_LENGTH": "9" * 30},
        {"CONTENT_LENGTH": "٣"},
        {"X-OpenStack-Image-Size": "x"},
        {"X-OpenStack-Image-Size": "-5"},
        {"X-OpenStack-Image-Size": str(1 << 62)},
        {"CONTENT_TYPE": "application/json"},
        {"CONTENT_TYPE": ""},
        {"X-Image-Meta-Store": "../x"},
    ],
)
def test_bad_uploads(lab: Lab, headers: dict[str, str]) -> None:
    for what in ("file", "stage"):
        if what == "stage" and "X-Image-Meta-Store" in headers:
            continue
        refused(lab, "PUT", f"{IMAGES}/{lab.image}/{what}", b"hello", {**OCTETS, **headers})


def test_a_body_that_is_too_large(lab: Lab) -> None:
    reply = lab.demo.post(IMAGES, {"name": "x", "custom": "y" * (2 << 20)})
    assert reply.status == 413


def test_names_of_any_script_work(lab: Lab) -> None:
    name = "Ünïcødé 雪 ❄ \U0001f40d \\ \" ' % _ <b>"
    made = lab.demo.post(IMAGES, {"name": name, "tags": ["雪"], "Ключ/~ 雪": "знач"}).json
    assert made["name"] == name and made["tags"] == ["雪"] and made["Ключ/~ 雪"] == "знач"
    one = f"{IMAGES}/{made['id']}"
    assert lab.demo.request("PUT", one + "/tags/☃").status == 204
    changes = [{"op": "replace", "path": "/Ключ~1~0 雪", "value": "❄"}]
    changed = lab.demo.request("PATCH", one, changes, JSON_PATCH).json
    assert changed["Ключ/~ 雪"] == "❄" and set(changed["tags"]) == {"雪", "☃"}
    assert lab.demo.delete(one).status == 204


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("path", ["/image", "/image/v2/schemas/image", "/image/v2/info/stores", "/image/v3/images"])
def test_verbs_that_are_not_there(lab: Lab, method: str, path: str) -> None:
    assert lab.demo.request(method, path, {}).status in (404, 405)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("", {}),
        ("", []),
        ("", {"namespace": ""}),
        ("", {"namespace": 1}),
        ("", {"namespace": "x" * 81}),
        ("", {"namespace": "x", "visibility": "shared"}),
        ("", {"namespace": "x", "protected": "no"}),
        ("", {"namespace": "x", "description": "x" * 501}),
        ("", {"namespace": "x", "created_at": "now"}),
        ("", {"namespace": "x", "tags": [{}]}),
        ("", {"namespace": "x", "tags": [{"name": "a"}, {"name": "a"}]}),
        ("", {"namespace": "x", "properties": {"p": {"type": "string"}}}),
        ("", {"namespace": "x", "properties": {"p": {"title": "P", "type": "text"}}}),
        ("", {"namespace": "x", "objects": [{"name": "o", "properties": {"p": 1}}]}),
        ("", {"namespace": "x", "nothing": 1}),
        ("/there/properties", {"title": "P", "type": "string"}),
        ("/there/properties", {"name": "p", "title": "P", "type": "string", "minLength": -1}),
        ("/there/objects", {"name": HUGE}),
        ("/there/objects", {"name": "o", "required": "x"}),
        ("/there/tags", {"tags": ["x"]}),
        ("/there/tags", {"tags": [{"name": "a"}, {"name": "a"}]}),
        ("/there/tags/" + "x" * 81, None),
        ("/there/tags/a%00b", None),
        ("/there/resource_types", {"prefix": "x"}),
        ("/nobody/tags", {"tags": []}),
        ("/nobody/objects", {"name": "x"}),
    ],
    ids=lambda value: str(value)[:60],
)
def test_bad_metadata_definitions(lab: Lab, path: str, body: Any) -> None:
    spaces = "/image/v2/metadefs/namespaces"
    lab.admin.post(spaces, {"namespace": "there"})
    before = [lab.admin.get(spaces).json, lab.admin.get(spaces + "/there").json]
    for method in ("POST", "PUT"):
        reply = lab.admin.request(method, spaces + path, body)
        assert 400 <= reply.status < 500, (method, reply.status, reply.body[:300])
        assert reply.json["message"]
    assert [lab.admin.get(spaces).json, lab.admin.get(spaces + "/there").json] == before
    for raw in MALFORMED[:11]:
        assert 400 <= lab.admin.request("POST", spaces, raw).status < 500
