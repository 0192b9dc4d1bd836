"""Every URL of the real services, thrown what nobody should send: answered 4xx in the service's dialect, never 500."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from nephos.kernel.http.routes import Route, Service
from tests.harness import Client, Harness

NOBODY = "7a6f1d5e-3f0e-4f43-9c3b-0a1b2c3d4e5f"
BODIES: tuple[bytes, ...] = (
    b"",
    b"{",
    b"[]",
    b"{}",
    b"null",
    b"7",
    b"true",
    b'"text"',
    b"\xff\xfe",
    b'{"a": "\\u0000"}',
    b'{"a": "\\ud800"}',
    b"[" * 20_000,
    b'{"a":' * 20_000,
    b'{"' + b"k" * 200_000 + b'": 1}',
    b'{"a": 1, "a": 2}',
    b"<xml/>",
)
VALUES: tuple[Any, ...] = (
    None,
    [],
    {},
    [[]],
    [{}],
    [None],
    "text",
    7,
    True,
    1e308,
    {"": ""},
    {"name": 7},
    {"name": None},
    {"name": ["a"]},
    {"name": "x" * 100_000},
    {"name": ""},
    {"name": " "},
    {"id": NOBODY, "name": "é漢"},
    {"id": 2**70},
    {"unknown": "field"},
)
QUERIES = (
    "limit=--5",
    "limit=-1",
    "limit=x",
    f"limit={2**70}",
    "limit=0",
    "limit=1&limit=x",
    f"marker={NOBODY}",
    "marker=%00",
    "marker=%ff",
    "sort_key=password&sort_dir=up",
    "sort=x:y:z",
    "sort_key=",
    "fields=",
    "fields=nothing",
    "page_reverse=maybe",
    "name=%C3%A9%E6%BC%A2",
    "name=" + "x" * 20_000,
    "id=" + NOBODY + "&id=" + NOBODY,
    "changes-since=yesterday",
    "created_at=gt:nonsense",
    "status=nothing&owner=&visibility=&member_status=",
    "all_tenants=perhaps",
    "detailed=maybe",
    "in_tree=x&resources=VCPU:-1&required=&member_of=",
    "resources=VCPU:x",
    f"resources=VCPU:{2**70}",
    "a&b=&&=c",
)


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harness]:
    with Harness(Path(tmp_path_factory.mktemp("bad-input"))) as one:
        yield one


@pytest.fixture(scope="module")
def admin(cloud: Harness) -> Client:
    return cloud.login("admin", "admin")


def routes(cloud: Harness, *methods: str) -> list[tuple[Service, Route, str]]:
    found: dict[tuple[str, str], tuple[Service, Route, str]] = {}
    for service in cloud.front.services:
        for route in service.routes:
            if route.method in methods and not route.streams:
                path = service.prefixes[0] + re.sub(r"\{[^}]*\}", NOBODY, route.path)
                found.setdefault((route.method, path), (service, route, path))
    return list(found.values())


def latest(service: Service) -> dict[str, str]:
    if service.microversions is None:
        return {}
    return {"OpenStack-API-Version": f"{service.microversions.type} latest"}


def check(client: Client, service: Service, method: str, path: str, body: bytes | None, wrong: list[str]) -> None:
    reply = client.request(method, path, body, latest(service))
    if reply.status >= 500 and reply.status not in (501, 503):
        wrong.append(f"{method} {path[:150]} {(body or b'')[:80]!r} -> {reply.status} {reply.body[:200]!r}")
    if reply.status >= 400 and method != "HEAD":
        fault = msgspec.json.decode(reply.body)
        assert isinstance(fault, dict) and fault, (method, path, body, reply)


def test_bodies(cloud: Harness, admin: Client) -> None:
    wrong: list[str] = []
    for service, route, path in routes(cloud, "POST", "PUT", "PATCH"):
        for body in BODIES:
            check(admin, service, route.method, path, body, wrong)
    assert wrong == [], "\n".join(wrong)


def test_values_below_the_key(cloud: Harness, admin: Client) -> None:
    """The key that a body has is named after its noun; an action's is its own."""
    wrong: list[str] = []
    for service in cloud.front.services:
        for route in service.routes:
            if route.method not in ("POST", "PUT", "PATCH") or route.streams:
                continue
            path = service.prefixes[0] + re.sub(r"\{[^}]*\}", NOBODY, route.path)
            last = [part for part in route.path.split("/") if part and not part.startswith("{")][-1:] or ["x"]
            plural = last[0].replace("-", "_")
            keys = {plural, plural.removesuffix("s"), re.sub(r"ies$", "y", plural), route.action or plural}
            for key in keys:
                for value in VALUES:
                    check(admin, service, route.method, path, msgspec.json.encode({key: value}), wrong)
    assert wrong == [], "\n".join(wrong)


def test_queries(cloud: Harness, admin: Client) -> None:
    wrong: list[str] = []
    for service, route, path in routes(cloud, "GET", "DELETE"):
        for query in QUERIES:
            check(admin, service, route.method, f"{path}?{query}", None, wrong)
    assert wrong == [], "\n".join(wrong)


def test_ids_that_are_none(cloud: Harness, admin: Client) -> None:
    wrong: list[str] = []
    for service in cloud.front.services:
        for route in service.routes:
            if "{" not in route.path or route.streams:
                continue
            for name in ("%00", "%FF", "%C3%A9", "x" * 5000, "-1", str(2**70), "%20", "..", "'", "%", "None"):
                path = service.prefixes[0] + re.sub(r"\{[^}]*\}", name.replace("\\", ""), route.path)
                check(admin, service, route.method, path, b"{}", wrong)
    assert wrong == [], "\n".join(wrong)


def test_without_a_token(cloud: Harness) -> None:
    """Nothing but public URLs is answered, and nothing is read before."""
    wrong: list[str] = []
    for service in cloud.front.services:
        for route in service.routes:
            path = service.prefixes[0] + re.sub(r"\{[^}]*\}", NOBODY, route.path)
            reply = cloud.nobody.request(route.method, path, b"{", latest(service))
            if route.permission is not None and reply.status != 401:
                wrong.append(f"{route.method} {path} -> {reply.status}")
    assert wrong == [], "\n".join(wrong)
