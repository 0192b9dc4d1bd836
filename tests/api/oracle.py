"""What oslo.policy itself says to a request, from the services' tables and what OpenStack's policy targets hold.

The targets are written down here from OpenStack's own enforcement code and not taken from the handlers, which is what
makes this a check of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from oslo_config import cfg
from oslo_policy import _checks
from oslo_policy import policy as oslo

from nephos import app
from nephos.kernel.auth.who import Who
from nephos.kernel.http.routes import Route, Service
from tests.api.world import Things, World
from tests.kernel.policy.test_tables import OsloField, as_oslo

Target = dict[str, Any]
_TABLE = {
    "identity": "identity",
    "image": "image",
    "network": "network",
    "placement": "placement",
    "compute": "compute",
}


@cache
def _enforcer(table: str) -> oslo.Enforcer:
    _checks.registered_checks["field"] = OsloField
    rules = app.TABLES[table]
    enforcer = oslo.Enforcer(cfg.ConfigOpts(), use_conf=False)
    enforcer.set_rules(oslo.Rules.from_dict({rule.name: rule.check_str for rule in rules}), use_conf=False)
    for rule in rules:
        enforcer.register_default(
            oslo.RuleDefault(rule.name, rule.check_str, scope_types=list(rule.scope_types) or None)
        )
    return enforcer


def allows(service: Service, rule: str, who: Who, target: Mapping[str, Any]) -> bool:
    table = _TABLE.get(service.name, "nephos")
    if all(each.name != rule for each in app.TABLES[table]):  # the image service's, which its proxy in compute obeys
        table = "image"
    return bool(_enforcer(table).enforce(rule, dict(target), as_oslo(who)))


def target(world: World, service: Service, route: Route, who: Who, things: Things) -> Target:
    """What the rule of a route is asked about when `who` sends it for these things."""
    if service.name == "identity":
        return _identity(world, route, who, things)
    own = {"project_id": who.project_id, "tenant_id": who.project_id, "user_id": who.user_id, "owner": who.project_id}
    theirs = {
        "project_id": things["project"],
        "tenant_id": things["project"],
        "user_id": things["user"],
        "owner": things["project"],
    }
    if service.name == "network":
        parents = {f"{parent}:project_id": things["project"] for parent in ("network", "ext_parent", "security_group")}
        flags = {"shared": False, "network:shared": False, "router:external": False}
        return {**(theirs if "{" in route.path else own), **parents, **flags, "target_tenant": things["project"]}
    if service.name == "image" or route.path.startswith("/v2.1/images"):  # which compute shows by the image service's policy
        member = things["image/members"] if "{member_id}" in route.path else None
        return {
            **(own if route.target == "own" or "{" not in route.path else theirs),
            "visibility": "shared",
            "member_id": member,
        }
    if service.name == "placement":
        return theirs if "usages" in route.path else own
    return own if route.target == "own" or "os-keypairs" in route.path else theirs


def _identity(world: World, route: Route, who: Who, things: Things) -> Target:
    """Keystone's enforcer flattens what the URL and the body are about into `target.<thing>.<attribute>`."""
    site, path = world.site, route.path
    found: Target = {"target.token.user_id": world.users["member"]}
    if "{" not in path and route.method == "GET":
        # Lists narrow to the asker and the asker's domain by themselves, so the rule is asked about those.
        found["target.credential.user_id"] = who.user_id
        if who.domain_id is not None:
            found |= {f"target.{thing}.domain_id": who.domain_id for thing in ("user", "group", "project", "role")}
            found |= {"target.domain_id": who.domain_id, "target.domain.id": who.domain_id}
        return found
    user = things["spare/user"] if "/roles" in path and "TRUST" not in path else things["identity/users"]
    if "users" in path:
        found |= {"user_id": user, "target.user.id": user, "target.user.domain_id": site}
    if "groups" in path and "OS-EP-FILTER" not in path:
        found["target.group.domain_id"] = site
    if "projects" in path:
        found |= {"target.project.id": things["project"], "target.project.domain_id": site}
    if "domains" in path:
        found |= {"target.domain.id": site}
    if "roles" in path:
        found |= {"target.role.name": "reader", "target.role.domain_id": None}
    if "credentials" in path:
        found["target.credential.user_id"] = things["user"]
    if "trusts" in path:
        found |= {"target.trust.trustor_user_id": things["user"], "target.trust.trustee_user_id": things["other"]}
    if "limits" in path:
        found |= {"target.limit.project_id": things["project"], "target.limit.project.domain_id": site}
    return found
