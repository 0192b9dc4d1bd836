"""Which of the operator's rules can be used.

A rule that cannot stays what it was before, or its default, and is named with its line: a wrong line never takes a
service down, and never opens or closes anything but what it names (S3-55).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from nephos.kernel.policy.files import Entry
from nephos.kernel.policy.names import ATTRIBUTES, TOKEN_PATHS
from nephos.kernel.policy.parse import Generic, Node, PolicySyntaxError, leaves, parse, references

MAX_CHAIN = 50
MAX_CHECKS = 5000


class Rule(NamedTuple):
    """One rule of a service: name, check, the scopes of tokens it takes (empty: any), and the API calls it guards.

    `operations` is text, "GET /servers, GET /servers/detail"; `description` says what the calls do not.
    """

    name: str
    check_str: str
    scope_types: tuple[str, ...] = ()
    operations: str = ""
    description: str = ""


class Override(NamedTuple):
    node: Node
    source: str


def node_of(name: str, defaults: Mapping[str, Rule], overrides: Mapping[str, Override]) -> Node | None:
    """The rule in force, None for a name that nobody defined."""
    override = overrides.get(name)
    if override is not None:
        return override.node
    rule = defaults.get(name)
    return None if rule is None else parse(rule.check_str)


class Sieve:
    """Lays entries over the defaults. `last` is what was in force before; `problems` grows."""

    def __init__(self, defaults: Mapping[str, Rule], last: Mapping[str, Override], problems: list[str]) -> None:
        self.problems = problems
        self._defaults = defaults
        self._last = last
        self._kept: dict[str, Override] = {}

    def sift(self, entries: Iterable[tuple[Entry, str]]) -> dict[str, Override]:
        """Takes entries with the place that each came from; gives those that can be used."""
        for entry, source in entries:
            try:
                self._kept[entry.name] = Override(parse(entry.rule), source)
            except PolicySyntaxError as error:
                if entry.name in self._last:
                    self._kept[entry.name] = self._last[entry.name]
                self.problems.append(f"{source}: rule '{entry.name}': {error}; it stays {self._now(entry.name)}")
        if not self._kept:
            return {}
        while self._drop_undefined() or self._drop_tangled():
            pass
        self._note_useless()
        return self._kept

    def _now(self, name: str) -> str:
        if name in self._kept:
            return f"as it was, '{self._kept[name].node}'"
        return f"at its default, '{self._defaults[name].check_str}'" if name in self._defaults else "undefined"

    def _revert(self, name: str, why: str) -> None:
        wrong, before = self._kept.pop(name), self._last.get(name)
        if before is not None and before is not wrong:
            self._kept[name] = before
        self.problems.append(f"{wrong.source}: rule '{name}' {why}; it stays {self._now(name)}")

    def _drop_undefined(self) -> bool:
        known = self._defaults.keys() | self._kept.keys()
        for name, override in self._kept.items():
            for ref in references(override.node):
                if ref not in known:
                    self._revert(name, f"refers to 'rule:{ref}', which is not defined")
                    return True
        return False

    def _drop_tangled(self) -> bool:
        """Circles, and references so many that a decision would take long."""
        found = _Walk(self._defaults, self._kept).fault()
        if found is None:
            return False
        names, why = found
        wrong = [name for name in names if name in self._kept]
        if not wrong:
            raise ValueError(f"the default policy rule '{names[0]}' {why}")
        for name in wrong:
            self._revert(name, why)
        return True

    def _note_useless(self) -> None:
        used = {ref for rule in self._defaults.values() for ref in references(parse(rule.check_str))}
        used |= {ref for override in self._kept.values() for ref in references(override.node)}
        for name, override in self._kept.items():
            if name not in self._defaults and name not in used:
                self.problems.append(f"{override.source}: no rule is called '{name}', and no rule refers to it")
            for leaf in leaves(override.node):
                if isinstance(leaf, Generic) and leaf.literal is None and not _in_token(leaf.kind):
                    self.problems.append(
                        f"{override.source}: rule '{name}': '{leaf}' is never true, because no token has '{leaf.kind}'"
                    )


def _in_token(kind: str) -> bool:
    return kind in ATTRIBUTES or kind in TOKEN_PATHS


class _Walk:
    """Follows references from the operator's rules, and from every rule that leads to one."""

    def __init__(self, defaults: Mapping[str, Rule], overrides: Mapping[str, Override]) -> None:
        self._defaults = defaults
        self._overrides = overrides
        self._checks: dict[str, int] = {}

    def fault(self) -> tuple[list[str], str] | None:
        """The rules at fault and why; None when all is well."""
        for name in [*self._overrides, *self._defaults]:
            found = self._follow(name, [])
            if found is not None:
                return found
        return None

    def _follow(self, name: str, path: list[str]) -> tuple[list[str], str] | None:
        if name in path:
            circle = path[path.index(name) :]
            return circle, f"refers to itself in a circle ({' -> '.join([*circle, name])})"
        if name in self._checks:
            return None
        path = [*path, name]
        if len(path) > MAX_CHAIN:
            return path, f"is in a chain of more than {MAX_CHAIN} references"
        node = node_of(name, self._defaults, self._overrides)
        if node is None:
            return None
        checks = sum(1 for _ in leaves(node))
        for ref in references(node):
            found = self._follow(ref, path)
            if found is not None:
                return found
            checks += self._checks.get(ref, 0)
        if checks > MAX_CHECKS:
            return [self._heaviest(name)], f"comes to too many checks: {checks} in '{name}', at most {MAX_CHECKS} are taken"
        self._checks[name] = checks
        return None

    def _heaviest(self, name: str) -> str:
        """The rule of the operator that weighs most in a rule that is too heavy."""
        while name not in self._overrides:
            node = node_of(name, self._defaults, self._overrides)
            below = list(references(node)) if node is not None else []
            if not below:
                break
            name = max(below, key=lambda ref: self._checks.get(ref, 0))
        return name
