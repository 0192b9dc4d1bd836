"""A cloud with one of everything in each of two projects, and a client for each kind of person.

Project alpha's things are made by its member, beta's by the outsider; both projects are of domain "site". What belongs
to no project (flavors, roles, hosts…) is there once. `url(route)` and `body(route)` then ask any route of the API for
real things; a route that nobody has thought of is an error of the test, not a gap.
"""

from __future__ import annotations

import base64
import hmac
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nephos import app
from nephos.kernel.http.call import Call, Reply
from nephos.kernel.http.routes import Route, Service
from nephos.kernel.http.versions import Version
from tests.api import seeds
from tests.compute.agent import Agent, make_image
from tests.harness import Client, Harness, Response

SERVICES: dict[str, Service] = {module.SERVICE.name: module.SERVICE for module in app.SERVICES}
PERSONAS = (
    "system_admin",
    "system_reader",
    "domain_admin",
    "domain_manager",
    "domain_reader",
    "project_admin",
    "manager",
    "member",
    "reader",
    "outsider",
    "service",
    "nobody",
)
NOT_THERE = "5a1f5d0e-8f4c-4c51-bf3a-8d7a3dbb1c11"
Things = dict[str, str]
_PLACE = re.compile(r"\{(\w+)(?::path)?\}")
_LATEST = {"compute": "compute 2.104", "placement": "placement 1.39"}


def name_of(service: Service, route: Route) -> str:
    """How tests call a route: `POST compute /v2.1/servers/{server}/action reboot`."""
    return " ".join(filter(None, (route.method, service.name, route.path, route.action)))


def versions(service: Service, route: Route, *, oldest: bool = False) -> dict[str, str]:
    """The newest microversion in which a route is served, or the oldest, as a header."""
    if service.microversions is None:
        return {}
    version: Version = route.until or service.microversions.highest
    if oldest:
        version = route.since or service.microversions.lowest
    return {"OpenStack-API-Version": f"{service.name} {version}"}


