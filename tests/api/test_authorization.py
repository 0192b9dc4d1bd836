"""Every route of the API, asked by every kind of person: the documented default of OpenStack decides.

Each request is whole and right, about real things of project alpha. oslo.policy says what the rule of the route
answers; nothing of what was allowed is kept.
"""

from __future__ import annotations

from typing import Any

import pytest

from nephos.kernel.auth.who import Who
from nephos.kernel.http.routes import Route, Service
from nephos.network import policies as network_policies
from tests.api import oracle, seeds
from tests.api.dry import taken_back
from tests.api.world import PERSONAS, SERVICES, Things, World, name_of
from tests.harness import Client, Response

PEOPLE = [each for each in PERSONAS if each != "nobody"]
ORDER = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
REFUSED_BY_RULE = "Policy doesn't allow"
PRIVATE = (
    *(
        f"network/{noun}"
        for noun in ("networks", "subnets", "subnetpools", "ports", "routers", "floatingips", "rbac-policies")
    ),
    *("network/security-groups", "network/security-group-rules", "spare/port", "floating"),
    *("compute/servers", "compute/os-interface", "compute/os-server-groups", "image/images", "image/tasks"),
    *("image/namespaces", "identity/credentials", "identity/application_credentials", "identity/trusts"),
    *("identity/access_rules", "identity/OS-EC2", "identity/limits"),
)
"""What nobody of another project may learn of."""


def in_order(world: World, service: Service) -> list[Route]:
    """Reading before writing, and deleting last."""
    return sorted(world.thought_of(service), key=lambda route: ORDER.index(route.method))


def who_is(world: World, persona: str) -> Who:
    return world.cloud.cloud.verify(world.clients[persona].token or "", None)


def lists(service: Service, route: Route) -> bool:
    """Neutron asks the rule of a list for each thing in it and leaves out what it denies."""
    return service.name == "network" and route.method == "GET" and "{" not in route.path


def denied(service: Service, route: Route, who: Who, reply: Response, things: Things) -> bool:
    """Whether this is how somebody is turned away."""
    if reply.status in (403, 404):
        return True
    if service.name != "network":
        return False
    if lists(service, route):
        return reply.status == 400 or (reply.status == 200 and not leaks(reply, things))
    if who.project_id is None and route.method == "POST":
        return reply.status == 400 and b"Running without a project" in reply.body
    # Whoever has a token of a project sees the project's own quota (Neutron's quota extension).
    return route.permission == "get_quota" and who.project_id == things["project"]


def leaks(reply: Response, things: Things) -> list[str]:
    return [name for name in PRIVATE if things[name].encode() in reply.body]


