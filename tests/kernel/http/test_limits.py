"""Rate limits: off by default, 429 with Retry-After in the service's dialect when on."""

from __future__ import annotations

from pathlib import Path

from nephos.settings import Settings
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
