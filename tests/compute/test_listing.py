"""Lists of servers: what a page costs, filters, paging, and bodies that are kept until something shown changes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import event

from tests.compute.conftest import Lab
from tests.harness import Client


@contextmanager
def counted(lab: Lab) -> Iterator[list[str]]:
    """The statements that are executed meanwhile, but for what verifying a token costs."""
    seen: list[str] = []
    engine = lab.harness.cloud.database.engine

    def note(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if "identity_" not in statement:
            seen.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(engine, "before_cursor_execute", note)


def many(lab: Lab, count: int, networks: Any = "none") -> None:
    quota = lab.harness.cloud.settings.quota
    quota.instances = quota.cores = quota.ram = quota.port = -1
    assert lab.new(lab.admin, min_count=count, networks=networks, flavorRef="42").status == 202
    lab.agent.settle(30)


def network_of(lab: Lab) -> str:
    return str(lab.admin.post("/network/v2.0/networks", {"network": {"name": "n"}}).json["network"]["id"])


def test_a_page_of_a_hundred_servers_takes_eight_queries_and_five_when_kept(lab: Lab) -> None:
    network = network_of(lab)
    subnet = {"network_id": network, "ip_version": 4, "cidr": "10.77.0.0/16"}
    assert lab.admin.post("/network/v2.0/subnets", {"subnet": subnet}).status == 201
    many(lab, 100, [{"uuid": network}])
    url = "/compute/v2.1/servers/detail?limit=100"
    with counted(lab) as first:
        found = lab.admin.get(url).json["servers"]
    assert len(found) == 100 and all(each["status"] == "ACTIVE" for each in found)
    assert all(each["addresses"]["n"][0]["addr"].startswith("10.77.") for each in found)
    assert len(first) <= 8, first
    with counted(lab) as again:
        assert lab.admin.get(url).json["servers"] == found
    assert len(again) <= 5, again


def test_a_kept_body_is_not_shown_once_something_changed(lab: Lab) -> None:
    server = lab.boot(lab.admin)
    url = f"/compute/v2.1/servers/{server['id']}"

    def shown() -> dict[str, Any]:
        (each,) = lab.admin.get("/compute/v2.1/servers/detail").json["servers"]
        each.pop("updated")
        return dict(each)

    old = shown()
    for change, field in (
        (lambda: lab.admin.put(url, {"server": {"name": "other"}}), "name"),
        (lambda: lab.admin.put(url + "/tags", {"tags": ["x"]}), "tags"),
        (lambda: lab.admin.post(url + "/metadata", {"metadata": {"a": "b"}}), "metadata"),
        (lambda: lab.act(server["id"], "lock", {"locked_reason": "mine"}, lab.admin), "locked_reason"),
        (lambda: lab.agent.saw(server["OS-EXT-SRV-ATTR:host"], "power", server["id"], "shutdown"), "status"),
    ):
        change()
        new = shown()
        assert new[field] != old[field], field
        old = new


def test_what_is_kept_for_one_is_not_shown_to_another(lab: Lab) -> None:
    server = lab.boot(lab.demo)
    url = "/compute/v2.1/servers/detail?all_tenants=1"
    (whole,) = lab.admin.get(url).json["servers"]
    (own,) = lab.demo.get("/compute/v2.1/servers/detail").json["servers"]
    assert whole["OS-EXT-SRV-ATTR:host"] == server["OS-EXT-SRV-ATTR:host"] and "host_status" in whole
    assert "OS-EXT-SRV-ATTR:host" not in own and "host_status" not in own
    lab.demo.headers["OpenStack-API-Version"] = "compute 2.1"
    (old,) = lab.demo.get("/compute/v2.1/servers/detail").json["servers"]
    assert "description" not in old and "tags" not in old and set(old["flavor"]) == {"id", "links"}


def names(client: Client, query: str) -> list[str]:
    reply = client.get(f"/compute/v2.1/servers?{query}")
    assert reply.status == 200, (query, reply)
    return [each["name"] for each in reply.json["servers"]]


@pytest.fixture
def three(lab: Lab) -> Lab:
    lab.boot(name="web-1", tags=["a", "b"], metadata={"k": "v"})
    lab.boot(name="web-2", tags=["b"], flavorRef="42", description="blue")
    lab.boot(name="db")
    return lab


FILTERED: tuple[tuple[str, list[str]], ...] = (
    ("name=web", ["web-2", "web-1"]),
    ("name=WEB-1", ["web-1"]),
    ("name=^web-[12]$", ["web-2", "web-1"]),
    ("name=%25", []),
    ("status=ACTIVE", ["db", "web-2", "web-1"]),
    ("status=active&name=db", ["db"]),
    ("status=BUILD", []),
    ("status=nonsense", []),
    ("flavor=42", ["web-2"]),
    ("tags=b", ["web-2", "web-1"]),
    ("tags=a,b", ["web-1"]),
    ("tags-any=a,zz", ["web-1"]),
    ("not-tags=b", ["db"]),
    ("not-tags-any=a,zz", ["db", "web-2"]),
    ("description=blue", ["web-2"]),
    ("changes-since=2099-01-01T00:00:00Z", []),
    ("changes-before=2099-01-01T00:00:00Z", ["db", "web-2", "web-1"]),
    ("locked=true", []),
    ("sort_key=display_name&sort_dir=asc", ["db", "web-1", "web-2"]),
    ("sort_key=created_at&sort_dir=asc&limit=2", ["web-1", "web-2"]),
    ("limit=0", []),
    ("power_state=1&vm_state=active&task_state=", ["db", "web-2", "web-1"]),
)


def test_filters(three: Lab) -> None:
    for query, wanted in FILTERED:
        assert names(three.demo, query) == wanted, query


def test_pages_follow_one_another(three: Lab) -> None:
    seen: list[str] = []
    url = "/compute/v2.1/servers?limit=1&sort_key=display_name&sort_dir=desc"
    while url:
        body = three.demo.get(url).json
        seen += [each["name"] for each in body["servers"]]
        url = body.get("servers_links", [{"href": ""}])[0]["href"].removeprefix("http://127.0.0.1:5000")
    assert seen == ["web-2", "web-1", "db"]


NONSENSE = (
    "limit=-1",
    "limit=x",
    "marker=5a1f5d0e-8f4c-4c51-bf3a-8d7a3dbb1c11",
    "sort_key=colour",
    "sort_dir=up&sort_key=host",
    "name=%5B",
    "name=(a%2B)%2B",
    "changes-since=yesterday",
    "colour=red",
    "_secret=1",
    "metadata=x",
    "locked=perhaps",
    "all_tenants=perhaps",
    "power_state=high",
    "ip=%5B",
    "name=%00",
)


def test_lists_that_cannot_be_meant(lab: Lab) -> None:
    for query in NONSENSE:
        assert lab.demo.get(f"/compute/v2.1/servers?{query}").status == 400, query
        assert lab.demo.get(f"/compute/v2.1/servers/detail?{query}").status == 400, query


def test_who_sees_what(three: Lab) -> None:
    assert three.demo.get("/compute/v2.1/servers?all_tenants=1").status == 403
    assert names(three.admin, "all_tenants=1&name=web") == ["web-2", "web-1"]
    assert names(three.admin, "") == []
    (server,) = three.demo.get("/compute/v2.1/servers?name=db").json["servers"]
    host = three.show(server["id"])["OS-EXT-SRV-ATTR:host"]
    assert "db" in names(three.admin, f"all_tenants=1&host={host}")
    assert names(three.demo, "host=nowhere") == ["db", "web-2", "web-1"]
    other = three.harness.login("demo", "demo")
    project = three.show(server["id"])["tenant_id"]
    assert names(three.admin, f"all_tenants=1&project_id={project}&name=db") == ["db"]
    assert other.get("/compute/v2.1/servers/5a1f5d0e-8f4c-4c51-bf3a-8d7a3dbb1c11").status == 404
