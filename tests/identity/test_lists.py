"""Filters, pages and order of identity's lists, as Keystone has them, and the headers that every answer has."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from nephos.identity.assignments import actions
from tests.harness import Client, Harness

NAMES = ("Alpha", "alphabet", "beta", "be%ta", "Zoë")


@pytest.fixture(name="cloud", scope="module")
def fixture_cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harness]:
    with Harness(tmp_path_factory.mktemp("lists")) as harness:
        yield harness


@pytest.fixture(name="admin", scope="module")
def fixture_admin(cloud: Harness) -> Client:
    admin = cloud.login("admin", "admin")
    for noun in ("user", "group", "project"):
        for name in NAMES:
            body = {"name": name, "description": f"a {noun}"}
            assert admin.post(f"/v3/{noun}s", {noun: body}).status == 201
    return admin


def names(client: Client, path: str) -> list[str]:
    reply = client.get(path)
    assert reply.status == 200, reply
    (plural,) = set(reply.json) - {"links", "truncated"}
    return [one["name"] for one in reply.json[plural] if one["name"] in NAMES]


@pytest.mark.parametrize("plural", ("users", "groups", "projects"))
@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("name=beta", {"beta"}),
        ("name=Beta", set()),
        ("name__contains=lpha", {"Alpha", "alphabet"}),
        ("name__contains=alpha", {"alphabet"}),
        ("name__icontains=ALPHA", {"Alpha", "alphabet"}),
        ("name__startswith=be", {"beta", "be%ta"}),
        ("name__istartswith=a", {"Alpha", "alphabet"}),
        ("name__endswith=ta", {"beta", "be%ta"}),
        ("name__iendswith=A", {"Alpha", "beta", "be%ta"}),
        ("name__contains=%25", {"be%ta"}),
        ("name__contains=o%C3%AB", {"Zoë"}),
        ("name__regex=b.*", set(NAMES)),
        ("nonesuch=x", set(NAMES)),
        ("name__startswith=be&name__contains=%25", {"be%ta"}),
        ("domain_id=default&name=beta", {"beta"}),
        ("domain_id=Default&name=beta", {"beta"}),
        ("domain_id=nonesuch", set()),
    ],
)
def test_filters(admin: Client, plural: str, query: str, wanted: set[str]) -> None:
    assert set(names(admin, f"/v3/{plural}?{query}")) == wanted


@pytest.mark.parametrize("plural", ("users", "groups", "projects"))
def test_pages_and_order(admin: Client, plural: str) -> None:
    whole = names(admin, f"/v3/{plural}?sort_key=name&sort_dir=asc")
    assert whole == sorted(whole)
    assert names(admin, f"/v3/{plural}?sort_key=name&sort_dir=desc") == whole[::-1]
    for limit in (1, 2, 100):
        found, path = list[str](), f"/v3/{plural}?sort_key=name&limit={limit}"
        for _ in range(20):
            reply = admin.get(path)
            rows, following = reply.json[plural], reply.json["links"]["next"]
            assert len(rows) <= limit
            found += [row["name"] for row in rows if row["name"] in NAMES]
            if following is None:
                break
            path = following.partition("5000")[2]
        assert found == whole, limit
    assert admin.get(f"/v3/{plural}?marker=nonesuch").status == 400


def test_passwords_that_end(cloud: Harness, admin: Client) -> None:
    """`password_expires_at=lt:…`, for users and for those of a group."""
    group = admin.get("/v3/groups?name=beta").json["groups"][0]["id"]
    user = admin.get("/v3/users?name=beta").json["users"][0]["id"]
    assert admin.put(f"/v3/groups/{group}/users/{user}").status == 204
    for path in ("/v3/users", f"/v3/groups/{group}/users"):
        assert names(admin, f"{path}?password_expires_at=lt:2030-01-01T00:00:00Z") == [], "they never end"
        for wrong in ("soon", "lt:soon", "is:2030-01-01T00:00:00Z"):
            assert admin.get(f"{path}?password_expires_at={wrong}").status == 400, wrong


def test_headers_and_the_choice_of_versions(cloud: Harness, admin: Client) -> None:
    for path, status in (
        ("/v3/users", 200),
        ("/v3/users/nonesuch", 404),
        ("/v3", 200),
        ("/", 300),
    ):
        reply = admin.get(path)
        assert (reply.status, reply.headers["vary"]) == (status, "X-Auth-Token"), path
    assert cloud.nobody.get("/v3/users").headers["vary"] == "X-Auth-Token"
    choice = cloud.nobody.get("/")
    assert choice.headers["location"] == choice.json["versions"]["values"][0]["links"][0]["href"]
    head = admin.request("HEAD", "/v3/users")
    assert (head.status, head.body) == (200, b"")


def test_one_users_roles_are_found_without_the_other_members_of_its_groups(
    admin: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def id_of(plural: str, name: str) -> str:
        return str(admin.get(f"/v3/{plural}?name={name}").json[plural][0]["id"])

    group, project, role = id_of("groups", "beta"), id_of("projects", "beta"), id_of("roles", "member")
    users = [id_of("users", name) for name in ("Alpha", "beta")]
    for user in users:
        assert admin.put(f"/v3/groups/{group}/users/{user}").status == 204
    assert admin.put(f"/v3/projects/{project}/groups/{group}/roles/{role}").status == 204
    everybody = admin.get(f"/v3/role_assignments?effective&scope.project.id={project}&role.id={role}").json
    assert sorted(one["user"]["id"] for one in everybody["role_assignments"]) == sorted(users)
    monkeypatch.delattr(actions, "members_of")
    found = admin.get(f"/v3/role_assignments?effective&user.id={users[0]}&role.id={role}").json["role_assignments"]
    assert [(one["user"]["id"], one["scope"]["project"]["id"]) for one in found] == [(users[0], project)]
