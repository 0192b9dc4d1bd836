"""Every error that Nephos raises on purpose.

    NephosError                     500
    ├── BadRequest                  400  the request cannot be understood or breaks a rule
    ├── Unauthorized                401  no valid token
    ├── Forbidden                   403  a policy rule says no
    │   └── OverQuota               403  names resource, limit, in use, requested (413 where the API says so)
    ├── NotFound                    404
    ├── MethodNotAllowed            405
    ├── NotAcceptable               406  a microversion that is not served
    ├── Conflict                    409  the state does not allow it
    │   └── InUse                   409  names what uses it
    ├── Gone                        410
    ├── PreconditionFailed          412
    ├── TooLarge                    413
    ├── UriTooLong                  414
    ├── UnsupportedMedia            415
    ├── TooManyRequests             429  carries Retry-After
    ├── HeadersTooLarge             431
    ├── NotImplemented              501
    ├── Unavailable                 503  may carry Retry-After
    ├── NoValidHost                 the scheduler's refusal, with the count of hosts that each filter removed
    ├── HostFault                   a host could not do what a task asked (`hypervisor.base` has one that may pass by itself)
    └── SettingsError               a setting or the state directory is wrong; for the command line

`status` is the HTTP status, `code` a stable word that clients may rely on; the text is for people and is shown whole
(S1-11). Each API renders them in its own dialect: `kernel.http.faults`.
"""

from __future__ import annotations

from collections.abc import Mapping


class NephosError(Exception):
    """Base of all. `detail` holds values that an API dialect may render beside the text."""

    status = 500
    code = "internalError"

    def __init__(self, message: str, /, *, code: str | None = None, detail: Mapping[str, object] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.detail: dict[str, object] = dict(detail or {})
        if code is not None:
            self.code = code


class BadRequest(NephosError):
    status = 400
    code = "badRequest"


class Unauthorized(NephosError):
    status = 401
    code = "unauthorized"


class Forbidden(NephosError):
    status = 403
    code = "forbidden"


class OverQuota(Forbidden):
    """A request would pass a limit."""

    code = "overQuota"

    def __init__(self, resource: str, *, limit: int, used: int, requested: int, status: int = 403) -> None:
        super().__init__(
            f"Quota exceeded for {resource}: requested {requested}, in use {used}, limit {limit}.",
            detail={"resource": resource, "limit": limit, "used": used, "requested": requested},
        )
        self.status = status


class NotFound(NephosError):
    status = 404
    code = "itemNotFound"


class MethodNotAllowed(NephosError):
    status = 405
    code = "badMethod"


class NotAcceptable(NephosError):
    status = 406
    code = "notAcceptable"


class Conflict(NephosError):
    status = 409
    code = "conflictingRequest"


class InUse(Conflict):
    code = "inUse"


class Gone(NephosError):
    status = 410
    code = "gone"


class PreconditionFailed(NephosError):
    status = 412
    code = "preconditionFailed"


class TooLarge(NephosError):
    status = 413
    code = "overLimit"


class UnsupportedMedia(NephosError):
    status = 415
    code = "unsupportedMediaType"


class UriTooLong(NephosError):
    status = 414
    code = "uriTooLong"


class HeadersTooLarge(NephosError):
    status = 431
    code = "headersTooLarge"


class TooManyRequests(NephosError):
    """`retry_after` is whole seconds."""

    status = 429
    code = "overLimit"

    def __init__(self, message: str, /, *, retry_after: int) -> None:
        super().__init__(message, detail={"retryAfter": retry_after})
        self.retry_after = retry_after


class NotImplementedHere(NephosError):
    status = 501
    code = "notImplemented"


class Unavailable(NephosError):
    """`retry_after` is whole seconds, None when nobody knows."""

    status = 503
    code = "serviceUnavailable"

    def __init__(
        self,
        message: str,
        /,
        *,
        retry_after: int | None = None,
        code: str | None = None,
        detail: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(message, code=code, detail=detail)
        self.retry_after = retry_after


class NoValidHost(NephosError):
    code = "noValidHost"


class HostFault(NephosError):
    code = "hostFault"


class SettingsError(NephosError):
    code = "settings"
