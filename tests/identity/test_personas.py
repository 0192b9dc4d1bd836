"""Who may do what: Keystone's documented defaults, asked over the wire by each persona."""

from __future__ import annotations

from typing import Any

import pytest

from tests.harness import Client, Harness

PERSONAS = (
    "system_admin",
    "system_reader",
    "domain_admin",
    "domain_manager",
    "domain_reader",
    "admin",
    "member",
    "nobody",
)


class World:
    """A second domain with a user, a group and a project; and one client a persona."""

    def __init__(self, cloud: Harness) -> None:
        self.admin = admin = cloud.login("admin", "admin")
        self.roles = {role["name"]: role["id"] for role in admin.get("/v3/roles").json["roles"]}
        self.domain = admin.post("/v3/domains", {"domain": {"name": "other"}}).json["domain"]["id"]
        self.project = self.make("project", name="site", domain_id=self.domain)
        self.user = self.make("user", name="joe", domain_id=self.domain)
        self.group = self.make("group", name="staff", domain_id=self.domain)
        self.demo_project = admin.get("/v3/projects?name=demo").json["projects"][0]["id"]
        self.demo_user = admin.get("/v3/users?name=demo").json["users"][0]["id"]
        self.clients = {
            "system_admin": cloud.login("admin", scope={"system": {"all": True}}),
            "admin": admin,
            "member": cloud.login("demo", "demo"),
            "nobody": cloud.nobody,
        }
        reader = self.make("user", name="auditor", password="auditor-secret")
        assert admin.put(f"/v3/system/users/{reader}/roles/{self.roles['reader']}").status == 204
        self.clients["system_reader"] = cloud.login("auditor", scope={"system": {"all": True}})
        for role in ("admin", "manager", "reader"):
            name = f"d-{role}"
            made = self.make("user", name=name, password=f"{name}-secret")
            assert admin.put(f"/v3/domains/{self.domain}/users/{made}/roles/{self.roles[role]}").status == 204
            self.clients[f"domain_{role}"] = cloud.login(name, scope={"domain": {"id": self.domain}})

    def make(self, noun: str, **values: Any) -> str:
        reply = self.admin.post(f"/v3/{noun}s", {noun: values})
        assert reply.status == 201, reply
        return str(reply.json[noun]["id"])


@pytest.fixture(name="world")
def fixture_world(cloud: Harness) -> World:
    return World(cloud)


def allowed(world: World, method: str, path: str, body: Any = None) -> set[str]:
    """Who is not turned away. 404, 400 and 409 come after the permission."""
    found = set()
    for persona in PERSONAS:
        client: Client = world.clients[persona]
        status = client.request(method, path, body).status
        assert status < 500, (persona, method, path, status)
        assert (status == 401) == (persona == "nobody"), (persona, method, path, status)
        if status not in (401, 403):
            found.add(persona)
    return found


EVERY_ADMIN = {"system_admin", "admin", "domain_admin"}
READERS = EVERY_ADMIN | {"system_reader"}
DOMAIN_READERS = READERS | {"domain_manager", "domain_reader"}


def test_reading(world: World) -> None:
    project_admins = {"system_admin", "admin"}
    readers = project_admins | {"system_reader"}
    assert allowed(world, "GET", "/v3/users") == DOMAIN_READERS
    assert allowed(world, "GET", f"/v3/users/{world.user}") == DOMAIN_READERS
    assert allowed(world, "GET", f"/v3/users/{world.demo_user}") == READERS | {"member"}
    assert allowed(world, "GET", "/v3/projects") == DOMAIN_READERS
    assert allowed(world, "GET", f"/v3/projects/{world.project}") == DOMAIN_READERS
    assert allowed(world, "GET", f"/v3/projects/{world.demo_project}") == READERS | {"member"}
    assert allowed(world, "GET", "/v3/groups") == DOMAIN_READERS
    assert allowed(world, "GET", f"/v3/groups/{world.group}/users") == DOMAIN_READERS
    assert allowed(world, "GET", "/v3/domains") == DOMAIN_READERS
    assert allowed(world, "GET", f"/v3/domains/{world.domain}") == DOMAIN_READERS
    assert allowed(world, "GET", "/v3/services") == readers
    assert allowed(world, "GET", "/v3/endpoints") == readers
    assert allowed(world, "GET", "/v3/regions") == set(PERSONAS) - {"nobody"}
    assert allowed(world, "GET", "/v3/role_assignments") == DOMAIN_READERS
    assert allowed(world, "GET", f"/v3/system/users/{world.user}/roles") == readers
    assert allowed(world, "GET", "/v3/role_inferences") == readers
    for path in ("/v3/auth/projects", "/v3/auth/domains", "/v3/auth/system", "/v3/auth/catalog"):
        assert allowed(world, "GET", path) == set(PERSONAS) - {"nobody"}


