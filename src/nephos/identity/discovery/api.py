"""Version documents, as keystoneauth and Tempest read them, and an answer for those who still ask for v2.0.

Source: Keystone API, "Version discovery". `/` answers 300 with the list of versions, `/v3` with the one.
"""

from __future__ import annotations

from typing import Any

from nephos import errors
from nephos.kernel.http.call import Call, Reply
from nephos.kernel.http.routes import Route


def _version(call: Call) -> dict[str, Any]:
    prefix = "/identity" if call.environ.get("PATH_INFO", "").startswith("/identity") else ""
    return {
        "id": "v3.14",
        "status": "stable",
        "updated": "2020-04-07T00:00:00Z",
        "links": [{"rel": "self", "href": f"{call.host_url}{prefix}/v3/"}],
        "media-types": [{"base": "application/json", "type": "application/vnd.openstack.identity-v3+json"}],
    }


def versions(call: Call) -> Reply:
    found = _version(call)
    return Reply({"versions": {"values": [found]}}, headers={"Location": found["links"][0]["href"]})


def version(call: Call) -> Reply:
    return Reply({"version": _version(call)})


def former(call: Call) -> Reply:
    """Who points a client at v2.0 is told where v3 is (S1-48)."""
    raise errors.NotFound(
        f"The Identity API v2.0 does not exist any more. Use {_version(call)['links'][0]['href'].rstrip('/')} "
        "as OS_AUTH_URL with OS_IDENTITY_API_VERSION=3, OS_PROJECT_NAME instead of OS_TENANT_NAME, and "
        "OS_USER_DOMAIN_NAME=Default and OS_PROJECT_DOMAIN_NAME=Default."
    )


ROUTES = (
    Route("GET", "", versions, None, 300),
    Route("GET", "/v3", version, None),
    *(Route(verb, path, former, None) for path in ("/v2.0", "/v2.0/{rest:path}") for verb in ("GET", "POST")),
)
