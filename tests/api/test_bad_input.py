"""Every route of the API under every kind of nonsense: 4xx in the service's own words, never 500, nothing half-made."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from nephos.kernel.http.routes import Route, Service
from tests.api import mutations, seeds
from tests.api.dry import Kept, taken_back
from tests.api.openapi import PARAMETERS
from tests.api.world import SERVICES, World, name_of, thing, versions
from tests.harness import Client, Response

WRITING = ("POST", "PUT", "PATCH")
LONGEST = 4000
"""Characters of a fault's message: long enough for any reason, too short to send a huge value back."""


WAITS = ("POST compute /v2.1/servers/{server}/os-interface",)
"""Answers when the operation that it accepted is over, and here that is taken back before."""


LAX = ("POST compute /v2.1/os-floating-ips",)
"""Nova looks only for a pool in whatever comes."""


def message(service: Service, reply: Response) -> str:
    """What a fault says, in the dialect of the service. Raises KeyError when it is of another."""
    body = reply.json
    if service.name == "placement" or (service.name == "compute" and reply.status == 406):
        (error,) = body["errors"]
        assert error["status"] == reply.status and error["request_id"]
        return str(error["detail"])
    if service.name == "network":
        assert body["NeutronError"].keys() == {"type", "message", "detail"}
        return str(body["NeutronError"]["message"])
    if service.name == "image":
        assert body["code"].startswith(str(reply.status))
        return str(body["message"])
    if service.name == "compute":
        (fault,) = body.values()
        assert fault["code"] == reply.status
        return str(fault["message"])
    return str(body["error"]["message"])


def complaint(service: Service, route: Route, reply: Response, kept: Kept) -> str | None:
    """Why an answer to nonsense is not as it should be."""
    if reply.status < 400:
        return None
    if reply.status >= 500 and reply.status != 501:
        return f"{reply.status} {reply.body[:300]!r}"
    if kept.changes and name_of(service, route) not in WAITS:
        return f"{reply.status}, and {kept.changes} rows changed"
    if not reply.body and route.method == "HEAD":
        return None
    try:
        text = message(service, reply)
    except (KeyError, ValueError, AssertionError, msgspec.DecodeError, AttributeError) as wrong:
        return f"{reply.status} in another dialect ({wrong!r}): {reply.body[:300]!r}"
    if not text.strip() or len(text) > LONGEST:
        return f"{reply.status} with a message of {len(text)} characters: {text[:100]}"
    return None


class Asker:
    """Sends a route's requests as somebody who may, and gathers what is wrong with the answers."""

    def __init__(self, world: World, service: Service, kept: Kept) -> None:
        self.world, self.service, self.kept = world, service, kept
        self.wrong: dict[str, str] = {}
        self.asked = 0

    def client(self, route: Route) -> Client:
        for persona in ("project_admin", "member", "system_admin", "service"):
            reply = self.world.ask(persona, self.service, route, self.world.alpha)
            if reply.status != 403 or (reply.body and b"Policy doesn't allow" not in reply.body):
                return self.world.clients[persona]
        raise AssertionError(f"nobody may ask {name_of(self.service, route)}")

    def ask(self, client: Client, route: Route, url: str, body: Any, what: str, *, oldest: bool = False) -> Response:
        self.kept.changes = 0
        self.asked += 1
        reply = self.world.send(client, self.service, route, url, body, oldest=oldest)
        why = complaint(self.service, route, reply, self.kept)
        if why is not None:
            self.wrong.setdefault(f"{name_of(self.service, route)}: {what}", why)
        return reply

    def blame(self, route: Route, what: str, why: str) -> None:
        self.wrong.setdefault(f"{name_of(self.service, route)}: {what}", why)

    def judge(self) -> None:
        lines = [f"{name}: {why}" for name, why in self.wrong.items()]
        assert not lines, f"{len(lines)} of {self.asked}\n" + "\n".join(lines)


@pytest.fixture
def kept(world: World) -> Iterator[Kept]:
    with taken_back(world.cloud.cloud.database) as changes:
        yield changes


