"""The services' rule tables: whole, and answered as oslo.policy answers the very same text."""

from __future__ import annotations

import re
from typing import Any

import pytest
from oslo_config import cfg
from oslo_policy import _checks
from oslo_policy import policy as oslo

from nephos.compute import policies as compute
from nephos.identity import policies as identity
from nephos.image import policies as image
from nephos.kernel.auth.who import Who
from nephos.kernel.policy import Decision, Policies, Policy, Rule, role_set
from nephos.kernel.policy.names import ATTRIBUTES
from nephos.kernel.policy.parse import Generic, leaves, parse, references
from nephos.network import policies as network
from nephos.placement import policies as placement

TABLES = {
    "identity": identity.RULES,
    "image": image.RULES,
    "network": network.RULES,
    "placement": placement.RULES,
    "compute": compute.RULES,
}


def who(*roles: str, **fields: Any) -> Who:
    return Who(user_id=fields.pop("user_id", "u1"), roles=role_set(roles), is_admin="admin" in roles, **fields)


MEMBER = who("member", "reader", project_id="p1", project_domain_id="d1")
ADMIN = who("admin", "manager", "member", "reader", user_id="root", project_id="adm", project_domain_id="d1")
SYSTEM_ADMIN = who("admin", "manager", "member", "reader", user_id="root", system_scope="all")
PEOPLE = [
    MEMBER,
    ADMIN,
    SYSTEM_ADMIN,
    who("reader", project_id="p1", project_domain_id="d1"),
    who("member", "reader", user_id="u2", project_id="p2", project_domain_id="d2"),
    who("manager", "member", "reader", project_id="p1"),
    who("manager", "member", "reader", domain_id="d1"),
    who("reader", system_scope="all"),
    who("service", user_id="nova", project_id="service"),
    who("advsvc", project_id="p9"),
    who("member", project_id="p1", service_roles=role_set(["service"]), service_user_id="nova"),
    who(),
]
TARGETS: list[dict[str, object]] = [
    {},
    {"project_id": "p1", "user_id": "u1", "owner": "p1", "visibility": "private", "member_id": "p2"},
    {"project_id": "p2", "user_id": "u2", "visibility": "public", "member_id": None, "shared": True},
    {"project_id": "p2", "visibility": "shared", "member_id": "p1", "router:external": True, "shared": False},
    {"project_id": "p2", "network:project_id": "p1", "ext_parent:project_id": "p1", "security_group:project_id": "p1",
     "device_owner": "network:dhcp", "belongs_to_default_sg": True},
    {"project_id": "p1", "network:project_id": "p2", "device_owner": "compute:nova", "target_project": "*"},
    {"target.user.id": "u1", "target.user.domain_id": "d1", "target.project.domain_id": "d1", "target.role.name": "member",
     "target.group.domain_id": "d1", "target.domain.id": "d1", "target.role.domain_id": None, "target.project.id": "p1",
     "target.token.user_id": "u1", "target.credential.user_id": "u1", "target.trust.trustor_user_id": "u1"},
    {"target.user.id": "u2", "target.user.domain_id": "d2", "target.project.domain_id": None, "target.role.name": "admin",
     "target.limit.domain.id": None, "target.limit.project.domain_id": "d1", "target.limit.project_id": None},
]  # fmt: skip


class OsloField(_checks.Check):
    """The network service's check as oslo.policy would run it, when all that it asks is in the target."""

    def __call__(self, target: Any, creds: Any, enforcer: Any, current_rule: str | None = None) -> bool:
        field, _, wanted = self.match.partition(":")[2].partition("=")
        value = target.get(field)
        if value is None:
            return False
        if wanted.startswith("~"):
            return bool(re.match(wanted[1:], value))
        return bool(value is (wanted == "True") if isinstance(value, bool) else value == wanted)


def as_oslo(someone: Who) -> dict[str, Any]:
    values: dict[str, Any] = {name: getattr(someone, name) for name in set(ATTRIBUTES.values())}
    values["roles"], values["service_roles"] = sorted(someone.roles), sorted(someone.service_roles)
    token: dict[str, Any] = {"user": {"id": someone.user_id, "domain": {"id": someone.user_domain_id}}}
    if someone.project_id:
        token["project"] = {"id": someone.project_id, "domain": {"id": someone.project_domain_id}}
    if someone.domain_id:
        token["domain"] = {"id": someone.domain_id}
    return {**values, "token": token}


@pytest.mark.parametrize("service", TABLES)
def test_every_rule_is_whole(service: str) -> None:
    rules = TABLES[service]
    names = {rule.name for rule in rules}
    assert len(names) == len(rules)
    for rule in rules:
        tree = parse(rule.check_str)
        assert set(references(tree)) <= names, rule
        assert set(rule.scope_types) <= {"system", "domain", "project"}, rule
        for leaf in leaves(tree):
            if isinstance(leaf, Generic) and leaf.literal is None:
                assert leaf.kind in ATTRIBUTES or leaf.kind.startswith("token."), rule
        for operation in filter(None, rule.operations.split(", ")):
            assert re.fullmatch(r"(GET|POST|PUT|PATCH|DELETE|HEAD) /\S*( \(\S+( \S+)*\))?", operation), rule


