"""Our rules are OpenStack's: each one by name, with the answer that its default gives to each kind of person."""

from __future__ import annotations

import pytest

from nephos import app
from nephos.kernel.policy import Policy
from tests.api import facts
from tests.api.facts import PEOPLE, TARGETS


@pytest.mark.parametrize("service", app.TABLES)
def test_every_rule_answers_as_its_default(service: str) -> None:
    known, rules, wrong = facts.load()[service], app.TABLES[service], []
    assert {rule.name for rule in rules} == set(known), (
        f"{facts.PATH.name}: a rule without a fact, or a fact without a rule"
    )
    policy = Policy(rules)
    for name, fact in known.items():
        for about, allowed in zip(TARGETS, fact, strict=True):
            for person, who in PEOPLE.items():
                if policy.allows(name, who, TARGETS[about]) != (person in allowed):
                    wrong.append(f"{name}: {person} about {about}, by default {'yes' if person in allowed else 'no'}")
    assert not wrong, "\n".join(wrong)


def test_the_facts_tell_people_apart() -> None:
    """Every kind of person differs from every other, and every target from the others, in what some rule says."""
    every = [fact for rules in facts.load().values() for fact in rules.values()]
    for person in PEOPLE:
        for other in PEOPLE:
            same = all((person in allowed) == (other in allowed) for fact in every for allowed in fact)
            assert same == (person == other), (person, other)
    assert all(any(fact[first] != fact[second] for fact in every) for first, second in ((0, 1), (1, 2), (0, 2)))
    assert len(every) > 890