def asker(world: World, kept: Kept, service: str) -> Asker:
    return Asker(world, SERVICES[service], kept)


BODIES = list(SERVICES)


@pytest.mark.parametrize(
    ("service", "oldest"), [*((name, False) for name in BODIES), ("placement", True), ("compute", True)]
)
def test_bodies_of_the_wrong_shape(
    world: World, kept: Kept, service: str, oldest: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each value of a right body, and each field that its type has beside, replaced by what does not belong there."""
    asks = asker(world, kept, service)
    for route in world.thought_of(asks.service):
        body = world.body(asks.service, route, world.alpha)
        if route.method not in WRITING or isinstance(body, bytes) or body is None:
            continue
        client, url = asks.client(route), world.url(asks.service, route, world.alpha)
        with mutations.noted(monkeypatch, body) as seen:
            world.send(client, asks.service, route, url, body, oldest=oldest)
        for path, value, wrong in mutations.wrong(body, seen):
            what = f"{'.'.join(map(str, path))} = {mutations.shown(value)}"
            reply = asks.ask(client, route, url, wrong, what, oldest=oldest)
            if reply.status < 400 and seen and (value is mutations.NULL or value == "a null character in a key"):
                asks.blame(route, what, f"{reply.status}: a null character was taken")
    asks.judge()


@pytest.mark.parametrize("service", BODIES)
def test_bodies_that_are_nothing(world: World, kept: Kept, service: str) -> None:
    asks = asker(world, kept, service)
    for route in world.thought_of(asks.service):
        if route.method not in WRITING or route.streams:
            continue
        client, url = asks.client(route), world.url(asks.service, route, world.alpha)
        takes = world.body(asks.service, route, world.alpha) is not None and name_of(asks.service, route) not in LAX
        for raw in mutations.RAW:
            what = mutations.shown(raw)
            reply = asks.ask(client, route, url, raw, what)
            if takes and reply.status < 400 and raw.strip(b"[{}]"):
                asks.blame(route, what, f"{reply.status}: taken")
    asks.judge()


@pytest.mark.parametrize("bad", [None, [], {"nonesuch": 1}, {"project_id": 7}, "x"], ids=str)
def test_all_of_many_or_none(world: World, kept: Kept, bad: Any) -> None:
    """Neutron takes several resources in a body; one that is wrong refuses them all."""
    asks = asker(world, kept, "network")
    for route in world.thought_of(asks.service):
        body = world.body(asks.service, route, world.alpha)
        if route.method != "POST" or "{" in route.path or route.path == "/v2.0/security-groups-default-statefulness":
            continue  # the last is there once a project, and this one has its own
        ((noun, good),) = body.items()
        url, client = world.url(asks.service, route, world.alpha), world.clients["project_admin"]
        plural = route.path.rpartition("/")[2].replace("-", "_")
        one = asks.ask(client, route, url, {plural: [good]}, "one of many")
        assert one.status == 201 and len(one.json[plural]) == 1 and kept.changes, (url, one)
        for many in ([good, bad], [bad, good]):
            reply = asks.ask(client, route, url, {plural: many}, f"{noun} and {bad}")
            assert 400 <= reply.status < 500, (url, many, reply)
    asks.judge()


IDS = (
    "nonesuch",
    "5a1f5d0e-8f4c-4c51-bf3a-8d7a3dbb1c11",
    "-1",
    "9" * 40,
    "x" * 5000,
    "%E9%9B%AA%F0%9F%9A%80",
    "%ff",
    "a%00b",
    "a%2Fb",
    "..",
    "%20",
    "%22%27%3B--",
    "'%20OR%20'1'='1",
    "%0d%0aX-Injected:%201",
)


@pytest.mark.parametrize("service", SERVICES)
def test_ids_of_nobody(world: World, kept: Kept, service: str) -> None:
    """Each parameter of each URL in turn, the others real; the body right."""
    asks = asker(world, kept, service)
    for route in world.thought_of(asks.service):
        params = re.findall(r"([^/]*)/\{(\w+)(?::path)?\}", route.path)
        client = asks.client(route) if params else Client(world.cloud)
        for before, param in params:
            name = thing(asks.service, before, param)
            for other in IDS:
                things = {
                    **world.alpha,
                    **dict.fromkeys((name, seeds.instead(name_of(asks.service, route)).get(name, name)), other),
                }
                body = world.body(asks.service, route, world.alpha)
                reply = asks.ask(client, route, world.url(asks.service, route, things), body, f"{param} = {other[:40]}")
                assert not any("injected" in header for header in reply.headers), (route, other)
    asks.judge()


PAGING = (
    "limit",
    "marker",
    "sort_key",
    "sort_dir",
    "sort",
    "offset",
    "created_at",
    "changes-since",
    "resources",
    "fixed_ips",
)
VALUES = (
    "", "-1", "0", "x", "nobody", "%ff", "a%00b", "%E9%9B%AA", "%25", "9" * 400, "(", "*", "%5B", "in:x,%22", "gt:x", "1.5",
    "2026-13-45T99:99:99Z", "VCPU:1", "VCPU:x", "x" * 10_000, "a&limit=2", "true,false", ",", "x%3Dy", "ip_address%3Dx",
)  # fmt: skip
"""What parameters of the page and of times take all of, the others the first twelve."""


@pytest.mark.parametrize("service", SERVICES)
def test_queries_of_nonsense(world: World, kept: Kept, service: str) -> None:
    """Each parameter that any list has, on every list, with values that it cannot have; others but a few."""
    asks = asker(world, kept, service)
    for route in world.thought_of(asks.service):
        if route.method != "GET" or route.permission is None:
            continue
        client, url = asks.client(route), world.url(asks.service, route, world.alpha)
        names = PARAMETERS[service].split() if "{" not in route.path else ["limit", "fields", "nonesuch"]
        for name in [*names, "nonesuch", "%ff", ""]:
            for value in VALUES if name in PAGING else VALUES[:12]:
                query = f"{name}={value}"
                asks.ask(client, route, url + ("&" if "?" in url else "?") + query, None, query[:60])
    asks.judge()


HEADERS = {
    "OpenStack-API-Version": (
        "",
        "x",
        "compute",
        "compute x",
        "compute 2",
        "compute 2.99999",
        "compute 9.9",
        "compute -1.1",
    ),
    "X-OpenStack-Nova-API-Version": ("", "x", "2", "2.99999", "9" * 400, "1.1.1"),
    "X-Auth-Token": ("", "x", "gAAAAA", "\xe9\x00", "x" * 100_000),
    "X-Service-Token": ("", "x", "\xe9"),
    "X-Subject-Token": ("", "x", "\xe9", "x" * 100_000),
    "Accept": ("", "x", "image/png", "*/*;q=x"),
    "Content-Type": ("", "x", "text/plain", "application/json; charset=nonesuch", "\xe9"),
    "Content-Length": ("x", "-1", "9" * 40, "0"),
    "If-Match": ("", "x", "revision_number=x", "revision_number=" + "9" * 40),
    "Host": ("", "x", "a b", "\xe9", "[", "127.0.0.1:x"),
    "X-OpenStack-Request-Id": ("x", "req-" + "x" * 10_000, "\xe9"),
    "Range": ("", "x", "bytes=5-1", "bytes=-", "bytes=999999999999-"),
}


@pytest.mark.parametrize("service", SERVICES)
def test_headers_of_nonsense(world: World, kept: Kept, service: str) -> None:
    asks = asker(world, kept, service)
    for route in world.thought_of(asks.service):
        if route.method not in ("GET", "POST") or ("{" in route.path and service != "image") or route.streams:
            continue
        client, url = asks.client(route), world.url(asks.service, route, world.alpha)
        body = world.body(asks.service, route, world.alpha)
        for name, values in HEADERS.items():
            for value in values:
                kept.changes = 0
                reply = client.request(route.method, url, body, {**versions(asks.service, route), name: value})
                asks.asked += 1
                why = complaint(asks.service, route, reply, kept)
                if why is not None:
                    asks.blame(route, f"{name}: {value[:40]!r}", why)
    asks.judge()
