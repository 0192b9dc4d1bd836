"""JsonFilter's language (S2-29): the scheduler hint `query`, a list of operator and operands, nested.

    [">=", "$free_ram_mb", 1024]      ["and", ["<", "$vcpus_used", 4], ["in", "$host", "a", "b"]]

Operators: = < > <= >= in not or and. A text that begins with $ is a host's variable, `$cpu_info.arch` reaches inside.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from nephos import errors
from nephos.compute.scheduler.snapshot import DISK_GB, MEMORY_MB, VCPU, Mask, Snapshot

_COMPARE = ("=", "<", ">", "<=", ">=")
_DEEPEST = 32


def parse(text: Any) -> Any:
    """The query as a list. Raises BadRequest when it is none, or holds an operator that does not exist."""
    try:
        query = msgspec.json.decode(text) if isinstance(text, str) else text
    except msgspec.DecodeError as wrong:
        raise errors.BadRequest(f"The scheduler hint query is not JSON: {wrong}") from wrong
    _check(query, 0)
    return query


def _check(query: Any, depth: int) -> None:
    if not isinstance(query, list) or not query or depth > _DEEPEST:
        raise errors.BadRequest('The scheduler hint query must be a list such as [">=", "$free_ram_mb", 1024].')
    operator, operands = query[0], query[1:]
    if operator in ("and", "or", "not"):
        if not operands or (operator == "not" and len(operands) != 1):
            raise errors.BadRequest(f"The scheduler hint query has too few operands of {operator!r}.")
        for each in operands:
            _check(each, depth + 1)
    elif operator in _COMPARE or operator == "in":
        if len(operands) < 2 or any(isinstance(each, list | dict) for each in operands):
            raise errors.BadRequest(f"The scheduler hint query compares two plain values or more by {operator!r}.")
    else:
        raise errors.BadRequest(f"The scheduler hint query has no operator {operator!r}.")


def matches(snapshot: Snapshot, query: Any) -> Mask:
    """Which hosts a parsed query is true for. A variable that a host does not have makes a comparison false."""
    operator, operands = query[0], query[1:]
    if operator == "not":
        return ~matches(snapshot, operands[0])
    if operator in ("and", "or"):
        found = matches(snapshot, operands[0])
        for each in operands[1:]:
            more = matches(snapshot, each)
            found = (found & more) if operator == "and" else (found | more)
        return found
    first = _values(snapshot, operands[0])
    rest = [_values(snapshot, each) for each in operands[1:]]
    if operator == "in":
        return np.array([any(_equal(a, each[at]) for each in rest) for at, a in enumerate(first)], dtype=np.bool_)
    return np.array(
        [all(_compare(operator, a, each[at]) for each in rest) for at, a in enumerate(first)], dtype=np.bool_
    )


def _values(snapshot: Snapshot, operand: Any) -> list[Any]:
    if isinstance(operand, str) and operand.startswith("$"):
        return _variable(snapshot, operand[1:])
    return [operand] * len(snapshot)


def _variable(snapshot: Snapshot, name: str) -> list[Any]:
    ram, disk, vcpus = (snapshot.resources[each] for each in (MEMORY_MB, DISK_GB, VCPU))
    columns = {
        "free_ram_mb": ram.free,
        "total_usable_ram_mb": ram.total,
        "free_disk_mb": disk.free * 1024,
        "disk_mb_used": disk.used * 1024,
        "total_usable_disk_gb": disk.total,
        "vcpus_total": vcpus.total,
        "vcpus_used": vcpus.used,
        "num_instances": snapshot.servers,
    }
    if name in columns:
        return list(columns[name].tolist())
    path = name.split(".")
    return [_inside(facts, path) for facts in snapshot.facts]


def _inside(value: Any, path: list[str]) -> Any:
    for each in path:
        if not isinstance(value, dict):
            return None
        value = value.get(each)
    return value


def _equal(a: Any, b: Any) -> bool:
    return a is not None and (a == b or str(a) == str(b))


def _compare(operator: str, a: Any, b: Any) -> bool:
    if a is None or b is None:
        return False
    if operator == "=":
        return _equal(a, b)
    try:
        left, right = (float(a), float(b)) if not (isinstance(a, str) and isinstance(b, str)) else (a, b)
    except (TypeError, ValueError):
        return False
    if operator == "<":
        return bool(left < right)  # type: ignore[operator]
    if operator == ">":
        return bool(left > right)  # type: ignore[operator]
    if operator == "<=":
        return bool(left <= right)  # type: ignore[operator]
    return bool(left >= right)  # type: ignore[operator]