def test_a_domain_sees_only_itself(world: World) -> None:
    client = world.clients["domain_reader"]
    assert {one["domain_id"] for one in client.get("/v3/users").json["users"]} == {world.domain}
    assert [one["id"] for one in client.get("/v3/projects").json["projects"]] == [world.project]
    assert [one["id"] for one in client.get("/v3/groups").json["groups"]] == [world.group]
    assert [one["id"] for one in client.get("/v3/domains").json["domains"]] == [world.domain]
    scopes = [one["scope"] for one in client.get("/v3/role_assignments").json["role_assignments"]]
    assert scopes and all(scope.get("domain", {}).get("id") == world.domain for scope in scopes)


def test_writing(world: World) -> None:
    project_admins = {"system_admin", "admin"}
    managers = EVERY_ADMIN | {"domain_manager"}
    user = {"user": {"name": "joe", "domain_id": world.domain}}
    assert allowed(world, "POST", "/v3/users", user) == managers
    assert allowed(world, "POST", "/v3/users", {"user": {"name": "demo"}}) == managers, "into one's own domain"
    project = {"project": {"name": "site", "domain_id": world.domain}}
    assert allowed(world, "POST", "/v3/projects", project) == managers
    assert allowed(world, "POST", "/v3/projects", {"project": {"name": "demo", "domain_id": "default"}}) == EVERY_ADMIN
    assert allowed(world, "PATCH", f"/v3/users/{world.user}", {"user": {"email": "a@b"}}) == managers
    assert allowed(world, "PATCH", f"/v3/users/{world.demo_user}", {"user": {"email": "a@b"}}) == EVERY_ADMIN
    assert allowed(world, "PATCH", f"/v3/projects/{world.project}", {"project": {"description": "a"}}) == managers
    assert allowed(world, "PUT", f"/v3/groups/{world.group}/users/{world.user}") == managers
    assert allowed(world, "PUT", f"/v3/groups/{world.group}/users/{world.demo_user}") == EVERY_ADMIN
    assert allowed(world, "POST", "/v3/domains", {"domain": {"name": "other"}}) == project_admins
    assert allowed(world, "POST", "/v3/roles", {"role": {"name": "admin"}}) == project_admins
    assert allowed(world, "POST", "/v3/services", {"service": {}}) == project_admins
    assert allowed(world, "POST", "/v3/regions", {"region": {"id": "RegionOne"}}) == project_admins


def test_granting(world: World) -> None:
    managers = EVERY_ADMIN | {"domain_manager"}
    for role, who in (("member", managers), ("reader", managers), ("manager", managers), ("admin", EVERY_ADMIN)):
        path = f"/v3/projects/{world.project}/users/{world.user}/roles/{world.roles[role]}"
        assert allowed(world, "PUT", path) == who, role
        assert allowed(world, "DELETE", path) == who, role
    outside = f"/v3/projects/{world.demo_project}/users/{world.user}/roles/{world.roles['member']}"
    assert allowed(world, "PUT", outside) == EVERY_ADMIN
    system = f"/v3/system/users/{world.user}/roles/{world.roles['member']}"
    assert allowed(world, "PUT", system) == {"system_admin", "admin"}


def test_demo_looks_at_nothing_of_others(world: World) -> None:
    member = world.clients["member"]
    for path in (
        f"/v3/users/{world.user}",
        f"/v3/users/{world.user}/projects",
        f"/v3/users/{world.user}/groups",
        f"/v3/users/{world.user}/application_credentials",
        f"/v3/users/{world.user}/credentials/OS-EC2",
        f"/v3/projects/{world.project}",
        f"/v3/domains/{world.domain}",
        f"/v3/groups/{world.group}",
    ):
        assert member.get(path).status == 403, path
