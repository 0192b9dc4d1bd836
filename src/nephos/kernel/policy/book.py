"""All services' policies behind one question, for those who know only a rule's name."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path

from nephos.kernel import clock
from nephos.kernel.auth.who import Who
from nephos.kernel.policy.compile import Target
from nephos.kernel.policy.enforcer import NOTHING, REREAD_SECONDS, Decision, Policy
from nephos.kernel.policy.explain import Explanation
from nephos.kernel.policy.overrides import Rule

log = logging.getLogger(__name__)


class Policies:
    """One `Policy` a service, found by the rule's name.

    The building blocks that several services have under one name (`context_is_admin`) cannot be asked here: take
    `of[service]`. With a `folder`, a service's overrides are read from `<folder>/<service>.yaml`.
    """

    def __init__(self, tables: Mapping[str, Iterable[Rule]], folder: Path | None = None) -> None:
        self._folder = folder
        self._strays: list[str] = []
        self.of: dict[str, Policy] = {
            service: Policy(rules, path=folder / f"{service}.yaml" if folder is not None else None)
            for service, rules in tables.items()
        }
        self._by_rule: dict[str, Policy] = {}
        shared: set[str] = set()
        for policy in self.of.values():
            for name in policy.names():
                if name in self._by_rule:
                    shared.add(name)
                self._by_rule[name] = policy
        for name in shared:
            del self._by_rule[name]
        self._next_look = 0.0
        self._look_for_strays()

    def __contains__(self, name: str) -> bool:
        return name in self._by_rule

    def allows(self, name: str, who: Who, target: Target = NOTHING) -> bool:
        """As `Policy.allows`; a name that no service has, or several, is refused."""
        policy = self._by_rule.get(name)
        return policy is not None and policy.allows(name, who, target)

    def decide(self, name: str, who: Who, target: Target = NOTHING) -> Decision:
        policy = self._by_rule.get(name)
        return Decision.DENIED if policy is None else policy.decide(name, who, target)

    def require(self, name: str, who: Who, target: Target = NOTHING) -> None:
        """Raises Forbidden unless allowed, as `Policy.require`. Raises KeyError for a name that no service has."""
        self._by_rule[name].require(name, who, target)

    def explain(self, name: str, who: Who, target: Target = NOTHING) -> Explanation:
        """Raises KeyError for a name that no service has."""
        return self._by_rule[name].explain(name, who, target)

    def refresh(self) -> bool:
        """Reads files again that changed; looks at most once a second. To be called once a request."""
        now = clock.monotonic()
        if now < self._next_look:
            return False
        self._next_look = now + REREAD_SECONDS
        changed = [policy.refresh() for policy in self.of.values()]
        self._look_for_strays()
        return any(changed)

    def _look_for_strays(self) -> None:
        """Files that nobody reads: somebody believes that they count."""
        found: list[str] = []
        names: list[str] = []
        try:
            names = sorted(entry.name for entry in self._folder.iterdir()) if self._folder is not None else []
        except FileNotFoundError:
            pass
        except OSError as wrong:
            found.append(f"{self._folder}: cannot be listed: {wrong.strerror}")
        served = {f"{service}.yaml" for service in self.of}
        hint = f"the files that are read are {', '.join(sorted(served))}"
        for name in names:
            if name not in served and name.endswith((".yaml", ".yml", ".json")):
                found.append(f"{self._folder}/{name}: is not read: {hint}")
        for problem in found:
            if problem not in self._strays:
                log.warning("policy: %s", problem)
        self._strays = found

    @property
    def problems(self) -> list[str]:
        """What is wrong with the operator's files, each named with file and line."""
        return [*self._strays, *(problem for policy in self.of.values() for problem in policy.problems)]
