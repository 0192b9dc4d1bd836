"""Lists cost the same number of queries whatever their length; the seed is made once; what is advertised is there."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from nephos import app
from nephos.kernel.db import engine
from nephos.kernel.db.schema import metadata
from nephos.network.guests import NetworkRequest
from tests.harness import PASSWORDS, Harness
from tests.network.conftest import Site, V

EXPECTED = [
    "agent",
    "allowed-address-pairs",
    "availability_zone",
    "default-subnetpools",
    "dhcp_agent_scheduler",
    "dns-integration",
    "ext-gw-mode",
    "external-net",
    "extra_dhcp_opt",
    "extraroute",
    "filter-validation",
    "ip-substring-filtering",
    "l3_agent_scheduler",
    "net-mtu",
    "network-ip-availability",
    "port-security",
    "project-id",
    "provider",
    "quotas",
    "quota_details",
    "rbac-policies",
    "router",
    "security-group",
    "service-type",
    "standard-attr-description",
    "standard-attr-revisions",
    "standard-attr-tag",
    "standard-attr-timestamp",
    "subnet_allocation",
    "subnet-service-types",
]
"""What public test suites look for before they test."""


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every statement on networks that the test's own thread runs from here on: workers have their own, and whether a token is
    still good is looked up now and then."""
    seen: list[str] = []
    execute, mine = engine.Tx.execute, threading.get_ident()

    def counting(self: engine.Tx, statement: Any, parameters: Any = None) -> Any:
        if threading.get_ident() == mine and "network_" in (text := str(statement)):
            seen.append(text)
        return execute(self, statement, parameters)

    monkeypatch.setattr(engine.Tx, "execute", counting)
    return seen


def test_a_page_takes_the_same_queries_whatever_its_length(site: Site, counted: list[str]) -> None:
    site.put(f"quotas/{site.project}", {"quota": {"security_group": -1, "router": -1}}, site.admin)
    network, _ = site.network()
    public = site.demo.get(f"{V}/networks?name=public").json["networks"][0]["id"]

    def grow() -> None:
        site.make("networks", name="n")
        site.make("routers", external_gateway_info={"network_id": public})
        site.make("security-groups", name="g")
        site.make("floatingips", floating_network_id=public)
        (port,) = site.server(f"s{len(counted)}", "h2", NetworkRequest(network_id=network))
        assert port

    def queries(plural: str) -> int:
        counted.clear()
        assert site.demo.get(f"{V}/{plural}").status == 200
        return len(counted)  # of reads, which the caller's own thread does

    plurals = ("networks", "subnets", "ports", "routers", "security-groups", "floatingips", "security-group-rules")
    grow()
    few = {plural: queries(plural) for plural in plurals}
    for _ in range(7):
        grow()
    assert {plural: queries(plural) for plural in plurals} == few
    assert max(few.values()) <= 6, few


def test_what_hosts_are_told_takes_the_same_queries_whatever_they_carry(site: Site) -> None:
    network, _ = site.network()
    counts = []
    for number in range(6):
        site.server(f"s{number}", "h2", NetworkRequest(network_id=network))
        with site.cloud.database.read() as tx:
            before = tx.queries
            for provide in ("network", "port", "group", "router"):
                site.cloud.hosts.providers[provide](tx, site.agent.ids["h2"], None)
            counts.append(tx.queries - before)
    assert len(set(counts)) == 1, counts


def test_the_seed_is_made_once(tmp_path: Path) -> None:
    with Harness(tmp_path) as harness:

        def rows() -> dict[str, int]:
            with harness.cloud.database.read() as tx:
                tables = [table for table in metadata.sorted_tables if table.name.startswith("network_")]
                return {table.name: tx.scalar(select(func.count()).select_from(table)) for table in tables}

        before = rows()
        app.seed(harness.cloud, PASSWORDS)
        assert rows() == before
        demo = harness.login("demo", "demo")
        (public,) = demo.get(f"{V}/networks?name=public").json["networks"]
        (subnet,) = demo.get(f"{V}/subnets?network_id={public['id']}").json["subnets"]
        assert (subnet["cidr"], subnet["gateway_ip"], subnet["enable_dhcp"]) == ("172.24.4.0/24", "172.24.4.1", False)
        assert [pool["start"] for pool in subnet["allocation_pools"]] == ["172.24.4.2", "172.24.4.10"]
        (router,) = demo.get(f"{V}/routers").json["routers"]
        assert router["external_gateway_info"]["external_fixed_ips"][0]["ip_address"] == "172.24.4.2"
        (private,) = demo.get(f"{V}/subnets?name=private-subnet").json["subnets"]
        assert (private["cidr"], private["dns_nameservers"]) == ("10.0.0.0/24", [])


def test_what_is_advertised_is_there(site: Site) -> None:
    shown = site.demo.get(f"{V}/extensions").json["extensions"]
    aliases = {each["alias"] for each in shown}
    assert set(EXPECTED) <= aliases
    for each in shown:
        assert site.demo.get(f"{V}/extensions/{each['alias']}").json["extension"] == each
    for path in ("/network", "/network/", V, V + "/"):
        assert site.harness.nobody.get(path).status == 200, path
    assert site.harness.nobody.get("/network").json["versions"][0]["id"] == "v2.0"
    assert site.harness.nobody.get(f"{V}/extensions").status == 401
    assert site.demo.get(f"{V}/extensions/nothing").status == 404


def test_agents_are_what_hosts_are(site: Site) -> None:
    agents = site.admin.get(f"{V}/agents").json["agents"]
    assert len(agents) == 12
    assert {each["host"] for each in agents} == {"h1", "h2", "h3"}
    assert all(each["alive"] for each in agents)
    one = agents[0]
    assert site.admin.get(f"{V}/agents/{one['id']}").json["agent"]["id"] == one["id"]
    changed = site.put(f"agents/{one['id']}", {"agent": {"description": "words", "admin_state_up": False}}, site.admin)
    assert (changed["agent"]["description"], changed["agent"]["admin_state_up"]) == ("words", False)
    assert site.demo.get(f"{V}/agents").json == {"agents": []}, "what one may not see is left out of lists"
    router = site.demo.get(f"{V}/routers").json["routers"][0]["id"]
    (l3,) = site.admin.get(f"{V}/routers/{router}/l3-agents").json["agents"]
    assert (l3["host"], l3["agent_type"]) == ("h1", "L3 agent")
    other = next(each["id"] for each in agents if each["host"] == "h3" and each["agent_type"] == "L3 agent")
    assert site.admin.post(f"{V}/agents/{other}/l3-routers", {"router_id": router}).status == 409
    site.delete(f"agents/{l3['id']}/l3-routers/{router}", site.admin)
    assert site.admin.post(f"{V}/agents/{other}/l3-routers", {"router_id": router}).status == 201
    bare = site.make("routers", name="without legs")["id"]
    assert site.admin.post(f"{V}/agents/{other}/l3-routers", {"router_id": bare}).status == 201
    assert [each["id"] for each in site.admin.get(f"{V}/routers/{bare}/l3-agents").json["agents"]] == [other]
    assert bare in {each["id"] for each in site.admin.get(f"{V}/agents/{other}/l3-routers").json["routers"]}
    assert router in site.of("h3", "router")
    assert router not in site.of("h1", "router")
