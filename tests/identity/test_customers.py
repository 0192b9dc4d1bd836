"""A domain is a customer: its owner runs it alone and reaches nothing else (S2-08, S3-17).

The owner has the role manager on the domain, which is what Keystone's defaults have for this: the role admin, on whatever
scope, is the operator's and rules every domain.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from tests.harness import Client, Harness, Response


class Customer(NamedTuple):
    """One domain with its owner, logged in to it, and what the operator made there."""

    domain: str
    owner_id: str
    owner: Client
    project: str
    user: str
    group: str


class Operator:
    """The cloud's administrator."""

    def __init__(self, cloud: Harness) -> None:
        self.cloud, self.admin = cloud, cloud.login("admin", "admin")
        self.roles = {role["name"]: str(role["id"]) for role in self.admin.get("/v3/roles").json["roles"]}

    def make(self, noun: str, **values: Any) -> str:
        return made(self.admin, noun, **values)

    def customer(self, name: str, role: str = "manager") -> Customer:
        domain = self.make("domain", name=name)
        owner = self.make("user", name=f"{name}-owner", password="owner-secret", domain_id=domain)
        assert self.admin.put(f"/v3/domains/{domain}/users/{owner}/roles/{self.roles[role]}").status == 204
        things = {
            noun: self.make(noun, name=f"{name}-{noun}", domain_id=domain) for noun in ("project", "user", "group")
        }
        return Customer(domain, owner, login(self.cloud, owner, "owner-secret", {"domain": {"id": domain}}), **things)


def made(client: Client, noun: str, **values: Any) -> str:
    reply = client.post(f"/v3/{noun}s", {noun: values})
    assert reply.status == 201, reply
    return str(reply.json[noun]["id"])


def ask(cloud: Harness, user: str, password: str, scope: Any) -> Response:
    known = {"methods": ["password"], "password": {"user": {"id": user, "password": password}}}
    return cloud.nobody.post("/v3/auth/tokens", {"auth": {"identity": known, "scope": scope}})


def login(cloud: Harness, user: str, password: str, scope: Any) -> Client:
    reply = ask(cloud, user, password, scope)
    assert reply.status == 201, reply
    return Client(cloud, reply.headers["x-subject-token"])


@pytest.fixture(name="operator")
def fixture_operator(cloud: Harness) -> Operator:
    return Operator(cloud)


@pytest.mark.parametrize("role", ("manager", "admin"))
def test_an_owner_runs_its_domain(cloud: Harness, operator: Operator, role: str) -> None:
    acme, roles = operator.customer("acme", role), operator.roles
    owner, domain = acme.owner, acme.domain
    project = made(owner, "project", name="shop", domain_id=domain, tags=["till"])
    leaf = made(owner, "project", name="branch", domain_id=domain, parent_id=project)
    zoe = made(owner, "user", name="zoe", password="zoe-secret", domain_id=domain)
    staff = made(owner, "group", name="staff", domain_id=domain)
    assert owner.put(f"/v3/groups/{staff}/users/{zoe}").status == 204
    for place, name in ((f"projects/{project}/groups/{staff}", "member"), (f"projects/{leaf}/users/{zoe}", "reader"),
                        (f"domains/{domain}/users/{zoe}", "manager")):  # fmt: skip
        assert owner.put(f"/v3/{place}/roles/{roles[name]}").status == 204, place
    member = login(cloud, zoe, "zoe-secret", {"project": {"id": project}})
    assert member.get("/compute/v2.1/servers").status == 200
    assert login(cloud, zoe, "zoe-secret", {"domain": {"id": domain}}).get("/v3/users").status == 200

    names = {key: {one["name"] for one in owner.get(f"/v3/{key}").json[key]} for key in ("users", "projects", "groups")}
    assert names == {
        "users": {"acme-owner", "acme-user", "zoe"},
        "projects": {"acme-project", "shop", "branch"},
        "groups": {"acme-group", "staff"},
    }
    scopes = [one["scope"] for one in owner.get("/v3/role_assignments").json["role_assignments"]]
    places = {place["id"] for scope in scopes for place in scope.values()}
    assert places == {project, leaf, domain}

    assert owner.patch(f"/v3/projects/{project}", {"project": {"description": "open"}}).status == 200
    assert owner.patch(f"/v3/users/{zoe}", {"user": {"password": "other-secret"}}).status == 200
    assert member.get("/compute/v2.1/servers").status == 401, "a new password ends the tokens of the old one"
    assert owner.patch(f"/v3/users/{zoe}", {"user": {"enabled": False}}).status == 200
    assert ask(cloud, zoe, "other-secret", {"project": {"id": project}}).status == 401
    assert owner.delete(f"/v3/projects/{project}/groups/{staff}/roles/{roles['member']}").status == 204
    for path in (f"users/{zoe}", f"groups/{staff}", f"projects/{leaf}", f"projects/{project}"):
        assert owner.delete(f"/v3/{path}").status == 204, path


