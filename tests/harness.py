"""A whole server in the test's own process: real ledger, real services, no sockets.

    with Harness(tmp_path) as cloud:
        admin = cloud.login("admin", "admin")
        reply = admin.post("/compute/v2.1/servers", {"server": {...}})
        assert reply.status == 202 and reply.json["server"]["id"]
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

import msgspec

from nephos import app
from nephos.kernel.db.schema import metadata
from nephos.settings import Settings
from tests import engines

PASSWORDS = {"admin": "admin-secret", "demo": "demo-secret"}


class Response(msgspec.Struct):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)


class Client:
    """Calls the WSGI application; with a token when it has one."""

    def __init__(self, harness: Harness, token: str | None = None) -> None:
        self.harness, self.token = harness, token
        self.headers: dict[str, str] = {}

    def request(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Response:
        raw = b"" if body is None else body if isinstance(body, bytes) else msgspec.json.encode(body)
        url, _, query = path.partition("?")
        environ: dict[str, Any] = {
            "REQUEST_METHOD": method,
            "PATH_INFO": unquote_to_bytes(url).decode("latin-1"),
            "QUERY_STRING": query,
            "SERVER_NAME": "127.0.0.1",
            "SERVER_PORT": "5000",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "HTTP_HOST": "127.0.0.1:5000",
            "CONTENT_TYPE": "application/json",
            "CONTENT_LENGTH": str(len(raw)),
            "wsgi.input": io.BytesIO(raw),
            "wsgi.errors": io.StringIO(),
            "wsgi.url_scheme": "http",
            "wsgi.version": (1, 0),
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
        }
        if self.token:
            environ["HTTP_X_AUTH_TOKEN"] = self.token
        for name, value in {**self.headers, **(headers or {})}.items():
            key = name.upper().replace("-", "_")
            environ[key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else "HTTP_" + key] = value
        answer: dict[str, Any] = {}

        def start(status: str, pairs: list[tuple[str, str]], exc_info: Any = None) -> None:
            answer["status"], answer["headers"] = int(status[:3]), {name.lower(): value for name, value in pairs}

        chunks = self.harness.front(environ, start)
        data = b"".join(chunks)
        return Response(answer["status"], answer["headers"], data)

    def get(self, path: str, **headers: str) -> Response:
        return self.request("GET", path, headers=headers)

    def post(self, path: str, body: Any = None, **headers: str) -> Response:
        return self.request("POST", path, body, headers)

    def put(self, path: str, body: Any = None, **headers: str) -> Response:
        return self.request("PUT", path, body, headers)

    def patch(self, path: str, body: Any = None, **headers: str) -> Response:
        return self.request("PATCH", path, body, headers)

    def delete(self, path: str, **headers: str) -> Response:
        return self.request("DELETE", path, headers=headers)


class Harness:
    """`change` edits the settings before the cloud is composed. `database` is a ledger that has its tables already, such
    as another server's; without one this cloud makes its own, by the engine that `tests.engines.DEFAULT` names."""

    def __init__(
        self, path: Path, change: Callable[[Settings], None] | None = None, *, database: str | None = None
    ) -> None:
        (path / "server").mkdir(parents=True, exist_ok=True)
        if database is None and engines.DEFAULT != ["sqlite"]:
            database = engines.kept(engines.DEFAULT[0], path)
        settings = Settings(state=path, hypervisor="fake", database=database or "", connections=40)
        settings.tokens.bcrypt_rounds = 4
        if change:
            change(settings)
        self.cloud = app.compose(settings)
        if database is None:
            with self.cloud.database.engine.connect() as connection:
                metadata.create_all(connection)
        app.seed(self.cloud, PASSWORDS)
        self.front = app.front(self.cloud)

    def __enter__(self) -> Harness:
        return self

    def __exit__(self, *_: object) -> None:
        self.cloud.doorbell.close()
        self.cloud.database.close()
        engines.release(self.cloud.settings.state)

    @property
    def nobody(self) -> Client:
        return Client(self)

    def login(self, user: str, project: str | None = None, *, password: str | None = None, scope: Any = None) -> Client:
        """A client with a token of `user`, scoped to a project of the default domain or to `scope`."""
        auth: dict[str, Any] = {
            "identity": {
                "methods": ["password"],
                "password": {
                    "user": {
                        "name": user,
                        "domain": {"id": "default"},
                        "password": password or PASSWORDS.get(user, f"{user}-secret"),
                    }
                },
            }
        }
        if scope is not None:
            auth["scope"] = scope
        elif project is not None:
            auth["scope"] = {"project": {"name": project, "domain": {"id": "default"}}}
        reply = self.nobody.post("/v3/auth/tokens", {"auth": auth})
        assert reply.status == 201, reply
        return Client(self, reply.headers["x-subject-token"])
