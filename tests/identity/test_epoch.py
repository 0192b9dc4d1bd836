"""What one server changes every other knows within a second, and one that cannot know believes nobody."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from nephos import app, errors
from nephos.identity import part
from nephos.kernel import clock
from nephos.kernel.auth.token import Token, new_audit_id
from nephos.kernel.cloud import Cloud
from nephos.kernel.db.engine import Tx
from tests.harness import Client, Harness


@pytest.fixture
def other(cloud: Harness) -> Iterator[Cloud]:
    """A second server of the same cloud. Its doorbell is its own, so it hears nothing of the first."""
    second = app.compose(cloud.cloud.settings)
    yield second
    second.database.close()


class Site:
    """A user "ann" with the role member on a project, with one token on each of two servers' caches."""

    def __init__(self, cloud: Harness) -> None:
        self.cloud, self.admin = cloud, cloud.login("admin", "admin")
        post = self.admin.post
        self.domain = post("/v3/domains", {"domain": {"name": "site"}}).json["domain"]["id"]
        self.project = post("/v3/projects", {"project": {"name": "p", "domain_id": self.domain}}).json["project"]["id"]
        body = {"name": "ann", "domain_id": self.domain, "password": "first"}
        self.user = post("/v3/users", {"user": body}).json["user"]["id"]
        self.member = self.admin.get("/v3/roles?name=member").json["roles"][0]["id"]
        self.grant = f"/v3/projects/{self.project}/users/{self.user}/roles/{self.member}"
        assert self.admin.put(self.grant).status == 204

    def token(self, password: str = "first") -> str:
        identity = {"methods": ["password"], "password": {"user": {"id": self.user, "password": password}}}
        reply = self.cloud.nobody.post(
            "/v3/auth/tokens", {"auth": {"identity": identity, "scope": {"project": {"id": self.project}}}}
        )
        assert reply.status == 201, reply
        return reply.headers["x-subject-token"]


@pytest.fixture
def site(cloud: Harness) -> Site:
    return Site(cloud)


def refused(cloud: Cloud, token: str) -> bool:
    try:
        cloud.verify(token, None)
    except errors.Unauthorized:
        return True
    return False


