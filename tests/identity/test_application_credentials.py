"""Application credentials: what their tokens may and may not do."""

from __future__ import annotations

from typing import Any

from tests.harness import Client, Harness, Response


def make(client: Client, user_id: str, **values: Any) -> dict[str, Any]:
    reply = client.post(f"/v3/users/{user_id}/application_credentials", {"application_credential": values})
    assert reply.status == 201, reply
    return dict(reply.json["application_credential"])


def use(cloud: Harness, made: dict[str, Any], **more: Any) -> Response:
    method = {"id": made["id"], "secret": made["secret"]}
    auth = {"identity": {"methods": ["application_credential"], "application_credential": method}, **more}
    return cloud.nobody.post("/v3/auth/tokens", {"auth": auth})


def me(client: Client) -> dict[str, Any]:
    return dict(client.get("/v3/auth/tokens", **{"X-Subject-Token": client.token or ""}).json["token"])


def test_it_carries_the_roles_of_its_maker_and_dies_with_them(cloud: Harness) -> None:
    demo, admin = cloud.login("demo", "demo"), cloud.login("admin", "admin")
    mine = me(demo)
    made = make(demo, mine["user"]["id"], name="deploy", roles=[{"name": "reader"}])
    assert [role["name"] for role in made["roles"]] == ["reader"]
    reply = use(cloud, made)
    assert reply.status == 201
    token = reply.json["token"]
    assert [role["name"] for role in token["roles"]] == ["reader"]
    assert token["application_credential"] == {"id": made["id"], "name": "deploy", "restricted": True}
    client = Client(cloud, reply.headers["x-subject-token"])
    assert client.get("/v3/auth/projects").status == 200
    member = next(role["id"] for role in mine["roles"] if role["name"] == "member")
    grant = f"/v3/projects/{mine['project']['id']}/users/{mine['user']['id']}/roles/{member}"
    assert admin.delete(grant).status == 204
    assert client.get("/v3/auth/projects").status == 401
    assert admin.put(grant).status == 204
    assert use(cloud, made).status == 401, "it went with the role, and does not come back with it"


def test_a_restricted_one_makes_no_others(cloud: Harness) -> None:
    demo = cloud.login("demo", "demo")
    user_id = me(demo)["user"]["id"]
    restricted = Client(cloud, use(cloud, make(demo, user_id, name="a")).headers["x-subject-token"])
    path = f"/v3/users/{user_id}/application_credentials"
    assert restricted.post(path, {"application_credential": {"name": "b"}}).status == 403
    free = Client(cloud, use(cloud, make(demo, user_id, name="c", unrestricted=True)).headers["x-subject-token"])
    assert free.post(path, {"application_credential": {"name": "b"}}).status == 201
    assert restricted.get("/v3/credentials").status == 403


def test_it_is_bound_to_its_project_and_never_exchanged(cloud: Harness) -> None:
    demo = cloud.login("demo", "demo")
    made = make(demo, me(demo)["user"]["id"], name="a", roles=[{"name": "reader"}])
    reply = use(cloud, made)
    text = reply.headers["x-subject-token"]
    again = {"identity": {"methods": ["token"], "token": {"id": text}}}
    exchanged = cloud.nobody.post("/v3/auth/tokens", {"auth": again})
    assert exchanged.status == 403 and "delegated token" in exchanged.json["error"]["message"]
    assert use(cloud, made, scope={"system": {"all": True}}).status == 401
    other = {"project": {"name": "service", "domain": {"id": "default"}}}
    assert use(cloud, made, scope=other).status == 401


def test_access_rules_bound_the_calls(cloud: Harness) -> None:
    demo = cloud.login("demo", "demo")
    rules = [{"service": "identity", "method": "GET", "path": "/v3/auth/*"}]
    made = make(demo, me(demo)["user"]["id"], name="a", access_rules=rules)
    client = Client(cloud, use(cloud, made).headers["x-subject-token"])
    assert client.get("/v3/auth/projects").status == 200
    assert client.get("/identity/v3/auth/projects").status == 200
    assert client.get("/v3/regions").status == 401
    assert client.delete("/v3/auth/tokens", **{"X-Subject-Token": client.token or ""}).status == 401


def test_wrong_secret_and_wrong_bodies(cloud: Harness) -> None:
    demo = cloud.login("demo", "demo")
    user_id = me(demo)["user"]["id"]
    made = make(demo, user_id, name="a")
    assert use(cloud, {**made, "secret": "wrong"}).status == 401
    path = f"/v3/users/{user_id}/application_credentials"
    for wrong in (
        {"name": "a"},
        {"name": ""},
        {"name": 1},
        {},
        {"name": "b", "roles": [{"name": "admin"}]},
        {"name": "b", "roles": [{"name": "nonesuch"}]},
        {"name": "b", "expires_at": "yesterday"},
        {"name": "b", "expires_at": "2001-01-01T00:00:00Z"},
        {"name": "b", "access_rules": [{"service": "compute"}]},
        {"name": "b", "access_rules": [{"service": "compute", "method": "BREW", "path": "/v2.1"}]},
    ):
        reply = demo.post(path, {"application_credential": wrong})
        assert reply.status in (400, 404, 409), (wrong, reply)
    other = cloud.login("admin", "admin")
    assert other.post(path, {"application_credential": {"name": "x"}}).status == 403
