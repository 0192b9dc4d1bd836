"""What there is to use: versions, extensions, availability zones and service providers."""

from __future__ import annotations

from nephos.hosts import actions as hosts
from nephos.kernel.http.call import Call, Reply
from nephos.kernel.http.routes import Route
from nephos.network import problems, touch
from nephos.network.discovery import extensions
from nephos.network.resource import V, View

_RESOURCES = (
    ("subnet", "subnets"),
    ("subnetpool", "subnetpools"),
    ("network", "networks"),
    ("port", "ports"),
    ("router", "routers"),
    ("floatingip", "floatingips"),
    ("security_group", "security-groups"),
    ("security_group_rule", "security-group-rules"),
    ("rbac_policy", "rbac-policies"),
    ("quota", "quotas"),
    ("agent", "agents"),
    ("extension", "extensions"),
)


def versions(call: Call) -> Reply:
    link = {"rel": "self", "href": call.host_url + "/network/v2.0/"}
    return Reply({"versions": [{"id": "v2.0", "status": "CURRENT", "links": [link]}]})


def version(call: Call) -> Reply:
    return Reply(
        {
            "resources": [
                {
                    "name": name,
                    "collection": path.replace("-", "_"),
                    "links": [{"rel": "self", "href": f"{call.host_url}/network/v2.0/{path}"}],
                }
                for name, path in _RESOURCES
            ]
        }
    )


def list_extensions(call: Call) -> Reply:
    return Reply({"extensions": [each.shown() for each in extensions.ALL]})


def show_extension(call: Call) -> Reply:
    alias = call.params["alias"].removesuffix(".json")
    if alias not in extensions.BY_ALIAS:
        raise problems.missing("Extension", alias, "HTTPNotFound")
    return Reply({"extension": extensions.BY_ALIAS[alias].shown()})


def zones(call: Call) -> Reply:
    view = View(call)
    with view.cloud.database.read() as tx:
        names = sorted(touch.zones(tx, view.cloud))
        available = {row.zone or view.cloud.settings.compute.zone for row in hosts.all_hosts(tx) if not row.disabled}
    found = [
        {"name": name, "resource": kind, "state": "available" if name in available else "unavailable"}
        for name in names
        for kind in ("network", "router")
    ]
    for key in ("name", "resource", "state"):
        wanted = call.query.many(key)
        found = [each for each in found if not wanted or each[key] in wanted]
    return Reply({"availability_zones": found})


ROUTES = (
    Route("GET", "", versions, None),
    Route("GET", V, version, None),
    Route("GET", V + "/extensions", list_extensions, "regular_user"),
    Route("GET", V + "/extensions/{alias}", show_extension, "regular_user"),
    Route("GET", V + "/availability_zones", zones, "get_availability_zone"),
)
