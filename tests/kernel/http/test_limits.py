"""Rate limits: off by default, by user, verb and path, over several windows, 429 with Retry-After, shared by servers."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import func, select

from nephos import app, errors
from nephos import settings as all_settings
from nephos.kernel import clock
from nephos.kernel.db.engine import Database
from nephos.kernel.http import buckets
from nephos.kernel.http.buckets import Bucket, Memory, Shared, rate_bucket
from nephos.kernel.http.limits import Limits, Rate
from nephos.settings import Settings
from tests import engines
from tests.harness import Harness


def limited(settings: Settings) -> None:
    settings.api.rate_limit = 3


def test_off_unless_set(tmp_path: Path) -> None:
    with Harness(tmp_path) as cloud:
        demo = cloud.login("demo", "demo")
        assert {demo.get("/compute/v2.1/flavors").status for _ in range(50)} == {200}


def test_a_user_verb_and_service_have_their_own(tmp_path: Path) -> None:
    with Harness(tmp_path, limited) as cloud:
        demo, admin = cloud.login("demo", "demo"), cloud.login("admin", "admin")
        assert [demo.get("/compute/v2.1/flavors").status for _ in range(4)] == [200, 200, 200, 429]
        refused = demo.get("/compute/v2.1/flavors")
        assert 1 <= int(refused.headers["retry-after"]) <= 20
        assert refused.json["overLimit"]["code"] == 429
        assert "3 GET request(s)" in refused.json["overLimit"]["message"]
        assert demo.get("/network/v2.0/networks").status == 200
        assert admin.get("/compute/v2.1/flavors").status == 200


def by_path(settings: Settings) -> None:
    settings.api.rates = [
        all_settings.Rate(path="/compute/v2.1/servers/**", count=100, seconds=60, verb="GET"),
        all_settings.Rate(path="/network/v2.0/networks", count=5, seconds=3600, verb="get"),
        all_settings.Rate(path="/network/v2.0/*", count=3, seconds=10),
        all_settings.Rate(path="/v3/auth/tokens", count=4, seconds=60, verb="POST"),
        all_settings.Rate(path="/v3/users/*", count=2),
    ]


def test_by_verb_and_path(tmp_path: Path) -> None:
    with Harness(tmp_path, by_path) as cloud:
        demo = cloud.login("demo", "demo")
        answers = [demo.get(f"/network/v2.0/{noun}").status for noun in ("networks", "subnets", "ports", "networks")]
        assert answers == [200, 200, 200, 429], "one bucket for all that match"
        refused = demo.get("/network/v2.0/ports")
        assert 1 <= int(refused.headers["retry-after"]) <= 4
        assert refused.json["NeutronError"]["message"] == (
            "Only 3 GET request(s) can be made to /network/v2.0/* every 10 seconds."
        )
        assert demo.get("/compute/v2.1/servers/detail").status == 200
        # neither another prefix nor another verb for the same is a way round
        own = cloud.login("demo", "demo").get("/v3/auth/tokens", **{"X-Subject-Token": demo.token or ""}).json
        me = own["token"]["user"]["id"]
        first = [demo.get(f"{prefix}/v3/users/{me}").status for prefix in ("", "/identity")]
        assert first == [200, 200]
        assert demo.get(f"/v3/users/{me}").status == 429
        assert demo.request("HEAD", f"/identity/v3/users/{me}").status == 429


def test_log_ins_are_counted_by_address(tmp_path: Path) -> None:
    with Harness(tmp_path, by_path) as cloud:
        body = {"auth": {"identity": {"methods": ["password"], "password": {"user": {"id": "x", "password": "guess"}}}}}
        answers = [cloud.nobody.post("/v3/auth/tokens", body) for _ in range(5)]
        assert [reply.status for reply in answers] == [401, 401, 401, 401, 429]
        assert answers[-1].json["error"]["code"] == 429 and int(answers[-1].headers["retry-after"]) <= 15


def test_one_setting_switches_all_off(tmp_path: Path) -> None:
    def off(settings: Settings) -> None:
        limited(settings)
        by_path(settings)
        settings.api.limit_rates = False

    with Harness(tmp_path, off) as cloud:
        demo = cloud.login("demo", "demo")
        assert {demo.get("/network/v2.0/ports").status for _ in range(10)} == {200}


def test_the_settings_file_keeps_rates(tmp_path: Path) -> None:
    chosen = Settings(state=tmp_path)
    by_path(chosen)
    all_settings.save(chosen)
    assert all_settings.load(tmp_path).api.rates == chosen.api.rates
    (tmp_path / "nephos.toml").write_text('[[api.rates]]\npath = "/v3/**"\ncount = 0\n')
    with pytest.raises(errors.SettingsError, match=r"count|rates"):
        all_settings.load(tmp_path)


# --- buckets ---


class Time:
    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.us = 1_900_000_000_000_000
        patch.setattr(clock, "now_us", lambda: self.us)
        patch.setattr(clock, "monotonic", lambda: self.us / 1e6)

    def move(self, seconds: float) -> None:
        self.us += round(seconds * 1e6)


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    return Time(monkeypatch)


def test_a_bucket_fills_evenly(time: Time) -> None:
    pool, bucket = Memory(), Bucket("a", 6, 60)
    assert [pool.take(bucket) for _ in range(6)] == [0] * 6
    assert pool.take(bucket) == 10_000_000
    time.move(9)
    assert pool.take(bucket) == 1_000_000
    time.move(1)
    assert pool.take(bucket) == 0 and pool.take(bucket) == 10_000_000
    time.move(1000)
    assert [pool.take(bucket) == 0 for _ in range(7)] == [True] * 6 + [False], "no more than a whole one"


def test_the_stricter_of_two_rates_decides_and_what_is_refused_counts_nowhere(time: Time) -> None:
    rates = [Rate("GET", "/a", 4, 3600), Rate("*", "/**", 2, 10)]
    limits = Limits(Memory(), rates)

    def ask() -> int:
        try:
            limits.take("u", "GET", "s", "/a")
        except errors.TooManyRequests as wrong:
            return wrong.retry_after
        return 0

    assert [ask() for _ in range(5)] == [0, 0, 5, 5, 5]
    time.move(10)
    assert [ask() for _ in range(3)] == [0, 0, 890], "the long one has not been used up by what the short one refused"


def test_what_is_remembered_is_bounded(time: Time, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buckets, "MOST_KNOWN", 100)
    pool = Memory()
    for number in range(1000):
        assert pool.take(Bucket(str(number), 10, 1)) == 0
        time.move(0.01)
    assert len(pool._full_at) <= 101


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def servers(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[list[Database]]:
    """Two servers' databases on one ledger."""
    with engines.ledger(request.param, tmp_path) as url:
        both = [app.open_database(Settings(state=tmp_path, database=url)) for _ in range(2)]
        yield both
        for database in both:
            database.close()