CHANGES: dict[str, Callable[[Site, str], Any]] = {
    "the token is revoked": lambda site, token: site.admin.delete("/v3/auth/tokens", **{"X-Subject-Token": token}),
    "its role is taken": lambda site, token: site.admin.delete(site.grant),
    "its user is disabled": lambda site, token: site.admin.patch(
        f"/v3/users/{site.user}", {"user": {"enabled": False}}
    ),
    "its user's password changes": lambda site, token: site.cloud.nobody.post(
        f"/v3/users/{site.user}/password", {"user": {"password": "second", "original_password": "first"}}
    ),
    "an admin sets its password": lambda site, token: site.admin.patch(
        f"/v3/users/{site.user}", {"user": {"password": "x"}}
    ),
    "its user goes": lambda site, token: site.admin.delete(f"/v3/users/{site.user}"),
    "its project is disabled": lambda site, token: site.admin.patch(
        f"/v3/projects/{site.project}", {"project": {"enabled": False}}
    ),
    "its project goes": lambda site, token: site.admin.delete(f"/v3/projects/{site.project}"),
    "its domain is disabled": lambda site, token: site.admin.patch(
        f"/v3/domains/{site.domain}", {"domain": {"enabled": False}}
    ),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_token_ends_here_at_once_and_elsewhere_within_a_second(
    site: Site, other: Cloud, change: Callable[[Site, str], Any]
) -> None:
    token = site.token()
    assert not refused(site.cloud.cloud, token) and not refused(other, token)
    assert change(site, token).status in (200, 204)
    changed = time.monotonic()
    assert refused(site.cloud.cloud, token), "on the next request"
    while not refused(other, token):
        assert time.monotonic() < changed + 1.0, "not within a second"
        time.sleep(0.01)


def test_a_bell_tells_at_once(site: Site, other: Cloud) -> None:
    token = site.token()
    assert not refused(other, token)
    site.cloud.cloud.doorbell.listen(lambda topic: other.doorbell.ring(topic) if topic == part.TOPIC else None)
    assert site.admin.delete(site.grant).status == 204
    assert refused(other, token)


def test_tokens_got_from_a_revoked_one_end_with_it_unless_asked_not_to(site: Site) -> None:
    def exchange(text: str) -> str:
        auth = {"identity": {"methods": ["token"], "token": {"id": text}}, "scope": {"project": {"id": site.project}}}
        reply = site.cloud.nobody.post("/v3/auth/tokens", {"auth": auth})
        assert reply.status == 201
        return reply.headers["x-subject-token"]

    def chain(text: str) -> list[str]:
        shown = site.admin.get("/v3/auth/tokens", **{"X-Subject-Token": text}).json["token"]
        return list(shown["audit_ids"])

    first = site.token()
    second = exchange(first)
    third = exchange(second)
    assert len(chain(first)) == 1
    assert chain(second)[1] == chain(third)[1] == chain(first)[0]
    assert site.admin.delete("/v3/auth/tokens?cascade=false", **{"X-Subject-Token": second}).status == 204
    assert refused(site.cloud.cloud, second) and not refused(site.cloud.cloud, third)
    assert site.admin.delete("/v3/auth/tokens", **{"X-Subject-Token": first}).status == 204
    assert refused(site.cloud.cloud, third)


def test_a_system_token_is_not_exchanged_for_one_of_a_project(site: Site) -> None:
    text = site.cloud.login("admin", scope={"system": {"all": True}}).token
    auth: dict[str, Any] = {"identity": {"methods": ["token"], "token": {"id": text}}}
    post = site.cloud.nobody.post
    project = {"project": {"name": "admin", "domain": {"id": "default"}}}
    assert post("/v3/auth/tokens", {"auth": {**auth, "scope": project}}).status == 403
    assert post("/v3/auth/tokens", {"auth": {**auth, "scope": {"domain": {"id": "default"}}}}).status == 403
    assert post("/v3/auth/tokens", {"auth": {**auth, "scope": {"system": {"all": True}}}}).status == 201


def embedded(cloud: Cloud) -> None:
    """Where several servers share a ledger every request reads the epoch, so there is nothing old to believe."""
    if not cloud.database.embedded:
        pytest.skip("a shared ledger is looked at by every request")


class Ledger:
    """A second server's ledger, which a test breaks."""

    def __init__(self, cloud: Cloud, patch: pytest.MonkeyPatch) -> None:
        self.state, self.reads, self.free = "well", 0, threading.Event()
        whole = cloud.database.read

        @contextmanager
        def read() -> Iterator[Tx]:
            self.reads += 1
            if self.state == "broken":
                raise errors.Unavailable("The ledger cannot be used now: the network is down")
            if self.state == "hanging":
                self.free.wait(20)
            with whole() as tx:
                yield tx

        patch.setattr(cloud.database, "read", read)


class Time:
    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.ahead = 0.0
        monotonic, now = time.monotonic, time.time_ns
        patch.setattr(clock, "monotonic", lambda: monotonic() + self.ahead)
        patch.setattr(clock, "now_us", lambda: now() // 1000 + int(self.ahead * 1e6))


def test_five_seconds_without_the_ledger_and_nobody_is_believed(
    site: Site, other: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedded(other)
    token, moved, ledger = site.token(), Time(monkeypatch), Ledger(other, monkeypatch)
    assert not refused(other, token)
    ledger.state = "broken"
    moved.ahead = 4.0
    assert other.verify(token, None).user_name == "ann", "what was known four seconds ago"
    moved.ahead = 5.2
    with pytest.raises(errors.Unavailable) as told:
        other.verify(token, None)
    assert told.value.retry_after == 1
    ledger.state = "well"
    moved.ahead = 6.0
    assert not refused(other, token)
    # and over HTTP, in the service's dialect
    ledger.state, moved.ahead = "broken", 20.0
    front = app.front(other)
    site.cloud.front, kept = front, site.cloud.front
    reply = Client(site.cloud, token).get("/compute/v2.1/servers")
    site.cloud.front = kept
    assert reply.status == 503 and reply.headers["retry-after"] == "1"
    assert reply.json["serviceUnavailable"]["code"] == 503


def test_a_ledger_that_hangs_gives_no_stale_yes_either(
    site: Site, other: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One thread hangs in the ledger; the others go on for a second, then wait for it, and take no old answer after five."""
    embedded(other)
    token, moved, ledger = site.token(), Time(monkeypatch), Ledger(other, monkeypatch)
    assert not refused(other, token)
    monkeypatch.setattr(part, "STALE_SECONDS", 1.2)
    ledger.state = "hanging"
    moved.ahead = 0.7
    told: list[Exception] = []

    def hang() -> None:
        try:
            other.verify(token, None)
        except errors.Unavailable as wrong:
            told.append(wrong)

    hanging = threading.Thread(target=hang, daemon=True)
    hanging.start()
    while part.of(other).epoch._looking.acquire(blocking=False):
        part.of(other).epoch._looking.release()
    assert other.verify(token, None).user_name == "ann"
    moved.ahead = 1.4
    began = time.monotonic()
    with pytest.raises(errors.Unavailable):
        other.verify(token, None)
    assert time.monotonic() - began < 5
    assert site.admin.delete(site.grant).status == 204
    ledger.state = "well"
    ledger.free.set()
    hanging.join()
    assert len(told) == 1, "it too waited longer than an old answer may be believed"
    moved.ahead = 3.0
    assert refused(other, token)


def test_a_shared_ledger_that_cannot_be_read_is_told_at_once(
    site: Site, other: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    token, ledger = site.token(), Ledger(other, monkeypatch)
    monkeypatch.setattr(type(other.database), "embedded", False)
    assert not refused(other, token)
    ledger.state = "broken"
    with pytest.raises(errors.Unavailable):
        other.verify(token, None)


def test_looking_costs_two_reads_a_second(site: Site, other: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    embedded(other)
    token, moved, ledger = site.token(), Time(monkeypatch), Ledger(other, monkeypatch)
    assert not refused(other, token)
    ledger.reads = 0
    for _ in range(1000):
        other.verify(token, None)
        moved.ahead += 0.01
    assert 18 <= ledger.reads <= 25, "ten seconds of a hundred requests each"


def test_an_expired_token_is_shown_within_its_window_only(cloud: Harness) -> None:
    admin, identity = cloud.login("admin", "admin"), part.of(cloud.cloud)
    user = admin.get("/v3/users?name=demo").json["users"][0]["id"]
    project = admin.get("/v3/projects?name=demo").json["projects"][0]["id"]

    def expired(seconds: int) -> dict[str, str]:
        end = clock.now_us() - seconds * 1_000_000
        ids = (new_audit_id(),)
        token = Token(
            user_id=user,
            methods=("password",),
            issued=end - 3_600_000_000,
            expires=end,
            audit_ids=ids,
            project_id=project,
        )
        return {"X-Subject-Token": identity.tokens.encode(token)}

    just, long = expired(1), expired(172_801)
    assert admin.get("/v3/auth/tokens", **just).status == 404
    shown = admin.get("/v3/auth/tokens?allow_expired=1&nocatalog", **just)
    assert shown.status == 200 and "catalog" not in shown.json["token"]
    assert admin.get("/v3/auth/tokens?allow_expired=1", **expired(172_000)).status == 200
    assert admin.get("/v3/auth/tokens?allow_expired=1", **long).status == 404
    with pytest.raises(errors.Unauthorized):
        cloud.cloud.verify(just["X-Subject-Token"], None)
