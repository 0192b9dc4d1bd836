"""One request, as a handler sees it, and the reply it gives."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import IO, TYPE_CHECKING, Any, TypeVar

import msgspec

from nephos import errors
from nephos.kernel.auth.who import Who
from nephos.kernel.http.proxies import client_of
from nephos.kernel.http.query import Query
from nephos.kernel.http.versions import Version
from nephos.kernel.logs import global_request_id
from nephos.kernel.notifications.origin import Origin

if TYPE_CHECKING:
    from nephos.kernel.http.routes import Route

T = TypeVar("T")


class Reply(msgspec.Struct):
    """A status, and a body: an object to encode as JSON, bytes as they are, or an iterable of bytes.

    `status` None means the route's own.
    """

    body: Any = None
    status: int | None = None
    headers: dict[str, str] = {}
    content_type: str = "application/json"
    stream: Iterable[bytes] | None = None


Allows = Callable[[str, Who, Mapping[str, Any]], bool]


class Call:
    """One request. `params` are the path's; `version` the negotiated microversion, (0, 0) where there is none.

    `cloud` is the composition root's object that handlers find the services by (`nephos.app.Cloud`).
    """

    __slots__ = (
        "_allows",
        "_body",
        "_read",
        "_who",
        "checked",
        "cloud",
        "environ",
        "headers",
        "host_url",
        "params",
        "query",
        "request_id",
        "route",
        "token",
        "version",
    )

    def __init__(self, cloud: Any, route: Route, params: dict[str, str], environ: dict[str, Any]) -> None:
        self.cloud = cloud
        self.route = route
        self.params = params
        self.environ = environ
        self.query = Query(environ.get("QUERY_STRING", ""))
        self.version = Version(0, 0)
        self.token: str | None = environ.get("HTTP_X_AUTH_TOKEN")
        self.request_id = ""
        self.host_url = ""
        self.headers: dict[str, str] = {}
        self.checked = False
        self._who: Who | None = None
        self._body: bytes | None = None
        self._allows: Allows | None = None
        self._read: Callable[[], bytes] | None = None

    @property
    def who(self) -> Who:
        """Who asks. Raises Unauthorized on a public route without a token."""
        if self._who is None:
            raise errors.Unauthorized("The request you have made requires authentication.")
        return self._who

    @property
    def known(self) -> bool:
        return self._who is not None

    def origin(self) -> Origin:
        """Who asks and from where, for what is told of it."""
        where = Origin(
            request_id=self.request_id,
            global_request_id=global_request_id.get() or None,
            address=client_of(self.environ),
            agent=self.environ.get("HTTP_USER_AGENT"),
        )
        who = self._who
        if who is None:
            return where
        return msgspec.structs.replace(
            where,
            user_id=who.user_id,
            user_name=who.user_name,
            user_domain_id=who.user_domain_id,
            project_id=who.project_id,
            project_domain_id=who.project_domain_id,
            domain_id=who.domain_id,
            system_scope=who.system_scope,
            roles=tuple(who.roles),
        )

    def identify(self, who: Who | None, allows: Allows) -> None:
        self._who, self._allows = who, allows

    @property
    def stream(self) -> IO[bytes]:
        """The body as it arrives; for routes with `streams=True`."""
        return self.environ["wsgi.input"]  # type: ignore[no-any-return]

    @property
    def raw(self) -> bytes:
        """The whole body. Raises TooLarge beyond the setting's limit."""
        if self._body is None:
            self._body = self._read() if self._read else b""
        return self._body

    def reads(self, read: Callable[[], bytes]) -> None:
        self._read = read

    def body(self, kind: type[T]) -> T:
        """The body as a typed object. Raises BadRequest with the path of what is wrong."""
        return decode(self.raw, kind)

    def header(self, name: str) -> str | None:
        return self.environ.get("HTTP_" + name.upper().replace("-", "_"))

    def allowed(self, rule: str, target: Mapping[str, Any] | None = None) -> bool:
        """Whether a policy rule says yes. The default target is the caller's own project and user."""
        assert self._allows is not None
        self.checked = True
        return self._allows(rule, self.who, self.own if target is None else target)

    def permit(self, target: Mapping[str, Any] | None = None, *, rule: str | None = None) -> None:
        """Check the route's permission, or another rule, on a target. Raises Forbidden naming the rule."""
        name = rule or self.route.permission or ""
        if not self.allowed(name, target):
            self.cloud.policies.require(name, self.who, self.own if target is None else target)

    @property
    def own(self) -> dict[str, Any]:
        """The caller as a policy target."""
        who = self.who
        return {
            "project_id": who.project_id,
            "tenant_id": who.project_id,
            "user_id": who.user_id,
            "domain_id": who.domain_id,
        }


def decode(raw: bytes, kind: type[T]) -> T:
    """JSON to a typed object. Raises BadRequest with the path of what is wrong; refuses null characters in strings."""
    if b"\\u0000" in raw or b"\x00" in raw:
        raise errors.BadRequest("The body holds a null character.")
    try:
        return msgspec.json.decode(raw, type=kind)
    except msgspec.ValidationError as wrong:
        raise errors.BadRequest(f"Invalid input: {wrong}") from wrong
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as wrong:
        raise errors.BadRequest(f"The request body is not valid JSON: {wrong}") from wrong
