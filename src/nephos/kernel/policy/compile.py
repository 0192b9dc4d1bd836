"""From the tree of a rule to one closure `(who, target) -> bool`.

References to other rules are put in place, so a decision looks nothing up. The order of `and` and `or` is free of
effects, so the cheapest check is asked first. The oracle for the meaning is oslo.policy; the tests compare.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import Final, TypeAlias, TypeGuard

from nephos.kernel.auth.who import Who
from nephos.kernel.policy.names import ATTRIBUTES, TOKEN_PATHS
from nephos.kernel.policy.parse import Always, And, Field, Generic, Node, Not, Or, Role, RuleRef, Template

Target: TypeAlias = Mapping[str, object]
Check: TypeAlias = Callable[[Who, Target], bool]
Resolve: TypeAlias = Callable[[str], Node | None]

_MISSING: Final = object()
_BOOLEANS: Final = {"true": True, "1": True, "false": False, "0": False}


def always(_who: Who, _target: Target) -> bool:
    return True


def never(_who: Who, _target: Target) -> bool:
    return False


def compile_rule(node: Node, resolve: Resolve) -> Check:
    """`resolve` gives the tree of a named rule, None when there is none: that check is then false.

    The rules must not refer to themselves in a circle; the enforcer refuses those before.
    """
    return _emit(_inline(node, resolve))


def _inline(node: Node, resolve: Resolve) -> Node:
    """The same rule without references, with nested `and`/`or` of one kind made flat and constants folded."""
    if isinstance(node, RuleRef):
        found = resolve(node.name)
        return Always(False) if found is None else _inline(found, resolve)
    if isinstance(node, Not):
        child = _inline(node.child, resolve)
        return Always(not child.answer) if isinstance(child, Always) else Not(child)
    if isinstance(node, And | Or):
        decisive = isinstance(node, Or)
        flat: list[Node] = []
        for child in node.children:
            child = _inline(child, resolve)
            if isinstance(child, Always):
                if child.answer is decisive:
                    return child
            elif type(child) is type(node):
                flat += child.children
            else:
                flat.append(child)
        if not flat:
            return Always(not decisive)
        if len(flat) == 1:
            return flat[0]
        flat.sort(key=_cost)
        return Or(tuple(flat)) if decisive else And(tuple(flat))
    return node


def _cost(node: Node) -> int:
    if isinstance(node, Role):
        return 0 if node.match.literal is not None else 2
    if isinstance(node, Generic | Field):
        return 1
    if isinstance(node, Not):
        return _cost(node.child)
    if isinstance(node, And | Or):
        return 3 + len(node.children)
    return 0


def _emit(node: Node) -> Check:
    if isinstance(node, Always):
        return always if node.answer else never
    if isinstance(node, Role):
        return _role(node)
    if isinstance(node, Generic):
        return _generic(node)
    if isinstance(node, Field):
        return _field(node)
    if isinstance(node, Not):
        inner = _emit(node.child)
        return lambda who, target: not inner(who, target)
    if isinstance(node, Or):
        return _any(node.children)
    if isinstance(node, And):
        return _all(node.children)
    raise AssertionError(f"a reference was left in place: {node}")


def _any(children: tuple[Node, ...]) -> Check:
    names = [child.match.literal for child in children if isinstance(child, Role)]
    roles = frozenset(name.lower() for name in names if name is not None)
    rest = [child for child in children if not (isinstance(child, Role) and child.match.literal is not None)]
    checks = [_emit(child) for child in rest]
    if len(roles) == 1:
        (role,) = roles
        if len(checks) == 1:
            (other,) = checks
            return lambda who, target: role in who.roles or other(who, target)
        checks.insert(0, _has_role(role))
    elif roles:
        checks.insert(0, lambda who, _target: not roles.isdisjoint(who.roles))
    if len(checks) == 1:
        return checks[0]
    if len(checks) == 2:
        first, second = checks
        return lambda who, target: first(who, target) or second(who, target)
    several = tuple(checks)

    def check(who: Who, target: Target) -> bool:
        for one in several:  # noqa: SIM110 - any() over a generator costs twice as much
            if one(who, target):
                return True
        return False

    return check


def _all(children: tuple[Node, ...]) -> Check:
    head = children[0]
    if len(children) == 2 and isinstance(head, Role) and head.match.literal is not None:
        role = head.match.literal.lower()
        if _is_own_project(children[1]):
            return _role_in_project(role, children[1])
        other = _emit(children[1])
        return lambda who, target: role in who.roles and other(who, target)
    checks = tuple(_emit(child) for child in children)
    if len(checks) == 2:
        first, second = checks
        return lambda who, target: first(who, target) and second(who, target)

    def check(who: Who, target: Target) -> bool:
        for one in checks:  # noqa: SIM110 - all() over a generator costs twice as much
            if not one(who, target):
                return False
        return True

    return check


def _is_own_project(node: Node) -> TypeGuard[Generic]:
    return (
        isinstance(node, Generic)
        and node.literal is None
        and ATTRIBUTES.get(node.kind) == "project_id"
        and len(node.match.keys) == len(node.match.parts) == 1
    )


def _role_in_project(role: str, node: Generic) -> Check:
    """`role:member and project_id:%(project_id)s` in one closure: what most rules of most services come to."""
    key = node.match.keys[0]

    def check(who: Who, target: Target) -> bool:
        if role not in who.roles:
            return False
        value, own = target.get(key, _MISSING), who.project_id
        if type(value) is str and type(own) is str:
            return value == own
        return value is not _MISSING and str(value) == str(own)

    return check


def _has_role(role: str) -> Check:
    return lambda who, _target: role in who.roles


def _role(node: Role) -> Check:
    if node.match.literal is not None:
        return _has_role(node.match.literal.lower())
    fill = filler(node.match)

    def check(who: Who, target: Target) -> bool:
        role = fill(target)
        return role is not None and role.lower() in who.roles

    return check


def filler(template: Template) -> Callable[[Target], str | None]:
    """The text of a match for one target; None when the target lacks a value that it names."""
    literal = template.literal
    if literal is not None:
        return lambda _target: literal
    if len(template.parts) == 1:
        key = template.parts[0][1]

        def single(target: Target) -> str | None:
            value = target.get(key, _MISSING)
            return None if value is _MISSING else str(value)

        return single

    def joined(target: Target) -> str | None:
        texts = []
        for is_key, text in template.parts:
            if is_key:
                value = target.get(text, _MISSING)
                if value is _MISSING:
                    return None
                text = str(value)
            texts.append(text)
        return "".join(texts)

    return joined


def _generic(node: Generic) -> Check:
    match = node.match
    fill = filler(match)
    if node.literal is not None:
        constant = node.literal
        return lambda _who, target: fill(target) == constant
    path = TOKEN_PATHS.get(node.kind)
    if path is not None:
        read_path = attrgetter(path)

        def check_path(who: Who, target: Target) -> bool:
            own = read_path(who)
            return own is not None and fill(target) == str(own)

        return check_path
    name = ATTRIBUTES.get(node.kind)
    if name is None:
        return never
    if name in ("roles", "service_roles"):
        read_set = attrgetter(name)
        return lambda who, target: fill(target) in read_set(who)
    read = attrgetter(name)
    if len(match.keys) == 1 and len(match.parts) == 1:
        return _same(read, match.keys[0])
    return lambda who, target: fill(target) == str(read(who))


def _same(read: Callable[[Who], object], key: str) -> Check:
    """The check of nearly every rule: an attribute of the asker equals a value of the target."""

    def check(who: Who, target: Target) -> bool:
        value = target.get(key, _MISSING)
        own = read(who)
        if type(value) is str and type(own) is str:
            return value == own
        return value is not _MISSING and str(value) == str(own)

    return check


def _field(node: Field) -> Check:
    """A field that the target does not have makes the check false.

    For `networks:shared` the target is often a port or a subnet; the caller then gives the network's own value under
    `network:shared`, as it gives `network:project_id`.
    """
    name, wanted = node.field, node.value
    fallback = f"{node.resource.removesuffix('s')}:{name}"
    truth = _BOOLEANS.get(wanted.lower())
    pattern = re.compile(wanted[1:]) if wanted.startswith("~") else None

    def check(_who: Who, target: Target) -> bool:
        value = target.get(name)
        if value is None:
            value = target.get(fallback)
        if value is None:
            return False
        if pattern is not None:
            return isinstance(value, str) and pattern.match(value) is not None
        return value is truth if isinstance(value, bool) else str(value) == wanted

    return check
