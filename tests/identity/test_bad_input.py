"""Every URL of identity under every kind of nonsense: refused with a reason, never 500, nothing half-made."""

from __future__ import annotations

import re
from typing import Any

import pytest
from sqlalchemy import func, select

from nephos.identity.service import SERVICE
from nephos.kernel.db.schema import metadata
from nephos.kernel.http.routes import Route
from tests.harness import Client, Harness

NAMES = {
    "projects": "project",
    "domains": "domain",
    "users": "user",
    "groups": "group",
    "roles": "role",
    "regions": "region",
    "services": "service",
    "endpoints": "endpoint",
    "credentials": "credential",
    "application_credentials": "application_credential",
    "OS-EC2": "credential",
    "policies": "policy",
}
WRITING = [route for route in SERVICE.routes if route.method in ("POST", "PUT", "PATCH")]
RAW = [
    b"",
    b"{",
    b"[]",
    b"null",
    b'"text"',
    b"1e999",
    b"\xff\xfe",
    b'{"project": {"name": "a\\u0000b"}}',
    b"[" * 100_000,
    b'{"auth": ' * 5_000,
]


KNOWN = {
    "project": {"name", "description", "enabled", "domain_id", "options", "tags", "parent_id"},
    "domain": {"name", "description", "enabled", "options", "tags"},
    "user": {"name", "enabled", "domain_id", "options", "password", "description"},
    "group": {"name", "description", "domain_id"},
    "role": {"name", "description", "domain_id", "options"},
    "region": {"description", "parent_region_id"},
    "service": {"type", "enabled"},
    "endpoint": {"interface", "service_id", "url", "enabled"},
    "credential": {"blob", "type", "user_id"},
    "application_credential": {"name", "description", "roles", "access_rules"},
    "endpoint_group": {"name", "description"},
    "trust": set(),
    "registered_limit": set(),
    "limit": set(),
    "policy": {"blob", "type"},
    "config": set(),
    "token": set(),
    "password": set(),
    "tag": set(),
    "v2.0": set(),
    "ec2token": set(),
    "s3token": set(),
}
WRONG_TYPES: list[dict[str, Any]] = [
    {"name": 1},
    {"name": ["a"], "enabled": "maybe"},
    {"name": "a", "enabled": "maybe"},
    {"name": "a", "domain_id": "nonesuch" * 100},
    {"name": "a", "options": []},
    {"name": "a", "description": {"a": 1}},
    {"name": "a", "tags": "red"},
    {"name": "a", "tags": ["a,b"]},
    {"name": "a", "tags": ["x"] * 81},
    {"name": "a", "roles": "all"},
    {"description": 1},
    {"parent_region_id": 1},
    {"type": 1},
    {"blob": None, "type": "ec2", "user_id": 7},
    {"blob": "{}", "type": "ec2", "user_id": "nonesuch"},
    {"interface": "sideways", "service_id": "x", "url": "http://a"},
    {"interface": "public", "service_id": "x", "url": "no url"},
    {"enabled": 2},
]


def url(route: Route, ids: dict[str, str]) -> str:
    return re.sub(r"\{(\w+)(:path)?\}", lambda found: ids.get(found[1], "nonesuch"), route.path) or "/"


def wrapper(route: Route) -> str:
    parts = [part for part in route.path.split("/") if part and not part.startswith("{")]
    return NAMES.get(parts[-1], parts[-1].rstrip("s"))


def rows(cloud: Harness) -> dict[str, int]:
    with cloud.cloud.database.read() as tx:
        tables = [table for table in metadata.sorted_tables if table.name.startswith("identity_")]
        # revocations and the epoch may move; nothing else may
        return {
            table.name: tx.scalar(select(func.count()).select_from(table))
            for table in tables
            if table.name not in ("identity_epoch",)
        }


