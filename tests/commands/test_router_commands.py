"""Routers and what is below them, floating IPs, agents, flavors and metering, as they are typed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cloud import RunningCloud
from tests.commands.table import Typed, command_of, commands, play

_HA = "neutron.services.l3_router.service_providers.ha.HaDriver"
# fmt: off
ROUTERS = (
    Typed("network create inside", keep={"inside": "id"}, user="demo"),
    Typed("subnet create inside4 --network inside --subnet-range 10.71.0.0/24", keep={"inside4": "id"}, user="demo"),
    Typed("port create p1 --network inside --fixed-ip ip-address=10.71.0.11", keep={"p1": "id"}, user="demo"),
    Typed("router create r1 --description d --enable --tag red", user="demo", keep={"r1": "id"},
        shows={"name": "r1", "description": "d", "admin_state_up": True, "external_gateway_info": None, "tags": ["red"]}),
    Typed("router create r9 --distributed", refused="(?i)403|forbidden|policy", user="demo"),
    Typed("router create r9 --distributed", shows={"distributed": True, "ha": False}),
    Typed("router set r9 --centralized", refused="distributed' attribute of active routers"),
    Typed("router set r9 --disable"),
    Typed("router set r9 --centralized"),
    Typed("router set r9 --distributed --enable"),
    Typed("router show r9", shows={"distributed": True}),
    Typed("router delete r9"),
    Typed("router create r9 --ha", refused="(?i)403|forbidden|policy", user="demo"),
    Typed("router add subnet r1 inside4", user="demo"),
    Typed("router set r1 --external-gateway public --route destination=192.0.2.0/24,gateway=10.71.0.9", user="demo"),
    Typed("router show r1", user="demo", shows={"routes": [{"destination": "192.0.2.0/24", "nexthop": "10.71.0.9"}]}),
    Typed("router add route r1 --route destination=198.51.100.0/24,gateway=10.71.0.8", user="demo"),
    Typed("router remove route r1 --route destination=192.0.2.0/24,gateway=10.71.0.9", user="demo"),
    Typed("router show r1", user="demo", shows={"routes": [{"destination": "198.51.100.0/24", "nexthop": "10.71.0.8"}]}),
    Typed("router unset r1 --route destination=198.51.100.0/24,gateway=10.71.0.8", user="demo"),
    Typed("router unset r1 --tag red", user="demo"),
    Typed("router list --name r1 --long", has={"Name": {"r1"}, "Status": {"ACTIVE"}}, only=False, user="demo"),
    Typed("router delete r1", refused="still has ports", user="demo"),
)
PARTS = (
    Typed("floating ip create public --description f", keep={"fip": "id", "address": "floating_ip_address"}, user="demo",
        shows={"description": "f", "status": "DOWN", "port_id": None}),
    Typed("floating ip port forwarding create {fip} --internal-ip-address 10.71.0.11 --port {p1} --internal-protocol-port 80"
        " --external-protocol-port 8080 --protocol tcp --description web", user="demo", keep={"pf": "id"},
        shows={"external_port": 8080, "internal_port": 80, "protocol": "tcp", "description": "web"}),
    Typed("floating ip port forwarding create {fip} --internal-ip-address 10.71.0.11 --port {p1} --internal-protocol-port"
        " 4000:4002 --external-protocol-port 3000:3002 --protocol udp", user="demo", keep={"range": "id"},
        shows={"external_port_range": "3000:3002", "internal_port_range": "4000:4002"}),
    Typed("floating ip port forwarding create {fip} --internal-ip-address 10.71.0.11 --port {p1} --internal-protocol-port 81"
        " --external-protocol-port 8080 --protocol tcp", user="demo", refused="port collision"),
    Typed("floating ip port forwarding list {fip} --protocol tcp", has={"External Port": {8080}}, only=True, user="demo"),
    Typed("floating ip port forwarding set {fip} {pf} --external-protocol-port 8081 --description other", user="demo"),
    Typed("floating ip port forwarding show {fip} {pf}", shows={"external_port": 8081, "description": "other"}, user="demo"),
    Typed("floating ip set {fip} --port p1", refused="in use by Port Forwarding", user="demo"),
    Typed("floating ip port forwarding delete {fip} {pf}", user="demo"),
    Typed("floating ip list --network public", has={"Floating IP Address": {"{address}"}}, user="demo"),
    Typed("floating ip show {fip}", shows={"router_id": "{r1}"}, user="demo"),
    Typed("floating ip delete {fip}", refused="in use by Port Forwarding", user="demo"),
    Typed("floating ip port forwarding delete {fip} {range}", user="demo"),
    Typed("floating ip delete {fip}", user="demo"),
    Typed("floating ip create public --port p1", keep={"fip": "id"}, user="demo", shows={"fixed_ip_address": "10.71.0.11"}),
    Typed("floating ip unset {fip} --port", user="demo"),
    Typed("floating ip set {fip} --description other --tag blue", user="demo"),
    Typed("floating ip show {fip}", shows={"port_id": None, "description": "other", "tags": ["blue"]}, user="demo"),
    Typed("floating ip unset {fip} --tag blue", user="demo"),
    Typed("floating ip delete {fip}", user="demo"),
    Typed("network l3 conntrack helper create r1 --helper ftp --protocol tcp --port 21", keep={"helper": "id"}, user="demo",
        shows={"helper": "ftp", "port": 21}),
    Typed("network l3 conntrack helper list r1 --helper ftp", has={"Port": {21}}, only=True, user="demo"),
    Typed("network l3 conntrack helper set r1 {helper} --port 2121", user="demo"),
    Typed("network l3 conntrack helper show r1 {helper}", shows={"port": 2121}, user="demo"),
    Typed("network l3 conntrack helper delete r1 {helper}", user="demo"),
    Typed("network create wide --external", keep={"wide": "id"}),
    Typed("address scope create world --ip-version 6 --share"),
    Typed("subnet pool create world --pool-prefix 2001:db8::/32 --default-prefix-length 64 --address-scope world --share"),
    Typed("subnet create wide6 --network wide --ip-version 6 --subnet-pool world --subnet-range 2001:db8:ffff::/64 --no-dhcp"),
    Typed("router add gateway r1 wide", user="demo"),
    Typed("router remove gateway r1 wide", user="demo"),
    Typed("router create r6 --external-gateway wide", user="demo"),
    Typed("router set r6 --enable-ndp-proxy", user="demo"),
    Typed("router show r6", shows={"enable_ndp_proxy": True}, user="demo"),
    Typed("subnet create inside6 --network inside --ip-version 6 --subnet-pool world --subnet-range 2001:db8:71::/64 --ipv6-ra-mode slaac"
        " --ipv6-address-mode slaac", user="demo"),
    Typed("port create p6 --network inside", keep={"p6": "id"}, user="demo"),
    Typed("router add subnet r6 inside6", user="demo"),
    Typed("router ndp proxy create r6 --port p6 --name one", keep={"ndp": "id"}, shows={"name": "one", "port_id": "{p6}"},
        user="demo"),
    Typed("router ndp proxy list --router r6", has={"Name": {"one"}}, only=True, user="demo"),
    Typed("router ndp proxy set one --description words", user="demo"),
    Typed("router ndp proxy show one", shows={"description": "words"}, user="demo"),
    Typed("router remove subnet r6 inside6", refused="ndp proxies still in use", user="demo"),
    Typed("router ndp proxy delete one", user="demo"),
    Typed("router remove subnet r6 inside6", user="demo"),
    Typed("router delete r6", user="demo"),
)
OPERATORS = (
    Typed("network agent list --agent-type l3", has={"Agent Type": {"L3 agent"}, "Host": {"fake-0001", "fake-0002"}},
        keep={"agent": "ID"}),
    Typed("network agent show {agent}", shows={"agent_type": "L3 agent", "alive": True}),
    Typed("network agent set {agent} --disable --description away"),
    Typed("network agent show {agent}", shows={"admin_state_up": False, "description": "away"}),
    Typed("network agent set {agent} --enable"),
    Typed("network agent delete {agent}", refused="is part of host"),
    Typed("network agent list --router r1 --long", has={"Agent Type": {"L3 agent"}}),
    Typed("network agent list --router r1", keep={"there": "ID"}),
    Typed("router list --agent {there}", has={"Name": {"r1"}}),
    Typed("network agent remove router --l3 {there} r1"),
    Typed("router list --agent {there}", lacks={"Name": {"r1"}}),
    Typed("network agent add router --l3 {there} r1"),
    Typed("router list --agent {there}", has={"Name": {"r1"}}),
    Typed("network agent list --agent-type dhcp", keep={"dhcp": "ID"}),
    Typed("network agent remove network --dhcp {dhcp} inside"),
    Typed("network agent add network --dhcp {dhcp} inside"),
    Typed("network list --agent {dhcp}", has={"Name": {"inside"}}),
    Typed("network agent list --network inside", has={"ID": {"{dhcp}"}}),
    Typed("router create safe --ha", shows={"ha": True, "distributed": False}),
    Typed("router set safe --external-gateway public"),
    Typed("network agent list --router safe --long", keep={"first": "ID"}, has={"HA State": {"standby"}}),
    Typed("network agent router set {first} safe --ha-chassis-priority 7"),
    Typed("router set safe --disable"),
    Typed("router set safe --no-ha"),
    Typed("router show safe", shows={"ha": False, "admin_state_up": False}),
    Typed("router delete safe"),
    Typed("network service provider list", has={"Name": {"single_node", "ha"}}, only=True),
    Typed(f"network flavor profile create --driver {_HA} --description two --enable", keep={"profile": "id"},
        shows={"driver": _HA, "description": "two", "enabled": True}),
    Typed("network flavor profile list", has={"ID": {"{profile}"}}),
    Typed("network flavor profile set {profile} --description both"),
    Typed("network flavor profile show {profile}", shows={"description": "both"}),
    Typed("network flavor create kept --service-type L3_ROUTER_NAT --description k", keep={"flavor": "id"},
        shows={"service_type": "L3_ROUTER_NAT", "enabled": True}),
    Typed("network flavor add profile kept {profile}"),
    Typed("network flavor set kept --description other"),
    Typed("network flavor show kept", shows={"description": "other"}),
    Typed("network flavor list", has={"Name": {"kept"}}),
    Typed("router create flavored --flavor-id kept", shows={"flavor_id": "{flavor}", "ha": True}),
    Typed("router delete flavored"),
    Typed("network flavor remove profile kept {profile}"),
    Typed("network flavor delete kept"),
    Typed("network flavor profile delete {profile}"),
    Typed("network meter create out --description o --share", shows={"name": "out", "shared": True}, keep={"meter": "id"}),
    Typed("network meter list", has={"Name": {"out"}}),
    Typed("network meter show out", shows={"description": "o"}),
    Typed("network meter rule create out --egress --remote-ip-prefix 203.0.113.0/24", keep={"rule": "id"},
        shows={"direction": "egress", "remote_ip_prefix": "203.0.113.0/24"}),
    Typed("network meter rule list", has={"ID": {"{rule}"}}),
    Typed("network meter rule show {rule}", shows={"direction": "egress"}),
    Typed("network meter rule delete {rule}"),
    Typed("network meter delete out"),
)
END = (
    Typed("router unset r1 --external-gateway", user="demo"),
    Typed("router remove subnet r1 inside4", user="demo"),
    Typed("router add port r1 p1", user="demo"),
    Typed("router remove port r1 p1", user="demo"),
    Typed("router delete r1", user="demo"),
    Typed("port delete p6", user="demo"),
    Typed("network delete inside", user="demo"),
    Typed("network delete wide"),
)
# fmt: on
STORIES = {"routers": ROUTERS, "parts": PARTS, "operators": OPERATORS, "end": END}


OWN = (
    *("floating ip", "network agent", "network flavor", "network l3", "network meter", "network service provider"),
    "router",
)
"""Beginnings of the commands that are typed here, every one of them."""


@pytest.fixture(scope="module")
def cloud() -> Iterator[RunningCloud]:
    with RunningCloud(hypervisor="fake", hosts=2) as running:
        running.hosts_up(2)
        yield running


@pytest.fixture(scope="module")
def kept() -> dict[str, str]:
    """What the stories tell each other."""
    return {}


@pytest.mark.host
@pytest.mark.parametrize("story", STORIES)
def test_as_typed(cloud: RunningCloud, kept: dict[str, str], story: str) -> None:
    """In their order: later stories use what earlier ones made."""
    play(cloud, STORIES[story], kept)


def test_every_command_is_typed() -> None:
    known = commands("openstack.network.v2")
    typed = {command_of(line, known) for story in STORIES.values() for line in story}
    wanted = {each for each in known if each.startswith(OWN)}
    assert wanted <= typed, wanted - typed
    assert len(wanted) >= 60
