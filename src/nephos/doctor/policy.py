"""Which rules are in force, what is wrong with the operator's files, and whether a user may do something (S2-06)."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from nephos import errors
from nephos.identity import part
from nephos.identity.tokens import login
from nephos.kernel.cloud import Cloud
from nephos.kernel.http.call import Call, Reply
from nephos.kernel.http.routes import Route, Service
from nephos.kernel.policy import Decision, Explanation, Policy


class Scope(msgspec.Struct, forbid_unknown_fields=True):
    """One of them, by name or id; none is an unscoped token."""

    project: str | None = None
    project_domain: str = "Default"
    domain: str | None = None
    system: bool = False


class CheckBody(msgspec.Struct, forbid_unknown_fields=True):
    """A rule, or the verb and the path of a call (and its action, where the body's one key selects it).

    `target` is what the rule looks at (`{"project_id": …}`); without one it is the asker's own project and user.
    """

    user: str
    user_domain: str = "Default"
    scope: Scope = msgspec.field(default_factory=Scope)
    rule: str | None = None
    method: str | None = None
    path: str | None = None
    action: str | None = None
    target: dict[str, str | bool | None] | None = None


class Asked(NamedTuple):
    """A rule with the service that it is of; `name` None is a call that needs no permission."""

    service: str
    name: str | None


def index(call: Call) -> Reply:
    """The rules in force: all, those of `?service=`, or the one called `?rule=`. Raises NotFound for what is none."""
    policies = call.cloud.policies
    wanted, name = call.query.one("service"), call.query.one("rule")
    if wanted is not None and wanted not in policies.of:
        raise errors.NotFound(f"There is no service {wanted!r}: there are {', '.join(policies.of)}.")
    rules = []
    for service, policy in policies.of.items():
        if wanted in (None, service):
            found = [policy.effective(each) for each in ([name] if name is not None else policy.names())]
            rules += [{"service": service, **rule._asdict()} for rule in found if rule is not None]
    if name is not None and not rules:
        raise errors.NotFound(f"There is no rule {name!r}.")
    return Reply({"rules": rules, "problems": policies.problems})


def check(call: Call) -> Reply:
    """May this user do this, and which rule says so. Raises NotFound for a rule or call that there is not."""
    body = call.body(CheckBody)
    asked = _asked(call.cloud, body)
    answer: dict[str, Any] = {"service": asked.service, "rule": asked.name, "problems": call.cloud.policies.problems}
    if asked.name is None:
        return Reply({"allowed": True, "reason": "The call needs no permission.", "explanation": None, **answer})
    scope = body.scope
    try:
        who = login.without_proof(
            call.cloud,
            part.of(call.cloud),
            (body.user, body.user_domain),
            project=None if scope.project is None else (scope.project, scope.project_domain),
            domain=scope.domain,
            system=scope.system,
        )
    except errors.Unauthorized as wrong:
        return Reply({"allowed": False, "reason": wrong.message, "explanation": None, **answer})
    policy = call.cloud.policies.of[asked.service]
    target = body.target
    if target is None:
        target = {name: getattr(who, name) for name in ("project_id", "tenant_id", "user_id", "domain_id")}
    decision = policy.decide(asked.name, who, target)
    return Reply(
        {
            "allowed": decision is Decision.ALLOWED,
            "reason": _reason(policy, asked.name, decision),
            "explanation": _plain(policy.explain(asked.name, who, target)),
            "roles": sorted(who.roles),
            "target": target,
            **answer,
        }
    )


def _reason(policy: Policy, name: str, decision: Decision) -> str:
    rule = policy.effective(name)
    assert rule is not None
    if decision is Decision.WRONG_SCOPE:
        return f"{name} takes a token of scope {' or '.join(rule.scope_types)}."
    return f"{name} ({rule.source}) says {'yes' if decision is Decision.ALLOWED else 'no'}: {rule.check_str or 'for everybody'}"


def _plain(told: Explanation) -> dict[str, Any]:
    return {
        "text": told.text,
        "allowed": told.allowed,
        "note": told.note,
        "children": [_plain(child) for child in told.children],
    }


def _asked(cloud: Cloud, body: CheckBody) -> Asked:
    if body.rule is not None and body.method is None:
        found = [service for service, policy in cloud.policies.of.items() if body.rule in policy]
        if not found:
            raise errors.NotFound(f"There is no rule {body.rule!r}.")
        if len(found) > 1:
            raise errors.BadRequest(f"Several services have a rule {body.rule!r}: {', '.join(found)}.")
        return Asked(found[0], body.rule)
    if body.rule is None and body.method is not None and body.path is not None:
        return _of_call(cloud, body.method.upper(), body.path, body.action)
    raise errors.BadRequest("Ask for a rule, or for a method and a path.")


def _of_call(cloud: Cloud, method: str, path: str, action: str | None) -> Asked:
    """Where several routes fit, a part that is written out goes before one that stands for any, as when served."""
    found = _fitting(cloud, method, path)
    if not found and method == "HEAD":
        found = _fitting(cloud, "GET", path)
    if not found:
        raise errors.NotFound(f"There is no call {method} {path}.")
    best = max(fit for fit, _, _ in found)
    fitting = [(service, route) for fit, service, route in found if fit == best]
    actions = {route.action for _, route in fitting if route.action is not None}
    if actions:
        fitting = [(service, route) for service, route in fitting if route.action == action]
        if not fitting:
            raise errors.BadRequest(f"{method} {path} needs an action, one of: {', '.join(sorted(actions))}.")
    service, route = fitting[-1]
    for name, policy in cloud.policies.of.items():
        if route.permission is not None and route.permission in policy and service.name.startswith(name):
            return Asked(name, route.permission)
    return Asked(service.name, None)


def _fitting(cloud: Cloud, method: str, path: str) -> list[tuple[str, Service, Route]]:
    found = []
    for service in cloud.services:
        for route in service.routes:
            fit = _fit(route.path, service.below(path)) if route.method == method else None
            if fit is not None:
                found.append((fit, service, route))
    return found


def _fit(pattern: str, path: str | None) -> str | None:
    """None where the path is none of the pattern; else which parts are written out, to be compared."""
    if path is None:
        return None
    wanted, given = pattern.strip("/").split("/"), path.strip("/").split("/")
    rest = bool(wanted) and wanted[-1].endswith(":path}")
    if len(given) < len(wanted) if rest else len(given) != len(wanted):
        return None
    marks = ""
    for part_wanted, part_given in zip(wanted, given, strict=False):
        if part_wanted.startswith("{"):
            marks += "0"
        elif part_wanted == part_given:
            marks += "1"
        else:
            return None
    return marks
