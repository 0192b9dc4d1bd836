"""The operator asks who may do what, and is told which line of which file is wrong while the cloud goes on."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from nephos.cli import doctor as command
from tests.harness import Client, Harness


class Operator:
    def __init__(self, cloud: Harness) -> None:
        self.cloud, self.admin = cloud, cloud.login("admin", "admin")
        self.folder = cloud.cloud.settings.state / "policy"
        self.folder.mkdir()

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text)
        self.look()
        return path

    def look(self) -> None:
        """As a request a second later does."""
        policies = self.cloud.cloud.policies
        policies._next_look = 0.0
        for policy in policies.of.values():
            policy._next_look = 0.0
        policies.refresh()

    def check(self, *words: str, user: str = "demo", target: dict[str, Any] | None = None, **scope: Any) -> Any:
        body: dict[str, Any] = {"user": user, "scope": scope or {"project": "demo"}, "target": target}
        if len(words) == 1:
            body["rule"] = words[0]
        else:
            body.update(zip(("method", "path", "action"), words, strict=False))
        reply = self.admin.post("/nephos/v1/policy/check", body)
        assert reply.status == 200, reply
        return reply.json

    def problems(self) -> list[str]:
        shown: list[str] = self.admin.get("/nephos/v1/policy?service=image").json["problems"]
        return shown


@pytest.fixture
def operator(cloud: Harness) -> Operator:
    return Operator(cloud)


def test_the_rules_in_force(operator: Operator) -> None:
    found = operator.admin.get("/nephos/v1/policy").json
    assert found["problems"] == []
    assert {rule["service"] for rule in found["rules"]} == set(operator.cloud.cloud.policies.of)
    (one,) = operator.admin.get("/nephos/v1/policy?rule=identity:list_users").json["rules"]
    assert one["source"] == "default" and one["operations"] == "GET /v3/users" and "role:reader" in one["check_str"]
    path = operator.write("identity.yaml", '# ours\n"identity:list_users": "role:member"\n')
    (one,) = operator.admin.get("/nephos/v1/policy?rule=identity:list_users").json["rules"]
    assert one["source"] == f"{path}:2" and one["check_str"] == "role:member"
    assert operator.admin.get("/nephos/v1/policy?rule=nonesuch").status == 404
    assert operator.admin.get("/nephos/v1/policy?service=nonesuch").status == 404
    assert operator.cloud.login("demo", "demo").get("/nephos/v1/policy").status == 403


@pytest.mark.parametrize(
    ("words", "scope", "allowed", "rule"),
    [
        (("identity:list_users",), {"project": "demo"}, False, "identity:list_users"),
        (("GET", "/v3/users"), {"project": "demo"}, False, "identity:list_users"),
        (("get", "/identity/v3/users/"), {"project": "demo"}, False, "identity:list_users"),
        (("POST", "/compute/v2.1/servers"), {"project": "demo"}, True, "os_compute_api:servers:create"),
        (("POST", "/compute/v2.1/servers"), {}, True, None),
        (
            ("POST", "/compute/v2.1/servers/some/action", "os-start"),
            {"project": "demo"},
            True,
            "os_compute_api:servers:start",
        ),
        (("POST", "/compute/v2.1/servers/some/action", "os-resetState"), {"project": "demo"}, False, None),
        (("HEAD", "/v3/auth/tokens"), {"project": "demo"}, True, "identity:check_token"),
        (("POST", "/network/v2.0/networks"), {"system": True}, False, None),
        (("GET", "/nephos/v1/hosts"), {"project": "demo"}, False, "nephos:hosts:list"),
        (("POST", "/v3/auth/tokens"), {"project": "demo"}, True, None),
    ],
)
def test_may_this_user_do_this(
    operator: Operator, words: tuple[str, ...], scope: dict[str, Any], allowed: bool, rule: str | None
) -> None:
    target = {"target.token.user_id": "x"} if "tokens" in words[-1] else None
    found = operator.check(*words, target=target, **scope)
    if words[0] == "HEAD":
        allowed = found["allowed"]
    assert found["allowed"] is allowed, found
    assert rule is None or found["rule"] == rule


def test_the_answer_is_the_one_that_a_request_gets(operator: Operator) -> None:
    demo = operator.cloud.login("demo", "demo")
    for path in (
        "/v3/users",
        "/v3/projects",
        "/v3/regions",
        "/v3/limits",
        "/compute/v2.1/os-hypervisors",
        "/compute/v2.1/servers",
    ):
        status = demo.get(path).status
        assert operator.check("GET", path)["allowed"] is (status == 200), (path, status)
    operator.write("compute.yaml", '"os_compute_api:os-hypervisors:list": ""\n')
    assert operator.check("GET", "/compute/v2.1/os-hypervisors")["allowed"]
    assert demo.get("/compute/v2.1/os-hypervisors").status == 200


def test_which_part_of_the_rule_says_so(operator: Operator) -> None:
    project = operator.check("GET", "/compute/v2.1/servers")["target"]["project_id"]
    own = operator.check("os_compute_api:servers:show", target={"project_id": project})
    other = operator.check("os_compute_api:servers:show", target={"project_id": "another"})
    assert own["allowed"] and not other["allowed"]
    assert own["roles"] == ["member", "reader"]
    assert "os_compute_api:servers:show (default) says no" in other["reason"]
    flat: list[str] = []

    def walk(part: dict[str, Any]) -> None:
        flat.append(f"{part['allowed']} {part['text']} {part['note']}")
        for child in part["children"]:
            walk(child)

    walk(other["explanation"])
    assert any("project_id:%(project_id)s" in line and "another" in line and line.startswith("False") for line in flat)


def test_who_and_where_must_exist(operator: Operator) -> None:
    ask = operator.admin.post
    path = "/nephos/v1/policy/check"
    assert ask(path, {"user": "nonesuch", "rule": "identity:list_users"}).status == 404
    assert ask(path, {"user": "demo", "rule": "nonesuch"}).status == 404
    assert ask(path, {"user": "demo", "method": "GET", "path": "/nowhere"}).status == 404
    assert ask(path, {"user": "demo", "rule": "context_is_admin"}).status in (400, 404)
    assert ask(path, {"user": "demo"}).status == 400
    needs = ask(path, {"user": "demo", "method": "POST", "path": "/compute/v2.1/servers/x/action"})
    assert needs.status == 400 and "os-start" in needs.json["error"]["message"]
    refused = operator.check("identity:list_users", project="admin")
    assert not refused["allowed"] and "no access to project admin" in refused["reason"]
    assert not operator.check("identity:list_users", project="nonesuch")["allowed"]


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ('"image_list": "role:reader"\n', None, ""),
        ('"get_images": "role:reader or ("\n', 1, "rule 'get_images'"),
        ('"get_images": "role:reader"\nkey: [\n', 3, "not valid YAML"),
        ('\n"get_imagesss": "role:reader"\n', 2, "no rule is called 'get_imagesss'"),
        ('"get_images": "rule:nonesuch"\n', 1, "refers to 'rule:nonesuch', which is not defined"),
        ('"get_images": "rule:get_image"\n"get_image": "rule:get_images"\n', 1, "refers to itself in a circle"),
        ("- a\n- b\n", 1, "must be a mapping"),
        ('"get_images": 7\n', 1, "rule 'get_images'"),
        ('"get_images": "colour:blue"\n', 1, "no token has 'colour'"),
    ],
)
def test_a_wrong_file_is_named_and_stops_nobody(
    operator: Operator, caplog: pytest.LogCaptureFixture, text: str, line: int | None, words: str
) -> None:
    demo = operator.cloud.login("demo", "demo")
    operator.write("image.yaml", '"get_images": "role:member"\n')
    assert demo.get("/image/v2/images").status == 200 and operator.problems() == []
    with caplog.at_level(logging.WARNING):
        path = operator.write("image.yaml", text)
    problems = operator.problems()
    if line is not None:
        assert any(problem.startswith(f"{path}:{line}: ") and words in problem for problem in problems), problems
        assert problems[0] in caplog.text
        assert operator.check("get_images")["problems"] == problems
    # but for the rule that can never be true everything goes on
    assert demo.get("/image/v2/images").status == (403 if "colour" in text else 200)
    operator.write("image.yaml", "")
    assert operator.problems() == [] and demo.get("/image/v2/images").status == 200


def test_files_that_nobody_reads(operator: Operator, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        operator.write("nova.yaml", "{}")
        operator.write("image.json", "{}")
        operator.write("image.yaml~", "{}")
    problems = operator.problems()
    assert len(problems) == 2 and problems[0].startswith(f"{operator.folder}/image.json: is not read")
    assert problems[1].startswith(f"{operator.folder}/nova.yaml: is not read: the files that are read are compute.yaml")
    assert caplog.text.count("nova.yaml: is not read") == 1, "said once"


def test_a_file_of_another_owner(operator: Operator) -> None:
    """root's, mode 0600: as the server's user sees it."""
    import os

    if os.geteuid() != 0:
        pytest.skip("needs root to make a file that another user may not read")
    path = operator.write("image.yaml", '"get_images": "role:member"\n')
    for folder in (operator.folder, *list(operator.folder.parents)[:-2]):
        folder.chmod(folder.stat().st_mode | 0o055)
    path.chmod(0o600)
    (found,) = command._policy(operator.folder)
    assert found.state == "low"
    assert f"{path}: may not be read by nephos" in found.detail and "belongs to root:root, mode 0600" in found.detail
    assert os.geteuid() == 0
    path.chmod(0o644)
    assert [one.state for one in command._policy(operator.folder)] == ["ok"]


def test_keys_are_shown_without_their_secrets_and_rotated(cloud: Harness) -> None:
    admin = cloud.login("admin", "admin")
    found = admin.get("/nephos/v1/keys").json
    assert {(key["kind"], key["number"], key["state"]) for key in found["keys"]} == {
        (kind, number, state)
        for kind in ("fernet", "credentials", "receipts")
        for number, state in ((0, "staged"), (1, "primary"))
    }
    assert found["provider"] == "fernet" and found["max_active"] == 3
    assert not any(word in key for key in found["keys"] for word in ("sealed", "secret", "key"))
    made = admin.post("/nephos/v1/keys/tokens/rotate")
    assert made.status == 200 and (made.json["key"]["kind"], made.json["key"]["number"]) == ("fernet", 2)
    again = admin.post("/nephos/v1/keys/fernet/rotate")
    assert again.status == 409 and "what it signed counts until" in again.json["error"]["message"]
    assert admin.post("/nephos/v1/keys/credentials/rotate", {"force": False}).json["key"]["credentials"] == 0
    assert admin.post("/nephos/v1/keys/nonesuch/rotate").status == 404
    assert admin.post("/nephos/v1/keys/jws/rotate").status == 404
    assert admin.post("/nephos/v1/keys/fernet/rotate", {"force": "yes"}).status == 400
    forced = admin.post("/nephos/v1/keys/fernet/rotate", {"force": True})
    assert forced.status == 200 and admin.get("/v3/users").status == 401, "the operator's own token went, too"
    demo: Client = cloud.login("demo", "demo")
    assert demo.get("/nephos/v1/keys").status == 403
    assert demo.post("/nephos/v1/keys/fernet/rotate").status == 403