@pytest.mark.parametrize("persona", PEOPLE)
@pytest.mark.parametrize("service", SERVICES)
def test_the_rule_of_a_route_decides(world: World, service: str, persona: str) -> None:
    one, who, things, wrong = SERVICES[service], who_is(world, persona), world.alpha, []
    with taken_back(world.cloud.cloud.database):
        for route in in_order(world, one):
            if route.permission is None:
                continue
            allowed = oracle.allows(one, route.permission, who, oracle.target(world, one, route, who, things))
            reply = world.ask(persona, one, route, things)
            by_rule = reply.status == 403 and REFUSED_BY_RULE in reply.body.decode()
            if not (reply.status != 401 and not by_rule if allowed else denied(one, route, who, reply, things)):
                verdict = "allowed" if allowed else "denied"
                wrong.append(f"{name_of(one, route)}: {verdict}, answered {reply.status} {reply.body[:200]!r}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("service", SERVICES)
def test_nothing_without_a_token(world: World, service: str) -> None:
    one = SERVICES[service]
    for route in world.thought_of(one):
        for token in (None, "nonesuch"):
            if route.permission is not None:
                client = Client(world.cloud, token)
                url, body = world.url(one, route, world.alpha), world.body(one, route, world.alpha)
                reply = world.send(client, one, route, url, body)
                assert reply.status == 401, (name_of(one, route), token, reply)
                assert "keystone uri=" in reply.headers["www-authenticate"].lower()


@pytest.mark.parametrize(
    "query",
    [
        "",
        "all_tenants=1",
        "project_id={project}",
        "tenant_id={project}",
        "user_id={user}",
        "all_tenants=1&tenant_id={project}",
    ],
)
@pytest.mark.parametrize("service", SERVICES)
def test_others_see_nothing_of_a_project(world: World, service: str, query: str) -> None:
    """Not by an id, not in a list, not by asking a list for the other project's."""
    one, wrong = SERVICES[service], []
    for route in world.thought_of(one):
        if route.method != "GET" or (query and "{" in route.path):
            continue
        url = world.url(one, route, world.alpha)
        url += ("&" if "?" in url else "?") + query.format(**world.alpha) if query else ""
        reply = world.send(world.clients["outsider"], one, route, url, None)
        assert reply.status < 500, (url, reply)
        if reply.status < 300 and leaks(reply, world.alpha):
            wrong.append(f"{url}: {leaks(reply, world.alpha)}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("service", SERVICES)
def test_others_change_nothing_of_a_project(world: World, service: str) -> None:
    """A member of beta asks for beta's things with one id of alpha's at a time, in the URL or in the body."""
    one, wrong = SERVICES[service], []
    ours = {world.beta[name]: world.alpha[name] for name in PRIVATE}
    with taken_back(world.cloud.cloud.database) as kept:
        for route in in_order(world, one):
            if route.method in ("GET", "HEAD"):
                continue
            url, body = world.url(one, route, world.beta), world.body(one, route, world.beta)
            for mine, theirs in ours.items():
                other_url, other_body = url.replace(mine, theirs), _with(body, mine, theirs)
                if (other_url, other_body) == (url, body):
                    continue
                kept.changes = 0
                reply = world.send(world.clients["outsider"], one, route, other_url, other_body)
                if not (400 <= reply.status < 500 or reply.status == 501) or kept.changes:
                    wrong.append(f"{route.method} {other_url} {other_body}: {reply.status} {reply.body[:200]!r}")
    assert not wrong, "\n".join(wrong)


def _with(body: object, old: str, new: str) -> object:
    if isinstance(body, str):
        return body.replace(old, new)
    if isinstance(body, dict):
        return {_with(key, old, new): _with(value, old, new) for key, value in body.items()}
    return [_with(each, old, new) for each in body] if isinstance(body, list) else body


# --- single attributes -----------------------------------------------------------------------------------------------

_SUBNET = {"subnet_id": "{network/subnets}"}
ATTRIBUTES: tuple[tuple[str, str, str, dict[str, Any]], ...] = (
    *(
        ("network", f"{verb} network /v2.0/networks{end}", f"{rule}_network:{name}", {name: value})
        for verb, end, rule in (("POST", "", "create"), ("PUT", "/{id}", "update"))
        for name, value in (
            ("shared", True),
            ("router:external", True),
            ("is_default", rule == "create"),
            ("port_security_enabled", False),
            ("provider:network_type", "vxlan"),
            ("provider:physical_network", None),
            ("provider:segmentation_id", 77),
        )
    ),
    *(
        ("network", f"{verb} network /v2.0/ports{end}", f"{rule}_port:{name}", {name.partition(":fixed")[0]: value})
        for verb, end, rule in (("POST", "", "create"), ("PUT", "/{id}", "update"))
        for name, value in (
            ("device_id", "x"),
            ("device_owner", "network:dhcp"),
            ("mac_address", "02:00:00:00:00:01"),
            ("port_security_enabled", True),
            ("binding:host_id", "h1"),
            ("binding:profile", {}),
            ("binding:vnic_type", "normal"),
            ("allowed_address_pairs", [{"ip_address": "10.0.0.9"}]),
        )
    ),
    ("network", "POST network /v2.0/ports", "create_port:fixed_ips:subnet_id", {"fixed_ips": [_SUBNET]}),
    (
        "network",
        "POST network /v2.0/ports",
        "create_port:fixed_ips:ip_address",
        {"fixed_ips": [{"ip_address": "10.81.0.99"}]},
    ),
    ("network", "PUT network /v2.0/ports/{id}", "update_port:fixed_ips:subnet_id", {"fixed_ips": [_SUBNET]}),
    ("network", "POST network /v2.0/routers", "create_router:distributed", {"distributed": False}),
    ("network", "POST network /v2.0/routers", "create_router:ha", {"ha": False}),
    ("network", "PUT network /v2.0/routers/{id}", "update_router:distributed", {"distributed": False}),
    ("network", "PUT network /v2.0/routers/{id}", "update_router:ha", {"ha": False}),
    *(
        (
            "network",
            f"{verb} network /v2.0/routers{end}",
            f"{rule}_router:external_gateway_info:{name}",
            {"external_gateway_info": {"network_id": "{public/network}", **more}},
        )
        for verb, end, rule in (("POST", "", "create"), ("PUT", "/{id}", "update"))
        for name, more in (
            ("network_id", {}),
            ("enable_snat", {"enable_snat": True}),
            ("external_fixed_ips", {"external_fixed_ips": [{"subnet_id": "{public/subnet}"}]}),
        )
    ),
    ("network", "POST network /v2.0/subnetpools", "create_subnetpool:shared", {"shared": True}),
    ("network", "POST network /v2.0/subnetpools", "create_subnetpool:is_default", {"is_default": True}),
    ("network", "PUT network /v2.0/subnetpools/{id}", "update_subnetpool:is_default", {"is_default": True}),
    (
        "network",
        "POST network /v2.0/floatingips",
        "create_floatingip:floating_ip_address",
        {"floating_ip_address": "172.24.4.99"},
    ),
    ("network", "POST network /v2.0/rbac-policies", "create_rbac_policy:target_tenant", {"target_tenant": "*"}),
    ("network", "PUT network /v2.0/rbac-policies/{id}", "update_rbac_policy:target_tenant", {"target_tenant": "*"}),
    (
        "compute",
        "POST compute /v2.1/servers",
        "os_compute_api:servers:create:forced_host",
        {"availability_zone": "nova:h1"},
    ),
    ("compute", "POST compute /v2.1/servers", "compute:servers:create:requested_destination", {"host": "h1"}),
    ("image", "POST image /v2/images", "publicize_image", {"visibility": "public"}),
    ("image", "POST image /v2/images", "communitize_image", {"visibility": "community"}),
)
"""(service, route, rule, what the body holds besides): what takes another rule than the route's."""


@pytest.mark.parametrize("persona", ("project_admin", "manager", "member", "reader", "outsider", "service"))
def test_the_rule_of_an_attribute_decides(world: World, persona: str) -> None:
    who, things, wrong = who_is(world, persona), world.alpha, []
    routes = {name_of(one, route): route for one in SERVICES.values() for route in one.routes}
    with taken_back(world.cloud.cloud.database):
        for service, name, rule, more in ATTRIBUTES:
            one, route = SERVICES[service], routes[name]
            target = oracle.target(world, one, route, who, things)
            # A rule that looks at the attribute itself sees the value that is asked for.
            flat = {key: value for key, value in more.items() if isinstance(value, str)}
            rules = [str(route.permission), rule]
            allowed = all(oracle.allows(one, each, who, {**target, **flat}) for each in rules)
            body = world.body(one, route, things)
            inner = body if service == "image" else next(iter(body.values()))
            inner |= seeds.filled(more, things)
            reply = world.send(world.clients[persona], one, route, world.url(one, route, things), body)
            by_rule = reply.status == 403 and REFUSED_BY_RULE in reply.body.decode()
            if by_rule if allowed else reply.status not in (403, 404):
                verdict = "allowed" if allowed else "denied"
                wrong.append(f"{name} {rule}: {verdict}, answered {reply.status} {reply.body[:200]!r}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("persona", ("project_admin", "manager", "member", "reader"))
def test_the_rule_of_an_attribute_shows_it(world: World, persona: str) -> None:
    """What `get_port:binding:host_id` and its like guard is shown to those that it allows and to no others."""
    one, who, things = SERVICES["network"], who_is(world, persona), world.alpha
    found = 0
    for plural in ("networks", "subnets", "ports", "routers"):
        noun, path = plural.removesuffix("s"), f"/network/v2.0/{plural}/{things[f'network/{plural}']}"
        route = next(each for each in one.routes if each.path == f"/v2.0/{plural}/{{id}}" and each.method == "GET")
        whole = world.admin.get(path).json[noun]
        shown = world.clients[persona].get(path).json[noun]
        for rule in network_policies.RULES:
            prefix, _, attribute = rule.name.partition(f"get_{noun}:")
            if not prefix and attribute in whole:
                found += 1
                allowed = oracle.allows(one, rule.name, who, oracle.target(world, one, route, who, things))
                assert (attribute in shown) == allowed, (rule.name, persona)
    assert found >= 9
    path = f"/compute/v2.1/servers/{things['compute/servers']}"
    server = world.clients[persona].get(path).json["server"]
    assert ("OS-EXT-SRV-ATTR:host" in server) == (persona == "project_admin")
