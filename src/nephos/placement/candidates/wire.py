"""The query string of GET /allocation_candidates: request groups, and what goes for all of them."""

from __future__ import annotations

import re
from typing import NamedTuple

from nephos import errors
from nephos.kernel.http.call import Call
from nephos.placement import query, wire
from nephos.placement.query import Wanted

_NUMBERED = re.compile(r"(resources|required|member_of|in_tree)([1-9][0-9]*)?", re.ASCII)
_NAMED = re.compile(r"(resources|required|member_of|in_tree)([a-zA-Z0-9_-]{1,64})?", re.ASCII)


class Request(NamedTuple):
    """Groups by suffix. That of the empty suffix may be spread over a tree; each other one is one provider's."""

    groups: dict[str, Wanted]
    limit: int | None
    isolate: bool
    root_required: set[str]
    root_forbidden: set[str]
    same_subtrees: list[set[str]]


def read(call: Call) -> Request:
    """Raises BadRequest for what the version does not know, and for what does not fit together."""
    _check_names(call)
    subtrees = [_suffixes(value) for value in call.query.many("same_subtree")]
    groups = _groups(call)
    if wire.at_least(call, 36):
        _check_subtrees(groups, subtrees)
    else:
        _check_orphans(groups)
    for suffix, group in groups.items():
        for each in group.required:
            if each <= group.forbidden:
                raise errors.BadRequest(
                    "Conflicting required and forbidden traits found in the following traits keys: "
                    f"required{suffix}: ({', '.join(sorted(each))})"
                )
    policy = next(iter(call.query.many("group_policy")), None)
    if policy is not None and policy not in ("none", "isolate"):
        raise errors.BadRequest(f"Invalid query string parameters: {policy!r} is not one of ['none', 'isolate']")
    if policy is None and len([suffix for suffix in groups if suffix]) > 1:
        raise errors.BadRequest(
            'The "group_policy" parameter is required when specifying more than one "resources{N}" parameter.'
        )
    root_required, root_forbidden = _root(call)
    return Request(groups, _limit(call), policy == "isolate", root_required, root_forbidden, subtrees)


def _check_names(call: Call) -> None:
    since = {"limit": 16, "group_policy": 25, "root_required": 35, "same_subtree": 36}
    allowed = {name for name, minor in since.items() if wire.at_least(call, minor)}
    pattern = None
    if wire.at_least(call, 25):
        names = "resources|required|member_of" + ("|in_tree" if wire.at_least(call, 31) else "")
        suffix = "[a-zA-Z0-9_-]{1,64}" if wire.at_least(call, 33) else "[1-9][0-9]*"
        pattern = re.compile(f"({names})({suffix})?", re.ASCII)
    else:
        plain = {"resources": 10, "required": 17, "member_of": 21}
        allowed |= {name for name, minor in plain.items() if wire.at_least(call, minor)}
        if "resources" not in call.query:
            raise errors.BadRequest("Invalid query string parameters: 'resources' is a required property")
    wire.query_names(call, allowed, pattern)


def _groups(call: Call) -> dict[str, Wanted]:
    pattern = _NAMED if wire.at_least(call, 33) else _NUMBERED
    groups: dict[str, Wanted] = {}
    for name in call.query:
        found = pattern.fullmatch(name)
        if found is None:
            continue
        kind, suffix = found[1], found[2] or ""
        group = groups.setdefault(suffix, Wanted())
        last = call.query[name][-1]
        if kind == "resources":
            group.resources = query.resources(last)
        elif kind == "required":
            group.required, group.forbidden = query.required(call, suffix)
        elif kind == "member_of":
            group.member_of, group.forbidden_aggregates = query.member_of(call, suffix)
        else:
            group.in_tree = query.in_tree(last)
    return groups


def _suffixes(value: str) -> set[str]:
    suffixes = {each.strip() for each in value.split(",")}
    if "" in suffixes:
        raise errors.BadRequest(
            f"Empty string (unsuffixed group) can not be specified in `same_subtree`: {value}", code=wire.BAD_VALUE
        )
    return suffixes


def _check_subtrees(groups: dict[str, Wanted], subtrees: list[set[str]]) -> None:
    empty = [suffix for suffix, group in groups.items() if not group.resources]
    if len(empty) == len(groups):
        raise errors.BadRequest(
            "There must be at least one resources or resources[$S] parameter.", code=wire.MISSING_VALUE
        )
    named = set().union(*subtrees)
    bad = [suffix for suffix in empty if suffix not in named]
    if bad:
        raise errors.BadRequest(
            "Resourceless suffixed group request should be specified in `same_subtree` query param: "
            f"bad group(s) - {bad}.",
            code=wire.BAD_VALUE,
        )
    bad = sorted(named - groups.keys())
    if bad:
        raise errors.BadRequest(
            f"Real suffixes should be specified in `same_subtree`: {bad} not found in {list(groups)}.",
            code=wire.BAD_VALUE,
        )


def _check_orphans(groups: dict[str, Wanted]) -> None:
    empty = {suffix: group for suffix, group in groups.items() if not group.resources}
    orphans = [f"required{suffix}" for suffix, group in empty.items() if group.required]
    if orphans:
        raise errors.BadRequest(
            "All traits parameters must be associated with resources.  "
            f"Found the following orphaned traits keys: {', '.join(orphans)}"
        )
    orphans = [f"member_of{suffix}" for suffix, group in empty.items() if group.member_of or group.forbidden_aggregates]
    if orphans:
        raise errors.BadRequest(
            "All member_of parameters must be associated with resources. "
            f"Found the following orphaned member_of keys: {', '.join(orphans)}"
        )
    if empty:
        raise errors.BadRequest("All request groups must specify resources.")
    if not groups:
        raise errors.BadRequest("At least one request group (`resources` or `resources{$S}`) is required.")


def _root(call: Call) -> tuple[set[str], set[str]]:
    values = call.query.many("root_required")
    if len(values) > 1:
        raise errors.BadRequest("Query parameter 'root_required' may be specified only once.", code=wire.DUPLICATE_KEY)
    if not values:
        return set(), set()
    parts = [each.strip() for each in values[0].split(",")]
    if not all(each.lstrip("!") for each in parts):
        raise errors.BadRequest(
            "Invalid query string parameters: Expected 'required' parameter value of the form: "
            f"HW_CPU_X86_VMX,!CUSTOM_MAGIC. Got an empty trait in: {values[0]}"
        )
    forbidden = {each.lstrip("!") for each in parts if each.startswith("!")}
    required = {each for each in parts if not each.startswith("!")}
    both = sorted(required & forbidden)
    if both:
        raise errors.BadRequest(
            f"Conflicting required and forbidden traits found in root_required: {', '.join(both)}", code=wire.BAD_VALUE
        )
    return required, forbidden


def _limit(call: Call) -> int | None:
    value = next(iter(call.query.many("limit")), None)
    if value is None:
        return None
    if not re.fullmatch(r"[1-9][0-9]{0,15}", value, re.ASCII):
        raise errors.BadRequest(
            f"Invalid query string parameters: {value!r} does not match '^[1-9][0-9]*$'. Failed validating 'pattern'"
        )
    return int(value)