def real_ids(admin: Client) -> dict[str, str]:
    def first(path: str, plural: str) -> str:
        return str(admin.get(path).json[plural][0]["id"])

    return {
        "project_id": first("/v3/projects?name=demo", "projects"),
        "domain_id": "default",
        "user_id": first("/v3/users?name=demo", "users"),
        "role_id": first("/v3/roles?name=reader", "roles"),
        "region_id": "RegionOne",
        "service_id": first("/v3/services?type=image", "services"),
        "endpoint_id": first("/v3/endpoints?interface=public", "endpoints"),
    }


@pytest.mark.parametrize("known", [True, False], ids=["known", "unknown"])
def test_bodies_that_are_nonsense(cloud: Harness, known: bool) -> None:
    admin = cloud.login("admin", "admin")
    ids = real_ids(admin) if known else {}
    before = rows(cloud)
    for route in WRITING:
        if route.method == "PUT" and route.permission not in ("identity:create_region", "identity:update_project_tags"):
            continue  # takes no body
        name = wrapper(route)
        typed: list[Any] = [
            {},
            {name: None},
            {name: []},
            {name: "text"},
            {name: 1},
            {name: {}, "other": {}},
            *({name: {"name": text}} for text in ("", " \t", "x" * 100_000) if "name" in KNOWN[name]),
            *({name: wrong} for wrong in WRONG_TYPES if KNOWN[name] >= wrong.keys()),
        ]
        for body in [*RAW, *typed]:
            reply = admin.request(route.method, url(route, ids), body)
            assert 400 <= reply.status < 500, (route.method, route.path, body if body in typed else body[:40], reply)
            if reply.status != 405:
                assert reply.json["error"]["message"], (route, body)
    assert rows(cloud) == before


def test_ids_of_nobody_and_strange_urls(cloud: Harness) -> None:
    admin = cloud.login("admin", "admin")
    strange = ["nonesuch", "%00", "%2F", "a" * 5000, "%F0%9F%92%A9", "%ff", "..", "'; DROP TABLE identity_user; --"]
    for route in SERVICE.routes:
        if "{" not in route.path:
            continue
        for text in strange:
            path = re.sub(r"\{(\w+)(:path)?\}", text.replace("\\", ""), route.path)
            reply = admin.request(route.method, path, {})
            assert reply.status < 500, (route.method, path, reply)


def test_query_strings_that_are_nonsense(cloud: Harness) -> None:
    admin = cloud.login("admin", "admin")
    for route in SERVICE.routes:
        if route.method != "GET" or "{" in route.path:
            continue
        for query in (
            "limit=-1", "limit=x", "limit=" + "9" * 400, "marker=nonesuch", "sort_key=password_hash", "sort_dir=up&sort_key=id",
            "name=%00", "name=%ff", "name__contains=%25", "name__regex=(", "enabled=maybe", "domain_id=",
            "password_expires_at=lt:soon", "tags=", "&&&", "=", "effective&user.id=x", "scope.domain.id=x&scope.project.id=y",
        ):  # fmt: skip
            reply = admin.get(f"{route.path}?{query}")
            assert reply.status < 500, (route.path, query, reply)


def test_names_of_all_alphabets(cloud: Harness) -> None:
    admin = cloud.login("admin", "admin")
    for name in ("Zoë", "проект", "プロジェクト", "مشروع", "🚀 rocket", "a'b\"c", "%_", "x" * 64):
        reply = admin.post("/v3/projects", {"project": {"name": name, "description": name}})
        assert reply.status == 201, (name, reply)
        made = reply.json["project"]
        assert made["name"] == name and made["description"] == name
        user = admin.post("/v3/users", {"user": {"name": name, "password": name, "city": name}})
        assert user.status == 201 and user.json["user"]["city"] == name
        assert admin.post("/v3/projects", {"project": {"name": name}}).status == 409


def test_bodies_that_are_too_large(cloud: Harness) -> None:
    admin = cloud.login("admin", "admin")
    reply = admin.post("/v3/projects", {"project": {"name": "a", "description": "x" * (2 << 20)}})
    assert reply.status == 413
