"""The route table as a whole: every route answers, every list has pages, every version document is read by clients."""

from __future__ import annotations

import io
from typing import Any

import pytest
import requests
from keystoneauth1 import session as keystone
from keystoneauth1.discover import Discover
from keystoneauth1.identity import v3
from requests.adapters import BaseAdapter

from tests.api.dry import taken_back
from tests.api.world import SERVICES, World, name_of
from tests.harness import Harness

OTHERWISE: dict[str, int] = {
    # the port is on no host
    "GET nephos-operator /ports/{port}/trace": 409,
    # what is gone for good says so
    "GET identity /v2.0": 404,
    "POST identity /v2.0": 404,
    "GET identity /v2.0/{rest:path}": 404,
    "POST identity /v2.0/{rest:path}": 404,
    "DELETE image /v2/images": 404,
    "DELETE compute /v2.1/images": 404,
    # the first version document of Glance is a choice
    "GET image": 300,
    # refused for what the thing is, not for how it was asked
    "DELETE identity /v3/domains/{domain_id}": 403,
    "DELETE identity /v3/users/{user_id}/access_rules/{access_rule_id}": 403,
    "DELETE image /v2/stores/{store_id}/{image_id}": 403,
    "DELETE network /v2.0/agents/{id}": 409,
    "POST network /v2.0/security-groups-default-statefulness": 409,
    "POST network /v2.0/agents/{id}/dhcp-networks": 409,
    "DELETE network /v2.0/quotas/{project_id}": 404,
    "GET network /v2.0/auto-allocated-topology/{project_id}": 400,
    "DELETE network /v2.0/auto-allocated-topology/{project_id}": 404,
    "DELETE placement /resource_providers/{uuid}": 409,
    "DELETE placement /resource_providers/{uuid}/inventories": 409,
    "DELETE placement /resource_providers/{uuid}/inventories/{resource_class}": 409,
    "POST compute /v2.1/flavors/{id}/action removeTenantAccess": 404,
    "POST compute /v2.1/os-aggregates/{id}/action remove_host": 404,
    "POST compute /v2.1/servers/{server}/action os-start": 409,
    "POST compute /v2.1/servers/{server}/action shelveOffload": 409,
    "POST compute /v2.1/servers/{server}/action unshelve": 409,
    "POST compute /v2.1/servers/{server}/action unrescue": 409,
    "POST compute /v2.1/servers/{server}/action confirmResize": 409,
    "POST compute /v2.1/servers/{server}/action revertResize": 409,
    # none goes on
    "GET compute /v2.1/servers/{server}/migrations/{migration}": 404,
    "DELETE compute /v2.1/servers/{server}/migrations/{migration}": 409,
    "POST compute /v2.1/servers/{server}/migrations/{migration}/action force_complete": 409,
    "POST compute /v2.1/servers/{server}/action removeFloatingIp": 409,
    "DELETE compute /v2.1/os-services/{id}": 409,
    # no host is connected here
    "POST compute /v2.1/servers/{server}/action os-getConsoleOutput": 409,
    # answers when the operation is over, and here that is taken back before
    "POST compute /v2.1/servers/{server}/os-interface": 404,
    # an upload is many units of work, and here none of them is kept
    "PUT image /v2/images/{image_id}/file": 410,
    "PUT image /v2/images/{image_id}/stage": 410,
    # replacing, not making
    "PUT identity /v3/domains/{domain_id}/config": 200,
    # Keystone answers a check without a body
    "GET identity /v3/OS-EP-FILTER/projects/{project_id}/endpoints/{endpoint_id}": 204,
    "PUT placement /traits/{name}": 204,
    "PUT compute /v2.1/servers/{server}/tags/{tag}": 204,
    "POST compute /v2.1/os-keypairs": 201,
}
"""What a whole and right request is answered where that is not the route's own status."""
ASKERS = ("member", "project_admin", "system_admin", "service")


@pytest.mark.parametrize("service", SERVICES)
def test_every_route_has_something_to_ask_for(world: World, service: str) -> None:
    """One that has not escapes the tests of bad input and of authorization: give it a thing and a body."""
    one = SERVICES[service]
    thought_of = world.thought_of(one)
    missing = [name_of(one, route) for route in one.routes if route not in thought_of]
    assert not missing, f"give these a thing in tests/api/world.py and a body in tests/api/seeds.py: {missing}"