@pytest.mark.parametrize("service", TABLES)
def test_same_answers_as_oslo_policy(service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(_checks.registered_checks, "field", OsloField)
    rules = TABLES[service]
    enforcer = oslo.Enforcer(cfg.ConfigOpts(), use_conf=False)
    enforcer.set_rules(oslo.Rules.from_dict({rule.name: rule.check_str for rule in rules}), use_conf=False)
    for rule in rules:
        scopes = list(rule.scope_types) or None
        enforcer.register_default(oslo.RuleDefault(rule.name, rule.check_str, scope_types=scopes))
    ours = Policy(rules)
    asked = {(rule.check_str, rule.scope_types): rule.name for rule in rules}
    answers = set()
    for name in asked.values():
        for someone in PEOPLE:
            for target in TARGETS:
                expected = bool(enforcer.enforce(name, target, as_oslo(someone)))
                answers.add(expected)
                assert ours.allows(name, someone, target) == expected, str(ours.explain(name, someone, target))
    assert answers == {True, False}


def test_the_usual_people_may_do_the_usual_things() -> None:
    policies = Policies(TABLES)
    mine = {"project_id": "p1", "user_id": "u1"}
    whole = {**mine, "owner": "p1", "network:project_id": "p1"}
    for name in ("os_compute_api:servers:create", "create_network", "create_port", "create_subnet", "add_image"):
        assert policies.allows(name, MEMBER, whole), name
        assert policies.allows(name, ADMIN, whole), name
    assert not policies.allows("create_port", MEMBER, {**whole, "network:project_id": "p2"}), "on another's network"
    assert policies.allows("create_port", MEMBER, {**whole, "network:project_id": "p2", "network:shared": True})
    assert not policies.allows("os_compute_api:servers:create", PEOPLE[3], mine), "a reader only reads"
    assert policies.allows("os_compute_api:servers:show", PEOPLE[3], mine)
    assert not policies.allows("create_network:shared", MEMBER, mine)
    assert policies.allows("create_network:shared", ADMIN, mine)
    assert not policies.allows("create_port:binding:host_id", MEMBER, mine)
    assert policies.allows("get_network", PEOPLE[4], {**mine, "shared": True})
    assert policies.allows("get_network", PEOPLE[4], {**mine, "router:external": True})
    assert not policies.allows("get_network", PEOPLE[4], mine)
    assert policies.allows("get_image", PEOPLE[4], {**mine, "visibility": "public"})
    for name in ("identity:create_user", "identity:list_projects", "identity:create_grant"):
        assert policies.allows(name, ADMIN), "an administrator of a project still administers"
        assert policies.allows(name, SYSTEM_ADMIN)
        assert not policies.allows(name, MEMBER)
    assert policies.decide("os_compute_api:servers:create", SYSTEM_ADMIN, mine) is Decision.WRONG_SCOPE
    assert policies.allows("placement:resource_providers:list", ADMIN)
    assert not policies.allows("placement:resource_providers:list", MEMBER)


def test_only_building_blocks_share_a_name() -> None:
    policies = Policies(TABLES)
    assert "context_is_admin" not in policies
    assert not policies.allows("context_is_admin", ADMIN)
    assert policies.of["compute"].allows("context_is_admin", ADMIN)
    guarding = [rule.name for rules in TABLES.values() for rule in rules if rule.operations]
    assert len(guarding) > 600
    assert all(name in policies for name in guarding)


def test_a_rule_for_an_attribute_names_the_calls_it_guards() -> None:
    policy = Policy(network.RULES)
    effective = policy.effective("create_port:fixed_ips:subnet_id")
    assert effective is not None
    assert effective.operations == "POST /ports"


def test_overrides_by_service(tmp_path: Any) -> None:
    (tmp_path / "network.yaml").write_text('context_is_admin: "role:netadmin"\n')
    (tmp_path / "image.yaml").write_text('get_image: "role:"\nno: "@"\n')
    policies = Policies(TABLES, tmp_path)
    assert not policies.allows("create_network:shared", ADMIN)
    assert policies.allows("create_network:shared", who("netadmin", project_id="p1"))
    assert policies.allows("os_compute_api:os-services:list", ADMIN), "another service's rule of the same name stands"
    assert policies.problems == [f"{tmp_path}/image.yaml:2: no rule is called 'no', and no rule refers to it"]


def test_a_broken_table_is_a_defect() -> None:
    with pytest.raises(ValueError, match="circle"):
        Policy([Rule("a", "rule:b"), Rule("b", "rule:a")], {"c": "@"})
