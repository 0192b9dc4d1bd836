"""Every URL of the network API under every kind of nonsense: refused with a reason, never 500, nothing half made."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from sqlalchemy import func, select

from nephos.kernel.db.schema import metadata
from nephos.kernel.http.routes import Route
from nephos.network.floatingips import wire as floatingips
from nephos.network.groups import wire as groups
from nephos.network.networks import wire as networks
from nephos.network.ports import wire as ports
from nephos.network.routers import wire as routers
from nephos.network.service import SERVICE
from nephos.network.sharing import wire as sharing
from nephos.network.subnetpools import wire as subnetpools
from nephos.network.subnets import wire as subnets
from tests.harness import Response
from tests.network.conftest import Site, V

NOBODY = "00000000-0000-0000-0000-000000000000"
WRITING = [route for route in SERVICE.routes if route.method in ("POST", "PUT")]
RAW = [
    b"",
    b"{",
    b"[]",
    b"null",
    b'"text"',
    b"1e999",
    b"{}",
    b"\xff\xfe",
    b'{"network": {"name": "a\\u0000b"}}',
    b'{"network": null}',
    b'{"networks": []}',
    b'{"networks": [null]}',
    b"[" * 100_000,
    b'{"network": ' * 5_000,
]
VALUES: list[Any] = [
    None,
    True,
    "",
    " ",
    "nonsense",
    "ß☃" * 50,
    "x" * 300,
    "x" * 100_000,
    "' OR 1=1; --",
    "../../etc/passwd",
    NOBODY,
    0,
    -1,
    1.5,
    1 << 31,
    1 << 63,
    1 << 70,
    "0.0.0.0/0",
    "::/0",
    "255.255.255.255",
    "fe80::1%eth0",
    "10.0.0.1/33",
    [],
    [None],
    [1],
    ["x" * 5000],
    ["0.0.0.0/0", "::/0"],
    {},
    {"a": 1},
    [{}],
    [{"ip_address": 7, "subnet_id": [], "start": "a", "end": {}, "destination": 1, "nexthop": None}],
    [{"start": "::", "end": "10.0.0.1"}],
    [{"destination": "0.0.0.0/0", "nexthop": "::1"}],
    [{"ip_address": "nonsense"}],
    [{"subnet_id": NOBODY}],
    [{"opt_name": "x", "opt_value": "y" * 300}],
    {"network_id": NOBODY},
    {"network_id": 7, "enable_snat": "maybe"},
]
MODELS: list[tuple[str, str, Any, Any]] = [
    ("networks", "network", networks.Create, networks.Update),
    ("subnets", "subnet", subnets.Create, subnets.Update),
    ("subnetpools", "subnetpool", subnetpools.Create, subnetpools.Update),
    ("ports", "port", ports.Create, ports.Update),
    ("routers", "router", routers.Create, routers.Update),
    ("floatingips", "floatingip", floatingips.Create, floatingips.Update),
    ("security-groups", "security_group", groups.CreateGroup, groups.UpdateGroup),
    ("security-group-rules", "security_group_rule", groups.CreateRule, None),
    ("rbac-policies", "rbac_policy", sharing.Create, sharing.Update),
]


def rows(site: Site) -> dict[str, int]:
    with site.cloud.database.read() as tx:
        tables = [table for table in metadata.sorted_tables if table.name.startswith("network_")]
        return {table.name: tx.scalar(select(func.count()).select_from(table)) for table in tables}


def refused(reply: Response, what: str) -> bool:
    """Whether it was; and then in Neutron's words."""
    assert reply.status < 500, f"{what}: {reply}"
    if reply.status < 400:
        return False
    fault = reply.json["NeutronError"]
    assert set(fault) == {"type", "message", "detail"}, what
    assert fault["message"], what
    assert len(reply.body) < 250_000, f"{what}: the answer is as long as the question"
    return True


def url(route: Route, ids: dict[str, str]) -> str:
    collection = route.path.split("/")[2]
    return "/network" + re.sub(r"\{(\w+)\}", lambda found: ids.get(collection, NOBODY), route.path)


def seeds(site: Site) -> dict[str, str]:
    """One of everything, of demo's, by collection."""
    network, subnet = site.network()
    public = site.demo.get(f"{V}/networks?name=public").json["networks"][0]["id"]
    return {
        "networks": network,
        "subnets": subnet,
        "ports": site.make("ports", network_id=network)["id"],
        "routers": site.make("routers")["id"],
        "floatingips": site.make("floatingips", floating_network_id=public)["id"],
        "security-groups": site.make("security-groups", name="g")["id"],
        "subnetpools": site.make("subnetpools", name="p", prefixes=["10.64.0.0/16"])["id"],
        "quotas": site.project,
    }


def test_bodies_that_are_nonsense(site: Site) -> None:
    ids = seeds(site)
    before = rows(site)
    for route in WRITING:
        for known in (ids, {}):
            for raw in RAW:
                path = url(route, known)
                if path.endswith("/tags/" + known.get(route.path.split("/")[2], NOBODY)) or "{tag}" in route.path:
                    continue  # takes no body
                reply = site.admin.request(route.method, path, raw)
                assert refused(reply, f"{route.method} {path} {raw[:60]!r}"), (
                    f"{route.method} {path} {raw[:60]!r}: {reply}"
                )
    assert rows(site) == before


