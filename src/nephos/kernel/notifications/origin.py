"""Who caused what is told, and from where. It travels with the context, so that no action has to hand it on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import msgspec


class Origin(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The caller of a request, or the one whose operation goes on. Ids are None where nobody is known.

    `address` and `agent` are those of the HTTP client. Never a token or another secret: listeners see this.
    """

    user_id: str | None = None
    user_name: str | None = None
    user_domain_id: str | None = None
    project_id: str | None = None
    project_domain_id: str | None = None
    domain_id: str | None = None
    system_scope: str | None = None
    roles: tuple[str, ...] = ()
    request_id: str | None = None
    global_request_id: str | None = None
    address: str | None = None
    agent: str | None = None


caused_by: ContextVar[Callable[[], Origin]] = ContextVar("caused_by", default=Origin)
"""Asked only when there is something to tell."""


@contextmanager
def acting(request_id: str, project_id: str | None, user_id: str | None) -> Iterator[None]:
    """What is done inside is done for the request that began an operation."""
    token = caused_by.set(lambda: Origin(request_id=request_id or None, project_id=project_id, user_id=user_id))
    try:
        yield
    finally:
        caused_by.reset(token)
