"""The HTTP front: Falcon's router in front of the route tables of all services.

A request goes: route → microversion → token → permission → handler → encoder. Errors are rendered here and nowhere
else, in the dialect of the service that was asked, with the request id. Whatever is not a NephosError is logged with
its trace and shown as a 500 without one.

Before the route, and for URLs of none too: what a trusted proxy says, the sizes of URL and headers, a browser's preflight.
No header tells who the caller is but the token: X-User-Id, X-Roles and their like are for what stands behind Keystone's
middleware, and here nobody reads them.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol
from urllib.parse import quote

import falcon
import msgspec

from nephos import errors
from nephos.kernel import clock
from nephos.kernel.auth import access as access_rules
from nephos.kernel.auth.who import Who
from nephos.kernel.http import faults
from nephos.kernel.http.bodies import Bodies
from nephos.kernel.http.call import Call, Reply
from nephos.kernel.http.cors import Cors
from nephos.kernel.http.limits import Limits
from nephos.kernel.http.metrics import Metrics
from nephos.kernel.http.proxies import Proxies, client_of, host_url
from nephos.kernel.http.routes import Route, Service
from nephos.kernel.logs import global_request_id
from nephos.kernel.logs import request_id as current_request
from nephos.kernel.notifications.origin import caused_by

log = logging.getLogger("nephos.http")
access = logging.getLogger("nephos.access")
_encode = msgspec.json.Encoder().encode
_STATUS = {code: falcon.code_to_http_status(code) for code in range(100, 600)}
_REQUEST_ID = re.compile(r"req-[0-9a-fA-F-]{1,64}")
_HUGE_WORD = re.compile(r"(\S{200})\S{800,}")
_NOT_IN_A_HEADER = re.compile(r"[^\x20-\x7e]")
MOST_TARGET = 32 << 10
MOST_HEADER = 16 << 10
MOST_HEADERS = 48 << 10
"""Bytes of a URL, of one header and of all. The HTTP server itself refuses 65,534 of a URL, a head of 96 KiB and a
hundred headers: so early that its 414 and 431 carry neither words nor a request id."""


class Cloud(Protocol):
    """What the front needs of the composition root."""

    metrics: Metrics

    @property
    def max_body(self) -> int: ...

    @property
    def limits(self) -> Limits: ...

    @property
    def trusted_proxies(self) -> Sequence[str]:
        """Addresses or CIDRs."""
        ...

    @property
    def cors_origins(self) -> Sequence[str]: ...

    def verify(self, token: str, service_token: str | None) -> Who:
        """Raises Unauthorized."""
        ...

    def allows(self, rule: str, who: Who, target: Mapping[str, Any]) -> bool: ...

    @property
    def identity_url(self) -> str: ...


class _Resource:
    """All verbs of one URL. Falcon finds them as on_get, on_post…"""

    def __init__(self, front: Front, service: Service, routes: Sequence[Route]) -> None:
        self._front = front
        self._service = service
        by_verb: dict[str, list[Route]] = {}
        for route in routes:
            by_verb.setdefault(route.method, []).append(route)
        if "GET" in by_verb and "HEAD" not in by_verb:
            by_verb["HEAD"] = by_verb["GET"]
        for verb, choices in by_verb.items():
            setattr(self, f"on_{verb.lower()}", self._responder(choices))
        self._allowed = ", ".join(sorted({*by_verb, "OPTIONS"}))

    def _responder(self, choices: list[Route]) -> Callable[..., None]:
        front, service = self._front, self._service

        def respond(request: falcon.Request, response: falcon.Response, **params: str) -> None:
            front.answer(service, choices, request, response, params)

        return respond

    def on_options(self, request: falcon.Request, response: falcon.Response, **params: str) -> None:
        """What may be done with a URL: the same for everybody, so without a token."""
        request_id = _begin(request.env)
        response.set_header("allow", self._allowed)
        response.data = b""
        _show_id(response, self._service, request_id)


class Front:
    """The WSGI application of all services."""

    def __init__(self, cloud: Cloud, services: Sequence[Service]) -> None:
        self.cloud = cloud
        self.services = services
        self._bodies = Bodies(cloud.max_body)
        self._proxies = Proxies(cloud.trusted_proxies)
        self._cors = Cors(cloud.cors_origins)
        self.app = falcon.App(media_type="application/json")
        self.app.req_options.strip_url_path_trailing_slash = True
        self.app.resp_options.xml_error_serialization = False
        self.app.add_error_handler(Exception, self._lost)
        self.app.add_error_handler(falcon.HTTPError, self._lost)
        for service in services:
            by_path: dict[str, list[Route]] = {}
            for route in service.routes:
                by_path.setdefault(route.path, []).append(route)
            for path, routes in by_path.items():
                resource = _Resource(self, service, routes)
                for prefix in service.prefixes:
                    for spelled in service.spellings(path):
                        self.app.add_route((prefix + spelled) or "/", resource)

    def __call__(self, environ: dict[str, Any], start: Any) -> Any:
        self._proxies.apply(environ)
        if "HTTP_ORIGIN" in environ:
            preflight = self._cors.preflight(environ)
            if preflight is not None:
                start("200 OK", [*preflight, ("content-length", "0"), ("x-openstack-request-id", _begin(environ))])
                return []
            start = self._cors.decorate(environ, start)
        wrong = _too_long(environ)
        return self.app(environ, start) if wrong is None else self._refuse(environ, start, wrong)

    def _refuse(self, environ: dict[str, Any], start: Any, wrong: errors.NephosError) -> list[bytes]:
        """Answer what is not even routed. The connection ends: who sends such heads is not asked for the next."""
        service, request_id = self._service_of(environ["PATH_INFO"]) or _NO_SERVICE, _begin(environ)
        body = _encode(service.dialect(wrong, request_id))
        headers = [("content-type", "application/json"), ("content-length", str(len(body))), ("connection", "close")]
        start(_STATUS[wrong.status], [*headers, ("x-openstack-request-id", request_id)])
        access.info(
            "%s %s… %d from=%s", environ["REQUEST_METHOD"], environ["PATH_INFO"][:200], wrong.status, client_of(environ)
        )
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]

    def answer(
        self,
        service: Service,
        choices: list[Route],
        request: falcon.Request,
        response: falcon.Response,
        params: dict[str, str],
    ) -> None:
        """One request from its route to its reply."""
        began = clock.monotonic()
        environ = request.env
        request_id = _begin(environ)
        route = choices[0]
        call: Call | None = None
        try:
            call = Call(self.cloud, route, params, environ)
            call.request_id, call.host_url = request_id, host_url(environ)
            caused_by.set(call.origin)
            call.reads(lambda: self._bodies.read(environ))
            _check(params)
            route = self._route(service, choices, call)
            reply = self._handle(service, route, call)
            self._send(response, route, call, reply)
        except errors.NephosError as error:
            self._fault(service, response, error, request_id)
        except (OverflowError, RecursionError) as wrong:
            log.warning("%s %s", request.method, request.path, exc_info=wrong)
            self._fault(service, response, _too_much(wrong), request_id)
        except Exception:
            log.exception("unexpected error in %s %s", request.method, request.path)
            self._fault(service, response, _unexpected(request_id), request_id)
        if call is not None and service.microversions and call.version.major:
            for name, value in service.microversions.headers(call.version).items():
                response.set_header(name, value)
        _show_id(response, service, request_id)
        seconds = clock.monotonic() - began
        self.cloud.metrics.observe(service.name, route, response.status_code, seconds)
        _tell(request, response, seconds, call.who.user_id if call is not None and call.known else "-")

    def _route(self, service: Service, choices: list[Route], call: Call) -> Route:
        """Pick by microversion and, on an action URL, by the body's one key."""
        if service.microversions and choices[0].permission is not None:
            call.version = service.microversions.negotiate(
                call.header("OpenStack-API-Version"),
                call.header(service.microversions.legacy) if service.microversions.legacy else None,
            )
        served = [
            r for r in choices if (not r.since or call.version >= r.since) and (not r.until or call.version <= r.until)
        ]
        if not served:
            self._identify(call)
            raise errors.NotFound("The resource could not be found.")
        call.route = served[0]
        if served[0].action is None:
            return served[0]
        self._identify(call)
        wanted = _action(call.raw)
        for route in served:
            if route.action == wanted:
                call.route = route
                return route
        raise errors.BadRequest(f"There is no such action: {wanted}")

    def _identify(self, call: Call) -> None:
        if call.known:
            return
        if call.token:
            call.identify(self.cloud.verify(call.token, call.header("X-Service-Token")), self.cloud.allows)
        elif call.route.permission is not None:
            raise errors.Unauthorized("The request you have made requires authentication.")
        else:
            call.identify(None, self.cloud.allows)

    def _handle(self, service: Service, route: Route, call: Call) -> Reply:
        if route.permission is None:
            self._count(service, call, client_of(call.environ))
            return route.handler(call)
        self._identify(call)
        if call.who.access_rules is not None:
            access_rules.check(call.who, service.name, call.environ["REQUEST_METHOD"], call.environ["PATH_INFO"])
        self._count(service, call, None)
        if route.target == "own":
            call.permit(None)
        reply = route.handler(call)
        if not call.checked:
            raise AssertionError(f"{route.method} {route.path} answered without checking {route.permission}")
        return reply

    def _count(self, service: Service, call: Call, address: str | None) -> None:
        """Rates are of users; where it is not known yet who asks, of addresses."""
        limits = self.cloud.limits
        if limits.active:
            environ = call.environ
            path = service.canonical(environ["PATH_INFO"])
            asker = f"address {address}" if address is not None else call.who.user_id
            limits.take(asker, environ["REQUEST_METHOD"], service.name, path, known=address is None)

    def _send(self, response: falcon.Response, route: Route, call: Call, reply: Reply) -> None:
        status = reply.status or route.status
        response.status = _STATUS[status]
        for name, value in (*reply.headers.items(), *call.headers.items()):
            response.set_header(name, _NOT_IN_A_HEADER.sub(lambda found: quote(found[0]), value))
        if reply.stream is not None:
            response.content_type = reply.content_type
            if call.environ["REQUEST_METHOD"] == "HEAD":
                getattr(reply.stream, "close", lambda: None)()
            else:
                response.stream = reply.stream
        elif reply.body is not None:
            response.content_type = reply.content_type
            response.data = reply.body if isinstance(reply.body, bytes) else _encode(reply.body)
        elif status not in (204, 304):
            response.content_type = reply.content_type
            response.data = b""

    def _fault(self, service: Service, response: falcon.Response, error: errors.NephosError, request_id: str) -> None:
        # A reason is shown whole, but not the hundred kilobytes that a client sent in place of a name.
        error.message = _HUGE_WORD.sub(r"\1…", error.message)
        response.status = _STATUS[error.status]
        response.content_type = "application/json"
        response.stream = None
        response.data = _encode(service.dialect(error, request_id))
        if error.status == 401:
            response.set_header("WWW-Authenticate", f'Keystone uri="{self.cloud.identity_url}"')
        if isinstance(error, errors.TooManyRequests | errors.Unavailable) and error.retry_after is not None:
            response.set_header("Retry-After", str(error.retry_after))
        headers = error.detail.get("headers")
        if isinstance(headers, dict):
            for name, value in headers.items():
                response.set_header(name, value)

    def _lost(
        self, request: falcon.Request, response: falcon.Response, error: Exception, params: dict[str, Any]
    ) -> None:
        """What Falcon itself refuses: unknown URLs and verbs, malformed requests."""
        began = clock.monotonic()
        request_id = _begin(request.env)
        service = self._service_of(request.path)
        if isinstance(error, falcon.HTTPMethodNotAllowed):
            wrong: errors.NephosError = errors.MethodNotAllowed(f"{request.method} is not allowed on {request.path}.")
            wrong.detail["headers"] = dict(error.headers or {})
        elif isinstance(error, falcon.HTTPNotFound):
            wrong = errors.NotFound(f"The resource could not be found: there is nothing at {request.path}.")
        elif isinstance(error, falcon.HTTPError):
            wrong = errors.BadRequest(str(error.description or error.title))
            wrong.status = error.status_code
        else:
            log.error("unexpected error in %s %s", request.method, request.path, exc_info=error)
            wrong = _unexpected(request_id)
        self._fault(service or _NO_SERVICE, response, wrong, request_id)
        _show_id(response, service or _NO_SERVICE, request_id)
        _tell(request, response, clock.monotonic() - began, "-")

    def _service_of(self, path: str) -> Service | None:
        best: Service | None = None
        length = -1
        for service in self.services:
            for prefix in service.prefixes:
                if (path == prefix or path.startswith(prefix + "/")) and len(prefix) > length:
                    best, length = service, len(prefix)
        return best