def good(site: Site, ids: dict[str, str]) -> dict[str, dict[str, Any]]:
    """A body of each that would be taken."""
    public = site.demo.get(f"{V}/networks?name=public").json["networks"][0]["id"]
    return {
        "networks": {"name": "n"},
        "subnets": {"network_id": ids["networks"], "ip_version": 4, "cidr": "10.44.0.0/24"},
        "subnetpools": {"name": "p", "prefixes": ["10.70.0.0/16"]},
        "ports": {"network_id": ids["networks"]},
        "routers": {"name": "r"},
        "floatingips": {"floating_network_id": public},
        "security-groups": {"name": "g"},
        "security-group-rules": {"security_group_id": ids["security-groups"], "direction": "ingress"},
        "rbac-policies": {
            "object_type": "network",
            "object_id": ids["networks"],
            "action": "access_as_shared",
            "target_tenant": "x",
        },
    }


def names(model: Any) -> Iterator[str]:
    for part in msgspec.structs.fields(model):
        yield part.encode_name
    yield "unheard_of"
    yield "id"


@pytest.mark.parametrize("index", range(len(MODELS)), ids=[each[0] for each in MODELS])
def test_one_attribute_that_is_nonsense(site: Site, index: int) -> None:
    """Whatever one attribute is: taken whole or refused whole."""
    plural, name, create, update = MODELS[index]
    ids = seeds(site)
    body = good(site, ids)[plural]
    for attribute in names(create):
        for value in VALUES:
            before = rows(site)
            what = f"POST {plural} {attribute}={str(value)[:60]!r}"
            reply = site.admin.post(f"{V}/{plural}", {name: {**body, attribute: value}})
            if refused(reply, what):
                assert rows(site) == before, what
            else:
                assert reply.status == 201, what
                site.admin.delete(f"{V}/{plural}/{reply.json[name]['id']}")
    for attribute in names(update) if update is not None and plural in ids else ():
        for value in VALUES:
            path = f"{V}/{plural}/{ids[plural]}"
            refused(site.admin.put(path, {name: {attribute: value}}), f"PUT {plural} {attribute}={str(value)[:60]!r}")
    assert update is None or plural not in ids or site.admin.get(f"{V}/{plural}/{ids[plural]}").status == 200


def test_queries_that_are_nonsense(site: Site) -> None:
    keys = (
        "limit",
        "marker",
        "sort_key",
        "sort_dir",
        "page_reverse",
        "fields",
        "id",
        "tags",
        "changed_since",
        "status",
    )
    for plural, *_ in MODELS:
        for key in (*keys, "fixed_ips", "router:external", "mtu", "unheard_of"):
            for value in (
                "",
                "nonsense",
                "-1",
                "9" * 40,
                "%00",
                "%FF",
                "a=b",
                "x" * 5000,
                "[]",
                "☃",
                "a&" + key + "=b",
            ):
                refused(site.demo.get(f"{V}/{plural}?{key}={value}"), f"GET {plural}?{key}={value[:40]}")


def test_ids_of_nobody_and_of_others(site: Site) -> None:
    hidden = site.make("networks", site.admin, name="hidden")["id"]
    sub = site.make("subnets", site.admin, network_id=hidden, ip_version=4, cidr="10.0.5.0/24")["id"]
    theirs = {
        "networks": hidden,
        "subnets": sub,
        "ports": site.make("ports", site.admin, network_id=hidden)["id"],
        "routers": site.make("routers", site.admin)["id"],
        "security-groups": site.make("security-groups", site.admin, name="g")["id"],
        "subnetpools": site.make("subnetpools", site.admin, name="p", prefixes=["10.64.0.0/16"])["id"],
    }
    before = rows(site)
    for plural, name, _, _ in MODELS:
        for key in filter(None, (NOBODY, "nonsense", "x" * 300, "%F0%9F%92%A9", theirs.get(plural))):
            path = f"{V}/{plural}/{key}"
            assert site.demo.get(path).status == 404, path
            assert site.demo.delete(path).status == 404, path
            if name != "security_group_rule":
                assert site.demo.put(path, {name: {}}).status == 404, path
    bodies: list[tuple[str, Any]] = [
        ("ports", {"port": {"network_id": hidden}}),
        ("subnets", {"subnet": {"network_id": hidden, "ip_version": 4, "cidr": "10.9.0.0/24"}}),
        (
            "security-group-rules",
            {"security_group_rule": {"security_group_id": theirs["security-groups"], "direction": "ingress"}},
        ),
        (
            "rbac-policies",
            {
                "rbac_policy": {
                    "object_type": "network",
                    "object_id": hidden,
                    "action": "access_as_shared",
                    "target_tenant": "x",
                }
            },
        ),
        ("routers", {"router": {"external_gateway_info": {"network_id": hidden}}}),
        ("floatingips", {"floatingip": {"floating_network_id": hidden}}),
    ]
    for plural, body in bodies:
        assert site.demo.post(f"{V}/{plural}", body).status in (400, 403, 404), plural
    assert rows(site) == before
