"""Scheduler hints as a request gives them (S2-28). Any JSON is kept and shown; those that are known are checked here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import UNSET

from nephos import errors
from nephos.compute.servers.wire import Hints
from nephos.compute.wire import is_uuid


def read_hints(given: Mapping[str, Any]) -> dict[str, Any]:
    """The hints, every value a list or a text as Nova keeps them. Raises BadRequest for one that cannot be meant."""
    if not given:
        return {}
    try:
        known = msgspec.convert(dict(given), Hints)
    except msgspec.ValidationError as wrong:
        raise errors.BadRequest(f"Invalid input for field/attribute scheduler_hints: {wrong}") from wrong
    for name in ("group", "different_host", "same_host"):
        value = getattr(known, name)
        if value is UNSET:
            continue
        for each in [value] if isinstance(value, str) else value:
            if not is_uuid(each):
                raise errors.BadRequest(f"Invalid input for field/attribute {name}. Value: {each}. It is no UUID.")
    if known.query is not UNSET:
        from nephos.compute.scheduler import query

        query.parse(known.query)
    return dict(given)


def group_of(hints: Mapping[str, Any]) -> str | None:
    """The server group that is asked for."""
    group = hints.get("group")
    if isinstance(group, list):
        group = group[0] if group else None
    return group


def servers_in(hints: Mapping[str, Any], name: str) -> list[str]:
    """The servers that `same_host` or `different_host` names."""
    value = hints.get(name, [])
    return [value] if isinstance(value, str) else [each for each in value if isinstance(each, str)]
