"""Passcodes, rules that ask for several proofs, and receipts."""

from __future__ import annotations

import base64
import time
from typing import Any

import pytest

from nephos import app
from nephos.identity.tokens.factors import missing, passcode, periods
from tests.harness import Client, Harness, Response

SEED = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"


@pytest.mark.parametrize(
    ("seconds", "code"),
    [(59, "287082"), (1111111109, "081804"), (1234567890, "005924"), (2000000000, "279037")],
)
def test_codes_are_those_of_rfc_6238(seconds: int, code: str) -> None:
    assert base64.b32decode(SEED) == b"12345678901234567890"
    assert passcode(SEED, seconds // 30) == code


def test_a_code_is_good_for_two_periods() -> None:
    now = int(time.time()) // 30
    assert periods(SEED, passcode(SEED, now - 2)) == []
    assert now in periods(SEED, passcode(SEED, now))
    assert periods("not base32 at all!", "000000") == []


def test_rules() -> None:
    rules = {"multi_factor_auth_rules": [["password", "totp"], ["nonesuch"]]}
    assert missing(None, ["password"]) == []
    assert missing(rules, ["password"]) == [["password", "totp"]]
    assert missing(rules, ["totp", "password", "token"]) == []
    assert missing({**rules, "multi_factor_auth_enabled": False}, ["password"]) == []
    assert missing({"multi_factor_auth_rules": [["nonesuch"]]}, ["password"]) == []


class World:
    def __init__(self, cloud: Harness) -> None:
        self.cloud, self.admin = cloud, cloud.login("admin", "admin")
        options = {"multi_factor_auth_enabled": True, "multi_factor_auth_rules": [["password", "totp"]]}
        user = {"name": "eve", "password": "eve-secret", "options": options}
        self.eve = self.admin.post("/v3/users", {"user": user}).json["user"]["id"]
        seed = {"type": "totp", "user_id": self.eve, "blob": SEED}
        assert self.admin.post("/v3/credentials", {"credential": seed}).status == 201

    def auth(self, *methods: str, code: str = "", receipt: str | None = None, **more: Any) -> Response:
        identity: dict[str, Any] = {"methods": list(methods)}
        if "password" in methods:
            identity["password"] = {"user": {"id": self.eve, "password": "eve-secret"}}
        if "totp" in methods:
            identity["totp"] = {"user": {"id": self.eve, "passcode": code}}
        headers = {} if receipt is None else {"Openstack-Auth-Receipt": receipt}
        body = {"auth": {"identity": identity, **more}}
        return self.cloud.nobody.request("POST", "/v3/auth/tokens", body, headers)


def now() -> str:
    return passcode(SEED, int(time.time()) // 30)


def test_both_at_once(cloud: Harness) -> None:
    world = World(cloud)
    reply = world.auth("password", "totp", code=now())
    assert reply.status == 201 and set(reply.json["token"]["methods"]) == {"password", "totp"}
    text = reply.headers["x-subject-token"]
    again = {"auth": {"identity": {"methods": ["token"], "token": {"id": text}}}}
    assert cloud.nobody.post("/v3/auth/tokens", again).status == 201, "a token remembers its proofs"


def test_one_after_the_other(cloud: Harness) -> None:
    world = World(cloud)
    first = world.auth("password")
    assert first.status == 401
    assert first.json["required_auth_methods"] == [["password", "totp"]]
    assert first.json["receipt"]["methods"] == ["password"] and first.json["receipt"]["user"]["id"] == world.eve
    receipt = first.headers["openstack-auth-receipt"]
    assert "x-subject-token" not in first.headers
    assert Client(cloud, receipt).get("/v3/auth/projects").status == 401, "a receipt is no token"
    assert world.auth("totp", code="000000", receipt=receipt).status == 401
    second = world.auth("totp", code=now(), receipt=receipt)
    assert second.status == 201 and set(second.json["token"]["methods"]) == {"password", "totp"}


def test_a_receipt_is_for_its_user(cloud: Harness) -> None:
    world = World(cloud)
    receipt = world.auth("password").headers["openstack-auth-receipt"]
    demo = {"methods": ["password"], "password": {"user": {"name": "demo", "domain": {"id": "default"},
                                                          "password": "demo-secret"}}}  # fmt: skip
    headers = {"Openstack-Auth-Receipt": receipt}
    assert cloud.nobody.request("POST", "/v3/auth/tokens", {"auth": {"identity": demo}}, headers).status == 401
    assert world.auth("totp", code=now(), receipt="nonsense").status == 401


def test_only_the_code_is_not_enough(cloud: Harness) -> None:
    world = World(cloud)
    reply = world.auth("totp", code=now())
    assert reply.status == 401 and reply.json["receipt"]["methods"] == ["totp"]


def test_a_code_is_good_once_at_whichever_server(cloud: Harness) -> None:
    world = World(cloud)
    step = int(time.time()) // 30
    code, before = passcode(SEED, step), passcode(SEED, step - 1)
    assert world.auth("password", "totp", code=code).status == 201
    other = app.compose(cloud.cloud.settings)
    try:
        cloud.front, first = app.front(other), cloud.front
        assert world.auth("password", "totp", code=code).status == 401
        assert world.auth("password", "totp", code=before).status == 401, "nor one of before it"
        seed = {"type": "totp", "user_id": world.eve, "blob": SEED[::-1]}
        assert world.admin.post("/v3/credentials", {"credential": seed}).status == 201
        assert world.auth("password", "totp", code=passcode(SEED[::-1], step)).status == 201, "another seed's"
        cloud.front = first
        assert world.auth("password", "totp", code=passcode(SEED[::-1], step)).status == 401
    finally:
        other.database.close()
