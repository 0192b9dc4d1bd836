"""The operator's file: what is right counts, what is wrong is named and changes nothing (S3-55)."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nephos import errors
from nephos.kernel import clock
from nephos.kernel.auth.who import Who
from nephos.kernel.policy import Decision, Policy, Rule, role_set

RULES = (
    Rule("context_is_admin", "role:admin"),
    Rule("reader", "role:reader and project_id:%(project_id)s"),
    Rule("reader_or_admin", "rule:reader or rule:context_is_admin"),
    Rule("servers:show", "rule:reader_or_admin", ("project",), "GET /servers/{id}"),
    Rule("servers:delete", "rule:context_is_admin", ("project",)),
    Rule("anybody", ""),
)
READER = Who(user_id="u", project_id="p", roles=role_set(["Reader"]))
ADMIN = Who(user_id="a", project_id="q", roles=role_set(["admin"]))
SYSTEM_ADMIN = Who(user_id="a", system_scope="all", roles=role_set(["admin"]))
MINE = {"project_id": "p"}


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def tick(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    at = [1000.0]
    monkeypatch.setattr(clock, "monotonic", lambda: at[0])

    def move(seconds: float) -> None:
        at[0] += seconds

    return move


def test_defaults_scopes_and_words() -> None:
    policy = Policy(RULES)
    assert policy.problems == []
    assert policy.allows("servers:show", READER, MINE)
    assert not policy.allows("servers:show", READER, {"project_id": "other"})
    assert policy.decide("servers:delete", READER, MINE) is Decision.DENIED
    assert policy.decide("servers:delete", ADMIN) is Decision.ALLOWED
    assert policy.decide("servers:delete", SYSTEM_ADMIN) is Decision.WRONG_SCOPE
    with pytest.raises(errors.Forbidden, match="servers:delete to be performed") as refused:
        policy.require("servers:delete", READER)
    assert refused.value.detail == {"rule": "servers:delete"}
    with pytest.raises(errors.Forbidden, match="takes a token of scope project, this one is of scope system") as refused:
        policy.require("servers:delete", SYSTEM_ADMIN)
    assert refused.value.detail["scopes"] == ["project"]
    policy.require("anybody", Who(user_id="n"))


def test_a_name_that_nobody_defined_is_refused() -> None:
    policy = Policy((*RULES, Rule("default", "")))
    assert not policy.allows("servers:shwo", ADMIN)
    assert "servers:shwo" not in policy
    assert policy.effective("servers:shwo") is None
    assert policy.explain("servers:shwo", ADMIN).allowed is False


def test_a_name_defined_twice_is_a_defect() -> None:
    with pytest.raises(ValueError, match="'anybody' is defined twice"):
        Policy((*RULES, Rule("anybody", "@")))


def test_overrides_count_and_helpers_may_be_added(folder: Path) -> None:
    path = folder / "policy.yaml"
    path.write_text('# ours\n"operator": "role:operator"\n"context_is_admin": "role:admin or rule:operator"\nanybody: "!"\n')
    policy = Policy(RULES, path=path)
    assert policy.problems == []
    operator = Who(user_id="o", project_id="p", roles=role_set(["Operator"]))
    assert policy.allows("servers:delete", operator)
    assert not policy.allows("anybody", ADMIN)
    effective = policy.effective("context_is_admin")
    assert effective is not None
    assert (effective.check_str, effective.source) == ("(role:admin or rule:operator)", f"{path}:3")
    untouched = policy.effective("servers:show")
    assert untouched is not None
    assert (untouched.check_str, untouched.source) == ("rule:reader_or_admin", "default")
    assert policy.names() == [*(rule.name for rule in RULES), "operator"]


def test_json_and_list_form_are_read(folder: Path) -> None:
    path = folder / "policy.json"
    path.write_text('{"servers:delete": [["role:reader", "project_id:%(project_id)s"], ["role:root"]], "anybody": []}')
    policy = Policy(RULES, path=path)
    assert policy.problems == []
    assert policy.allows("servers:delete", READER, MINE)
    assert not policy.allows("servers:delete", ADMIN, MINE)
    assert policy.allows("anybody", READER)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('servers:delete: "role:reader and"', "a check is missing after 'role:reader and'"),
        ('servers:delete: "(role:reader"', "a closing parenthesis is missing after '( role:reader'"),
        ('servers:delete: "role:reader)"', "a parenthesis is closed that was never opened"),
        ('servers:delete: "role:reader role:x"', "'and' or 'or' is missing after 'role:reader', before 'role:x'"),
        ('servers:delete: "reader"', "'reader' is not a check"),
        ('servers:delete: "http://x/y"', "http checks are not served"),
        ('servers:delete: "a-:%(x)s"', "neither an attribute of a token nor a constant"),
        ('servers:delete: "user_id:%(x)d"', "is written %(name)s"),
        ('servers:delete: "field:ports:device_owner=~("', "is not a pattern"),
        ("servers:delete:", "the rule is NoneType None"),
        ("servers:delete: yes", "the rule is bool True"),
        ("servers:delete: [[1]]", "a rule in list form"),
        ('servers:delete: "   "', "a check is missing at the start"),
        ('servers:delete: "rule:readr"', "refers to 'rule:readr', which is not defined"),
        ('context_is_admin: "rule:servers:delete"', "in a circle (context_is_admin -> servers:delete -> context_is_admin)"),
    ],
)
def test_a_wrong_rule_is_named_and_stays_at_its_default(folder: Path, line: str, words: str) -> None:
    path = folder / "policy.yaml"
    path.write_text(f'# first\nanybody: "!"\n{line}\n')
    policy = Policy(RULES, path=path)
    name = line.split(": ")[0].rstrip(":")
    assert len(policy.problems) == 1
    assert policy.problems[0].startswith(f"{path}:3: rule '{name}'")
    assert words in policy.problems[0]
    assert "it stays at its default" in policy.problems[0]
    assert policy.allows("servers:delete", ADMIN)
    assert not policy.allows("servers:delete", READER, MINE)
    assert not policy.allows("anybody", ADMIN), "the right lines of the file count"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("servers:delete: @\n", ":1: not valid YAML: found character '@' that cannot start any token"),
        ("- a\n- b\n", ":1: must be a mapping of rule names to rules"),
        ("a: !!python/object:os.system x\n", ":1: not valid YAML: "),
        ("a: 2001-99-99\n", "not valid YAML"),
        ("a: \x07\n", "not valid YAML"),
        ("a: " + "[" * 1500, "nested too deeply"),
        ("a: 'b\n", ":2: not valid YAML"),
        ("a: &a [*a]\n", ":1: not valid YAML: found unconstructable recursive node"),
    ],
)
def test_a_wrong_file_is_named_and_changes_nothing(folder: Path, text: str, words: str) -> None:
    path = folder / "policy.yaml"
    path.write_text(text)
    policy = Policy(RULES, path=path)
    assert len(policy.problems) == 1
    assert policy.problems[0].startswith(str(path))
    assert words in policy.problems[0]
    assert "the rules in force stay as they were" in policy.problems[0]
    assert policy.allows("servers:delete", ADMIN)


def test_not_text(folder: Path) -> None:
    path = folder / "policy.yaml"
    path.write_bytes(b"a: \xff\xfe")
    assert "not UTF-8 text at byte 3" in Policy(RULES, path=path).problems[0]


def test_names_are_compared_in_any_script(folder: Path) -> None:
    path = folder / "policy.yaml"
    path.write_text('servers:delete: "role:ПРОВЕРКА"\n', encoding="utf-8")
    assert Policy(RULES, path=path).allows("servers:delete", Who(user_id="n", roles=role_set(["проверка"])))


def test_useless_lines_are_named_but_harmless(folder: Path) -> None:
    path = folder / "policy.yaml"
    path.write_text('servers:destroy: "!"\nanybody: "projct_id:%(project_id)s"\nanybody: "user:%(user_id)s"\n')
    policy = Policy(RULES, path=path)
    assert policy.problems == [
        f"{path}:3: rule 'anybody' is given twice, first in line 2; this one counts",
        f"{path}:1: no rule is called 'servers:destroy', and no rule refers to it",
    ]
    assert policy.allows("anybody", READER, {"user_id": "u"})
    path.write_text('anybody: "projct_id:%(project_id)s"\n')
    assert Policy(RULES, path=path).problems == [
        f"{path}:1: rule 'anybody': 'projct_id:%(project_id)s' is never true, because no token has 'projct_id'"
    ]


def test_a_huge_tangle_of_references_is_refused(folder: Path) -> None:
    path = folder / "policy.yaml"
    chain = "".join(f'r{n}: "rule:r{n + 1} or rule:r{n + 1}"\n' for n in range(40)) + 'r40: "role:x"\nanybody: "rule:r0"\n'
    path.write_text(chain)
    policy = Policy(RULES, path=path)
    assert "comes to too many checks" in policy.problems[0]
    assert policy.allows("anybody", READER)
    path.write_text("".join(f'r{n}: "rule:r{n + 1}"\n' for n in range(3000)) + 'r3000: "role:x"\n')
    assert "is in a chain of more than 50 references" in Policy(RULES, path=path).problems[0]


def test_a_file_that_may_not_be_read_is_named_with_its_owner(folder: Path, tick: Callable[[float], None]) -> None:
    path = folder / "policy.yaml"
    path.write_text('anybody: "!"\n')
    path.chmod(0o000)
    was = os.geteuid()
    if was == 0:
        os.seteuid(65534)
    try:
        policy = Policy(RULES, path=path)
        assert policy.allows("anybody", READER)
        (problem,) = policy.problems
        assert problem.startswith(f"{path}: may not be read by ")
        assert f"(uid {os.geteuid()})" in problem
        assert "it belongs to " in problem
        assert "mode 0000" in problem
        os.seteuid(was)
        path.chmod(0o644)
        if was == 0:
            os.seteuid(65534)
        tick(1.1)
        assert policy.refresh(), "a change of mode alone is seen"
        assert policy.problems == []
        assert not policy.allows("anybody", READER)
    finally:
        os.seteuid(was)


def test_the_file_is_read_again_at_most_once_a_second(folder: Path, tick: Callable[[float], None]) -> None:
    path = folder / "policy.yaml"
    policy = Policy(RULES, path=path)
    assert policy.problems == []
    path.write_text('servers:delete: "role:reader"\n')
    tick(0.5)
    assert not policy.refresh()
    assert not policy.allows("servers:delete", READER)
    tick(0.6)
    assert policy.refresh()
    assert policy.allows("servers:delete", READER)
    tick(1.1)
    assert not policy.refresh(), "nothing changed"


def test_a_file_broken_later_keeps_the_last_good_rules(folder: Path, tick: Callable[[float], None]) -> None:
    path = folder / "policy.yaml"
    path.write_text('servers:delete: "role:reader"\nanybody: "role:reader"\n')
    policy = Policy(RULES, path=path)
    path.write_text('servers:delete: "role:reader" oh\n')
    tick(1.1)
    assert policy.refresh()
    assert policy.problems
    assert policy.allows("servers:delete", READER)
    path.write_text('servers:delete: "role:a and"\nanybody: "!"\n')
    tick(1.1)
    assert policy.refresh()
    assert policy.problems == [
        f"{path}:1: rule 'servers:delete': a check is missing after 'role:a and'; it stays as it was, 'role:reader'"
    ]
    assert policy.allows("servers:delete", READER)
    assert not policy.allows("anybody", READER)
    path.unlink()
    tick(1.1)
    assert policy.refresh()
    assert policy.problems == []
    assert not policy.allows("servers:delete", READER), "without a file the defaults count"
    assert policy.allows("anybody", READER)


def test_a_circle_made_with_the_last_good_rule_ends_at_the_default(folder: Path, tick: Callable[[float], None]) -> None:
    path = folder / "policy.yaml"
    path.write_text('anybody: "rule:reader"\n')
    policy = Policy(RULES, path=path)
    path.write_text('anybody: "rule:"\nreader: "rule:anybody"\n')
    tick(1.1)
    policy.refresh()
    assert "stays as it was, 'rule:reader'" in policy.problems[0]
    assert policy.allows("servers:show", READER, MINE)
    assert policy.allows("anybody", ADMIN)


def test_explain_says_which_rule_decided(folder: Path) -> None:
    path = folder / "policy.yaml"
    path.write_text('reader: "role:reader and project_id:%(project_id)s and not \'secret\':%(label)s"\n')
    policy = Policy(RULES, path=path)
    told = policy.explain("servers:show", READER, {"project_id": "p", "label": "secret"})
    assert not told.allowed
    assert str(told).splitlines() == [
        "no  servers:show   [default]",
        "  yes scope of the token   [token: project; the rule takes project]",
        "  no  rule:reader_or_admin   [default]",
        "    no  any of",
        f"      no  rule:reader   [{path}:1]",
        "        no  all of",
        "          yes role:reader   [token: roles reader]",
        "          yes project_id:%(project_id)s   [token: p; target: project_id = p]",
        "          no  not",
        "            yes 'secret':%(label)s   [target: label = secret]",
        "      no  rule:context_is_admin   [default]",
        "        no  role:admin   [token: roles reader]",
    ]
    wrong_scope = policy.explain("servers:show", SYSTEM_ADMIN, {"project_id": "p"})
    assert not wrong_scope.allowed
    assert "no  scope of the token   [token: system; the rule takes project]" in str(wrong_scope)


def test_the_network_field_check() -> None:
    policy = Policy(
        (
            Rule("shared", "field:networks:shared=True"),
            Rule("external", "field:networks:router:external=True"),
            Rule("device", "field:port:device_owner=~^compute:"),
            Rule("wildcard", "not field:rbac_policy:target_project=*"),
        )
    )
    nobody = Who(user_id="n")
    assert policy.allows("shared", nobody, {"shared": True})
    assert not policy.allows("shared", nobody, {"shared": False, "network:shared": True})
    assert policy.allows("shared", nobody, {"network:shared": True}), "a port asks for its network's"
    assert not policy.allows("shared", nobody)
    assert policy.allows("external", nobody, {"router:external": True})
    assert policy.allows("device", nobody, {"device_owner": "compute:nova"})
    assert not policy.allows("device", nobody, {"device_owner": "network:compute:"})
    assert not policy.allows("wildcard", nobody, {"target_project": "*"})
    assert policy.allows("wildcard", nobody, {"target_project": "p"})
    assert policy.allows("wildcard", nobody)
