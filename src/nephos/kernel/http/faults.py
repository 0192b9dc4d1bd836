"""Errors in each API's own dialect. A fault carries its whole text (S1-11) and the request id."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nephos.errors import NephosError

TITLES = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    406: "Not Acceptable",
    409: "Conflict",
    410: "Gone",
    411: "Length Required",
    412: "Precondition Failed",
    413: "Request Entity Too Large",
    414: "URI Too Long",
    415: "Unsupported Media Type",
    416: "Requested Range Not Satisfiable",
    429: "Too Many Requests",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    501: "Not Implemented",
    503: "Service Unavailable",
}

_COMPUTE = {
    400: "badRequest",
    401: "unauthorized",
    403: "forbidden",
    404: "itemNotFound",
    405: "badMethod",
    406: "notAcceptable",
    409: "conflictingRequest",
    413: "overLimit",
    414: "badRequest",
    415: "badMediaType",
    429: "overLimit",
    431: "badRequest",
    500: "computeFault",
    501: "notImplemented",
    503: "serviceUnavailable",
}

Fault = dict[str, Any]
Dialect = Callable[[NephosError, str], Fault]


def compute(error: NephosError, request_id: str) -> Fault:
    """Nova's: {"itemNotFound": {"code": 404, "message": …}}; microversion refusals in the working group's form."""
    if error.status == 406:
        return {
            "errors": [
                {
                    "status": 406,
                    "title": "Not Acceptable",
                    "detail": error.message,
                    "request_id": request_id,
                    "max_version": error.detail.get("max", ""),
                    "min_version": error.detail.get("min", ""),
                    "code": "compute.microversion-unsupported",
                    "links": [],
                }
            ]
        }
    body: Fault = {"code": error.status, "message": error.message}
    if "retryAfter" in error.detail:
        body["retryAfter"] = error.detail["retryAfter"]
    return {_COMPUTE.get(error.status, "computeFault"): body}


def identity(error: NephosError, request_id: str) -> Fault:
    """Keystone's: {"error": {"code", "title", "message"}}."""
    body: Fault = {"code": error.status, "title": TITLES.get(error.status, ""), "message": error.message}
    if "receipt" in error.detail:
        return {"error": body, **error.detail}
    return {"error": body}


def network(error: NephosError, request_id: str) -> Fault:
    """Neutron's: {"NeutronError": {"type", "message", "detail"}}; the type is the error's own code."""
    return {"NeutronError": {"type": error.code[:1].upper() + error.code[1:], "message": error.message, "detail": ""}}


def image(error: NephosError, request_id: str) -> Fault:
    """Glance's JSON fault."""
    return {
        "code": f"{error.status} {TITLES.get(error.status, '')}",
        "title": TITLES.get(error.status, ""),
        "message": error.message,
    }


_PLACEMENT = {
    400: "The server could not comply with the request: it is malformed or wrong.",
    403: "Access was denied to this resource.",
    404: "The resource could not be found.",
    409: "There was a conflict when trying to complete the request.",
}


def placement(error: NephosError, request_id: str) -> Fault:
    """The working group's: {"errors": [{"status", "title", "detail", "code", "request_id"}]}.

    `detail` says on its first line what the status means and on its last one why: clients show only the last line.
    """
    reason = " ".join(error.message.split("\n"))
    item: Fault = {
        "status": error.status,
        "title": TITLES.get(error.status, ""),
        "detail": f"{_PLACEMENT.get(error.status, TITLES.get(error.status, ''))}\n\n {reason}  ",
        "code": error.code if "." in error.code else "placement.undefined_code",
        "request_id": request_id,
    }
    if error.status == 406:
        item["max_version"], item["min_version"] = error.detail.get("max", ""), error.detail.get("min", "")
    return {"errors": [item]}


def plain(error: NephosError, request_id: str) -> Fault:
    """For URLs of no service."""
    return {
        "error": {
            "code": error.status,
            "title": TITLES.get(error.status, ""),
            "message": error.message,
            "request_id": request_id,
        }
    }