def _action(raw: bytes) -> str:
    """The body's one key. Raises BadRequest when there is none or more."""
    try:
        body = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as wrong:
        raise errors.BadRequest(f"The request body is not valid JSON: {wrong}") from wrong
    if not isinstance(body, dict) or len(body) != 1:
        raise errors.BadRequest("Malformed request body: it must be an object with the action as its one key.")
    return str(next(iter(body)))


def _too_long(environ: dict[str, Any]) -> errors.NephosError | None:
    """Whether URL or headers are beyond the limits, in words that name the one that is."""
    target = len(environ["PATH_INFO"]) + len(environ.get("QUERY_STRING") or "")
    if target > MOST_TARGET:
        return errors.UriTooLong(f"The URL has {target} bytes; at most {MOST_TARGET} are served.")
    total = 0
    for name, value in environ.items():
        if name[:5] == "HTTP_":
            size = len(value)
            total += size + len(name)
            if size > MOST_HEADER:
                shown = name[5:].replace("_", "-").title()
                return errors.HeadersTooLarge(f"The header {shown} has {size} bytes; at most {MOST_HEADER} are served.")
    if total > MOST_HEADERS:
        return errors.HeadersTooLarge(f"The headers have {total} bytes together; at most {MOST_HEADERS} are served.")
    return None


