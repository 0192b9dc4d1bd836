"""What a cloud says of its own addresses, asked directly, through a proxy that it trusts, and by one that forges."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from nephos.settings import Settings
from tests.harness import Client, Harness

INSIDE, OUTSIDE = "http://127.0.0.1:5000", "https://cloud.example/one"
PROXY, STRANGER = "10.0.0.7", "198.51.100.9"
TOLD = {
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "cloud.example",
    "X-Forwarded-Prefix": "/one",
    "X-Forwarded-For": "203.0.113.5",
}
DOCUMENTS = (
    *("/", "/v3", "/identity", "/identity/v3", "/compute", "/compute/v2.1", "/compute/v2", "/image", "/image/versions"),
    *("/network", "/network/v2.0", "/placement"),
)
LISTS = (
    "/v3/projects",
    "/v3/users",
    "/v3/roles",
    "/v3/services",
    "/v3/domains",
    "/identity/v3/regions",
    "/compute/v2.1/flavors/detail?limit=1",
    "/compute/v2.1/servers?limit=1",
    "/network/v2.0/networks?limit=1",
    "/network/v2.0/security-group-rules?limit=1",
)
_URL = re.compile(r"https?://[^\"' )]+")


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harness]:
    def change(settings: Settings) -> None:
        settings.api.trusted_proxies = ["10.0.0.0/8"]

    with Harness(tmp_path_factory.mktemp("links"), change) as one:
        yield one


@pytest.fixture(scope="module")
def admin(cloud: Harness) -> Client:
    return cloud.login("admin", "admin")


def asked(client: Client, path: str, remote: str, told: dict[str, str]) -> tuple[int, Any, set[str]]:
    """Status, document, and the bases of all URLs in it and in the headers."""
    front = client.harness.front

    class From:
        def __call__(self, environ: dict[str, Any], start: Any) -> Any:
            return front({**environ, "REMOTE_ADDR": remote}, start)

    class Behind:
        front = From()

    reply = Client(Behind(), client.token).request("GET", path, headers=told)  # type: ignore[arg-type]
    text = json.dumps(reply.json) + " ".join(value for name, value in reply.headers.items() if name == "location")
    urls = {url for url in _URL.findall(text) if "openstack.org" not in url and "json-schema.org" not in url}
    bases = {
        next((base for base in (INSIDE, OUTSIDE) if url.startswith(f"{base}/") or url == base), url) for url in urls
    }
    return reply.status, reply.json, bases


@pytest.mark.parametrize("path", DOCUMENTS)
def test_version_documents_say_what_the_client_used(cloud: Harness, path: str) -> None:
    status, _, direct = asked(cloud.nobody, path, STRANGER, {})
    assert status in (200, 300) and direct <= {INSIDE}
    assert direct or path == "/placement"
    _, _, outside = asked(cloud.nobody, path, PROXY, TOLD)
    assert outside == ({OUTSIDE} if direct else set())
    assert asked(cloud.nobody, path, STRANGER, TOLD)[2] == direct, "forged"


@pytest.mark.parametrize("path", LISTS)
def test_links_of_resources_and_pages_say_what_the_client_used(admin: Client, path: str) -> None:
    ignored = {"/v3/services"}  # endpoints are what the catalogue says, whoever asks
    for remote, told, base in ((STRANGER, {}, INSIDE), (PROXY, TOLD, OUTSIDE), (STRANGER, TOLD, INSIDE)):
        status, document, bases = asked(admin, path, remote, told)
        assert status == 200 and document
        assert bases <= {base} or path in ignored, (remote, told)
        assert bases or "servers" in path


def test_a_request_that_a_proxy_passed_on_is_logged_with_its_clients_address(
    cloud: Harness, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", logger="nephos.access"):
        asked(cloud.nobody, "/v3", PROXY, TOLD)
        asked(cloud.nobody, "/v3", STRANGER, TOLD)
    first, second = [record.getMessage() for record in caplog.records if record.name == "nephos.access"]
    assert " from=203.0.113.5 " in first and f" from={STRANGER} " in second
