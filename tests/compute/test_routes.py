"""Every route asks for a rule that there is, and every action of Nova's API is either served or refused with words."""

from __future__ import annotations

from nephos.compute.policies import RULES
from nephos.compute.service import SERVICE
from nephos.image.policies import RULES as IMAGE_RULES


def test_every_permission_is_a_rule() -> None:
    known = {rule.name for rule in (*RULES, *IMAGE_RULES)}
    asked = {route.permission for route in SERVICE.routes if route.permission is not None}
    assert asked <= known, sorted(asked - known)


def test_actions_are_named_once_in_each_microversion() -> None:
    seen: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for route in SERVICE.routes:
        if route.action is None:
            continue
        span = (route.since.minor if route.since else 1, route.until.minor if route.until else 999)
        for low, high in seen.get((route.path, route.action), []):
            assert high < span[0] or span[1] < low, route
        seen.setdefault((route.path, route.action), []).append(span)
    assert len(seen) > 40
