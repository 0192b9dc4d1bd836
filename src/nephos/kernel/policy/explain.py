"""Why a rule says yes or no: the rule's tree with the answer of each part, for one asker and one target (S2-06).

Each single check is answered by the same closure that decides, so the explanation cannot disagree with the decision.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter

from nephos.kernel.auth.who import Who
from nephos.kernel.policy.compile import Target, compile_rule
from nephos.kernel.policy.names import ATTRIBUTES, TOKEN_PATHS
from nephos.kernel.policy.parse import And, Field, Generic, Node, Not, Or, Role, RuleRef, Template


@dataclass(frozen=True, slots=True)
class Explanation:
    """One part of a decision. `note` says what was compared, or where a rule comes from."""

    text: str
    allowed: bool
    note: str = ""
    children: tuple[Explanation, ...] = ()

    def __str__(self) -> str:
        return "\n".join(self._lines(0))

    def _lines(self, depth: int) -> list[str]:
        note = f"   [{self.note}]" if self.note else ""
        own = f"{'  ' * depth}{'yes' if self.allowed else 'no '} {self.text}{note}"
        return [own, *(line for child in self.children for line in child._lines(depth + 1))]


def explain(
    name: str,
    who: Who,
    target: Target,
    *,
    scope: str,
    scopes: frozenset[str],
    node: Callable[[str], Node | None],
    source: Callable[[str], str],
) -> Explanation:
    """`node` gives the rule in force of a name, `source` where it comes from."""
    told = _Teller(who, target, node, source).rule(name, name)
    scope_fits = scope in scopes
    first = Explanation("scope of the token", scope_fits, f"token: {scope}; the rule takes {', '.join(sorted(scopes))}")
    return Explanation(told.text, told.allowed and scope_fits, told.note, (first, *told.children))


class _Teller:
    def __init__(
        self, who: Who, target: Target, node: Callable[[str], Node | None], source: Callable[[str], str]
    ) -> None:
        self._who = who
        self._target = target
        self._node = node
        self._source = source

    def rule(self, name: str, text: str) -> Explanation:
        node = self._node(name)
        if node is None:
            return Explanation(text, False, "not defined")
        inner = self._tell(node)
        return Explanation(text, inner.allowed, self._source(name), (inner,))

    def _tell(self, node: Node) -> Explanation:
        if isinstance(node, RuleRef):
            return self.rule(node.name, str(node))
        if isinstance(node, And | Or):
            children = tuple(self._tell(child) for child in node.children)
            answers = [child.allowed for child in children]
            if isinstance(node, And):
                return Explanation("all of", all(answers), children=children)
            return Explanation("any of", any(answers), children=children)
        if isinstance(node, Not):
            child = self._tell(node.child)
            return Explanation("not", not child.allowed, children=(child,))
        return Explanation(str(node), compile_rule(node, self._node)(self._who, self._target), self._note(node))

    def _note(self, node: Node) -> str:
        if isinstance(node, Role):
            return f"token: roles {', '.join(sorted(self._who.roles)) or 'none'}{self._values(node.match)}"
        if isinstance(node, Field):
            return f"target: {node.field} = {self._target.get(node.field, 'absent')}"
        if isinstance(node, Generic):
            if node.literal is not None:
                return self._values(node.match).removeprefix("; ")
            attribute = ATTRIBUTES.get(node.kind) or TOKEN_PATHS.get(node.kind)
            if attribute is None:
                return f"no token has '{node.kind}'"
            own = attrgetter(attribute)(self._who)
            return f"token: {sorted(own) if isinstance(own, frozenset) else own}{self._values(node.match)}"
        return "for everybody" if str(node) == "@" else "for nobody"

    def _values(self, match: Template) -> str:
        return "".join(f"; target: {key} = {self._target.get(key, 'absent')}" for key in match.keys)
