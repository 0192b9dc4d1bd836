"""What comes before the route: proxies, browsers, sizes, slow bodies, and verbs that no table names."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from nephos import errors
from nephos.kernel.http import bodies
from nephos.kernel.http import front as fronts
from nephos.kernel.http.bodies import Bodies
from nephos.kernel.http.front import Front
from nephos.kernel.http.proxies import Proxies, client_of, host_url
from tests.kernel.http.toyfront import ToyCloud, ask, front

PROXY, OUTER, STRANGER = "10.0.0.7", "192.0.2.80", "198.51.100.9"
PAGE = "https://dashboard.example"


def behind(cloud: ToyCloud) -> None:
    cloud.trusted_proxies = ["10.0.0.0/8", OUTER, "fd00::/8"]


def for_pages(cloud: ToyCloud) -> None:
    cloud.cors_origins = [PAGE, "http://localhost:3000/"]


@pytest.fixture(scope="module")
def app() -> Front:
    return front(behind)


@pytest.fixture(scope="module")
def pages() -> Front:
    return front(for_pages)


def seen(**environ: str) -> tuple[str, str]:
    """Base of links, and client, as they are seen through the proxies that `behind` trusts."""
    whole: dict[str, Any] = {
        "wsgi.url_scheme": "http",
        "HTTP_HOST": "inside:5000",
        "REMOTE_ADDR": PROXY,
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "5000",
        **environ,
    }
    cloud = ToyCloud()
    behind(cloud)
    Proxies(cloud.trusted_proxies).apply(whole)
    return host_url(whole), client_of(whole)


@pytest.mark.parametrize(
    ("headers", "url", "client"),
    [
        ({}, "http://inside:5000", PROXY),
        ({"HTTP_X_FORWARDED_PROTO": "https"}, "https://inside:5000", PROXY),
        ({"HTTP_X_FORWARDED_PROTO": "https", "HTTP_X_FORWARDED_HOST": "cloud.example"}, "https://cloud.example", PROXY),
        ({"HTTP_X_FORWARDED_HOST": "c.example", "HTTP_X_FORWARDED_PORT": "8443"}, "http://c.example:8443", PROXY),
        (
            {"HTTP_X_FORWARDED_HOST": "c.example", "HTTP_X_FORWARDED_PORT": "443", "HTTP_X_FORWARDED_PROTO": "https"},
            "https://c.example",
            PROXY,
        ),
        ({"HTTP_X_FORWARDED_PREFIX": "/cloud/one/"}, "http://inside:5000/cloud/one", PROXY),
        ({"HTTP_X_FORWARDED_FOR": STRANGER}, "http://inside:5000", STRANGER),
        ({"HTTP_X_FORWARDED_FOR": f"6.6.6.6, {STRANGER}, {OUTER}"}, "http://inside:5000", STRANGER),
        (
            {
                "HTTP_X_FORWARDED_FOR": f"6.6.6.6, {STRANGER}, {OUTER}",
                "HTTP_X_FORWARDED_HOST": "evil.example, outer.example, middle.example",
                "HTTP_X_FORWARDED_PROTO": "gopher, https, http",
            },
            "https://outer.example",
            STRANGER,
        ),
        ({"HTTP_FORWARDED": 'for="[2001:db8::1]:80";proto=https;host=f.example'}, "https://f.example", "2001:db8::1"),
        (
            {
                "HTTP_FORWARDED": f"for=6.6.6.6;host=evil, for={STRANGER};host=o.example;proto=https, for={OUTER};proto=http"
            },
            "https://o.example",
            STRANGER,
        ),
        ({"HTTP_FORWARDED": "for=_hidden, proto"}, "http://inside:5000", PROXY),
        ({"HTTP_X_FORWARDED_HOST": 'a"><script>'}, "http://inside:5000", PROXY),
        ({"HTTP_X_FORWARDED_PREFIX": "//evil.example/x"}, "http://inside:5000", PROXY),
        ({"HTTP_X_FORWARDED_PROTO": "javascript"}, "http://inside:5000", PROXY),
        ({"HTTP_X_FORWARDED_FOR": "nonsense"}, "http://inside:5000", PROXY),
        ({"HTTP_HOST": "a b\\"}, "http://127.0.0.1:5000", PROXY),
        ({"HTTP_HOST": "[::1]:5000"}, "http://[::1]:5000", PROXY),
        ({"REMOTE_ADDR": "fd00::7", "HTTP_X_FORWARDED_HOST": "six.example"}, "http://six.example", "fd00::7"),
        (
            {"REMOTE_ADDR": "::ffff:10.0.0.7", "HTTP_X_FORWARDED_HOST": "m.example"},
            "http://m.example",
            "::ffff:10.0.0.7",
        ),
    ],
)
def test_a_trusted_proxy_says_what_the_client_used(headers: dict[str, str], url: str, client: str) -> None:
    assert seen(**headers) == (url, client)


def test_nobody_else_is_believed(app: Front) -> None:
    forged = {
        "HTTP_X_FORWARDED_PROTO": "https",
        "HTTP_X_FORWARDED_HOST": "evil.example",
        "HTTP_X_FORWARDED_FOR": "10.0.0.1",
        "HTTP_X_FORWARDED_PREFIX": "/evil",
        "HTTP_FORWARDED": "for=10.0.0.1;host=evil.example;proto=https",
    }
    raw = b'{"thing": {"name": "a"}}'
    for remote in (STRANGER, "", "unix:"):
        got = ask(app, "POST", "/compute/things", raw, REMOTE_ADDR=remote, **forged)
        assert got.headers["location"] == "http://cloud.example:5000/things/a"
        assert seen(REMOTE_ADDR=remote, **forged)[0] == "http://inside:5000"
    got = ask(app, "POST", "/compute/things", raw, REMOTE_ADDR=PROXY, **forged)
    assert got.headers["location"] == "https://evil.example/evil/things/a"


def test_no_header_but_the_token_says_who_asks(app: Front) -> None:
    forged = {
        "HTTP_X_IDENTITY_STATUS": "Confirmed",
        "HTTP_X_SERVICE_IDENTITY_STATUS": "Confirmed",
        "HTTP_X_ROLES": "admin,reader",
        "HTTP_X_USER_ID": "id-of-admin",
        "HTTP_X_USER_NAME": "admin",
        "HTTP_X_PROJECT_ID": "p",
        "HTTP_X_TENANT_ID": "p",
        "HTTP_X_IS_ADMIN_PROJECT": "True",
        "HTTP_OPENSTACK_SYSTEM_SCOPE": "all",
        "REMOTE_USER": "admin",
    }
    for remote in (PROXY, STRANGER):
        assert ask(app, "GET", "/compute/things/x", token=None, REMOTE_ADDR=remote, **forged).status == 401
        assert ask(app, "DELETE", "/compute/things/x", token="reader", REMOTE_ADDR=remote, **forged).status == 403
    assert ask(app, "DELETE", "/compute/things/x", token="admin", **forged).status == 204


def test_a_trusted_proxy_is_an_address() -> None:
    with pytest.raises(errors.SettingsError, match=r"api\.trusted_proxies.*proxy\.example"):
        Proxies(["proxy.example"])


def test_a_page_that_may_reads_answers_and_their_headers(pages: Front) -> None:
    got = ask(pages, "GET", "/compute/things/x", HTTP_ORIGIN=PAGE)
    assert (got.status, got.headers["access-control-allow-origin"]) == (200, PAGE)
    assert got.headers["access-control-allow-credentials"] == "true"
    exposed = got.headers["access-control-expose-headers"].lower().split(", ")
    assert {"x-subject-token", "x-auth-token", "x-openstack-request-id", "openstack-api-version"} <= set(exposed)
    assert got.headers["vary"] == "OpenStack-API-Version, X-OpenStack-Nova-API-Version, Origin"
    for path, token in (("/compute/things/x", None), ("/compute/nothing", "reader")):
        wrong = ask(pages, "GET", path, token=token, HTTP_ORIGIN=PAGE)
        assert wrong.headers["access-control-allow-origin"] == PAGE, "a page reads why, too"
    other = ask(pages, "GET", "/compute/things/x", HTTP_ORIGIN="https://evil.example")
    assert (other.status, other.headers.get("access-control-allow-origin")) == (200, None)
    assert other.headers["vary"].endswith("Origin"), "or a cache gives this answer to the page that may"
    assert "access-control-allow-origin" not in ask(pages, "GET", "/compute/things/x").headers


def preflight(app: Front, origin: str, method: str = "POST", headers: str = "", path: str = "/compute/things") -> Any:
    return ask(
        app,
        "OPTIONS",
        path,
        token=None,
        HTTP_ORIGIN=origin,
        HTTP_ACCESS_CONTROL_REQUEST_METHOD=method,
        HTTP_ACCESS_CONTROL_REQUEST_HEADERS=headers,
    )


def test_a_browser_asks_before_it_sends_a_token(pages: Front) -> None:
    got = preflight(pages, PAGE, "PATCH", "X-Auth-Token, content-type, OpenStack-API-Version")
    assert (got.status, got.raw) == (200, b"")
    assert got.headers["access-control-allow-origin"] == PAGE
    assert got.headers["access-control-allow-methods"] == "PATCH"
    assert got.headers["access-control-allow-headers"] == "X-Auth-Token,content-type,OpenStack-API-Version"
    assert got.headers["access-control-max-age"] == "3600"
    assert got.headers["x-openstack-request-id"].startswith("req-")
    assert preflight(pages, "http://localhost:3000").headers["access-control-allow-origin"] == "http://localhost:3000"
    assert preflight(pages, PAGE, path="/compute/nothing").status == 200, (
        "what is not there says so when it is asked for"
    )
    for refused in (
        preflight(pages, "https://evil.example"),
        preflight(pages, "null"),
        preflight(pages, PAGE, "TRACE"),
        preflight(pages, PAGE, headers="X-Auth-Token, X-Evil"),
        preflight(front(), PAGE),
    ):
        assert refused.status == 200
        assert not [name for name in refused.headers if name.startswith("access-control")]


def test_every_page_may_without_cookies() -> None:
    app = front(lambda cloud: cloud.cors_origins.append("*"))
    got = ask(app, "GET", "/compute/things/x", HTTP_ORIGIN="https://any.example")
    assert got.headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-credentials" not in got.headers


@pytest.mark.parametrize(
    ("path", "headers", "status", "words"),
    [
        ("/compute/things/x?" + "a" * fronts.MOST_TARGET, {}, 414, "The URL has"),
        ("/nothing/" + "a" * fronts.MOST_TARGET, {}, 414, "The URL has"),
        ("/compute/things/x", {"HTTP_X_AUTH_TOKEN": "t" * (fronts.MOST_HEADER + 1)}, 431, "header X-Auth-Token has"),
        ("/compute/things/x", {f"HTTP_X_{n}": "t" * 16000 for n in range(4)}, 431, "headers have"),
    ],
)
def test_what_is_too_long_is_refused_in_words(path: str, headers: dict[str, str], status: int, words: str) -> None:
    app = front()
    got = ask(app, "GET", path, **headers)
    fault = got.json["badRequest" if path.startswith("/compute") else "error"]
    assert (got.status, fault["code"], words in fault["message"]) == (status, status, True)
    assert got.headers["x-openstack-request-id"].startswith("req-")
    assert ask(app, "HEAD", path, **headers).raw == b""


def test_a_token_of_the_longest_header_is_read() -> None:
    assert ask(front(), "GET", "/compute/things/x", HTTP_X_AUTH_TOKEN="t" * fronts.MOST_HEADER).status == 401


def test_options_and_head_of_what_is_there_and_of_what_is_not(app: Front) -> None:
    got = ask(app, "OPTIONS", "/compute/things/x", token=None)
    assert (got.status, got.raw, got.headers["allow"]) == (200, b"", "DELETE, GET, HEAD, OPTIONS")
    assert got.headers["x-compute-request-id"] == got.headers["x-openstack-request-id"]
    full, head = (ask(app, verb, "/compute/things/x") for verb in ("GET", "HEAD"))
    assert (head.status, head.raw, head.headers["content-length"]) == (200, b"", str(len(full.raw)))
    for verb, path, status in (
        ("OPTIONS", "/compute/nothing", 404),
        ("HEAD", "/compute/nothing", 404),
        ("PUT", "/compute/things/x", 405),
        ("BREW", "/compute/things/x", 400),
    ):
        wrong = ask(app, verb, path)
        assert wrong.status == status, wrong
        assert wrong.headers["x-openstack-request-id"].startswith("req-")


def test_head_closes_the_stream_that_nobody_reads() -> None:
    closed: list[bool] = []

    class Stream:
        def __iter__(self) -> Any:
            raise AssertionError("nobody reads it")

        def close(self) -> None:
            closed.append(True)

    from nephos.kernel.http.call import Reply
    from nephos.kernel.http.faults import plain
    from nephos.kernel.http.routes import Route, Service

    route = Route("GET", "/bytes", lambda call: Reply(headers={"Content-Length": "7"}, stream=Stream()), None)
    got = ask(Front(ToyCloud(), [Service("toy", ("/toy",), (route,), plain)]), "HEAD", "/toy/bytes")
    assert (got.status, got.raw, got.headers["content-length"], closed) == (200, b"", "7", [True])


class Never:
    """A body that does not come until it is told to."""

    def __init__(self) -> None:
        self.come = threading.Event()

    def read(self, count: int) -> bytes:
        assert self.come.wait(10)
        return b"{}"[:count]


def test_bodies_that_never_come_take_not_every_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "MOST_WAITING", 3)
    monkeypatch.setattr(bodies, "MOST_OF_ONE", 2)
    reader, slow, done = Bodies(100), Never(), []

    def send(client: str, stream: Any = slow) -> None:
        done.append(reader.read({"REMOTE_ADDR": client, "CONTENT_LENGTH": "2", "wsgi.input": stream}))

    waiting = [threading.Thread(target=send, args=(STRANGER,)) for _ in range(2)]
    waiting.append(threading.Thread(target=send, args=(OUTER,)))
    for count, each in enumerate(waiting, 1):
        each.start()
        while reader._waiting.total() < count:
            pass
        if count == 2:
            with pytest.raises(errors.Unavailable):
                send(STRANGER)
    with pytest.raises(errors.Unavailable, match="wait for their bodies"):
        send(PROXY)
    assert reader.read({"REMOTE_ADDR": PROXY, "CONTENT_LENGTH": "0", "wsgi.input": slow}) == b""
    slow.come.set()
    for each in waiting:
        each.join(10)
    send(STRANGER)
    assert (done, reader._waiting) == ([b"{}"] * 4, {})


def test_a_body_that_breaks_off_is_not_taken_for_whole(app: Front) -> None:
    got = ask(app, "POST", "/compute/things", b'{"thing": {"name": "a"}}', CONTENT_LENGTH="40")
    assert (got.status, "16 of 40 bytes are missing" in got.json["badRequest"]["message"]) == (400, True)