@pytest.mark.parametrize("service", SERVICES)
def test_every_good_request_is_answered(world: World, service: str) -> None:
    one, wrong = SERVICES[service], []
    order = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
    with taken_back(world.cloud.cloud.database):
        for route in sorted(world.thought_of(one), key=lambda each: order.index(each.method)):
            for persona in ASKERS:
                reply = world.ask(persona, one, route, world.alpha)
                if reply.status not in (403, 404) or OTHERWISE.get(name_of(one, route)) == reply.status:
                    break
            wanted = OTHERWISE.get(name_of(one, route), route.status)
            if name_of(one, route) == "PUT placement /resource_classes/{name}" and not route.until:
                wanted = 204
            state = reply.status == 409 and route.action is not None
            if reply.status not in (wanted, 501) and not state:
                wrong.append(f"{name_of(one, route)}: {reply.status}, not {wanted} {reply.body[:200]!r}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("service", SERVICES)
def test_head_is_get_without_a_body(world: World, service: str) -> None:
    one = SERVICES[service]
    own = {route.path for route in one.routes if route.method == "HEAD"}
    for route in world.thought_of(one):
        if route.method == "GET" and route.path not in own:
            url, client = world.url(one, route, world.alpha), world.clients["project_admin"]
            get, head = (world.send(client, one, route._replace(method=verb), url, None) for verb in ("GET", "HEAD"))
            assert head.status == get.status, (url, get, head)
            assert head.headers.keys() == get.headers.keys() and head.body == b"", (url, get, head)


# --- pages -----------------------------------------------------------------------------------------------------------

PAGED = {
    "identity": (
        *("projects", "users", "groups", "roles", "domains", "regions", "services", "endpoints", "credentials"),
        *("OS-TRUST/trusts", "policies", "limits", "registered_limits"),
    ),
    "image": ("images", "metadefs/namespaces"),
    "network": (
        *("networks", "subnets", "subnetpools", "ports", "routers", "floatingips", "security-groups"),
        *("security-group-rules", "rbac-policies", "address-groups", "address-scopes", "trunks", "qos/policies"),
        "default-security-group-rules",
    ),
    "compute": ("servers", "servers/detail", "flavors", "flavors/detail", "os-keypairs", "os-hypervisors"),
}
"""Lists that OpenStack's own services give in pages by `limit` and `marker`."""
ROOT = {"identity": "/v3", "image": "/image/v2", "network": "/network/v2.0", "compute": "/compute/v2.1"}
PAGES = [(service, each) for service, lists in PAGED.items() for each in lists]
ALL = {"servers": "all_tenants=1", "servers/detail": "all_tenants=1", "flavors": "is_public=None"}


def items(world: World, service: str, plural: str, query: str) -> list[Any]:
    reply = world.clients["project_admin"].get(
        f"{ROOT[service]}/{plural}?{ALL.get(plural, '')}&{query}", **{"OpenStack-API-Version": "compute 2.104"}
    )
    assert reply.status == 200, (plural, query, reply)
    found = next(value for name, value in reply.json.items() if isinstance(value, list) and not name.endswith("links"))
    return [each.get("keypair", each) for each in found]


def key(item: Any) -> str:
    return str(item.get("id") or item.get("namespace") or item["name"])


@pytest.mark.parametrize(("service", "plural"), PAGES, ids=[plural for _, plural in PAGES])
def test_a_list_has_pages(world: World, service: str, plural: str) -> None:
    whole = [key(each) for each in items(world, service, plural, "")]
    walked: list[str] = []
    while found := items(world, service, plural, "limit=1" + (f"&marker={walked[-1]}" if walked else "")):
        assert len(found) == 1 and key(found[0]) not in walked, (plural, walked)
        walked.append(key(found[0]))
    assert sorted(walked) == sorted(whole)
    assert len(whole) > 1 or plural in ("os-keypairs", "os-hypervisors", "credentials", "policies"), whole


@pytest.mark.parametrize(("service", "plural"), PAGES, ids=[plural for _, plural in PAGES])
@pytest.mark.parametrize("query", ["limit=-1", "limit=x", "limit=", "limit=1&marker=nobody"])
def test_a_page_that_cannot_be(world: World, service: str, plural: str, query: str) -> None:
    reply = world.clients["project_admin"].get(
        f"{ROOT[service]}/{plural}?{query}", **{"OpenStack-API-Version": "compute 2.104"}
    )
    assert reply.status in (400, 404), (plural, query, reply)


# --- version documents -----------------------------------------------------------------------------------------------


class Direct(BaseAdapter):
    """Sends what requests would send over a socket to the WSGI application."""

    def __init__(self, cloud: Harness) -> None:
        super().__init__()
        self.cloud = cloud

    def send(self, request: requests.PreparedRequest, *_: Any, **__: Any) -> requests.Response:
        path = (request.path_url or "/").removeprefix("http://127.0.0.1:5000")
        body = request.body.encode() if isinstance(request.body, str) else request.body
        reply = self.cloud.nobody.request(request.method or "GET", path, body, dict(request.headers))
        response = requests.Response()
        response.status_code, response.url, response.request = reply.status, str(request.url), request
        response.headers.update(reply.headers)
        response.raw = io.BytesIO(reply.body)
        return response

    def close(self) -> None:
        pass


@pytest.fixture
def session(cloud: Harness) -> keystone.Session:
    wire = requests.Session()
    wire.mount("http://", Direct(cloud))
    auth = v3.Password(
        auth_url="http://127.0.0.1:5000/v3",
        username="admin",
        password="admin-secret",
        project_name="admin",
        user_domain_id="default",
        project_domain_id="default",
    )
    return keystone.Session(auth=auth, session=wire)


@pytest.mark.parametrize(
    ("service", "version", "url", "microversions"),
    [
        ("identity", (3,), "/v3", None),
        ("image", (2,), "/image/v2", None),
        ("network", (2, 0), "/network/v2.0", None),
        ("placement", (1, 0), "/placement", ((1, 0), (1, 39))),
        ("compute", (2, 1), "/compute/v2.1", ((2, 1), (2, 104))),
    ],
)
def test_clients_find_their_version(
    session: keystone.Session, service: str, version: tuple[int, ...], url: str, microversions: Any
) -> None:
    assert session.auth is not None
    for interface in ("public", "internal", "admin"):
        found = session.auth.get_endpoint_data(
            session, service_type=service, interface=interface, discover_versions=True, min_version=version[:1]
        )
        assert found is not None and found.url and found.api_version, (service, interface)
        assert found.url.rstrip("/") == "http://127.0.0.1:5000" + url
        assert found.api_version[: len(version)] == version
        if microversions:
            assert (found.min_microversion, found.max_microversion) == microversions


@pytest.mark.parametrize(
    "root", ["/", "/identity", "/image", "/network", "/placement", "/compute", "/v3", "/identity/v3"]
)
def test_a_version_document_is_read_without_a_token(session: keystone.Session, root: str) -> None:
    versions = Discover(session, "http://127.0.0.1:5000" + root, authenticated=False).version_data()
    assert versions and any(each["status"] == "CURRENT" for each in versions), versions
