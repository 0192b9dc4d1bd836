"""Cross-origin requests of browsers, as oslo.middleware's `cors` answers them (the Fetch standard, "CORS protocol")."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

ALLOWED_METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE")
ALLOWED_HEADERS = frozenset(
    {
        *("accept", "accept-language", "cache-control", "content-language", "content-type", "expires"),
        *("last-modified", "pragma", "range", "if-match", "if-none-match", "if-modified-since"),
        *("x-auth-token", "x-subject-token", "x-service-token", "x-openstack-request-id", "openstack-auth-receipt"),
        *("x-project-id", "x-project-name", "x-project-domain-id", "x-project-domain-name"),
        *("x-domain-id", "x-domain-name", "x-user-id", "x-roles", "x-identity-status"),
        *("openstack-api-version", "x-openstack-nova-api-version", "x-openstack-image-size"),
        *("x-image-meta-store", "openstack-system-scope"),
    }
)
EXPOSED_HEADERS = ", ".join(
    (
        *("Cache-Control", "Content-Language", "Content-Type", "Expires", "Last-Modified", "Pragma"),
        *("Content-Length", "Content-Range", "Content-MD5", "ETag", "Location", "Retry-After"),
        *("X-Auth-Token", "X-Subject-Token", "Openstack-Auth-Receipt"),
        *("X-Openstack-Request-Id", "X-Compute-Request-Id"),
        *("OpenStack-API-Version", "X-OpenStack-Nova-API-Version"),
    )
)
MAX_AGE = "3600"
"""Seconds for which a browser keeps the answer to a preflight."""

Headers = list[tuple[str, str]]


class Cors:
    """`origins` are scheme://host[:port] of the pages that may ask, or "*" for all."""

    def __init__(self, origins: Sequence[str]) -> None:
        self._origins = frozenset(each.rstrip("/") for each in origins)

    def _origin(self, environ: dict[str, Any]) -> str | None:
        """What Access-Control-Allow-Origin says; None for a page that may not ask, and for what is no page."""
        origin = environ.get("HTTP_ORIGIN", "")
        if origin and origin in self._origins:
            return str(origin)
        return "*" if origin and "*" in self._origins else None

    def preflight(self, environ: dict[str, Any]) -> Headers | None:
        """The headers for a preflight, none of them when the page may not do it; None when this is no preflight."""
        wanted = environ.get("HTTP_ACCESS_CONTROL_REQUEST_METHOD")
        if environ["REQUEST_METHOD"] != "OPTIONS" or "HTTP_ORIGIN" not in environ or not wanted:
            return None
        origin = self._origin(environ)
        asked = environ.get("HTTP_ACCESS_CONTROL_REQUEST_HEADERS", "")
        names = [each for each in (part.strip() for part in asked.split(",")) if each]
        if (
            origin is None
            or wanted not in ALLOWED_METHODS
            or any(each.lower() not in ALLOWED_HEADERS for each in names)
        ):
            return [("vary", "Origin")]
        headers = [*self._base(origin), ("access-control-max-age", MAX_AGE), ("access-control-allow-methods", wanted)]
        return [*headers, ("access-control-allow-headers", ",".join(names))] if names else headers

    def decorate(self, environ: dict[str, Any], start: Any) -> Any:
        """`start_response` that tells the browser whether the page may read the answer."""
        origin = self._origin(environ)
        if not self._origins:
            return start
        more = [*self._base(origin), ("access-control-expose-headers", EXPOSED_HEADERS)] if origin else []

        def started(status: str, headers: Headers, exc_info: Any = None) -> Any:
            kept = [(name, value) for name, value in headers if name.lower() != "vary"]
            vary = [value for name, value in headers if name.lower() == "vary"]
            base = more or [("vary", "Origin")]
            joined = [
                ("vary", ", ".join([*vary, "Origin"])) if name == "vary" else (name, value) for name, value in base
            ]
            return start(status, [*kept, *joined])

        return started

    def _base(self, origin: str) -> Headers:
        """A page of any origin may not send the browser's cookies along: the standard forbids "*" with credentials."""
        credentials = [("access-control-allow-credentials", "true")] if origin != "*" else []
        return [("access-control-allow-origin", origin), ("vary", "Origin"), *credentials]
