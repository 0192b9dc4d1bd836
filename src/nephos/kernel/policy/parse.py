"""The check language of oslo.policy, read into a small tree.

    rule     := "" | expr                    the empty rule allows everybody
    expr     := term ("or" term)*
    term     := factor ("and" factor)*
    factor   := "not" factor | "(" expr ")" | check
    check    := "@" | "!" | kind ":" match

Words may be written in any case. `match` may hold `%(key)s`, filled from the target. The old form, a list of lists
(outer `or`, inner `and`), is read too. Source: the oslo.policy documentation, "Policy rule expressions".

Raises `PolicySyntaxError`, whose text says what is wrong and where; oslo.policy itself would log and deny.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import NamedTuple, TypeAlias


class PolicySyntaxError(ValueError):
    """A rule that is not in the language."""


class Template(NamedTuple):
    """The right side of a check: literal text and `%(key)s` holes, in order. `keys` is empty for plain text."""

    parts: tuple[tuple[bool, str], ...]  # (is a key, text)

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(text for is_key, text in self.parts if is_key)

    @property
    def literal(self) -> str | None:
        return None if self.keys else "".join(text for _, text in self.parts)

    def __str__(self) -> str:
        return "".join(f"%({text})s" if is_key else text.replace("%", "%%") for is_key, text in self.parts)


class Always(NamedTuple):
    answer: bool

    def __str__(self) -> str:
        return "@" if self.answer else "!"


class RuleRef(NamedTuple):
    name: str

    def __str__(self) -> str:
        return f"rule:{self.name}"


class Role(NamedTuple):
    match: Template

    def __str__(self) -> str:
        return f"role:{self.match}"


class Field(NamedTuple):
    """The network service's own check: a field of the target equals a value, or matches `~pattern`."""

    resource: str
    field: str
    value: str

    def __str__(self) -> str:
        return f"field:{self.resource}:{self.field}={self.value}"


class Generic(NamedTuple):
    """`kind:match`. `literal` is the text of a constant kind (`'public':…`, `None:…`), else `kind` is a path."""

    kind: str
    literal: str | None
    match: Template

    def __str__(self) -> str:
        return f"{self.kind}:{self.match}"


class Not(NamedTuple):
    child: Node

    def __str__(self) -> str:
        return f"not {self.child}"


class And(NamedTuple):
    children: tuple[Node, ...]

    def __str__(self) -> str:
        return "(" + " and ".join(map(str, self.children)) + ")"


class Or(NamedTuple):
    children: tuple[Node, ...]

    def __str__(self) -> str:
        return "(" + " or ".join(map(str, self.children)) + ")"


Node: TypeAlias = Always | RuleRef | Role | Field | Generic | Not | And | Or

MAX_LENGTH = 16384
MAX_DEPTH = 64

_HOLE = re.compile(r"%\(([^)]*)\)s|%%")
_WORDS = frozenset({"and", "or", "not"})


def parse(rule: object) -> Node:
    """Reads a rule, text or list of lists. Raises PolicySyntaxError."""
    if isinstance(rule, str):
        return _parse_text(rule)
    if isinstance(rule, list | tuple):
        return _parse_list(rule)
    raise PolicySyntaxError(
        f"the rule is {type(rule).__name__} {rule!r}; it must be text, as 'role:admin' ('' allows everybody)"
    )


def references(node: Node) -> Iterator[str]:
    """The names of the rules that a rule leans on, in order of appearance."""
    if isinstance(node, RuleRef):
        yield node.name
    elif isinstance(node, Not):
        yield from references(node.child)
    elif isinstance(node, And | Or):
        for child in node.children:
            yield from references(child)


def leaves(node: Node) -> Iterator[Node]:
    """Every single check of a rule."""
    if isinstance(node, Not):
        yield from leaves(node.child)
    elif isinstance(node, And | Or):
        for child in node.children:
            yield from leaves(child)
    else:
        yield node


def parse_template(text: str) -> Template:
    parts: list[tuple[bool, str]] = []
    at = 0
    for hole in _HOLE.finditer(text):
        parts += _literal(text, at, hole.start())
        parts.append((False, "%") if hole[1] is None else (True, hole[1]))
        at = hole.end()
    parts += _literal(text, at, len(text))
    return Template(tuple(parts))


def _literal(text: str, start: int, end: int) -> list[tuple[bool, str]]:
    piece = text[start:end]
    if "%" in piece:
        raise PolicySyntaxError(f"'{text}': a value of the target is written %(name)s, and a plain percent sign %%")
    return [(False, piece)] if piece else []


