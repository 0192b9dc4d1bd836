"""Errors by the names that Neutron gives them: clients look at the type."""

from __future__ import annotations

from nephos import errors


def invalid(attribute: str, reason: str) -> errors.BadRequest:
    """400 HTTPBadRequest: an attribute's value is of the wrong form."""
    return errors.BadRequest(f"Invalid input for {attribute}. Reason: {reason}.", code="HTTPBadRequest")


def bad(message: str, code: str = "InvalidInput") -> errors.BadRequest:
    """400: the request breaks a rule."""
    return errors.BadRequest(message, code=code)


def refused(message: str, code: str) -> errors.Conflict:
    """409: the state does not allow it."""
    return errors.Conflict(message, code=code)


def missing(what: str, key: str, code: str | None = None) -> errors.NotFound:
    """404 WhatNotFound: it is not there, or not for the caller to see."""
    return errors.NotFound(f"{what} {key} could not be found.", code=code or f"{what.replace(' ', '')}NotFound")


def over_quota(resource: str, limit: int, used: int, requested: int) -> errors.OverQuota:
    """409 OverQuota."""
    error = errors.OverQuota(resource, limit=limit, used=used, requested=requested, status=409)
    error.code = "OverQuota"
    return error