def test_servers_share_a_bucket(servers: list[Database]) -> None:
    """However the requests fall on them, together they serve the rate and no more; few of them write."""
    pools, bucket = [Shared(database) for database in servers], Bucket("u", 100, 3600)
    works = [0]
    for pool, database in zip(pools, servers, strict=True):
        write = database.write

        def counting(work, write=write):  # type: ignore[no-untyped-def]
            works[0] += 1
            return write(work)

        database.write = counting  # type: ignore[method-assign]
        assert pool.take(bucket) == 0
    served = 2 + sum(pools[number % 2].take(bucket) == 0 for number in range(300))
    assert 75 <= served <= 100
    assert works[0] <= 50, "not one write a request"
    before = works[0]
    waits = [pool.take(bucket) for pool in pools for _ in range(20)]
    assert all(0 < wait <= 2 * 36_000_000 for wait in waits)
    assert works[0] <= before + 2, "who is refused costs nothing"


def test_threads_of_servers_never_pass_the_rate(servers: list[Database]) -> None:
    pools, bucket = [Shared(database) for database in servers], Bucket("u", 40, 3600)
    served: list[int] = []

    def ask(pool: Shared) -> None:
        for _ in range(30):
            if pool.take(bucket) == 0:
                served.append(1)

    threads = [threading.Thread(target=ask, args=(pool,)) for pool in pools for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 30 <= len(served) <= 40


def test_what_a_server_did_not_spend_comes_back(tmp_path: Path, time: Time) -> None:
    """A user who asks rarely is not refused because shares of his bucket lie about."""
    with engines.ledger("sqlite", tmp_path) as url:
        database = app.open_database(Settings(state=tmp_path, database=url))
        pool, bucket = Shared(database), Bucket("u", 6, 60)
        for _ in range(30):
            assert pool.take(bucket) == 0
            time.move(10)
        with database.read() as tx:
            assert tx.scalar(select(func.count()).select_from(rate_bucket)) == 1
        time.move(1000)
        assert pool.take(Bucket("v", 6, 60)) == 0
        with database.read() as tx:
            assert tx.scalar(select(func.count()).select_from(rate_bucket)) == 1, "what says nothing is forgotten"
        database.close()
