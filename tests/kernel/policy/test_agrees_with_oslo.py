"""oslo.policy is the oracle: random rules, tokens and targets get the same answer from both."""

from __future__ import annotations

import logging
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from oslo_config import cfg
from oslo_policy import policy as oslo

from nephos.kernel.auth.who import Who
from nephos.kernel.policy import Decision, Policy, Rule, role_set
from nephos.kernel.policy.enforcer import scope_of
from nephos.kernel.policy.names import ATTRIBUTES, TOKEN_PATHS
from nephos.kernel.policy.parse import PolicySyntaxError

logging.getLogger("oslo_policy").setLevel(logging.CRITICAL)

IDS = ["u1", "u2", "p1", "p2", "d1", "None", "True", "1"]
ROLES = ["admin", "Manager", "member", "READER", "service", "größe"]
KEYS = ["user_id", "project_id", "target.user.domain_id", "network:project_id", "visibility", "x"]
KINDS = [
    "user_id", "user_domain_id", "project_id", "project_domain_id", "domain_id", "system_scope", "is_admin",
    "is_admin_project", "roles", "service_roles", "service_user_id", "system", "token.domain.id", "token.user.id",
    "token.project.id", "token.project.domain.id", "token.is_domain", "unheard_of", "token.unheard.of", "None", "True", "1", "1.50",
    "'public'", '"u1"', "'größe'",
]  # fmt: skip

ids = st.none() | st.sampled_from(IDS)
values = st.sampled_from([*IDS, *ROLES, "public", "all"]) | st.none() | st.booleans() | st.integers(0, 2)
targets = st.dictionaries(st.sampled_from(KEYS), values, max_size=5)
matches = st.one_of(
    st.sampled_from(KEYS).map(lambda key: f"%({key})s"),
    st.sampled_from([*IDS, "all", "public", "100%%", "a:b", ""]),
    st.tuples(st.sampled_from(["", "a", "p", "%%"]), st.sampled_from(KEYS)).map(lambda pair: f"{pair[0]}%({pair[1]})s1"),
)
words = {"and": ["and", "AND"], "or": ["or", "Or"], "not": ["not", "NOT"]}


def _checks(low: int) -> st.SearchStrategy[str]:
    """One check; references go to rules with a higher number only, so that nothing is circular."""
    return st.one_of(
        st.sampled_from(["@", "!"]),
        st.sampled_from(ROLES).map(lambda role: f"role:{role}"),
        matches.map(lambda match: f"role:{match}"),
        st.tuples(st.sampled_from(KINDS), matches).map(":".join),
        st.integers(low + 1, 5).map(lambda index: f"rule:r{index}"),
    )


def _joined(word: str, inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.tuples(st.lists(inner, min_size=2, max_size=3), st.sampled_from(words[word])).map(
        lambda pair: f" {pair[1]} ".join(pair[0])
    )


def _texts(low: int) -> st.SearchStrategy[str]:
    checks = _checks(low)
    return st.recursive(
        checks,
        lambda inner: st.one_of(
            _joined("and", inner),
            _joined("or", inner),
            inner.map(lambda text: f"({text})"),
            inner.map(lambda text: f"( {text} )"),
            st.tuples(st.sampled_from(words["not"]), inner).map(lambda pair: f"{pair[0]} ({pair[1]})"),
            st.tuples(st.sampled_from(words["not"]), checks).map(" ".join),
        ),
        max_leaves=8,
    )


lists = st.lists(_checks(-1) | st.lists(_checks(-1), max_size=3), max_size=3)
rule_sets = st.fixed_dictionaries(
    {"asked": _texts(-1) | lists}, optional={f"r{index}": _texts(index) for index in range(4)}
)
role_sets = st.sets(st.sampled_from(ROLES)).map(role_set)
whos = st.builds(
    Who,
    user_id=st.sampled_from(IDS),
    user_domain_id=st.sampled_from(IDS),
    project_id=ids,
    project_domain_id=ids,
    domain_id=ids,
    system_scope=st.sampled_from([None, "all"]),
    roles=role_sets,
    is_admin=st.booleans(),
    is_domain=st.booleans(),
    is_admin_project=st.booleans(),
    service_user_id=ids,
    service_roles=role_sets,
)
scopes = st.lists(st.sampled_from(["system", "domain", "project"]), unique=True).map(tuple)


def as_oslo(who: Who) -> dict[str, Any]:
    """The same asker as the dictionary that the identity service hands to oslo.policy."""
    values = {name: getattr(who, name) for name in set(ATTRIBUTES.values())}
    values["roles"], values["service_roles"] = sorted(who.roles), sorted(who.service_roles)
    token: dict[str, Any] = {}
    for path, attribute in TOKEN_PATHS.items():
        if path.startswith("token.") and getattr(who, attribute) is not None:
            *parents, leaf = path.split(".")[1:]
            place = token
            for parent in parents:
                place = place.setdefault(parent, {})
            place[leaf] = getattr(who, attribute)
    values["token"] = token
    return values


def oracle(rules: dict[str, Any], scope_types: tuple[str, ...]) -> oslo.Enforcer:
    enforcer = oslo.Enforcer(cfg.ConfigOpts(), use_conf=False)
    enforcer.set_rules(oslo.Rules.from_dict(rules), use_conf=False)
    enforcer.register_default(oslo.RuleDefault("asked", rules["asked"], scope_types=list(scope_types) or None))
    return enforcer


@settings(max_examples=1000, deadline=None)
@given(rules=rule_sets, scope=scopes, who=whos, target=targets)
def test_same_answer(rules: dict[str, Any], scope: tuple[str, ...], who: Who, target: dict[str, object]) -> None:
    ours = Policy(Rule(name, rule, scope if name == "asked" else ()) for name, rule in rules.items())
    expected = bool(oracle(rules, scope).enforce("asked", target, as_oslo(who)))
    decision = ours.decide("asked", who, target)
    assert ours.allows("asked", who, target) == expected
    assert (decision is Decision.ALLOWED) == expected
    assert (decision is Decision.WRONG_SCOPE) == (bool(scope) and scope_of(who) not in scope)
    told = ours.explain("asked", who, target)
    assert told.allowed == expected, str(told)


PIECES = ["(", ")", "'", "@", "!", ":", "%", " ", " ", "and", "or", "not", "role:", "x", "%(a)s", "x:%(a)s", "'x':"]


@settings(max_examples=1000, deadline=None)
@given(text=st.lists(st.sampled_from(PIECES), max_size=9).map("".join))
def test_scrap_that_is_read_at_all_means_the_same(text: str) -> None:
    """Text outside the language is refused here, while oslo.policy denies, or stumbles when the rule is asked."""
    who, target = Who(user_id="x", roles=role_set(["x", "role"])), {"a": "x"}
    try:
        policy = Policy([Rule("asked", text)])
        allowed = policy.allows("asked", who, target)
        expected = bool(oracle({"asked": text}, ()).enforce("asked", target, as_oslo(who)))
    except PolicySyntaxError:
        return
    except ValueError:
        return  # the oracle itself stumbles over a broken %(…)s; what it cannot say it cannot judge
    assert allowed == expected
