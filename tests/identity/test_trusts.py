"""Trusts: acting for another, no further than was allowed and no longer."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.harness import Client, Harness, Response

TRUSTS = "/v3/OS-TRUST/trusts"


class World:
    """demo trusts a user `worker`, who trusts nobody yet."""

    def __init__(self, cloud: Harness) -> None:
        self.cloud = cloud
        self.admin, self.demo = cloud.login("admin", "admin"), cloud.login("demo", "demo")
        self.demo_id = self.admin.get("/v3/users?name=demo").json["users"][0]["id"]
        self.project = self.admin.get("/v3/projects?name=demo").json["projects"][0]["id"]
        self.roles = {role["name"]: role["id"] for role in self.admin.get("/v3/roles").json["roles"]}
        self.ids = {
            name: self.admin.post("/v3/users", {"user": {"name": name, "password": f"{name}-secret"}}).json["user"][
                "id"
            ]
            for name in ("worker", "second")
        }
        self.worker = cloud.login("worker")

    def make(self, client: Client | None = None, **values: Any) -> Response:
        body = {
            "trustor_user_id": self.demo_id,
            "trustee_user_id": self.ids["worker"],
            "project_id": self.project,
            "impersonation": False,
            "roles": [{"name": "member"}],
            **values,
        }
        return (client or self.demo).post(TRUSTS, {"trust": body})

    def use(self, trust: str, who: str = "worker") -> Response:
        password = {"user": {"id": self.ids[who], "password": f"{who}-secret"}}
        scope = {"OS-TRUST:trust": {"id": trust}}
        auth = {"identity": {"methods": ["password"], "password": password}, "scope": scope}
        return self.cloud.nobody.post("/v3/auth/tokens", {"auth": auth})


@pytest.fixture(name="world")
def fixture_world(cloud: Harness) -> World:
    return World(cloud)


def test_the_trustee_gets_what_was_trusted(world: World) -> None:
    made = world.make()
    assert made.status == 201, made
    trust = made.json["trust"]
    assert trust["trustor_user_id"] == world.demo_id and [role["name"] for role in trust["roles"]] == ["member"]
    assert trust["remaining_uses"] is None and trust["expires_at"] is None and trust["redelegation_count"] == 0
    reply = world.use(trust["id"])
    assert reply.status == 201, reply
    token = reply.json["token"]
    assert token["user"]["name"] == "worker" and token["project"]["id"] == world.project
    assert [role["name"] for role in token["roles"]] == ["member"]
    assert token["OS-TRUST:trust"] == {
        "id": trust["id"],
        "impersonation": False,
        "trustor_user": {"id": world.demo_id},
        "trustee_user": {"id": world.ids["worker"]},
    }
    client = Client(world.cloud, reply.headers["x-subject-token"])
    assert client.get(f"{TRUSTS}/{trust['id']}").status == 200
    assert client.get(f"{TRUSTS}/{trust['id']}/roles").json["roles"][0]["name"] == "member"
    assert client.get(f"{TRUSTS}/{trust['id']}/roles/{world.roles['member']}").status == 200
    assert client.get(f"{TRUSTS}/{trust['id']}/roles/{world.roles['admin']}").status == 404


def test_impersonation_is_the_trustor(world: World) -> None:
    trust = world.make(impersonation=True).json["trust"]
    reply = world.use(trust["id"])
    assert reply.json["token"]["user"]["id"] == world.demo_id
    who = world.cloud.cloud.verify(reply.headers["x-subject-token"], None)
    assert who.user_name == "demo" and who.roles == {"member"}


def test_only_the_trustee_uses_it_and_only_the_parties_see_it(world: World) -> None:
    trust = world.make().json["trust"]
    assert world.use(trust["id"], "second").status == 403
    assert world.cloud.login("second").get(f"{TRUSTS}/{trust['id']}").status == 403
    assert world.demo.get(f"{TRUSTS}?trustor_user_id={world.demo_id}").json["trusts"][0]["id"] == trust["id"]
    assert world.demo.get(TRUSTS).status == 403
    assert world.worker.get(f"{TRUSTS}?trustee_user_id={world.ids['worker']}").status == 200
    assert world.worker.delete(f"{TRUSTS}/{trust['id']}").status == 403


def test_nobody_trusts_with_what_they_have_not(world: World) -> None:
    assert world.make(roles=[{"name": "admin"}]).status == 404
    assert world.make(roles=[]).status == 403
    assert world.make(world.worker).status == 403
    assert world.make(trustee_user_id="nonesuch").status == 404
    assert world.make(expires_at="2001-01-01T00:00:00Z").status == 400
    assert world.make(expires_at="soon").status == 400
    assert world.make(remaining_uses=0).status == 400


def test_it_ends_with_the_trustors_role_with_deletion_and_with_the_trustor(world: World) -> None:
    trust = world.make().json["trust"]
    client = Client(world.cloud, world.use(trust["id"]).headers["x-subject-token"])
    assert client.get("/v3/auth/catalog").status == 200
    grant = f"/v3/projects/{world.project}/users/{world.demo_id}/roles/{world.roles['member']}"
    assert world.admin.delete(grant).status == 204
    assert client.get("/v3/auth/catalog").status == 401
    assert world.admin.put(grant).status == 204
    assert client.get("/v3/auth/catalog").status == 200
    assert world.cloud.login("demo", "demo").delete(f"{TRUSTS}/{trust['id']}").status == 204
    assert client.get("/v3/auth/catalog").status == 401
    assert world.use(trust["id"]).status == 401
    other = world.make().json["trust"]
    client = Client(world.cloud, world.use(other["id"]).headers["x-subject-token"])
    assert world.admin.patch(f"/v3/users/{world.demo_id}", {"user": {"enabled": False}}).status == 200
    assert client.get("/v3/auth/catalog").status == 401


def test_uses_are_counted(world: World) -> None:
    trust = world.make(remaining_uses=2).json["trust"]
    replies = [world.use(trust["id"]) for _ in range(3)]
    assert [reply.status for reply in replies] == [201, 201, 401]
    last = Client(world.cloud, replies[1].headers["x-subject-token"])
    assert last.get("/v3/auth/catalog").status == 200, "the last token is as good as the first"


def test_it_expires_and_its_tokens_with_it(world: World) -> None:
    end = datetime.now(UTC) + timedelta(seconds=1)
    trust = world.make(expires_at=end.isoformat()).json["trust"]
    reply = world.use(trust["id"])
    assert reply.json["token"]["expires_at"][:19] == end.strftime("%Y-%m-%dT%H:%M:%S")
    time.sleep(1.05)
    assert world.use(trust["id"]).status == 401
    assert Client(world.cloud, reply.headers["x-subject-token"]).get("/v3/auth/catalog").status == 401


def test_its_tokens_are_not_exchanged(world: World) -> None:
    text = world.use(world.make().json["trust"]["id"]).headers["x-subject-token"]
    auth = {"identity": {"methods": ["token"], "token": {"id": text}}, "scope": {"project": {"id": world.project}}}
    assert world.cloud.nobody.post("/v3/auth/tokens", {"auth": auth}).status == 403


def test_passing_it_on(world: World) -> None:
    first = world.make(impersonation=True, allow_redelegation=True, redelegation_count=1).json["trust"]
    assert first["redelegation_count"] == 1
    client = Client(world.cloud, world.use(first["id"]).headers["x-subject-token"])
    passed = world.make(client, trustee_user_id=world.ids["second"], impersonation=True)
    assert passed.status == 201, passed
    second = passed.json["trust"]
    assert second["redelegated_trust_id"] == first["id"] and second["redelegation_count"] == 0
    assert world.make(client, trustee_user_id=world.ids["second"], roles=[{"name": "reader"}]).status == 403
    text = world.use(second["id"], "second").headers["x-subject-token"]
    third = Client(world.cloud, text)
    assert third.get("/v3/auth/catalog").status == 200
    assert world.make(third, trustee_user_id=world.ids["worker"], impersonation=True).status == 403
    assert world.demo.delete(f"{TRUSTS}/{first['id']}").status == 204
    assert third.get("/v3/auth/catalog").status == 401, "what was passed on goes with it"