def parse_check(text: str) -> Node:
    """Reads one `kind:match`."""
    if text == "!":
        return Always(False)
    if text == "@":
        return Always(True)
    kind, colon, match = text.partition(":")
    if not colon:
        raise PolicySyntaxError(f"'{text}' is not a check; a check is written kind:match, as role:admin")
    if kind in ("http", "https"):
        raise PolicySyntaxError(f"'{text}': {kind} checks are not served: a decision may not wait for another machine")
    if kind == "rule":
        return RuleRef(match)
    if kind == "role":
        return Role(parse_template(match))
    if kind == "field":
        return _parse_field(text, match)
    return Generic(kind, _constant(text, kind), parse_template(match))


def _parse_field(text: str, match: str) -> Field:
    resource, colon, rest = match.partition(":")
    name, equals, value = rest.partition("=")
    if not colon or not equals:
        raise PolicySyntaxError(f"'{text}' must be written field:resource:name=value")
    if value.startswith("~"):
        try:
            re.compile(value[1:])
        except re.error as error:
            raise PolicySyntaxError(f"'{text}': '{value[1:]}' is not a pattern: {error}") from None
    return Field(resource, name, value)


def _constant(text: str, kind: str) -> str | None:
    try:
        return str(ast.literal_eval(kind))
    except ValueError:
        return None
    except (SyntaxError, TypeError, MemoryError, RecursionError):
        raise PolicySyntaxError(f"'{text}': '{kind}' is neither an attribute of a token nor a constant") from None


def _parse_list(rule: list[object] | tuple[object, ...]) -> Node:
    if not rule:
        return Always(True)
    choices: list[Node] = []
    for inner in rule:
        if isinstance(inner, str):
            inner = [inner] if inner else []
        if not isinstance(inner, list | tuple) or not all(isinstance(check, str) for check in inner):
            raise PolicySyntaxError(f"{inner!r}: a rule in list form holds checks, or lists of checks, as text")
        if inner:
            checks = tuple(parse_check(check) for check in inner)
            choices.append(checks[0] if len(checks) == 1 else And(checks))
    if not choices:
        return Always(False)
    return choices[0] if len(choices) == 1 else Or(tuple(choices))


def _parse_text(rule: str) -> Node:
    if not rule:
        return Always(True)
    if len(rule) > MAX_LENGTH:
        raise PolicySyntaxError(f"the rule is {len(rule)} characters long; at most {MAX_LENGTH} are read")
    reader = _Reader(list(_tokens(rule)))
    node = reader.expression(0)
    reader.finish()
    return node


def _tokens(rule: str) -> Iterator[str]:
    """Parentheses inside a check (`%(key)s`) never stand at its ends, so only those at the ends of a word count."""
    for word in rule.split():
        body = word.lstrip("(")
        yield from "(" * (len(word) - len(body))
        check = body.rstrip(")")
        if check:
            yield check
        yield from ")" * (len(body) - len(check))


class _Reader:
    """Recursive descent over the words of one rule."""

    def __init__(self, words: list[str]) -> None:
        self._words = words
        self._at = 0

    def _peek(self) -> str:
        return self._words[self._at] if self._at < len(self._words) else ""

    def _take_word(self, word: str) -> bool:
        if self._peek().lower() == word:
            self._at += 1
            return True
        return False

    def _place(self) -> str:
        before = " ".join(self._words[: self._at])
        return f"after '{before}'" if before else "at the start"

    def expression(self, depth: int) -> Node:
        terms = [self._term(depth)]
        while self._take_word("or"):
            terms.append(self._term(depth))
        return terms[0] if len(terms) == 1 else Or(tuple(terms))

    def _term(self, depth: int) -> Node:
        factors = [self._factor(depth)]
        while self._take_word("and"):
            factors.append(self._factor(depth))
        return factors[0] if len(factors) == 1 else And(tuple(factors))

    def _factor(self, depth: int) -> Node:
        if depth > MAX_DEPTH:
            raise PolicySyntaxError(f"more than {MAX_DEPTH} levels of 'not' and parentheses")
        if self._take_word("not"):
            return Not(self._factor(depth + 1))
        if self._take_word("("):
            inner = self.expression(depth + 1)
            if not self._take_word(")"):
                raise PolicySyntaxError(f"a closing parenthesis is missing {self._place()}")
            return inner
        word = self._peek()
        if not word or word == ")" or word.lower() in _WORDS:
            found = f", found '{word}'" if word else ""
            raise PolicySyntaxError(f"a check is missing {self._place()}{found}")
        if len(word) > 1 and word[0] == word[-1] and word[0] in "'\"":
            raise PolicySyntaxError(f"{word} is text alone; a check is written kind:match, as {word}:%(name)s")
        self._at += 1
        return parse_check(word)

    def finish(self) -> None:
        if self._at < len(self._words):
            word = self._peek()
            hint = "a parenthesis is closed that was never opened" if word == ")" else "'and' or 'or' is missing"
            raise PolicySyntaxError(f"{hint} {self._place()}, before '{word}'")
