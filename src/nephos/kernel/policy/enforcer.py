"""Decides who may do what: a service's rules with the operator's overrides laid over them.

One `Policy` a service, because the services use the same names (`context_is_admin`) for different rules. The defaults
are the service's `policies.RULES`; overrides come from one YAML file and are read again when it changes.

A wrong file never takes the service down (S3-55): a file that cannot be read leaves everything as it was, a wrong rule
leaves that rule as it was, and `Policy.problems` says which and why.

Scope is enforced as current OpenStack does: a rule with `scope_types` is refused to a token of another scope, with its
own answer (`Decision.WRONG_SCOPE`).
"""

from __future__ import annotations

import enum
import logging
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from nephos import errors
from nephos.kernel import clock
from nephos.kernel.auth.who import Who
from nephos.kernel.policy import files
from nephos.kernel.policy.compile import Check, Target, compile_rule, never
from nephos.kernel.policy.explain import Explanation, explain
from nephos.kernel.policy.overrides import Override, Rule, Sieve, node_of
from nephos.kernel.policy.parse import Node

log = logging.getLogger(__name__)

SYSTEM, DOMAIN, PROJECT = "system", "domain", "project"
ALL_SCOPES = frozenset({SYSTEM, DOMAIN, PROJECT})
REREAD_SECONDS = 1.0
NOTHING: Target = MappingProxyType({})


def scope_of(who: Who) -> str:
    """What a token is for. An unscoped one counts as `project`, as oslo.policy has it."""
    return SYSTEM if who.system_scope else DOMAIN if who.domain_id else PROJECT


class Decision(enum.Enum):
    ALLOWED = "allowed"
    DENIED = "denied"
    WRONG_SCOPE = "wrong scope"


class Effective(NamedTuple):
    """A rule as it is in force: its text, where it comes from ("default" or file:line), and what it guards."""

    name: str
    check_str: str
    scope_types: tuple[str, ...]
    source: str
    operations: str


class _Table(dict[str, tuple[Check, frozenset[str]]]):
    """Rule name to closure and scopes. Filled when first asked, so that start-up compiles nothing."""

    def __init__(self, defaults: Mapping[str, Rule], overrides: Mapping[str, Override]) -> None:
        super().__init__()
        self.defaults = defaults
        self.overrides = overrides

    def node(self, name: str) -> Node | None:
        return node_of(name, self.defaults, self.overrides)

    def scopes(self, name: str) -> frozenset[str]:
        rule = self.defaults.get(name)
        return frozenset(rule.scope_types) if rule is not None and rule.scope_types else ALL_SCOPES

    def __missing__(self, name: str) -> tuple[Check, frozenset[str]]:
        node = self.node(name)
        entry = (never if node is None else compile_rule(node, self.node), self.scopes(name))
        if name in self.defaults or name in self.overrides:
            self[name] = entry
        return entry


