"""Bad input to every POST and PUT of the placement API: 4xx with a reason, never 500, nothing half made."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.harness import Client, Harness

NOBODY = "00000000-0000-4000-8000-000000000000"
CONSUMER = "33333333-3333-4333-8333-333333333333"
HUGE = "x" * 300_000
MALFORMED: list[bytes] = [
    b"",
    b"{",
    b"[]",
    b"null",
    b"1",
    b'"text"',
    b"{}}",
    b"\xff\xfe",
    b'{"name": "\x00"}',
    b'{"name": "\\u0000"}',
    b'{"name": "\\ud800"}',
    b"[" * 100_000,
    b'{"a":' * 100_000,
]


class Lab:
    def __init__(self, cloud: Harness) -> None:
        self.admin: Client = cloud.login("admin", "admin", scope=None)
        self.admin.headers["OpenStack-API-Version"] = "placement 1.39"
        self.one = self.admin.post("/placement/resource_providers", {"name": "one"}).json["uuid"]
        body = {"resource_provider_generation": 0, "inventories": {"VCPU": {"total": 4}}}
        assert self.admin.put(f"/placement/resource_providers/{self.one}/inventories", body).status == 200

    def all(self) -> list[Any]:
        one = f"/placement/resource_providers/{self.one}"
        paths = ["/placement/resource_providers", one + "/inventories", one + "/usages", one + "/traits"]
        paths += [one + "/aggregates", "/placement/resource_classes", f"/placement/allocations/{CONSUMER}"]
        return [self.admin.get(path).json for path in paths]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with Harness(tmp_path_factory.mktemp("bad")) as cloud:
        yield Lab(cloud)


def refused(lab: Lab, method: str, path: str, body: Any, *statuses: int, version: str = "1.39") -> None:
    before = lab.all()
    reply = lab.admin.request(
        method, "/placement" + path.format(one=lab.one), body, {"OpenStack-API-Version": f"placement {version}"}
    )
    assert reply.status in (statuses or (400,)), (reply.status, reply.body[:500])
    (error,) = reply.json["errors"]
    assert error["status"] == reply.status and error["detail"].split("\n")[-1].strip() and error["request_id"]
    assert lab.all() == before


@pytest.mark.parametrize("raw", MALFORMED, ids=lambda raw: repr(raw[:20]))
def test_malformed_json(lab: Lab, raw: bytes) -> None:
    for method, path in (
        ("POST", "/resource_providers"),
        ("PUT", "/resource_providers/{one}"),
        ("PUT", "/resource_providers/{one}/inventories"),
        ("POST", "/resource_providers/{one}/inventories"),
        ("PUT", "/resource_providers/{one}/inventories/VCPU"),
        ("PUT", "/resource_providers/{one}/traits"),
        ("PUT", "/resource_providers/{one}/aggregates"),
        ("PUT", f"/allocations/{CONSUMER}"),
        ("POST", "/allocations"),
        ("POST", "/resource_classes"),
    ):
        refused(lab, method, path, raw)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": 1},
        {"name": None},
        {"name": "x" * 201},
        {"name": HUGE},
        {"name": "x", "uuid": "x"},
        {"name": "x", "uuid": 1},
        {"name": "x", "uuid": "../../x"},
        {"name": "x", "generation": 1},
        {"name": "x", "parent_provider_uuid": NOBODY},
        {"name": "x", "parent_provider_uuid": "x"},
        {"name": "x", "parent_provider_uuid": 1},
    ],
    ids=lambda value: str(value)[:50],
)
def test_what_a_provider_is_not(lab: Lab, body: Any) -> None:
    refused(lab, "POST", "/resource_providers", body)
    if "uuid" not in body:
        refused(lab, "PUT", "/resource_providers/{one}", body)


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"total": 0},
        {"total": -1},
        {"total": "4"},
        {"total": 1.5},
        {"total": True},
        {"total": 1 << 31},
        {"total": 1 << 70},
        {"total": 4, "reserved": -1},
        {"total": 4, "reserved": 5},
        {"total": 4, "min_unit": 0},
        {"total": 4, "max_unit": 0},
        {"total": 4, "step_size": 0},
        {"total": 4, "step_size": None},
        {"total": 4, "allocation_ratio": "x"},
        {"total": 4, "allocation_ratio": 1e300},
        {"total": 4, "allocation_ratio": -1},
        {"total": 4, "nothing": 1},
    ],
    ids=str,
)
def test_what_an_inventory_is_not(lab: Lab, record: dict[str, Any]) -> None:
    path = "/resource_providers/{one}/inventories"
    refused(lab, "PUT", path, {"resource_provider_generation": 1, "inventories": {"VCPU": record}})
    refused(lab, "POST", path, {"resource_class": "DISK_GB", **record})
    refused(lab, "PUT", path + "/VCPU", {"resource_provider_generation": 1, **record})


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("PUT", "/resource_providers/{one}/inventories", {"inventories": {}}, 400),
        ("PUT", "/resource_providers/{one}/inventories", {"resource_provider_generation": "1", "inventories": {}}, 400),
        ("PUT", "/resource_providers/{one}/inventories", {"resource_provider_generation": 9, "inventories": {}}, 409),
        (
            "PUT",
            "/resource_providers/{one}/inventories",
            {"resource_provider_generation": 1, "inventories": {"vcpu": {"total": 1}}},
            400,
        ),
        ("PUT", "/resource_providers/{one}/inventories", {"resource_provider_generation": 1, "inventories": []}, 400),
        ("POST", "/resource_providers/{one}/inventories", {"resource_class": "nothing", "total": 1}, 400),
        ("POST", "/resource_providers/{one}/inventories", {"resource_class": "CUSTOM_NOTHING", "total": 1}, 400),
        ("POST", "/resource_providers/{one}/inventories", {"resource_class": "VCPU", "total": 1}, 409),
        ("PUT", "/resource_providers/{one}/inventories/DISK_GB", {"resource_provider_generation": 1, "total": 1}, 400),
        ("PUT", "/resource_providers/{one}/inventories/VCPU", {"total": 1}, 400),
        ("PUT", "/resource_providers/{one}/traits", {"traits": []}, 400),
        ("PUT", "/resource_providers/{one}/traits", {"traits": "x", "resource_provider_generation": 1}, 400),
        ("PUT", "/resource_providers/{one}/traits", {"traits": [""], "resource_provider_generation": 1}, 400),
        ("PUT", "/resource_providers/{one}/traits", {"traits": ["NONE"], "resource_provider_generation": 1}, 400),
        ("PUT", "/resource_providers/{one}/traits", {"traits": [], "resource_provider_generation": 7}, 409),
        ("PUT", "/resource_providers/{one}/aggregates", [], 400),
        ("PUT", "/resource_providers/{one}/aggregates", {"aggregates": ["x"], "resource_provider_generation": 1}, 400),
        (
            "PUT",
            "/resource_providers/{one}/aggregates",
            {"aggregates": [NOBODY, NOBODY], "resource_provider_generation": 1},
            400,
        ),
        ("PUT", "/resource_providers/{one}/aggregates", {"aggregates": [], "resource_provider_generation": 7}, 409),
        ("POST", "/resource_classes", {"name": "VCPU"}, 400),
        ("POST", "/resource_classes", {"name": "CUSTOM_"}, 400),
        ("POST", "/resource_classes", {"name": "custom_x"}, 400),
        ("POST", "/resource_classes", {"name": "CUSTOM_X\n"}, 400),
        ("POST", "/resource_classes", {"name": "CUSTOM_" + "X" * 300}, 400),
        ("POST", "/resource_classes", {"name": 1}, 400),
        ("PUT", "/resource_classes/custom_x", None, 400),
        ("PUT", "/resource_classes/VCPU", None, 400),
        ("PUT", "/traits/custom_x", None, 400),
        ("PUT", "/traits/CUSTOM_" + "X" * 300, None, 400),
        ("PUT", "/traits/CUSTOM_Ü", None, 400),
        ("PUT", "/allocations/nobody", {"allocations": {}}, 400),
        ("POST", "/allocations", {}, 400),
        ("POST", "/allocations", {"x": {}}, 400),
        ("POST", "/reshaper", {}, 400),
    ],
    ids=lambda value: str(value)[:50],
)
def test_bad_bodies(lab: Lab, method: str, path: str, body: Any, status: int) -> None:
    if path == "/reshaper":
        status = 403
    refused(lab, method, path, body, status)


GOOD: dict[str, Any] = {
    "allocations": {},
    "project_id": "p",
    "user_id": "u",
    "consumer_generation": None,
    "consumer_type": "INSTANCE",
}


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"project_id": ""}, 400),
        ({"project_id": 1}, 400),
        ({"project_id": "x" * 256}, 400),
        ({"user_id": None}, 400),
        ({"user_id": HUGE}, 400),
        ({"consumer_generation": "1"}, 400),
        ({"consumer_generation": 5}, 409),
        ({"consumer_type": "instance"}, 400),
        ({"consumer_type": ""}, 400),
        ({"consumer_type": None}, 400),
        ({"mappings": {}}, 400),
        ({"mappings": {"_A": []}}, 400),
        ({"mappings": {"_A": ["x"]}}, 400),
        ({"mappings": {"!": [NOBODY]}}, 400),
        ({"nothing": 1}, 400),
        ({"allocations": []}, 400),
        ({"allocations": None}, 400),
        ({"allocations": {"x": {"resources": {"VCPU": 1}}}}, 400),
        ({"allocations": {NOBODY: {"resources": {"VCPU": 1}}}}, 400),
        ({"allocations": {"{one}": {}}}, 400),
        ({"allocations": {"{one}": {"resources": {}}}}, 400),
        ({"allocations": {"{one}": {"resources": {"VCPU": 0}}}}, 400),
        ({"allocations": {"{one}": {"resources": {"VCPU": -1}}}}, 400),
        ({"allocations": {"{one}": {"resources": {"VCPU": 1.5}}}}, 400),
        ({"allocations": {"{one}": {"resources": {"VCPU": 1 << 70}}}}, 400),
        ({"allocations": {"{one}": {"resources": {"VCPU": "1"}}}}, 400),
        ({"allocations": {"{one}": {"resources": {"vcpu": 1}}}}, 400),
        ({"allocations": {"{one}": {"resources": {"CUSTOM_NOTHING": 1}}}}, 400),
        ({"allocations": {"{one}": {"resources": {"DISK_GB": 1}}}}, 409),
        ({"allocations": {"{one}": {"resources": {"VCPU": 5}}}}, 409),
        ({"allocations": {"{one}": {"resources": {"VCPU": 1}, "x": 1}}}, 400),
    ],
    ids=lambda value: str(value)[:60],
)
def test_what_an_allocation_is_not(lab: Lab, change: dict[str, Any], status: int) -> None:
    body = {**GOOD, **change}
    if isinstance(body["allocations"], dict):
        body["allocations"] = {name.format(one=lab.one): each for name, each in body["allocations"].items()}
    refused(lab, "PUT", f"/allocations/{CONSUMER}", body, status)
    refused(lab, "POST", "/allocations", {CONSUMER: body}, status)


@pytest.mark.parametrize(
    ("version", "body"),
    [
        ("1.7", {"allocations": []}),
        ("1.7", {"allocations": [{"resource_provider": {"uuid": "x"}, "resources": {"VCPU": 1}}]}),
        ("1.7", {"allocations": [{"resource_provider": {}, "resources": {"VCPU": 1}}]}),
        ("1.7", {"allocations": {}, "project_id": "p", "user_id": "u"}),
        ("1.8", {"allocations": [{"resource_provider": {"uuid": NOBODY}, "resources": {"VCPU": 1}}]}),
        ("1.12", {"allocations": {}, "project_id": "p", "user_id": "u"}),
        ("1.27", {**GOOD}),
        ("1.28", {"allocations": {}, "project_id": "p", "user_id": "u"}),
        ("1.37", {**GOOD}),
        ("1.38", {key: value for key, value in GOOD.items() if key != "consumer_type"}),
    ],
    ids=lambda value: str(value)[:60],
)
def test_allocations_of_another_version(lab: Lab, version: str, body: Any) -> None:
    refused(lab, "PUT", f"/allocations/{CONSUMER}", body, version=version)


@pytest.mark.parametrize("provider", [NOBODY, "nothing", "%2e%2e%2f%00ü" + "x" * 500])
def test_providers_that_are_not_there(lab: Lab, provider: str) -> None:
    one = f"/resource_providers/{provider}"
    generation = {"resource_provider_generation": 0}
    asks: list[tuple[str, str, Any]] = [
        ("GET", one, None),
        ("PUT", one, {"name": "x"}),
        ("DELETE", one, None),
        ("GET", one + "/inventories", None),
        ("POST", one + "/inventories", {"resource_class": "VCPU", "total": 1}),
        ("PUT", one + "/inventories", {**generation, "inventories": {}}),
        ("DELETE", one + "/inventories", None),
        ("GET", one + "/inventories/VCPU", None),
        ("PUT", one + "/inventories/VCPU", {**generation, "total": 1}),
        ("DELETE", one + "/inventories/VCPU", None),
        ("GET", one + "/traits", None),
        ("PUT", one + "/traits", {**generation, "traits": []}),
        ("DELETE", one + "/traits", None),
        ("GET", one + "/aggregates", None),
        ("PUT", one + "/aggregates", {**generation, "aggregates": []}),
        ("GET", one + "/usages", None),
        ("GET", one + "/allocations", None),
    ]
    for method, path, body in asks:
        refused(lab, method, path, body, 404)


def test_media_types(lab: Lab) -> None:
    reply = lab.admin.request("POST", "/placement/resource_providers", {"name": "x"}, {"CONTENT_TYPE": "text/plain"})
    assert reply.status == 415
    reply = lab.admin.request("GET", "/placement/resource_providers", headers={"Accept": "text/html"})
    assert reply.status == 406
    reply = lab.admin.request("GET", "/placement/resource_providers", headers={"Accept": "text/html, */*;q=0.1"})
    assert reply.status == 200


def test_names_of_any_script_work(lab: Lab) -> None:
    name = "Ünïcødé 雪 ❄ \U0001f40d ' % _"
    made = lab.admin.post("/placement/resource_providers", {"name": name})
    assert made.status == 200 and made.json["name"] == name
    found = lab.admin.get(
        "/placement/resource_providers?name=%C3%9Cn%C3%AFc%C3%B8d%C3%A9%20%E9%9B%AA%20%E2%9D%84%20%F0%9F%90%8D%20%27%20%25%20_"
    )
    assert [each["uuid"] for each in found.json["resource_providers"]] == [made.json["uuid"]]
    assert lab.admin.delete(f"/placement/resource_providers/{made.json['uuid']}").status == 204
