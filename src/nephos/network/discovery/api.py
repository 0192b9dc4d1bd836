"""What the network API is: versions, resources, extensions, service providers."""

from __future__ import annotations

from typing import Any

from nephos.kernel.http.call import Call, Reply
from nephos.kernel.http.routes import Route
from nephos.network import problems
from nephos.network.discovery.extensions import EXTENSIONS, Extension
from nephos.network.resource import V

_RESOURCES = (
    "networks",
    "subnets",
    "ports",
    "routers",
    "floatingips",
    "security-groups",
    "security-group-rules",
    "subnetpools",
)


def versions(call: Call) -> Reply:
    link = {"rel": "self", "href": f"{_base(call)}{V}/"}
    return Reply({"versions": [{"id": "v2.0", "status": "CURRENT", "links": [link]}]})


def resources(call: Call) -> Reply:
    """The collections below v2.0."""
    found = []
    for plural in _RESOURCES:
        name = plural[:-1].replace("-", "_")
        link = {"rel": "self", "href": f"{_base(call)}{V}/{plural}"}
        found.append({"name": name, "collection": plural.replace("-", "_"), "links": [link]})
    return Reply({"resources": found})


def extensions(call: Call) -> Reply:
    return Reply({"extensions": [_shown(each) for each in EXTENSIONS]})


def extension(call: Call) -> Reply:
    for each in EXTENSIONS:
        if each.alias == call.params["alias"]:
            return Reply({"extension": _shown(each)})
    raise problems.missing("Extension", call.params["alias"])


def providers(call: Call) -> Reply:
    """There is one way to make a router, so there is nothing to choose from but that."""
    found = [{"service_type": "L3_ROUTER_NAT", "name": "single_node", "default": True}]
    return Reply({"service_providers": found})


def _shown(each: Extension) -> dict[str, Any]:
    return {
        "alias": each.alias,
        "name": each.name,
        "description": each.name,
        "updated": "2026-11-21T00:00:00-00:00",
        "links": [],
    }


def _base(call: Call) -> str:
    return call.host_url + "/network"


ROUTES = (
    Route("GET", "", versions, None),
    Route("GET", V, resources, None),
    Route("GET", V + "/extensions", extensions, None),
    Route("GET", V + "/extensions/{alias}", extension, None),
    Route("GET", V + "/service-providers", providers, None),
)
