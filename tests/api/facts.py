"""What each rule of a current OpenStack release answers by default, to whom, about what: `defaults.yaml`, and its making.

The table is the judge of our own rule tables (`test_defaults.py`), so it is made from OpenStack's words and not from ours:

    oslopolicy-sample-generator --namespace keystone --exclude-deprecated --output-file keystone.yaml    (nova, neutron…)
    python -m tests.api.facts identity=keystone.yaml compute=nova.yaml network=neutron.yaml image=glance.yaml \
        placement=placement.yaml

The generator needs the services' own packages; the tests need the table only. Rules of our own are written in it by hand.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from oslo_config import cfg
from oslo_policy import _checks
from oslo_policy import policy as oslo

from nephos.kernel.auth.who import Who
from nephos.kernel.policy import Rule, role_set
from tests.kernel.policy.test_tables import OsloField, as_oslo

PATH = Path(__file__).parent / "defaults.yaml"
IMPLIED = {
    "admin": ("admin", "manager", "member", "reader"),
    "manager": ("manager", "member", "reader"),
    "member": ("member", "reader"),
    "reader": ("reader",),
    "service": ("service",),
    "stranger": (),
}


def _who(role: str, **scope: Any) -> Who:
    return Who(user_id="me", user_domain_id="d1", roles=role_set(IMPLIED[role]), is_admin=role == "admin", **scope)


_PROJECT = {"project_id": "p1", "project_domain_id": "d1"}
PEOPLE: dict[str, Who] = {
    "system_admin": _who("admin", system_scope="all"),
    "system_reader": _who("reader", system_scope="all"),
    "domain_admin": _who("admin", domain_id="d1"),
    "domain_manager": _who("manager", domain_id="d1"),
    "domain_reader": _who("reader", domain_id="d1"),
    "project_admin": _who("admin", **_PROJECT),
    "manager": _who("manager", **_PROJECT),
    "member": _who("member", **_PROJECT),
    "reader": _who("reader", **_PROJECT),
    "service": _who("service", **_PROJECT),
    "stranger": _who("stranger", **_PROJECT),
}
"""Kinds of person, by role and scope; a stranger has a token and no role that a rule knows."""

_PROJECTS = ("project_id", "tenant_id", "owner", "target.project.id", "target.limit.project_id", "network:project_id",
             "ext_parent:project_id", "security_group:project_id", "target_tenant", "target_project", "member_id")  # fmt: skip
_USERS = ("user_id", "target.user.id", "target.credential.user_id", "target.token.user_id", "target.trust.trustor_user_id",
          "target.trust.trustee_user_id")  # fmt: skip
_DOMAINS = ("target.domain.id", "target.domain_id", "target.user.domain_id", "target.group.domain_id", "target.project.domain_id",
            "target.role.domain_id", "target.limit.domain.id", "target.limit.project.domain_id")  # fmt: skip


def _target(project: str, user: str, domain: str, **more: Any) -> dict[str, Any]:
    ids = (dict.fromkeys(_PROJECTS, project), dict.fromkeys(_USERS, user), dict.fromkeys(_DOMAINS, domain))
    return {**ids[0], **ids[1], **ids[2], **more}


_OPEN = {"shared": True, "network:shared": True, "router:external": True, "visibility": "public", "target.role.name": "member",
         "belongs_to_default_sg": True, "device_owner": "compute:nova"}  # fmt: skip
_CLOSED = {
    "shared": False,
    "network:shared": False,
    "router:external": False,
    "visibility": "private",
    "belongs_to_default_sg": False,
}
TARGETS: dict[str, dict[str, Any]] = {
    "own": _target("p1", "me", "d1", **_CLOSED, **{"target.role.name": "member", "device_owner": "compute:nova"}),
    "open": _target("p2", "other", "d2", **_OPEN),
    "others": _target("p2", "other", "d2", **_CLOSED, **{"target.role.name": "admin", "device_owner": "network:dhcp"}),
}
"""What is asked about: one's own, another's that is shown or shared with everybody, and another's own."""


class Fact(NamedTuple):
    """Who is allowed about each target, in the order of PEOPLE."""

    own: tuple[str, ...]
    open: tuple[str, ...]
    others: tuple[str, ...]


def load() -> dict[str, dict[str, Fact]]:
    """By service and rule."""
    found: dict[str, dict[str, Fact]] = {}
    for service, groups in yaml.safe_load(PATH.read_text()).items():
        rules = found.setdefault(service, {})
        for group in groups:
            fact = Fact(*(tuple((group[about] or "").split()) for about in TARGETS))
            for name in group["rules"].split():
                assert name not in rules, f"{name} is there twice"
                rules[name] = fact
    return found


def of(rules: Iterable[Rule]) -> dict[str, Fact]:
    """What oslo.policy answers for these rules."""
    _checks.registered_checks["field"] = OsloField
    rules = list(rules)
    enforcer = oslo.Enforcer(cfg.ConfigOpts(), use_conf=False)
    enforcer.set_rules(oslo.Rules.from_dict({rule.name: rule.check_str for rule in rules}), use_conf=False)
    for rule in rules:
        enforcer.register_default(
            oslo.RuleDefault(rule.name, rule.check_str, scope_types=list(rule.scope_types) or None)
        )

    def allowed(name: str, about: str) -> tuple[str, ...]:
        return tuple(
            person for person, who in PEOPLE.items() if enforcer.enforce(name, dict(TARGETS[about]), as_oslo(who))
        )

    return {rule.name: Fact(*(allowed(rule.name, about) for about in TARGETS)) for rule in rules}


def _read(path: Path) -> list[Rule]:
    """The rules of a sample file, which has them as comments."""
    found, scope = [], ()
    for line in path.read_text().splitlines():
        if line.startswith("# Intended scope(s): "):
            scope = tuple(line.partition(": ")[2].split(", "))
        named = re.fullmatch(r'#("[^"]+": ".*")', line)
        if named:
            ((name, check),) = yaml.safe_load(named[1]).items()
            found.append(Rule(name, check, scope))
        if not line:
            scope = ()
    return found


def _text(table: Mapping[str, Mapping[str, Fact]]) -> str:
    lines = [
        "# Who may by default, rule by rule, in the current OpenStack release: see facts.py. own, open, others: about what."
    ]
    for service, rules in table.items():
        groups: dict[Fact, list[str]] = {}
        for name, fact in rules.items():
            groups.setdefault(fact, []).append(name)
        lines += ["", f"{service}:"]
        for fact, names in groups.items():
            lines += [f"- {about}: {' '.join(people)}".rstrip() if about == "own" else f"  {about}: {' '.join(people)}".rstrip()
                      for about, people in zip(TARGETS, fact, strict=True)]  # fmt: skip
            lines += ["  rules: >-", *(f"    {name}" for name in sorted(names))]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    table = load() if PATH.exists() else {}
    table |= {service: of(_read(Path(path))) for service, _, path in (each.partition("=") for each in sys.argv[1:])}
    PATH.write_text(_text(table))