def test_an_owner_reaches_nothing_else(cloud: Harness, operator: Operator) -> None:
    """Each try is refused, and what it was about is as it was."""
    acme, other, roles = operator.customer("acme"), operator.customer("other"), operator.roles
    owner, system = acme.owner, "/v3/system"
    before = snapshot(operator)
    tries: list[tuple[str, str, Any]] = []
    for role in ("admin", "service"):
        for place in (f"projects/{acme.project}", f"domains/{acme.domain}"):
            tries += [
                ("PUT", f"/v3/{place}/users/{acme.owner_id}/roles/{roles[role]}", None),
                ("PUT", f"/v3/{place}/groups/{acme.group}/roles/{roles[role]}", None),
            ]
        tries.append(("PUT", f"/v3/OS-INHERIT/domains/{acme.domain}/users/{acme.owner_id}/roles/{roles[role]}"
                             "/inherited_to_projects", None))  # fmt: skip
        tries.append(("PUT", f"{system}/users/{acme.owner_id}/roles/{roles[role]}", None))
    for role in ("manager", "member", "reader"):
        tries += [
            ("PUT", f"{system}/users/{acme.owner_id}/roles/{roles[role]}", None),
            ("PUT", f"{system}/groups/{acme.group}/roles/{roles[role]}", None),
            ("PUT", f"/v3/projects/{other.project}/users/{acme.user}/roles/{roles[role]}", None),
            ("PUT", f"/v3/projects/{other.project}/groups/{acme.group}/roles/{roles[role]}", None),
            ("PUT", f"/v3/domains/{other.domain}/users/{acme.user}/roles/{roles[role]}", None),
            ("PUT", f"/v3/domains/default/users/{acme.owner_id}/roles/{roles[role]}", None),
            ("PUT", f"/v3/projects/{acme.project}/users/{other.user}/roles/{roles[role]}", None),
            ("PUT", f"/v3/projects/{acme.project}/groups/{other.group}/roles/{roles[role]}", None),
            ("DELETE", f"/v3/domains/{other.domain}/users/{other.owner_id}/roles/{roles[role]}", None),
        ]
    tries += [
        # roles that mean more than they should
        ("POST", "/v3/roles", {"role": {"name": "god"}}),
        ("POST", "/v3/roles", {"role": {"name": "admin", "domain_id": acme.domain}}),
        ("PUT", f"/v3/roles/{roles['member']}/implies/{roles['admin']}", None),
        ("PATCH", f"/v3/roles/{roles['member']}", {"role": {"name": "admin2"}}),
        ("DELETE", f"/v3/roles/{roles['admin']}", None),
        # other domains, and over their borders
        ("POST", "/v3/domains", {"domain": {"name": "mine"}}),
        ("POST", "/v3/projects", {"project": {"name": "mine", "is_domain": True, "domain_id": acme.domain}}),
        ("POST", "/v3/projects", {"project": {"name": "mine", "is_domain": True}}),
        ("PATCH", f"/v3/domains/{acme.domain}", {"domain": {"name": "renamed"}}),
        ("DELETE", f"/v3/domains/{other.domain}", None),
        ("POST", "/v3/projects", {"project": {"name": "x", "domain_id": other.domain}}),
        ("POST", "/v3/projects", {"project": {"name": "x", "domain_id": acme.domain, "parent_id": other.project}}),
        ("POST", "/v3/projects", {"project": {"name": "x", "parent_id": other.project}}),
        ("POST", "/v3/users", {"user": {"name": "x", "domain_id": other.domain}}),
        ("POST", "/v3/users", {"user": {"name": "x", "domain_id": "default"}}),
        ("POST", "/v3/groups", {"group": {"name": "x", "domain_id": other.domain}}),
        ("PATCH", f"/v3/users/{acme.user}", {"user": {"domain_id": other.domain}}),
        ("PATCH", f"/v3/groups/{acme.group}", {"group": {"domain_id": other.domain}}),
        ("PATCH", f"/v3/projects/{acme.project}", {"project": {"domain_id": other.domain}}),
        ("PATCH", f"/v3/projects/{acme.project}", {"project": {"parent_id": other.project}}),
        ("PATCH", f"/v3/projects/{acme.project}", {"project": {"is_domain": True}}),
        ("PATCH", f"/v3/projects/{acme.domain}", {"project": {"enabled": False}}),
        ("PUT", f"/v3/groups/{acme.group}/users/{other.user}", None),
        ("PUT", f"/v3/groups/{other.group}/users/{acme.user}", None),
        ("DELETE", f"/v3/groups/{other.group}/users/{acme.user}", None),
        # what belongs to another customer
        ("PATCH", f"/v3/users/{other.user}", {"user": {"password": "stolen"}}),
        ("PATCH", f"/v3/projects/{other.project}", {"project": {"enabled": False}}),
        ("PUT", f"/v3/projects/{other.project}/tags", {"tags": ["x"]}),
        ("DELETE", f"/v3/users/{other.user}", None),
        ("DELETE", f"/v3/groups/{other.group}", None),
        ("DELETE", f"/v3/projects/{other.project}", None),
        ("GET", f"/v3/users/{other.user}", None),
        ("GET", f"/v3/groups/{other.group}/users", None),
        ("GET", f"/v3/projects/{other.project}", None),
        ("GET", f"/v3/domains/{other.domain}", None),
        ("GET", f"/v3/users/{other.user}/projects", None),
        ("GET", f"/v3/users/{other.user}/groups", None),
        ("GET", f"/v3/users/{other.user}/application_credentials", None),
        ("GET", f"/v3/projects/{other.project}/users/{other.user}/roles", None),
        ("GET", f"{system}/users/{acme.owner_id}/roles", None),
        ("POST", f"/v3/users/{other.user}/credentials/OS-EC2", {"tenant_id": other.project}),
        ("POST", "/v3/credentials", {"credential": {"user_id": other.user, "type": "cert", "blob": "x"}}),
        ("POST", "/v3/credentials", {"credential": {"user_id": acme.user, "type": "totp", "blob": "x"}}),
        # the operator's own
        ("GET", "/v3/services", None),
        ("GET", "/v3/endpoints", None),
        ("POST", "/v3/regions", {"region": {"id": "mine"}}),
        ("POST", "/v3/limits", {"limits": []}),
        ("PUT", f"/v3/domains/{acme.domain}/config", {"config": {"identity": {"driver": "sql"}}}),
        ("GET", "/v3/OS-TRUST/trusts", None),
        ("GET", "/nephos/v1/hosts", None),
        ("GET", "/compute/v2.1/servers?all_tenants=1", None),
        ("POST", "/compute/v2.1/flavors", {"flavor": {"name": "x", "ram": 1, "vcpus": 1, "disk": 0}}),
    ]
    wrong = []
    for method, path, body in tries:
        reply = owner.request(method, path, body)
        # a try that is nonsense by itself may be 400; that a user is in no group of another's may be 404
        if reply.status not in (400, 403, 404):
            wrong.append(f"{method} {path} {body}: {reply.status} {reply.body[:200]!r}")
    assert not wrong, "\n".join(wrong)
    assert snapshot(operator) == before


