"""What policy rules of identity look at: the path's parameters and `target.<thing>.<attribute>`.

Source: Keystone's enforcer, which flattens the objects that a call is about into such names.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row

from nephos.kernel.http.call import Call

_ATTRIBUTES = ("id", "name", "domain_id", "user_id", "parent_id")


def of(call: Call, **things: Row[Any] | dict[str, Any] | None) -> dict[str, Any]:
    """The target of this call for its objects, by what they are called in rules: `of(call, user=row, project=row)`.

    An object that does not exist is None and leaves its names undefined. Where a row holds "" for "of no domain", rules
    see None, as Keystone's do.
    """
    target: dict[str, Any] = dict(call.params)
    for thing, row in things.items():
        if row is None:
            continue
        values = row if isinstance(row, dict) else row._mapping
        for name in _ATTRIBUTES:
            if name in values:
                target[f"target.{thing}.{name}"] = values[name] if values[name] != "" else None
    return target


def of_domain(call: Call) -> dict[str, Any]:
    """The target of a list: the asker's own domain, where the token is for one."""
    target: dict[str, Any] = dict(call.params)
    if call.who.domain_id is not None:
        for thing in ("target.domain_id", "target.domain.id", "target.user.domain_id", "target.group.domain_id",
                      "target.role.domain_id", "target.project.domain_id"):  # fmt: skip
            target[thing] = call.who.domain_id
    return target
