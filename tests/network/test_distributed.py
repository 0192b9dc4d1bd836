"""Distributed routers: which host serves a floating IP, and that every host concerned is told when that changes."""

from __future__ import annotations

import msgspec
import pytest
from sqlalchemy import update

from nephos.hosts.store import host
from nephos.network import guests
from nephos.network.agents.disabled import L3, key_of
from nephos.network.guests import NetworkRequest
from nephos.wiring import base
from tests.network.conftest import Site, V
from tests.network.test_routers import host_of, public


@pytest.fixture
def site(site: Site) -> Site:
    """Hosts h2 and h3 reach the physical network, h1 does not."""
    for name, physical in (("h1", []), ("h2", ["public"]), ("h3", ["public"])):
        key = site.agent.ids[name]
        site.write(lambda tx, key=key, to=physical: tx.execute(update(host).where(host.c.id == key).values(physical=to)))
    return site


def floats(site: Site, name: str, router: str) -> list[str] | None:
    """The fixed addresses whose floating IPs a host serves for a router; None when it has nothing of the router."""
    item: base.Router | None = site.of(name, "router").get(router)
    return None if item is None else [one.fixed for one in item.floating]


def test_a_floating_ip_is_served_where_its_port_is(site: Site) -> None:
    external = public(site)
    made = site.make("routers", site.admin, name="r", distributed=True, project_id=site.project)
    assert made["distributed"] is True
    router = made["id"]
    network, subnet = site.network("10.66.0.0/24")
    leg = site.put(f"routers/{router}/add_router_interface", {"subnet_id": subnet})["port_id"]
    site.put(f"routers/{router}", {"router": {"external_gateway_info": {"network_id": external}}})
    own = host_of(site, router)
    other = next(name for name in ("h2", "h3") if name != own)
    ports = {name: site.server(f"s-{name}", name, NetworkRequest(network_id=network))[0] for name in (own, other, "h1")}
    fixed = {name: site.demo.get(f"{V}/ports/{key}").json["port"]["fixed_ips"][0]["ip_address"] for name, key in ports.items()}
    assert floats(site, other, router) is None, "no floating IP yet"
    floating = {
        name: site.make("floatingips", floating_network_id=external, port_id=key) for name, key in ports.items()
    }
    assert {one["status"] for one in floating.values()} == {"ACTIVE"}
    assert floats(site, other, router) == [fixed[other]]
    assert floats(site, own, router) == [fixed[own], fixed["h1"]], "its own, and of a host that does not reach the network"
    assert floats(site, "h1", router) is None
    edge: base.Router = site.of(other, "router")[router]
    assert edge.edge is not None
    assert edge.edge.ports == ((fixed[other], ports[other]),)
    assert edge.edge.central == ("10.66.0.0/24",)
    assert edge.edge.outside == ("172.24.4.0/24",)
    (gateway,), (inner,) = edge.gateways, edge.interfaces
    assert gateway.addresses == ()
    assert gateway.nexthops == ("172.24.4.1",)
    assert not gateway.snat
    whole: base.Router = site.of(own, "router")[router]
    assert gateway.mac != whole.gateways[0].mac
    assert (inner.port_id, inner.mac, inner.addresses) == (leg, whole.interfaces[0].mac, whole.interfaces[0].addresses)
    assert external in site.of(other, "network"), "it carries the external network now"

    site.write(lambda tx: guests.unbind(tx, site.cloud, f"s-{other}"))
    assert floats(site, other, router) is None
    assert external not in site.of(other, "network")
    assert fixed[other] in (floats(site, own, router) or ())
    site.write(lambda tx: guests.bind(tx, site.cloud, f"s-{other}", site.agent.ids[other]))
    assert floats(site, other, router) == [fixed[other]]
    site.put(f"floatingips/{floating[other]['id']}", {"floatingip": {"port_id": None}})
    assert floats(site, other, router) is None
    site.put(f"floatingips/{floating[other]['id']}", {"floatingip": {"port_id": ports[other]}})
    assert floats(site, other, router) == [fixed[other]]
    site.put(f"routers/{router}", {"router": {"admin_state_up": False}}, site.admin)
    assert floats(site, other, router) is None
    site.put(f"routers/{router}", {"router": {"distributed": False}}, site.admin)
    site.put(f"routers/{router}", {"router": {"admin_state_up": True}}, site.admin)
    assert floats(site, other, router) is None
    assert len(floats(site, own, router) or ()) == 3
    site.put(f"routers/{router}", {"router": {"admin_state_up": False, "distributed": True}}, site.admin)
    site.put(f"routers/{router}", {"router": {"admin_state_up": True}}, site.admin)
    site.delete(f"floatingips/{floating[own]['id']}")
    site.delete(f"floatingips/{floating[other]['id']}")
    assert floats(site, other, router) is None


def test_a_host_that_reaches_other_networks_now_is_an_edge_or_no_more_at_once(site: Site) -> None:
    """The router's own host hears of it too, and so do all hosts of a network with several segments: `site.of` compares what
    was told with what should be, and nothing is pulled whole."""
    def reaches(*physical: str) -> None:
        site.agent.hello["h1"] = msgspec.structs.replace(site.agent.hello["h1"], physical=physical)
        for name, others in (("h2", ("public",)), ("h3", ("public", "rack"))):
            site.agent.hello[name] = msgspec.structs.replace(site.agent.hello[name], physical=others)
        site.agent.arrive()

    reaches()
    external = public(site)
    router = site.make("routers", site.admin, name="r", distributed=True, project_id=site.project)["id"]
    network, subnet = site.network("10.67.0.0/24")
    site.put(f"routers/{router}/add_router_interface", {"subnet_id": subnet})
    site.put(f"routers/{router}", {"router": {"external_gateway_info": {"network_id": external}}})
    own = host_of(site, router)
    (port,) = site.server("s-h1", "h1", NetworkRequest(network_id=network))
    site.make("floatingips", floating_network_id=external, port_id=port)
    segments = [
        {"provider:network_type": "vlan", "provider:physical_network": "rack", "provider:segmentation_id": 77},
        {"provider:network_type": "vxlan"},
    ]
    several = site.make("networks", site.admin, name="several", segments=segments, project_id=site.project)["id"]
    site.make("subnets", site.admin, network_id=several, ip_version=4, cidr="10.68.0.0/24", project_id=site.project)
    for name in ("h1", "h2"):
        site.server(f"m-{name}", name, NetworkRequest(network_id=several))

    assert (floats(site, "h1", router), len(floats(site, own, router) or ())) == (None, 1)
    assert len(site.of("h2", "network")[several].peers) == 1
    reaches("public", "rack")
    assert (len(floats(site, "h1", router) or ()), floats(site, own, router)) == (1, [])
    assert site.of("h2", "network")[several].peers == (), "h1 is on the VLAN now"
    agent = f"agents/{key_of(site.agent.ids['h1'], L3)}"
    site.put(agent, {"agent": {"admin_state_up": False}}, site.admin)
    assert (floats(site, "h1", router), len(floats(site, own, router) or ())) == (None, 1)
    site.put(agent, {"agent": {"admin_state_up": True}}, site.admin)
    assert (len(floats(site, "h1", router) or ()), floats(site, own, router)) == (1, [])
    reaches("rack")
    assert (floats(site, "h1", router), len(floats(site, own, router) or ())) == (None, 1)
    reaches()
    assert len(site.of("h2", "network")[several].peers) == 1