def _begin(environ: dict[str, Any]) -> str:
    """A new request id, and the caller's own beside it, for every line that is logged from now on."""
    request_id = "req-" + clock.uuid4()
    current_request.set(request_id)
    given = environ.get("HTTP_X_OPENSTACK_REQUEST_ID") or ""
    global_request_id.set(given if _REQUEST_ID.fullmatch(given) else "")
    return request_id


def _check(params: dict[str, str]) -> None:
    for value in params.values():
        if "\x00" in value or "\ufffd" in value:
            raise errors.BadRequest("The URL holds a null character or bytes that are not UTF-8.")


def _show_id(response: falcon.Response, service: Service, request_id: str) -> None:
    response.set_header("x-openstack-request-id", request_id)
    if service.name == "compute":
        response.set_header("x-compute-request-id", request_id)
    elif service.name == "identity":
        response.set_header("Vary", "X-Auth-Token")  # as Keystone's: no cache gives one's answer to another


def _tell(request: falcon.Request, response: falcon.Response, seconds: float, user: str) -> None:
    if access.isEnabledFor(logging.INFO):
        query = request.query_string
        path = f"{request.path}?{query}" if query else request.path
        values = request.method, path, response.status_code, seconds * 1000, client_of(request.env), user
        access.info("%s %s %s %.1fms from=%s user=%s", *values)


def _too_much(wrong: Exception) -> errors.NephosError:
    """What a handler's own limits did not catch, and the ledger or a decoder refused."""
    number = isinstance(wrong, OverflowError)
    return errors.BadRequest(f"The request {'holds a number that is too large' if number else 'is nested too deeply'}.")


def _unexpected(request_id: str) -> errors.NephosError:
    return errors.NephosError(
        f"An unexpected error prevented the server from fulfilling your request. Request id: {request_id}"
    )


_NO_SERVICE = Service("nephos", ("",), (), faults.plain)
