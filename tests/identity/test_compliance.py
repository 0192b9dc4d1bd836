"""Rules for passwords, each switched on by its setting."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

from sqlalchemy import update

from nephos.identity.users.store import user
from nephos.settings import Security
from tests.harness import Client, Harness, Response


def start(path: Path, **rules: Any) -> Harness:
    return Harness(path, lambda settings: setattr(settings, "security", Security(**rules)))


def log_in(cloud: Harness, user_id: str, password: str) -> Response:
    auth = {"identity": {"methods": ["password"], "password": {"user": {"id": user_id, "password": password}}}}
    return cloud.nobody.post("/v3/auth/tokens", {"auth": auth})


def make(admin: Client, **values: Any) -> str:
    reply = admin.post("/v3/users", {"user": {"name": "eve", "password": "first", **values}})
    assert reply.status == 201, reply
    return str(reply.json["user"]["id"])


def own(cloud: Harness, user_id: str, old: str, new: str) -> Response:
    return cloud.nobody.post(f"/v3/users/{user_id}/password", {"user": {"original_password": old, "password": new}})


def age(cloud: Harness, user_id: str, **columns: int) -> None:
    cloud.cloud.database.write(
        lambda tx: tx.execute(update(user).where(user.c.id == user_id).values(**columns)) and None
    )


def test_wrong_passwords_lock_out_and_time_lets_in(tmp_path: Path) -> None:
    with start(tmp_path, lockout_attempts=3, lockout_seconds=1) as cloud:
        admin = cloud.login("admin", "admin")
        eve = make(admin)
        assert [log_in(cloud, eve, "wrong").status for _ in range(3)] == [401] * 3
        assert log_in(cloud, eve, "first").status == 401
        assert own(cloud, eve, "first", "second").status == 401
        time.sleep(1.05)
        assert log_in(cloud, eve, "first").status == 201
        assert [log_in(cloud, eve, "wrong").status for _ in range(2)] == [401] * 2
        assert log_in(cloud, eve, "first").status == 201, "a right one in between counts anew"
        for _ in range(3):
            log_in(cloud, eve, "wrong")
        assert admin.patch(f"/v3/users/{eve}", {"user": {"enabled": True}}).status == 200
        assert log_in(cloud, eve, "first").status == 201, "an administrator lets her in at once"
        exempt = {"options": {"ignore_lockout_failure_attempts": True}}
        assert admin.patch(f"/v3/users/{eve}", {"user": exempt}).status == 200
        for _ in range(5):
            log_in(cloud, eve, "wrong")
        assert log_in(cloud, eve, "first").status == 201


def test_guessing_at_the_same_time_counts_too(tmp_path: Path) -> None:
    with start(tmp_path, lockout_attempts=3) as cloud:
        eve = make(cloud.login("admin", "admin"))
        threads = [threading.Thread(target=log_in, args=(cloud, eve, "wrong")) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert log_in(cloud, eve, "first").status == 401


def test_passwords_end(tmp_path: Path) -> None:
    with start(tmp_path, password_days=90) as cloud:
        admin = cloud.login("admin", "admin")
        eve = make(admin)
        assert admin.get(f"/v3/users/{eve}").json["user"]["password_expires_at"] is not None
        assert log_in(cloud, eve, "first").json["token"]["user"]["password_expires_at"] is not None
        age(cloud, eve, password_expires_at=1)
        reply = log_in(cloud, eve, "first")
        assert reply.status == 401 and "expired" in reply.json["error"]["message"]
        assert admin.get("/v3/users?password_expires_at=lt:2001-01-01T00:00:00Z").json["users"][0]["id"] == eve
        assert own(cloud, eve, "first", "second").status == 204
        assert log_in(cloud, eve, "second").status == 201
        other = make(admin, name="bot", options={"ignore_password_expiry": True})
        assert admin.get(f"/v3/users/{other}").json["user"]["password_expires_at"] is None


def test_former_passwords_are_not_used_again(tmp_path: Path) -> None:
    with start(tmp_path, password_history=3) as cloud:
        admin = cloud.login("admin", "admin")
        eve = make(admin)
        assert own(cloud, eve, "first", "second").status == 204
        assert own(cloud, eve, "second", "first").status == 400
        assert own(cloud, eve, "second", "third").status == 204
        assert own(cloud, eve, "third", "first").status == 400
        assert own(cloud, eve, "third", "fourth").status == 204
        assert own(cloud, eve, "fourth", "first").status == 204, "older than the last three"
        assert admin.patch(f"/v3/users/{eve}", {"user": {"password": "fourth"}}).status == 200, "an administrator may"


def test_not_too_soon(tmp_path: Path) -> None:
    with start(tmp_path, password_least_days=1) as cloud:
        eve = make(cloud.login("admin", "admin"))
        reply = own(cloud, eve, "first", "second")
        assert reply.status == 400 and "1 days" in reply.json["error"]["message"]
        age(cloud, eve, password_changed_at=1)
        assert own(cloud, eve, "first", "second").status == 204


def test_what_it_must_be_like(tmp_path: Path) -> None:
    with start(tmp_path, password_regex=r"^(?=.*\d).{7,}$", password_words="seven signs and a digit") as cloud:
        admin = cloud.login("admin", "admin")
        assert admin.post("/v3/users", {"user": {"name": "eve", "password": "short"}}).status == 400
        eve = make(admin, password="long-enough-1")
        assert admin.patch(f"/v3/users/{eve}", {"user": {"password": "short"}}).status == 400
        reply = own(cloud, eve, "long-enough-1", "short")
        assert reply.status == 400 and "seven signs" in reply.json["error"]["message"]
        shown = cloud.login("demo", "demo").get("/v3/domains/default/config/security_compliance").json["config"]
        assert shown["security_compliance"]["password_regex_description"] == "seven signs and a digit"


def test_one_from_an_administrator_is_for_choosing_another(tmp_path: Path) -> None:
    with start(tmp_path, password_change_first=True, password_least_days=1) as cloud:
        admin = cloud.login("admin", "admin")
        eve = make(admin)
        assert log_in(cloud, eve, "first").status == 401
        assert own(cloud, eve, "first", "second").status == 204
        assert log_in(cloud, eve, "second").status == 201
        assert admin.patch(f"/v3/users/{eve}", {"user": {"password": "third"}}).status == 200
        assert log_in(cloud, eve, "third").status == 401


def test_who_stays_away_is_let_out(tmp_path: Path) -> None:
    with start(tmp_path, inactive_days=30) as cloud:
        admin = cloud.login("admin", "admin")
        eve = make(admin)
        assert log_in(cloud, eve, "first").status == 201
        age(cloud, eve, last_seen_at=1)
        assert log_in(cloud, eve, "first").status == 401
        assert admin.patch(f"/v3/users/{eve}", {"user": {"options": {"ignore_user_inactivity": True}}}).status == 200
        assert log_in(cloud, eve, "first").status == 201


def test_locked_passwords_stay(tmp_path: Path) -> None:
    with start(tmp_path) as cloud:
        eve = make(cloud.login("admin", "admin"), options={"lock_password": True})
        assert own(cloud, eve, "first", "second").status == 400
