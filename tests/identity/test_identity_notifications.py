"""What identity tells. The oracle of a CADF event is pyCADF: it makes the same one out of its own classes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pycadf import cadftaxonomy, cadftype, event, host, reason, resource, timestamp

from nephos.settings import Settings
from tests.harness import Client, Harness
from tests.told import Message, Told, listening


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[Harness]:
    with Harness(tmp_path, listening) as made:
        yield made


def as_pycadf_makes_it(told: dict[str, Any], *extra: str) -> dict[str, Any]:
    """The same event, made by the library that Keystone makes its own with."""
    asked = told["initiator"]
    initiator = resource.Resource(
        id=asked["id"], typeURI=asked["typeURI"], name=asked["name"], host=host.Host(**asked["host"])
    )
    for name in ("user_id", "username", "project_id", "domain_id", "request_id", "global_request_id"):
        if name in asked:
            setattr(initiator, name, asked[name])
    why = told.get("reason")
    made = event.Event(
        eventType=cadftype.EVENTTYPE_ACTIVITY,
        id=told["id"],
        eventTime=told["eventTime"],
        action=told["action"],
        outcome=told["outcome"],
        initiator=initiator,
        target=resource.Resource(id=told["target"]["id"], typeURI=told["target"]["typeURI"]),
        observer=resource.Resource(id=told["observer"]["id"], typeURI=cadftaxonomy.SERVICE_SECURITY),
        reason=reason.Reason(why["reasonType"], why["reasonCode"]) if why else None,
    )
    for name in extra:
        setattr(made, name, told[name])
    assert made.is_valid()
    assert timestamp.is_valid(told["eventTime"])
    return made.as_dict()  # type: ignore[no-any-return]


def test_a_users_life_in_cadf(harness: Harness) -> None:
    admin, told = harness.login("admin", "admin"), Told(harness)
    admin.headers["USER-AGENT"] = "a-client/1"
    admin.headers["X-OpenStack-Request-ID"] = "req-12345678-1234-1234-1234-123456789012"
    reply = admin.post("/v3/users", {"user": {"name": "bob", "password": "hidden one", "email": "b@c.d"}})
    user_id = reply.json["user"]["id"]
    [created] = told.new()
    assert (created.event, created.topic, created.service) == (
        "identity.user.created",
        "notifications.info",
        "keystone",
    )
    payload = created.payload
    assert payload == as_pycadf_makes_it(payload, "resource_info")
    assert (payload["action"], payload["outcome"], payload["resource_info"]) == ("created.user", "success", user_id)
    assert payload["target"] == {"id": user_id, "typeURI": cadftaxonomy.SECURITY_ACCOUNT_USER}
    asked = payload["initiator"]
    me = admin.get("/v3/auth/tokens", **{"X-Subject-Token": admin.token or ""}).json["token"]
    assert (asked["user_id"], asked["project_id"]) == (me["user"]["id"], me["project"]["id"])
    assert asked["host"]["agent"] == "a-client/1"
    assert asked["request_id"] == reply.headers["x-openstack-request-id"]
    assert asked["global_request_id"] == "req-12345678-1234-1234-1234-123456789012"
    catalog = admin.get("/v3/services?type=identity").json["services"]
    assert payload["observer"]["id"] == catalog[0]["id"]
    assert "hidden one" not in str(created.whole)
    assert admin.patch(f"/v3/users/{user_id}", {"user": {"password": "another", "enabled": True}}).status == 200
    assert [each.payload["action"] for each in told.new()] == ["updated.user"]
    change = {"user": {"original_password": "another", "password": "a third"}}
    assert harness.nobody.post(f"/v3/users/{user_id}/password", change).status == 204
    assert told.events() == ["identity.user.updated"]
    admin.delete(f"/v3/users/{user_id}")
    assert [each.payload["action"] for each in told.new()] == ["deleted.user"]


def test_log_ins(tmp_path: Path) -> None:
    def all_of_them(settings: Settings) -> None:
        listening(settings)
        settings.notifications.omit = ()
        settings.security.lockout_attempts = 2

    with Harness(tmp_path, all_of_them) as harness:
        admin, told = harness.login("admin", "admin"), Told(harness)
        user_id = admin.post("/v3/users", {"user": {"name": "bob", "password": "right"}}).json["user"]["id"]
        told.new()
        harness.login("bob", password="right")
        for _ in range(3):
            _fails(harness.nobody, "bob", "wrong")
        _fails(harness.nobody, "nobody at all", "wrong")
        messages = told.new()
    assert [each.event for each in messages] == ["identity.authenticate"] * 4
    assert [each.payload["outcome"] for each in messages] == ["success", "failure", "failure", "failure"]
    for each in messages:
        assert each.payload == as_pycadf_makes_it(each.payload)
        assert each.payload["initiator"]["user_id"] == user_id
        assert each.payload["initiator"]["username"] == "bob"
        assert "wrong" not in str(each.whole) and "right" not in str(each.whole)
    assert messages[3].payload["reason"] == {
        "reasonType": f"The account is locked for user: {user_id}",
        "reasonCode": "401",
    }


def test_good_log_ins_are_left_out_unless_asked_for(harness: Harness) -> None:
    told = Told(harness)
    harness.login("demo", "demo")
    assert told.new() == []
    _fails(harness.nobody, "demo", "wrong")
    assert told.events() == ["identity.authenticate"]


def _fails(client: Client, name: str, password: str) -> None:
    user = {"name": name, "domain": {"id": "default"}, "password": password}
    body = {"auth": {"identity": {"methods": ["password"], "password": {"user": user}}}}
    assert client.post("/v3/auth/tokens", body).status == 401


def test_assignments_say_who_has_what_where(harness: Harness) -> None:
    admin, told = harness.login("admin", "admin"), Told(harness)
    user = admin.post("/v3/users", {"user": {"name": "bob"}}).json["user"]["id"]
    role = admin.get("/v3/roles?name=reader").json["roles"][0]["id"]
    project = admin.get("/v3/projects?name=demo").json["projects"][0]["id"]
    told.new()
    for place, expected in (
        (f"projects/{project}", {"project": project}),
        ("domains/default", {"domain": "default"}),
        ("system", {"system": "all"}),
    ):
        path = f"/v3/{place}/users/{user}/roles/{role}"
        assert admin.put(path).status == 204
        assert admin.put(path).status == 204, "again: nothing"
        assert admin.delete(path).status == 204
        given, taken = told.new()
        wanted = {**expected, "user": user, "role": role, "inherited_to_projects": False}
        for each, operation in ((given, "created"), (taken, "deleted")):
            assert each.event == f"identity.role_assignment.{operation}"
            assert each.payload["action"] == f"{operation}.role_assignment"
            assert {name: each.payload[name] for name in wanted} == wanted
            assert each.payload == as_pycadf_makes_it(each.payload, *wanted)


def test_everything_that_keystone_tells_of(harness: Harness) -> None:
    admin, told = harness.login("admin", "admin"), Told(harness)
    ids: dict[str, str] = {}
    new: dict[str, Any] = {"description": "new"}
    bodies: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
        "group": ({"name": "g"}, new),
        "project": ({"name": "p"}, new),
        "domain": ({"name": "d"}, {"enabled": False}),
        "role": ({"name": "r"}, new),
        "region": ({"description": "x"}, new),
        "service": ({"type": "t", "name": "n"}, new),
        "policy": ({"type": "application/json", "blob": "{}"}, {"blob": "[]"}),
    }
    plural = {"policy": "policies"}
    for name, (body, change) in bodies.items():
        path = f"/v3/{plural.get(name, name + 's')}"
        ids[name] = admin.post(path, {name: body}).json[name]["id"]
        assert told.events() == [f"identity.{name}.created"]
        assert admin.patch(f"{path}/{ids[name]}", {name: change}).status == 200
        expected = [f"identity.{name}.updated"]
        assert told.events() == (["identity.project.updated", *expected] if name == "domain" else expected), name
    user = admin.post("/v3/users", {"user": {"name": "bob", "domain_id": "default"}}).json["user"]["id"]
    told.new()
    admin.put(f"/v3/groups/{ids['group']}/users/{user}")
    admin.delete(f"/v3/groups/{ids['group']}/users/{user}")
    assert [(each.event, each.payload["resource_info"]) for each in told.new()] == [
        ("identity.group.updated", ids["group"])
    ] * 2
    for name in ("group", "project", "role", "region", "service", "policy"):
        assert admin.delete(f"/v3/{plural.get(name, name + 's')}/{ids[name]}").status == 204
        assert told.events() == [f"identity.{name}.deleted"]
    admin.delete(f"/v3/domains/{ids['domain']}")
    assert told.events() == ["identity.project.deleted", "identity.domain.deleted"]


def test_the_basic_format(tmp_path: Path) -> None:
    def basic(settings: Settings) -> None:
        listening(settings)
        settings.notifications.format = "basic"

    with Harness(tmp_path, basic) as harness:
        admin, told = harness.login("admin", "admin"), Told(harness)
        reply = admin.post("/v3/groups", {"group": {"name": "g"}})
        group, request = reply.json["group"]["id"], reply.headers["x-openstack-request-id"]
        assert _only(told).payload == {"resource_info": group, "request_id": request}
        user = admin.post("/v3/users", {"user": {"name": "bob"}}).json["user"]["id"]
        told.new()
        admin.put(f"/v3/groups/{group}/users/{user}")
        payload = _only(told).payload
        assert payload.pop("request_id").startswith("req-")
        assert payload == {
            "resource_info": group,
            "actor_id": user,
            "actor_type": "user",
            "actor_operation": "added",
        }


def _only(told: Told) -> Message:
    [message] = told.new()
    return message