class Policy:
    """The rules in force of one service. Threads may ask while another reads the file again.

    `overrides` are rules given directly (name to rule text); `path` is the operator's file, laid over them.
    Raises ValueError when the defaults themselves are wrong.
    """

    def __init__(
        self,
        defaults: Iterable[Rule],
        overrides: Mapping[str, object] | None = None,
        *,
        path: Path | None = None,
    ) -> None:
        self._defaults: dict[str, Rule] = {}
        for rule in defaults:
            if rule.name in self._defaults:
                raise ValueError(f"policy rule '{rule.name}' is defined twice")
            self._defaults[rule.name] = rule
        self._given = [files.Entry(name, rule, 0) for name, rule in (overrides or {}).items()]
        self._path = path
        self._reading = threading.Lock()
        self._stamp: tuple[int, int, int] | None = None
        self._next_look = 0.0
        self._table = _Table(self._defaults, {})
        self.problems: list[str] = []
        self._load()

    def allows(self, name: str, who: Who, target: Target = NOTHING) -> bool:
        """Whether the rule lets this asker do it to this target. A name that nobody defined is refused."""
        check, scopes = self._table[name]
        if scopes is not ALL_SCOPES:
            # scope_of in place: the call would cost a third of the decision.
            scope = SYSTEM if who.system_scope else DOMAIN if who.domain_id else PROJECT
            if scope not in scopes:
                return False
        return check(who, target)

    def decide(self, name: str, who: Who, target: Target = NOTHING) -> Decision:
        check, scopes = self._table[name]
        if scope_of(who) not in scopes:
            return Decision.WRONG_SCOPE
        return Decision.ALLOWED if check(who, target) else Decision.DENIED

    def require(self, name: str, who: Who, target: Target = NOTHING) -> None:
        """Raises Forbidden unless allowed; `detail` carries the rule's name, and the scopes if they were the reason."""
        check, scopes = self._table[name]
        if scope_of(who) not in scopes:
            wanted = " or ".join(sorted(scopes))
            raise errors.Forbidden(
                f"Policy doesn't allow {name} to be performed: it takes a token of scope {wanted}, "
                f"this one is of scope {scope_of(who)}.",
                detail={"rule": name, "scope": scope_of(who), "scopes": sorted(scopes)},
            )
        if not check(who, target):
            raise errors.Forbidden(f"Policy doesn't allow {name} to be performed.", detail={"rule": name})

    def explain(self, name: str, who: Who, target: Target = NOTHING) -> Explanation:
        """Every part of the decision with its own answer (S2-06); `str()` of it is text for people."""
        table = self._table
        return explain(
            name,
            who,
            target,
            scope=scope_of(who),
            scopes=table.scopes(name),
            node=table.node,
            source=lambda rule: self._source(table, rule),
        )

    def effective(self, name: str) -> Effective | None:
        """The rule in force, None when nobody defined it."""
        table = self._table
        if name not in self:
            return None
        override, rule = table.overrides.get(name), self._defaults.get(name)
        text = str(override.node) if override is not None else rule.check_str if rule is not None else ""
        scopes = rule.scope_types if rule is not None else ()
        return Effective(name, text, scopes, self._source(table, name), self._operations(name))

    def names(self) -> list[str]:
        """Every rule that is defined, defaults first."""
        return [*self._defaults, *(name for name in self._table.overrides if name not in self._defaults)]

    def __contains__(self, name: str) -> bool:
        return name in self._defaults or name in self._table.overrides

    def _operations(self, name: str) -> str:
        """A rule for an attribute (`create_port:mac_address`) guards the calls of the rule that it is named after."""
        while name:
            rule = self._defaults.get(name)
            if rule is not None and rule.operations:
                return rule.operations
            name = name.rpartition(":")[0]
        return ""

    def refresh(self) -> bool:
        """Reads the file again if it changed; looks at most once a second. To be called once a request; 0.1 µs."""
        now = clock.monotonic()
        if now < self._next_look or self._path is None:
            return False
        if not self._reading.acquire(blocking=False):
            return False
        try:
            self._next_look = now + REREAD_SECONDS
            changed = files.stamp(self._path) != self._stamp
        finally:
            self._reading.release()
        if changed:
            self._load()
        return changed

    @staticmethod
    def _source(table: _Table, name: str) -> str:
        override = table.overrides.get(name)
        if override is not None:
            return override.source
        return "default" if name in table.defaults else "not defined"

    def _load(self) -> None:
        with self._reading:
            self._next_look = clock.monotonic() + REREAD_SECONDS
            entries = [(entry, "settings") for entry in self._given]
            problems: list[str] = []
            if self._path is not None:
                self._stamp = files.stamp(self._path)
                try:
                    found, problems = files.read(self._path)
                except files.PolicyFileError as error:
                    self._note([f"{error}; the rules in force stay as they were"])
                    return
                entries += [(entry, f"{self._path}:{entry.line}") for entry in found]
            sieve = Sieve(self._defaults, self._table.overrides, problems)
            self._table = _Table(self._defaults, sieve.sift(entries))
            self._note(sieve.problems)

    def _note(self, problems: list[str]) -> None:
        for problem in problems:
            if problem not in self.problems:
                log.warning("policy: %s", problem)
        self.problems = problems
