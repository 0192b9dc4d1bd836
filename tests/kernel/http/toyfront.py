"""Small services, one of each dialect, behind the real front: for what the front does by itself."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from nephos import errors
from nephos.kernel.auth.who import Who
from nephos.kernel.http import faults
from nephos.kernel.http.buckets import Memory
from nephos.kernel.http.call import Call, Reply
from nephos.kernel.http.front import Front
from nephos.kernel.http.limits import Limits
from nephos.kernel.http.metrics import Metrics
from nephos.kernel.http.query import page
from nephos.kernel.http.routes import Route, Service
from nephos.kernel.http.versions import Microversions, Version
from nephos.kernel.policy import Policies, Rule

DIALECTS = {
    "compute": faults.compute,
    "identity": faults.identity,
    "network": faults.network,
    "image": faults.image,
    "placement": faults.placement,
}
MICRO = Microversions("compute", Version(2, 1), Version(2, 100), "X-OpenStack-Nova-API-Version")
RULES = (Rule("things:get", "role:reader"), Rule("things:admin", "role:admin"))


class Thing(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    size: int = 0


class Body(msgspec.Struct, forbid_unknown_fields=True):
    thing: Thing


def show(call: Call) -> Reply:
    wanted = page(call.query, most=10, allowed=frozenset({"name", "size"}), default=(("name", False),))
    return Reply({"id": call.params["id"], "page": list(wanted), "flag": call.query.boolean("flag")})


def create(call: Call) -> Reply:
    body = call.body(Body)
    if body.thing.size < 0:
        raise {
            -1: errors.Conflict("busy"),
            -2: errors.OverQuota("things", limit=1, used=1, requested=1),
            -3: errors.TooManyRequests("slow down", retry_after=7),
            -4: errors.Unavailable("away"),
            -5: errors.NoValidHost("no host"),
            -6: errors.Gone("gone"),
        }.get(body.thing.size, ZeroDivisionError("secret of the trace"))
    return Reply({"thing": body.thing}, headers={"Location": f"{call.host_url}/things/{body.thing.name}"})


def text(words: str) -> Any:
    return lambda call: Reply({"did": words, "version": str(call.version)})


def pages(call: Call) -> Reply:
    return Reply(stream=iter([b"one", b"two"]), content_type="application/octet-stream")


def later(call: Call) -> Reply:
    if "forget" not in call.query:
        call.permit({"project_id": call.params["id"]})
    return Reply({})


def weird(call: Call) -> Reply:
    return Reply({"never": object()})


def big(call: Call) -> Reply:
    raise OverflowError("Python int too large to convert to SQLite INTEGER")


ROUTES = (
    Route("GET", "/things/{id}", show, "things:get"),
    Route("POST", "/things", create, "things:get", 201),
    Route("DELETE", "/things/{id}", lambda call: Reply(), "things:admin", 204),
    Route("GET", "/public", text("public"), None),
    Route("GET", "/bytes", pages, "things:get"),
    Route("GET", "/later/{id}", later, "things:get", target="later"),
    Route("GET", "/weird", weird, "things:get"),
    Route("GET", "/big", big, "things:get"),
    Route("POST", "/things/{id}/action", text("start"), "things:get", 202, action="os-start"),
    Route("POST", "/things/{id}/action", text("lock"), "things:admin", 202, action="lock"),
    Route("POST", "/things/{id}/action", text("new"), "things:get", 202, action="new", since=Version(2, 10)),
    Route("GET", "/versioned", text("old"), "things:get", until=Version(2, 9)),
    Route("GET", "/versioned", text("new"), "things:get", since=Version(2, 10)),
    Route("GET", "/added", text("added"), "things:get", since=Version(2, 50)),
)


class ToyCloud:
    """What the front needs: real policies; tokens are `reader`, `admin` and `broken`."""

    def __init__(self) -> None:
        self.metrics = Metrics()
        self.max_body = 4096
        self.limits = Limits(Memory())
        self.trusted_proxies: list[str] = []
        self.cors_origins: list[str] = []
        self.identity_url = "http://127.0.0.1:5000/v3"
        self.policies = Policies({"toy": RULES})

    def verify(self, token: str, service_token: str | None) -> Who:
        if token == "broken":
            raise RuntimeError("secret of the verifier")
        if token not in ("reader", "admin"):
            raise errors.Unauthorized("The request you have made requires authentication.")
        return Who(user_id=f"id-of-{token}", project_id="p", roles=frozenset({"reader", token}))

    def allows(self, rule: str, who: Who, target: Mapping[str, Any]) -> bool:
        return self.policies.allows(rule, who, target)


def front(change: Callable[[ToyCloud], None] | None = None) -> Front:
    services = [
        Service(name, (f"/{name}",), ROUTES, dialect, MICRO if name == "compute" else None)
        for name, dialect in DIALECTS.items()
    ]
    cloud = ToyCloud()
    if change:
        change(cloud)
    return Front(cloud, services)


class Answer(msgspec.Struct):
    status: int
    headers: dict[str, str]
    raw: bytes

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.raw)


def ask(app: Front, method: str, path: str, raw: bytes = b"", token: str | None = "reader", **environ: Any) -> Answer:
    """One WSGI call. `path` is what a server gives as PATH_INFO: bytes as latin-1, percent-decoded."""
    path, _, query = path.partition("?")
    full: dict[str, Any] = {
        "REQUEST_METHOD": method,
        "PATH_INFO": path,
        "QUERY_STRING": query,
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "5000",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_HOST": "cloud.example:5000",
        "CONTENT_TYPE": "application/json",
        "CONTENT_LENGTH": str(len(raw)),
        "wsgi.input": io.BytesIO(raw),
        "wsgi.errors": io.StringIO(),
        "wsgi.url_scheme": "http",
        "wsgi.version": (1, 0),
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        **({"HTTP_X_AUTH_TOKEN": token} if token is not None else {}),
        **environ,
    }
    answer: dict[str, Any] = {}

    def start(status: str, pairs: list[tuple[str, str]], exc_info: Any = None) -> None:
        assert not answer
        for name, value in pairs:
            assert name.isascii() and value.isascii() and "\n" not in value and "\r" not in value
        answer["status"], answer["headers"] = int(status[:3]), {name.lower(): value for name, value in pairs}

    body = b"".join(app(full, start))
    return Answer(answer["status"], answer["headers"], body)