def test_an_owner_sees_no_other_in_lists(operator: Operator) -> None:
    acme, other = operator.customer("acme"), operator.customer("other")
    secrets = [other.domain, other.project, other.user, other.group, other.owner_id, "other-"]
    for path in ("users", "groups", "projects", "domains", "role_assignments", "role_assignments?include_names=1", "credentials",
                 "roles", "auth/projects", "auth/domains", "regions", "limits", "registered_limits"):  # fmt: skip
        for query in ("", f"domain_id={other.domain}", f"scope.domain.id={other.domain}", f"scope.project.id={other.project}",
                      f"user.id={other.user}", f"user_id={other.user}", f"parent_id={other.domain}", "effective", "name=other-user",
                      f"id={other.user}", "include_subtree"):  # fmt: skip
            reply = acme.owner.get(f"/v3/{path}{'&' if '?' in path else '?'}{query}")
            assert reply.status in (200, 400, 403), (path, query, reply)
            told = [word for word in secrets if word.encode() in reply.body.replace(query.encode(), b"")]
            assert not (reply.status == 200 and told), (path, query, told)


def test_a_role_of_a_domain_stays_in_it(cloud: Harness, operator: Operator) -> None:
    """The operator makes a role that is one customer's; another customer cannot use it, and its owner gets no more by it."""
    acme, other = operator.customer("acme"), operator.customer("other")
    local = operator.make("role", name="cashier", domain_id=acme.domain)
    operator.admin.put(f"/v3/roles/{local}/implies/{operator.roles['reader']}")
    path = f"/v3/projects/{acme.project}/users/{acme.user}/roles/{local}"
    theirs = f"/v3/projects/{other.project}/users/{other.user}/roles/{local}"
    assert operator.admin.put(path).status == 204
    assert operator.admin.put(theirs).status in (400, 403), "not in another domain, not even by the operator"
    assert other.owner.put(theirs).status in (400, 403)
    assert other.owner.get(f"/v3/roles/{local}").status == 403


def snapshot(operator: Operator) -> dict[str, Any]:
    """All that identity holds, as the operator sees it."""
    nouns = (
        "users",
        "groups",
        "projects",
        "domains",
        "roles",
        "role_assignments",
        "role_inferences",
        "regions",
        "credentials",
    )
    return {noun: operator.admin.get(f"/v3/{noun}").json[noun] for noun in nouns}
