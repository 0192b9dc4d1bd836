"""Secrets are in no log and no error, whatever the level, whatever goes wrong; a flood of log-ins is told to wait."""

from __future__ import annotations

import logging
from typing import Any

import msgspec
import pytest

from nephos.identity import part
from tests.harness import Client, Harness

PASSWORD, GUESS, NEXT, APPLICATION, SEED = (
    "ann-s3cret-one",
    "gu3ss-s3cret",
    "ann-s3cret-two",
    "app-s3cret",
    "JBSWY3DPEHPK3PXP",
)
SECRETS = (PASSWORD, GUESS, NEXT, APPLICATION, SEED)


def bodies(password: str, user: str) -> list[Any]:
    whole = {"methods": ["password"], "password": {"user": {"id": user, "password": password}}}
    return [
        {"auth": {"identity": whole}},
        {"auth": {"identity": {**whole, "methods": ["password", "magic"]}}},
        {"auth": {"identity": whole, "scope": {"project": {"id": "none"}}}},
        {"auth": {"identity": whole, "scope": {"project": {}}}},
        {"auth": {"identity": whole, "scope": 7}},
        {"auth": {"identity": {"methods": ["password"], "password": {"user": {"id": [user], "password": password}}}}},
        {"auth": {"identity": {"methods": ["password"], "password": {"user": {"id": user, "password": [password]}}}}},
        {"auth": {"identity": {"methods": ["password"], "password": password}}},
        {"auth": {"identity": {"methods": ["token"], "token": {"id": password}}}},
        {"auth": {"identity": {"methods": ["token"], "token": password}}},
    ]


def test_secrets_are_told_to_nobody(
    cloud: Harness, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.NOTSET)
    admin = cloud.login("admin", "admin")
    told: list[bytes] = []

    def ask(client: Client, method: str, path: str, body: Any, **headers: str) -> Any:
        reply = client.request(method, path, body, headers)
        told.extend([reply.body, str({k: v for k, v in reply.headers.items() if k != "x-subject-token"}).encode()])
        return reply

    user = ask(admin, "POST", "/v3/users", {"user": {"name": "ann", "password": PASSWORD, "colour": "blue"}}).json[
        "user"
    ]["id"]
    ask(admin, "POST", "/v3/users", {"user": {"name": "ann", "password": PASSWORD}})
    ask(admin, "POST", "/v3/users", {"user": {"name": 7, "password": PASSWORD}})
    ask(admin, "GET", f"/v3/users/{user}", None)
    for password in (PASSWORD, GUESS):
        for body in bodies(password, user):
            ask(cloud.nobody, "POST", "/v3/auth/tokens", body)
        raw = msgspec.json.encode(bodies(password, user)[0])
        for wrong in (raw[:-2], raw + b"}", raw.replace(b"auth", b"\xff\xfe")):
            ask(cloud.nobody, "POST", "/v3/auth/tokens", wrong)
    change = {"user": {"password": NEXT, "original_password": GUESS}}
    assert ask(cloud.nobody, "POST", f"/v3/users/{user}/password", change).status == 401
    change["user"]["original_password"] = PASSWORD
    assert ask(cloud.nobody, "POST", f"/v3/users/{user}/password", change).status == 204
    demo = cloud.login("demo", "demo")
    me = admin.get("/v3/users?name=demo").json["users"][0]["id"]
    path = f"/v3/users/{me}/application_credentials"
    made = demo.post(path, {"application_credential": {"name": "a", "secret": APPLICATION}}).json[
        "application_credential"
    ]
    ask(demo, "GET", path, None)
    for secret in (APPLICATION, GUESS):
        given = {"id": made["id"], "secret": secret}
        ask(
            cloud.nobody,
            "POST",
            "/v3/auth/tokens",
            {"auth": {"identity": {"methods": ["application_credential"], "application_credential": given}}},
        )
    totp = {"credential": {"type": "totp", "user_id": me, "blob": SEED}}
    assert demo.post("/v3/credentials", totp).status == 201
    identity = {"methods": ["totp"], "totp": {"user": {"id": me, "passcode": "000000"}}}
    ask(cloud.nobody, "POST", "/v3/auth/tokens", {"auth": {"identity": identity}})

    def breaks(*given: Any) -> None:
        raise RuntimeError("the hasher broke")

    with monkeypatch.context() as patch:
        patch.setattr(part.of(cloud.cloud).passwords, "verify", breaks)
        assert ask(cloud.nobody, "POST", "/v3/auth/tokens", bodies(PASSWORD, user)[0]).status == 500
    assert "the hasher broke" in caplog.text, "what went wrong is logged"
    heap = caplog.text + b"\n".join(told).decode(errors="replace")
    assert [secret for secret in SECRETS if secret in heap] == []
    assert (demo.token or "") not in heap and "$2b$" not in heap


def test_too_many_log_ins_are_told_to_wait(cloud: Harness) -> None:
    passwords = part.of(cloud.cloud).passwords
    taken = 0
    while passwords._queue.acquire(blocking=False):
        taken += 1
    assert taken >= 17
    demo = {
        "methods": ["password"],
        "password": {"user": {"name": "demo", "domain": {"id": "default"}, "password": "x"}},
    }
    reply = cloud.nobody.post("/v3/auth/tokens", {"auth": {"identity": demo}})
    assert reply.status == 503 and reply.headers["retry-after"] == "2"
    assert "Too many log-ins are waiting" in reply.json["error"]["message"]
    passwords._queue.release()
    assert cloud.nobody.post("/v3/auth/tokens", {"auth": {"identity": demo}}).status == 401