class World:
    """`clients` by persona, `alpha` and `beta` what the two projects have, by `service/collection`."""

    def __init__(self, path: Path) -> None:
        self.cloud = Harness(path)
        self.agent = Agent(self.cloud, "h1")
        self.admin = self.cloud.login("admin", "admin")
        self.admin.headers["OpenStack-API-Version"] = _LATEST["compute"]
        self.common = self._common()
        self.clients: dict[str, Client] = {"nobody": self.cloud.nobody}
        self.users: dict[str, str] = {}
        self.projects = {name: self._identity("project", name=name, domain_id=self.site) for name in ("alpha", "beta")}
        self._people()
        self.alpha = self._furnish("alpha", "member")
        self.beta = self._furnish("beta", "outsider")
        for things in (self.alpha, self.beta):
            self._generations(things)

    def close(self) -> None:
        self.cloud.cloud.database.close()

    def of(self, persona: str) -> Things:
        return self.beta if persona == "outsider" else self.alpha

    def url(self, service: Service, route: Route, things: Things) -> str:
        """The route's URL for these things. Raises KeyError for a parameter that no thing is known for."""
        parts, before = [], ""
        things = {**things, **{key: things[other] for key, other in seeds.instead(name_of(service, route)).items()}}
        for part in route.path.split("/"):
            found = _PLACE.fullmatch(part)
            parts.append(things[thing(service, before, found[1])] if found else part)
            before = part
        return service.prefixes[0] + "/".join(parts) + seeds.QUERIES.get(name_of(service, route), "").format(**things)

    def thought_of(self, service: Service) -> list[Route]:
        """The routes that there are things and bodies for; `test_routes` tells when that is not all of them."""
        found = []
        for route in service.routes:
            try:
                self.url(service, route, self.alpha)
                self.body(service, route, self.alpha)
            except KeyError:
                continue
            found.append(route)
        return found

    def body(self, service: Service, route: Route, things: Things) -> Any:
        """A body that the route accepts, None where it takes none. Raises KeyError when none is known."""
        if route.method not in ("POST", "PUT", "PATCH"):
            return None
        name = name_of(service, route)
        older = f"{name} until {route.until}"
        return seeds.body(older if older in seeds.BODIES else name, things)

    def ask(self, persona: str, service: Service, route: Route, things: Things | None = None) -> Response:
        """A request as it should be."""
        things = self.of(persona) if things is None else things
        return self.send(
            self.clients[persona], service, route, self.url(service, route, things), self.body(service, route, things)
        )

    def send(
        self, client: Client, service: Service, route: Route, url: str, body: Any, *, oldest: bool = False
    ) -> Response:
        headers = versions(service, route, oldest=oldest)
        if service.name == "image":
            headers |= seeds.IMAGE_TYPES.get(name_of(service, route), {})
        if route.permission == "identity:revoke_token" or url.endswith("/v3/auth/tokens"):
            headers["X-Subject-Token"] = self.clients["member"].token or ""
        return client.request(route.method, url, body, headers)

    def _generations(self, things: Things) -> None:
        """What changes of capacity must name."""
        latest = {"OpenStack-API-Version": _LATEST["placement"]}
        provider = self.admin.get(f"/placement/resource_providers/{things['placement/resource_providers']}", **latest)
        consumer = self.admin.get(f"/placement/allocations/{things['placement/allocations']}", **latest)
        things["generation"] = str(provider.json["generation"])
        things["consumer"] = str(consumer.json["consumer_generation"])

    # --- making it ---------------------------------------------------------------------------------------------------

    @property
    def site(self) -> str:
        return self.common["identity/domains"]

    def _made(self, client: Client, path: str, body: Any) -> Any:
        reply = client.post(path, body)
        assert reply.status in (200, 201, 202), (path, reply)
        return reply.json if reply.body else None

    def _identity(self, noun: str, **values: Any) -> str:
        plural = {"policy": "policies"}.get(noun, noun + "s")
        return str(self._made(self.admin, f"/v3/{plural}", {noun: values})[noun]["id"])

    def _first(self, path: str, plural: str, key: str = "id") -> str:
        return str(self.admin.get(path).json[plural][0][key])

    def _common(self) -> Things:
        """What belongs to no project."""
        made = self._identity
        site = made("domain", name="site")
        service = made("service", type="toaster", name="toast")
        region = made("region", id="north")
        endpoint = made("endpoint", interface="public", service_id=service, url="http://127.0.0.1:9/", region_id=region)
        image, flavors = make_image(self.admin, visibility="public"), "/compute/v2.1/flavors"
        found = {
            "identity/domains": site,
            "identity/group": "identity",
            "identity/config": "identity",
            "identity/option": "driver",
            "identity/services": service,
            "identity/regions": made("region", id="west"),
            "used/region": region,
            "unused/region": "east",
            "identity/endpoints": endpoint,
            "identity/policies": made("policy", blob="{}", type="application/json"),
            "identity/roles": self._first("/v3/roles?name=reader", "roles"),
            "identity/implies": made("role", name="captain"),
            "identity/tags": "red",
            "identity/v2.0": "tokens",
            "public/image": image,
            "public/network": self._first("/network/v2.0/networks?name=public", "networks"),
            "public/subnet": self._first("/network/v2.0/subnets?name=public-subnet", "subnets"),
            "compute/flavors": str(self._made(self.admin, flavors, seeds.FLAVOR)["flavor"]["id"]),
            "compute/os-extra_specs": "hw:cpu_policy",
            "nephos-operator/keys": "receipts",
            "compute/extensions": "os-keypairs",
            "compute/os-quota-class-sets": "default",
            "compute/os-hosts": "h1",
            "compute/os-services": self._first("/compute/v2.1/os-services?binary=nova-compute", "services"),
            "compute/os-hypervisors": self._first("/compute/v2.1/os-hypervisors", "hypervisors"),
            "compute/metadata": "colour",
            "compute/os-instance_usage_audit_log": "2026-01-01%2000:00:00",
            "compute/tags": "red",
            "network/agents": self._first("/network/v2.0/agents", "agents"),
            "dhcp/agent": self._first("/network/v2.0/agents?agent_type=DHCP%20agent", "agents"),
            "l3/agent": self._first("/network/v2.0/agents?agent_type=L3%20agent", "agents"),
            "network/tags": "red",
            "network/extensions": "router",
            "network/rule-types": "dscp_marking",
            "network/bindings": "h1",
            "network/default-security-group-rules": self._first(
                "/network/v2.0/default-security-group-rules", "default_security_group_rules"
            ),
            "image/schemas": "image",
            "image/metadefs": "namespace",
            "image/objects": "crust",
            "image/properties": "depth",
            "image/resource_types": "OS::Nova::Server",
            "image/tags": "red",
            "image/stores": self._first("/image/v2/info/stores", "stores"),
            "placement/resource_providers": self.agent.ids["h1"],
            "placement/inventories": "VCPU",
            "placement/resource_classes": "CUSTOM_TOAST",
            "placement/traits": "CUSTOM_CRISP",
        }
        for plural, noun, body in (
            ("segments", "segment", {"network_id": found["public/network"], "network_type": "geneve"}),
            ("network_segment_ranges", "network_segment_range", seeds.RACK | {"physical_network": "rack"}),
        ):
            made_one = self._made(self.admin, f"/network/v2.0/{plural}", {noun: body})
            found[f"network/{plural}"] = str(made_one[noun]["id"])
        self._operators_network(found)
        limits = [
            {"service_id": service, "resource_name": name, "default_limit": 10}
            for name in ("slices", "crumbs", "toasts")
        ]
        registered = self._made(self.admin, "/v3/registered_limits", {"registered_limits": limits})["registered_limits"]
        found["identity/registered_limits"] = str(registered[0]["id"])
        found["spare/registered_limit"] = str(registered[2]["id"])
        path = "/v3/OS-EP-FILTER/endpoint_groups"
        endpoints = self._made(self.admin, path, seeds.body(f"POST identity {path}", found))["endpoint_group"]
        found["identity/endpoint_groups"] = str(endpoints["id"])
        assert self.admin.put(f"/v3/domains/{site}/config", {"config": {"identity": {"driver": "sql"}}}).status == 201
        assert (
            self.admin.put(f"/compute/v2.1/os-services/{found['compute/os-services']}", {"status": "enabled"}).status
            == 200
        )
        self._made(self.admin, f"{flavors}/{found['compute/flavors']}/os-extra_specs", seeds.SPECS)
        aggregate = self._made(self.admin, "/compute/v2.1/os-aggregates", {"aggregate": {"name": "rack"}})
        found["compute/os-aggregates"] = str(aggregate["aggregate"]["id"])
        placement = {"OpenStack-API-Version": _LATEST["placement"]}
        for path in ("resource_classes/CUSTOM_TOAST", "traits/CUSTOM_CRISP"):
            assert self.admin.put(f"/placement/{path}", None, **placement).status in (201, 204)
        return found

    def _operators_network(self, found: Things) -> None:
        """An external IPv6 network, and flavors of routers."""

        def made(plural: str, noun: str, **values: Any) -> str:
            return str(self._made(self.admin, f"/network/v2.0/{plural}", {noun: values})[noun]["id"])

        outer = made("networks", "network", name="outer", **{"router:external": True})
        found["outer/network"] = outer
        scope = made("address-scopes", "address_scope", name="world", ip_version=6, shared=True)
        wide = {"prefixes": ["2001:db8::/32"], "default_prefixlen": 64, "address_scope_id": scope, "shared": True}
        found["wide/pool"] = pool = made("subnetpools", "subnetpool", name="world", **wide)
        range_ = {"ip_version": 6, "cidr": "2001:db8:ffff::/64", "subnetpool_id": pool}
        made("subnets", "subnet", network_id=outer, enable_dhcp=False, **range_)
        driver = "neutron.services.l3_router.service_providers.single_node.SingleNodeDriver"
        for key in ("network/service_profiles", "spare/profile", "free/profile"):
            found[key] = made("service_profiles", "service_profile", driver=driver)
        profiles = [found["network/service_profiles"]]
        found["network/flavors"] = made(
            "flavors", "flavor", name="plain", service_type="L3_ROUTER_NAT", service_profiles=profiles
        )

    def _people(self) -> None:
        """Everyone is of domain site."""
        roles = {role["name"]: role["id"] for role in self.admin.get("/v3/roles").json["roles"]}
        alpha, beta = ({"project": {"id": self.projects[name]}} for name in ("alpha", "beta"))
        domain = {"domain": {"id": self.site}}
        people: tuple[tuple[str, str, dict[str, Any]], ...] = (
            ("system_admin", "admin", {"system": {"all": True}}),
            ("system_reader", "reader", {"system": {"all": True}}),
            ("domain_admin", "admin", domain),
            ("domain_manager", "manager", domain),
            ("domain_reader", "reader", domain),
            ("project_admin", "admin", alpha),
            ("manager", "manager", alpha),
            ("member", "member", alpha),
            ("reader", "reader", alpha),
            ("outsider", "member", beta),
            ("service", "service", beta),
        )
        for persona, role, scope in people:
            user = self._identity("user", name=persona, password=f"{persona}-secret", domain_id=self.site)
            kind, value = next(iter(scope.items()))
            place = "system" if kind == "system" else f"{kind}s/{value['id']}"
            assert self.admin.put(f"/v3/{place}/users/{user}/roles/{roles[role]}").status == 204
            self.users[persona] = user
            self.clients[persona] = self._login(persona, user, scope)
        self.common["identity/member-role"] = roles["member"]

    def _login(self, persona: str, user: str, scope: Any) -> Client:
        password = {"user": {"id": user, "password": f"{persona}-secret"}}
        auth = {"identity": {"methods": ["password"], "password": password}, "scope": scope}
        reply = self.cloud.nobody.post("/v3/auth/tokens", {"auth": auth})
        assert reply.status == 201, reply
        return Client(self.cloud, reply.headers["x-subject-token"])

    def _furnish(self, project: str, persona: str) -> Things:
        """One of each noun for a project, in the order in which they need each other."""
        client = self.clients[persona]
        user, project_id = self.users[persona], self.projects[project]
        found = {
            **self.common,
            "project": project_id,
            "user": user,
            "other": self.users["reader" if persona == "member" else "outsider"],
            "password": f"{persona}-secret",
            "name": project,
            "number": "1" if project == "alpha" else "2",
            "host": "h1",
            "NOT_THERE": NOT_THERE,
            "identity/projects": project_id,
            "network/auto-allocated-topology": project_id,
            "network/quotas": project_id,
            "compute/os-quota-sets": project_id,
            "compute/os-simple-tenant-usage": project_id,
        }
        self._network(client, found)
        self._image(client, found)
        self._compute(client, found)
        self._person(client, found)
        return found

    def _network(self, client: Client, found: Things) -> None:
        def made(plural: str, noun: str, **more: Any) -> str:
            path = f"/network/v2.0/{plural}"
            body = seeds.body(f"POST network /v2.0/{plural}", found)
            body[noun] |= more
            key = str(self._made(client, path, body)[noun]["id"])
            if f"network/{plural}" not in found:
                found[f"network/{plural}"] = key
                if plural not in (
                    "rbac-policies",
                    "security-group-rules",
                    "address-groups",
                    "address-scopes",
                    "local_ips",
                ):
                    assert client.put(f"{path}/{key}/tags", {"tags": ["red"]}).status == 200
            return key

        made("networks", "network")
        found["network/dhcp-networks"] = found["network/networks"]
        subnet = made("subnets", "subnet", cidr=f"10.8{found['number']}.0.0/24")
        made("subnetpools", "subnetpool")
        made("security-groups", "security_group")
        made("security-group-rules", "security_group_rule", port_range_max=23)
        made("ports", "port")
        found["spare/port"] = made("ports", "port")
        outer = {"network_id": found["public/network"]}
        highly = {"name": "r", "project_id": found["project"], "ha": True, "external_gateway_info": outer}
        reply = self._made(self.admin, "/network/v2.0/routers", {"router": highly})
        found["network/routers"] = found["network/l3-routers"] = router = str(reply["router"]["id"])
        assert client.put(f"/network/v2.0/routers/{router}/tags", {"tags": ["red"]}).status == 200
        joined = client.put(f"/network/v2.0/routers/{router}/add_router_interface", {"subnet_id": subnet})
        assert joined.status == 200, joined
        found["spare/router"] = made("routers", "router")
        found["spare/network"] = made("networks", "network")
        found["spare/subnet"] = made(
            "subnets", "subnet", network_id=found["spare/network"], cidr=f"10.7{found['number']}.0.0/24"
        )
        floating = made("floatingips", "floatingip")
        found["floating"] = client.get(f"/network/v2.0/floatingips/{floating}").json["floatingip"][
            "floating_ip_address"
        ]
        self._edge(client, found, made)
        self._routing(client, found, made)
        made("rbac-policies", "rbac_policy", target_tenant=NOT_THERE.replace("-", ""))
        found["network/network-ip-availabilities"] = found["network/networks"]

    def _routing(self, client: Client, found: Things, made: Callable[..., str]) -> None:
        """What routers and floating IPs have below them, and a router that leads IPv6 outside."""
        found["spare/floating"] = made("floatingips", "floatingip")
        for name, noun, above in (
            ("floatingips/{id}/port_forwardings", "port_forwarding", "spare/floating"),
            ("routers/{id}/conntrack_helpers", "conntrack_helper", "network/routers"),
        ):
            body = seeds.body(f"POST network /v2.0/{name}", found)
            other = {"external_port": 2200, "internal_port": 80} if noun == "port_forwarding" else {"port": 2121}
            body[noun].update(other)
            path = f"/network/v2.0/{name}".format(id=found[above])
            found[f"network/{noun}s"] = str(self._made(client, path, body)[noun]["id"])
        leading = made("local_ips", "local_ip", network_id=found["network/networks"])
        found["spare/local_ip"] = made("local_ips", "local_ip", network_id=found["network/networks"])
        found["network/port_associations"] = made("ports", "port")
        led = {"port_association": {"fixed_port_id": found["network/port_associations"]}}
        self._made(client, f"/network/v2.0/local_ips/{leading}/port_associations", led)
        for name, noun in (("metering-labels", "metering_label"), ("metering-label-rules", "metering_label_rule")):
            body = seeds.body(f"POST network /v2.0/metering/{name}", found)
            body[noun] |= {"project_id": found["project"], "remote_ip_prefix": "198.51.100.0/24"}
            if noun == "metering_label":
                del body[noun]["remote_ip_prefix"]
            found[f"network/{name}"] = str(self._made(self.admin, f"/network/v2.0/metering/{name}", body)[noun]["id"])
        six = f"2001:db8:{found['number']}::/64"
        subnet = made("subnets", "subnet", cidr=six, ip_version=6, subnetpool_id=found["wide/pool"])
        outer = {"network_id": found["outer/network"]}
        found["wide/router"] = made("routers", "router", external_gateway_info=outer, enable_ndp_proxy=True)
        joined = client.put(f"/network/v2.0/routers/{found['wide/router']}/add_router_interface", {"subnet_id": subnet})
        assert joined.status == 200, joined
        found["six/port"] = made("ports", "port", fixed_ips=[{"subnet_id": subnet}])
        body = seeds.body("POST network /v2.0/ndp_proxies", found)
        path = "/network/v2.0/ndp_proxies"
        found["network/ndp_proxies"] = str(self._made(client, path, body)["ndp_proxy"]["id"])
        found["six/port"] = made("ports", "port", fixed_ips=[{"subnet_id": subnet}])

    def _edge(self, client: Client, found: Things, made: Callable[..., str]) -> None:
        """What ports are limited, grouped and stacked by."""
        made("address-groups", "address_group")
        made("address-scopes", "address_scope")
        parent, child = made("ports", "port"), made("ports", "port")
        tagged = {"port_id": child, "segmentation_type": "vlan", "segmentation_id": 7}
        made("trunks", "trunk", port_id=parent, sub_ports=[tagged])
        found["trunk/child"] = child
        bound = f"/network/v2.0/ports/{found['spare/port']}/bindings"
        self._made(self.clients["service"], bound, {"binding": {"host": "h1"}})
        own = {"project_id": found["project"], "stateful": True}
        path = "/network/v2.0/security-groups-default-statefulness"
        made_so = self._made(self.admin, path, {"security_group_default_statefulness": own})
        found["network/security-groups-default-statefulness"] = made_so["security_group_default_statefulness"]["id"]
        path = "/network/v2.0/qos/policies"
        for key in ("network/policies", "spare/policy"):
            body = seeds.body(f"POST network {path.removeprefix('/network')}", found)
            body["policy"]["project_id"] = found["project"]
            found[key] = str(self._made(self.admin, path, body)["policy"]["id"])
        assert self.admin.put(f"{path}/{found['network/policies']}/tags", {"tags": ["red"]}).status == 200
        for kind, values in seeds.QOS.items():
            rules = f"{path}/{found['network/policies']}/{kind}_rules"
            body = {f"{kind}_rule": {**values, **({"direction": "egress"} if "direction" in values else {})}}
            rule = str(self._made(self.admin, rules, body)[f"{kind}_rule"]["id"])
            found[f"network/{kind}_rules"] = found[f"network/alias-{kind.replace('_', '-')}-rules"] = rule

    def _image(self, client: Client, found: Things) -> None:
        image = found["image/images"] = found["compute/images"] = make_image(client, visibility="shared", colour="red")
        found["image/image_id"] = image
        found["image/members"] = NOT_THERE.replace("-", "")
        self._made(client, f"/image/v2/images/{image}/members", {"member": found["image/members"]})
        reply = client.put(f"/image/v2/images/{image}/tags/red")
        assert reply.status == 204, reply
        queued = self._made(client, "/image/v2/images", {"name": "b", "disk_format": "raw", "container_format": "bare"})
        found["image/queued"] = str(queued["id"])
        self._import(client, found)
        body = seeds.body("POST image /v2/metadefs/namespaces", found)
        made = self._made(self.admin, "/image/v2/metadefs/namespaces", {**body, "namespace": f"{found['name']}-words"})
        found["image/namespaces"] = made["namespace"]

    def _import(self, client: Client, found: Things) -> None:
        """Another image with its bytes put aside, and the task of bringing in a third."""
        staged, taken = (
            str(
                self._made(
                    client, "/image/v2/images", {"name": name, "disk_format": "raw", "container_format": "bare"}
                )["id"]
            )
            for name in ("staged", "taken")
        )
        for key in (staged, taken):
            put = client.request(
                "PUT", f"/image/v2/images/{key}/stage", b"\0" * 512, {"Content-Type": "application/octet-stream"}
            )
            assert put.status == 204, put
        self._made(client, f"/image/v2/images/{taken}/import", {"method": {"name": "glance-direct"}})
        self.agent.settle()
        found["staged/image"] = staged
        found["image/tasks"] = str(client.get(f"/image/v2/images/{taken}/tasks").json["tasks"][0]["id"])

    def _compute(self, client: Client, found: Things) -> None:
        latest = {"OpenStack-API-Version": _LATEST["compute"]}
        server = client.post("/compute/v2.1/servers", seeds.body("POST compute /v2.1/servers", found), **latest)
        assert server.status == 202, server
        self.agent.settle()
        key = found["compute/servers"] = str(server.json["server"]["id"])
        assert client.get(f"/compute/v2.1/servers/{key}", **latest).json["server"]["status"] == "ACTIVE"
        found["compute/os-instance-actions"] = server.headers["x-openstack-request-id"]
        (port,) = client.get(f"/compute/v2.1/servers/{key}/os-interface").json["interfaceAttachments"]
        found["compute/os-interface"], found["address"] = port["port_id"], port["fixed_ips"][0]["ip_address"]
        found["compute/ips"] = f"{found['name']}-net"
        found["placement/allocations"] = key
        found["compute/migrations"] = "1"
        keypair = self._made(client, "/compute/v2.1/os-keypairs", {"keypair": {"name": "key", "public_key": seeds.KEY}})
        found["compute/os-keypairs"] = keypair["keypair"]["name"]
        group = client.post(
            "/compute/v2.1/os-server-groups", seeds.body("POST compute /v2.1/os-server-groups", found), **latest
        )
        found["compute/os-server-groups"] = group.json["server_group"]["id"]
        found["compute/os-floating-ips"] = found["network/floatingips"]
        found["compute/os-tenant-networks"] = found["network/networks"]
        found["compute/os-security-groups"] = found["network/security-groups"]
        found["compute/os-security-group-rules"] = found["network/security-group-rules"]
        assert client.put(f"/compute/v2.1/servers/{key}/tags/red", None, **latest).status == 201

    def _person(self, client: Client, found: Things) -> None:
        """What identity keeps for the project's own user, and a user and a group beside."""
        user = found["identity/users"] = found["user"]
        found["identity/groups"] = self._identity("group", name=f"{found['name']}-staff", domain_id=self.site)
        found["spare/user"] = self._identity("user", name=f"{found['name']}-spare", domain_id=self.site)
        project = found["project"]
        assert self.admin.put(f"/v3/projects/{found['project']}/tags", {"tags": ["red"]}).status == 200
        for name in sorted(seeds.LINKS):
            service, method, path = SERVICES["identity"], "PUT", name.partition(" identity ")[2]
            url = self.url(service, Route(method, path, _nobody, None), found)
            assert self.admin.put(url).status in (201, 204), url
        for key, path, noun in (
            ("credentials", "/v3/credentials", "credential"),
            ("application_credentials", f"/v3/users/{user}/application_credentials", "application_credential"),
            ("trusts", "/v3/OS-TRUST/trusts", "trust"),
        ):
            template = re.sub(r"/users/[^/]+/", "/users/{user_id}/", path)
            body = seeds.body(f"POST identity {template}", found)
            if noun == "application_credential":
                body[noun]["name"] = "mine"
            found[f"identity/{key}"] = str(self._made(client, path, body)[noun]["id"])
        ec2 = self._made(client, f"/v3/users/{user}/credentials/OS-EC2", {"tenant_id": project})["credential"]
        found["identity/OS-EC2"] = ec2["access"]
        for name, text, digest in (
            ("ec2", b"GET\nh\n/\nSignatureMethod=HmacSHA256&SignatureVersion=2", "sha256"),
            ("s3", b"GET", "sha1"),
        ):
            found[f"signed/{name}"] = base64.b64encode(hmac.digest(ec2["secret"].encode(), text, digest)).decode()
        rules = client.get(f"/v3/users/{user}/access_rules").json["access_rules"]
        found["identity/access_rules"] = str(rules[0]["id"])
        body = seeds.body("POST identity /v3/limits", found)
        body["limits"][0]["resource_name"] = "slices"
        limits = self._made(self.admin, "/v3/limits", body)["limits"]
        found["identity/limits"] = str(limits[0]["id"])


def _nobody(call: Call) -> Reply:
    raise AssertionError("only the URL is wanted")


def thing(service: Service, before: str, param: str) -> str:
    """What a URL's parameter names: the collection before it says, or its own name where there is none."""
    return f"{service.name}/{param if before.startswith('{') or not before else before}"
