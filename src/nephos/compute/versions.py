"""The version documents at `/compute` and `/compute/v2.1`: public, and outside of microversions.

Nova lists v2.0 first and always has; v2.0 is answered by the same routes as 2.1.
"""

from __future__ import annotations

from typing import Any

from nephos import errors
from nephos.compute.wire import MICROVERSIONS, PREFIX
from nephos.kernel.http.call import Call, Reply
from nephos.kernel.http.routes import Route

_VERSIONS: dict[str, dict[str, str]] = {
    "v2.0": {"status": "DEPRECATED", "updated": "2011-01-21T11:33:21Z", "path": "v2", "media": "2"},
    "v2.1": {"status": "CURRENT", "updated": "2013-07-23T11:33:21Z", "path": "v2.1", "media": "2.1"},
}


def _version(call: Call, name: str) -> dict[str, Any]:
    about = _VERSIONS[name]
    current = about["status"] == "CURRENT"
    return {
        "id": name,
        "status": about["status"],
        "version": str(MICROVERSIONS.highest) if current else "",
        "min_version": str(MICROVERSIONS.lowest) if current else "",
        "updated": about["updated"],
        "links": [{"rel": "self", "href": f"{call.host_url}{PREFIX}/{about['path']}/"}],
    }


def index(call: Call) -> Reply:
    return Reply({"versions": [_version(call, name) for name in _VERSIONS]})


def show(call: Call) -> Reply:
    name = "v2.0" if call.route.path == "/v2" else "v2.1"
    version = _version(call, name)
    version["links"].append({"rel": "describedby", "type": "text/html", "href": "http://docs.openstack.org/"})
    version["media-types"] = [
        {
            "base": "application/json",
            "type": f"application/vnd.openstack.compute+json;version={_VERSIONS[name]['media']}",
        }
    ]
    return Reply({"version": version})


def extensions(call: Call) -> Reply:
    """Extensions are long part of the API itself; old clients still ask whether one is there."""
    return Reply({"extensions": [_extension(alias) for alias in _ALIASES]})


def extension(call: Call) -> Reply:
    alias = call.params["alias"]
    if alias not in _ALIASES:
        raise errors.NotFound(f"Extension {alias} could not be found.")
    return Reply({"extension": _extension(alias)})


def _extension(alias: str) -> dict[str, Any]:
    return {
        "alias": alias,
        "name": alias.removeprefix("os-").replace("-", " ").title().replace(" ", ""),
        "description": "Part of the compute API.",
        "namespace": "http://docs.openstack.org/compute/ext/fake_xml",
        "updated": "2014-12-03T00:00:00Z",
        "links": [],
    }


_ALIASES = (
    "NMN",
    "OS-DCF",
    "OS-EXT-AZ",
    "OS-EXT-IMG-SIZE",
    "OS-EXT-IPS",
    "OS-EXT-IPS-MAC",
    "OS-EXT-SRV-ATTR",
    "OS-EXT-STS",
    "OS-FLV-DISABLED",
    "OS-FLV-EXT-DATA",
    "OS-SCH-HNT",
    "OS-SRV-USG",
    "os-admin-actions",
    "os-aggregates",
    "os-attach-interfaces",
    "os-availability-zone",
    "os-config-drive",
    "os-console-output",
    "os-extended-volumes",
    "os-flavor-access",
    "os-flavor-extra-specs",
    "os-flavor-manage",
    "os-floating-ips",
    "os-hosts",
    "os-hypervisors",
    "os-instance-actions",
    "os-keypairs",
    "os-lock-server",
    "os-migrations",
    "os-multinic",
    "os-quota-class-sets",
    "os-quota-sets",
    "os-security-groups",
    "os-server-groups",
    "os-services",
    "os-simple-tenant-usage",
    "os-used-limits",
    "os-user-data",
)

ROUTES = (
    Route("GET", "", index, None),
    Route("GET", "/v2", show, None),
    Route("GET", "/v2.1", show, None),
    Route("GET", "/v2.1/extensions", extensions, "os_compute_api:extensions"),
    Route("GET", "/v2.1/extensions/{alias}", extension, "os_compute_api:extensions"),
)
