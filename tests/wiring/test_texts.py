"""What the Linux driver writes from a desired state, without a host: dnsmasq's files, rules, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from nephos.wiring.base import (
    Address,
    Desired,
    Endpoint,
    Floating,
    Group,
    Key,
    Kind,
    Limits,
    Network,
    Port,
    Route,
    Router,
    RouterGateway,
    RouterHa,
    RouterInterface,
    Rule,
    Subnet,
    WiringSettings,
)
from nephos.wiring.linux.routers import advertise, gateways, vrrp
from nephos.wiring.linux.rules import firewall, localip
from nephos.wiring.linux.rules.flows import Flows
from nephos.wiring.linux.rules.groups import DEAD, protocol_number
from nephos.wiring.linux.serving import dhcp
from nephos.wiring.linux.system import names
from nephos.wiring.linux.system.netlink import Flow, Netfilter
from nephos.wiring.linux.system.record import Record
from nephos.wiring.linux.vet import Vetting

SUBNET = Subnet(
    id="s1", cidr="10.1.0.0/24", version=4, gateway="10.1.0.1", dhcp_address="10.1.0.2", dns=("192.0.2.53",),
    routes=(Route(destination="10.9.0.0/16", nexthop="10.1.0.9"),),
)  # fmt: skip
ONE = Endpoint(
    port_id="p1", mac="fa:16:3e:00:00:01", addresses=(Address(address="10.1.0.11", prefix=24, subnet_id="s1"),),
    hostname="one",
)  # fmt: skip
NETWORK = Network(
    id="n1", kind="vxlan", segment=7, mtu=1400, subnets=(SUBNET,), dhcp_port_id="d1", dhcp_mac="fa:16:3e:00:00:d1",
    domain="example.org", endpoints=(ONE,),
)  # fmt: skip
PORT = Port(id="p1", network_id="n1", mac=ONE.mac, index=5, addresses=ONE.addresses, groups=("g1",))


def texts(network: Network) -> dhcp.Files:
    return dhcp.files(network, "ns-d1", Path("/state/dhcp/n1"))


def test_dnsmasq_is_told_the_network() -> None:
    files = texts(NETWORK)
    conf = files.conf.splitlines()
    assert "interface=ns-d1" in conf
    assert "dhcp-range=set:subnet-s1,10.1.0.0,static,255.255.255.0,86400s" in conf
    assert "dhcp-option-force=option:mtu,1400" in conf
    assert "domain=example.org" in conf and "local=/example.org/" in conf
    assert files.hosts == "fa:16:3e:00:00:01,one,10.1.0.11\n"
    assert files.names == "10.1.0.11 one.example.org one\n"
    options = files.options.splitlines()
    routes = "169.254.169.254/32,10.1.0.2,10.9.0.0/16,10.1.0.9,0.0.0.0/0,10.1.0.1"
    assert f"tag:subnet-s1,option:classless-static-route,{routes}" in options
    assert "tag:subnet-s1,option:dns-server,192.0.2.53" in options
    assert "tag:subnet-s1,option:router,10.1.0.1" in options


def test_a_subnet_without_gateway_or_dns_gets_none_and_the_dhcp_address() -> None:
    subnet = msgspec.structs.replace(SUBNET, gateway=None, dns=(), routes=())
    options = texts(msgspec.structs.replace(NETWORK, subnets=(subnet,))).options.splitlines()
    assert "tag:subnet-s1,option:router" in options
    assert "tag:subnet-s1,option:dns-server,10.1.0.2" in options
    assert "tag:subnet-s1,option:classless-static-route,169.254.169.254/32,10.1.0.2" in options


def test_a_ports_own_options_are_tagged_and_what_could_break_the_file_is_left_out() -> None:
    options = (("tftp-server", "192.0.2.1"), ("150", "192.0.2.2"), ("server-ip\nx", "y"), ("domain-name", "a\nb"))
    files = texts(msgspec.structs.replace(NETWORK, endpoints=(msgspec.structs.replace(ONE, dhcp_options=options),)))
    assert files.hosts == "fa:16:3e:00:00:01,set:port-p1,one,10.1.0.11\n"
    own = [line for line in files.options.splitlines() if line.startswith("tag:port-p1")]
    assert own == ["tag:port-p1,option:tftp-server,192.0.2.1", "tag:port-p1,150,192.0.2.2"]


@pytest.mark.parametrize("hostname", ["a,b", "x\ny", "-a", "a b", "ü", "a" * 64, "a..b"])
def test_a_hostname_that_is_none_is_left_out(hostname: str) -> None:
    files = texts(msgspec.structs.replace(NETWORK, endpoints=(msgspec.structs.replace(ONE, hostname=hostname),)))
    assert files.hosts == "fa:16:3e:00:00:01,10.1.0.11\n"
    assert files.names.strip() == ""


def test_leases_are_read_of_both_families(tmp_path: Path) -> None:
    file = tmp_path / "leases"
    assert dhcp.read_leases(file) == []
    file.write_text(
        "1700000000 fa:16:3e:00:00:01 10.1.0.11 one 01:fa:16:3e:00:00:01\n"
        "duid 00:01:00:01\n1700000000 5 fd00::11 one 00:01\n"
    )
    assert dhcp.read_leases(file) == [
        dhcp.Lease("fa:16:3e:00:00:01", "10.1.0.11"), dhcp.Lease("", "fd00::11")
    ]  # fmt: skip


# ---- rules ------------------------------------------------------------------------------------------------------------


def rule(**values: object) -> Rule:
    return msgspec.convert({"direction": "ingress", "version": 4} | values, Rule)


@pytest.mark.parametrize(
    ("protocol", "version", "number"),
    [(None, 4, None), ("any", 4, None), ("0", 4, None), ("tcp", 4, 6), ("17", 4, 17), ("icmp", 4, 1), ("icmp", 6, 58),
     ("1", 6, 58), ("icmpv6", 6, 58), ("ipv6-icmp", 6, 58), ("vrrp", 4, 112), ("ipip", 4, 4)],
)  # fmt: skip
def test_protocol_names_and_numbers(protocol: str | None, version: int, number: int | None) -> None:
    assert protocol_number(rule(protocol=protocol, version=version)) == number


def inet(*rules: Rule, members: tuple[str, ...] = ()) -> tuple[str, dict[str, str]]:
    groups = {"g1": Group(id="g1", rules=rules), "g2": Group(id="g2", members=members)}
    desired = Desired(networks={"n1": NETWORK}, ports={"p1": PORT}, groups=groups)
    table, unclear = firewall.inet_table("t", firewall.Plan(desired, {}, {}, {"n1": 3}), WiringSettings())
    return json.dumps(table.commands()), unclear


def test_a_rule_that_cannot_be_written_lets_nothing_pass_and_is_told() -> None:
    good, bad = rule(protocol="tcp", port_min=80, port_max=90), rule(protocol="no-such")
    text, unclear = inet(good, bad)
    alone, none = inet(good)
    assert text == alone
    assert none == {} and list(unclear) == ["g1"] and "no-such" in unclear["g1"]
    assert '{"range": [80, 90]}' in text


def test_members_of_a_remote_group_become_a_set() -> None:
    text, _ = inet(rule(remote_group_id="g2"), members=("10.1.0.7", "10.2.0.0/24", "fd00::1"))
    assert '"elem": ["10.1.0.7", {"prefix": {"addr": "10.2.0.0", "len": 24}}]' in text
    assert "fd00::1" not in text


def chains(port: Port, *, stateful: bool = True, led: bool = False) -> dict[str, list[str]]:
    """Family and name of a chain → its rules, of a host with this port and an uplink."""
    groups = {"g1": Group(id="g1", stateful=stateful)}
    desired = Desired(networks={"n1": NETWORK}, ports={port.id: port}, groups=groups)
    found = [localip.Led(1, "n1", "10.1.0.77", port, "10.1.0.11", True)] if led else []
    indexes = {"tapp1": 12, "vxlan-7": 13, "brqn1": 14}
    plan = firewall.Plan(desired, {"n1": "fa:16:3e:00:00:d1"}, {"n1": ("vxlan-7",)}, {"n1": 3}, found, indexes)
    rules: dict[str, list[str]] = {}
    for table in (firewall.bridge_table("t", plan), firewall.inet_table("t", plan, WiringSettings())[0]):
        for command in table.commands():
            if "chain" in command["add" if "add" in command else "delete"]:
                rules[f"{table.family} {command['add']['chain']['name']}"] = []
            if rule := command.get("add", {}).get("rule"):
                rules[f"{table.family} {rule['chain']}"].append(msgspec.json.encode(rule["expr"]).decode())
    return rules


def test_connections_are_known_before_receivers_where_no_packet_is_judged_by_itself() -> None:
    limited = msgspec.structs.replace(PORT, limits=Limits(to_packets=100))
    assert "inet connections" in chains(PORT)
    assert "4294967295" in chains(PORT)["bridge forward"][0] and "65536" in chains(PORT)["bridge wire_3"][0]
    for other in (chains(PORT, stateful=False), chains(PORT, led=True), chains(limited)):
        assert "inet connections" not in other
        assert "4294967295" not in json.dumps(other)
        assert other["bridge wire_3"][0] == '[{"mangle":{"key":{"meta":{"key":"mark"}},"value":0}}]'


def test_a_ports_chain_begins_with_what_is_surely_its_own() -> None:
    six = Address(address="fd00::11", prefix=64, subnet_id="s2")
    own = chains(msgspec.structs.replace(PORT, addresses=(*PORT.addresses, six)))["bridge from_5"]
    assert len(own) == 4, "who it is, two addresses, everything else"
    assert "0xfa163e0000010800" in own[1] and "0x0a01000b" in own[1] and "0xa9fea9fe" in own[1] and "67" in own[1]
    assert "0xfa163e00000186dd" in own[2] and f"0xfd{'0' * 28}11" in own[2]
    assert own[3] == '[{"jump":{"target":"from_guest"}}]'
    loose = msgspec.structs.replace(PORT, port_security=False)
    indexed = msgspec.structs.replace(PORT, mac="02:4e:50:00:00:07")
    marked = msgspec.structs.replace(PORT, limits=Limits(dscp=10))
    for other in (chains(loose), chains(indexed), chains(marked), chains(PORT, led=True)):
        assert "accept" not in json.dumps(other["bridge from_5"])


def test_what_a_port_may_send_from() -> None:
    port = msgspec.structs.replace(
        PORT, pairs=(("10.1.0.8/29", None), ("10.1.0.0/28", None), ("10.3.0.1", "fa:16:3e:00:00:02"))
    )
    assert firewall.sources(port) == {
        "fa:16:3e:00:00:01": ["10.1.0.0/28", "fe80::f816:3eff:fe00:1/128"],
        "fa:16:3e:00:00:02": ["10.3.0.1/32", "fe80::f816:3eff:fe00:2/128"],
    }


# ---- what is refused ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "item"),
    [
        (Kind.NETWORK, msgspec.structs.replace(NETWORK, id="../../etc")),
        (Kind.NETWORK, msgspec.structs.replace(NETWORK, dhcp_port_id="a/b")),
        (Kind.NETWORK, msgspec.structs.replace(NETWORK, dhcp_mac="fa:16:3e:00:00:d1\nuser=x")),
        (Kind.NETWORK, msgspec.structs.replace(NETWORK, mtu=1)),
        (Kind.NETWORK, msgspec.structs.replace(NETWORK, segment=1 << 24)),
        (Kind.NETWORK, msgspec.structs.replace(NETWORK, peers=("192.0.2.1; reboot",))),
        (Kind.NETWORK, msgspec.structs.replace(NETWORK, endpoints=(msgspec.structs.replace(ONE, mac="x"),))),
        (Kind.NETWORK, msgspec.structs.replace(NETWORK, subnets=(msgspec.structs.replace(SUBNET, dns=("a\nb",)),))),
        (Kind.NETWORK, msgspec.structs.replace(NETWORK, subnets=(msgspec.structs.replace(SUBNET, version=6),))),
        (Kind.PORT, msgspec.structs.replace(PORT, mac="FA:16:3E:00:00:01")),
        (Kind.PORT, msgspec.structs.replace(PORT, pairs=(("10.1.0.300", None),))),
        (Kind.ROUTER, Router(id="r1", routes=(Route(destination="x", nexthop="10.1.0.1"),))),
        (Kind.ROUTER, Router(id="r1", floating=(Floating("172.24.4.9", "10.1.0.9", Limits(to_kbits=-1)),))),
        (Kind.GROUP, Group(id="g1", members=("nobody",))),
    ],
)  # fmt: skip
def test_a_hostile_item_is_refused_alone(kind: Kind, item: Network | Port | Group | Router) -> None:
    desired = Desired(networks={"ok": msgspec.structs.replace(NETWORK, id="ok")}, ports={}, groups={}, routers={})
    getattr(desired, f"{kind}s")[item.id] = item
    errors: dict[Key, str] = {}
    kept = Vetting()(desired, errors)
    assert list(errors) == [Key(kind, item.id)]
    assert list(kept.networks) == ["ok"]
    assert not kept.ports and not kept.groups and not kept.routers


def test_keepalived_is_told_of_every_gateways_table() -> None:
    """The main table leads by both gateways, and each has one of its own."""
    legs = [
        RouterGateway(
            port_id=f"port{at}",
            network_id=f"n{at}",
            mac=f"fa:16:3e:00:00:0{at}",
            addresses=(Address(f"192.0.{at}.2", 24, "s"),),
            nexthops=(f"192.0.{at}.1",),
        )
        for at in (1, 2)
    ]
    inner = RouterInterface(port_id="ha", network_id="h", mac="fa:16:3e:00:00:0a", addresses=())
    ha = RouterHa(leg=inner, number=7, virtual=Address("169.254.0.7", 24, ""))
    router = Router(id="r1", gateways=tuple(legs), ha=ha, ecmp=True)
    number, wanted = {"port1": 5, "port2": 9}, {"qg-port1": {"192.0.1.2/24"}, "qg-port2": {"192.0.2.2/24"}}
    ways = gateways.ways(router, wanted, number)
    text = vrrp.configuration(router, ha, {}, wanted, ways, Path("/f"), "ha-ha")
    assert "priority 50\n    nopreempt\n" in text
    preferred = msgspec.structs.replace(ha, rank=2)
    assert "priority 52\n    advert_int" in vrrp.configuration(router, preferred, {}, wanted, ways, Path("/f"), "ha-ha")
    routes = text.split("virtual_routes {")[1].split("}")[0].split("\n")
    assert [line.strip() for line in routes if line.strip()] == [
        "0.0.0.0/0 protocol 78 no_track nexthop via 192.0.1.1 dev qg-port1 weight 1 "
        "nexthop via 192.0.2.1 dev qg-port2 weight 1",
        "192.0.1.0/24 table 1005 protocol 78 no_track dev qg-port1",
        "0.0.0.0/0 table 1005 protocol 78 no_track via 192.0.1.1 dev qg-port1",
        "192.0.2.0/24 table 1009 protocol 78 no_track dev qg-port2",
        "0.0.0.0/0 table 1009 protocol 78 no_track via 192.0.2.1 dev qg-port2",
    ]


def test_index_macs_are_local_and_one_to_one() -> None:
    macs = [names.index_mac(index) for index in (1, 255, 256, 65535)]
    assert macs == ["02:4e:50:00:00:01", "02:4e:50:00:00:ff", "02:4e:50:00:01:00", "02:4e:50:00:ff:ff"]


# ---- which connections are cut --------------------------------------------------------------------------------------


class Table(Netfilter):
    """A connection table without a kernel."""

    def __init__(self, *flows: Flow) -> None:
        self.all = list(flows)
        self.cut: list[int] = []

    def flows(self, zones: set[int]) -> list[Flow]:
        return [flow for flow in self.all if flow.zone in zones]

    def mark_flow(self, flow: Flow, mark: int) -> None:
        assert mark == DEAD
        self.cut.append(flow.source_port)


def flow(number: int, *, source: str, target: str, port: int, zone: int = 3) -> Flow:
    return Flow(2, zone, source, target, 6, number, port, None, None, 0, b"")


def test_only_what_lost_its_rule_is_cut() -> None:
    tcp = rule(protocol="tcp", port_min=80, port_max=81)
    friends = rule(protocol="tcp", port_min=90, port_max=90, remote_group_id="g2")
    out = Rule(direction="egress", version=4)
    table = Table(
        flow(1, source="10.1.0.9", target="10.1.0.11", port=80),
        flow(2, source="10.1.0.9", target="10.1.0.11", port=81),
        flow(3, source="10.1.0.11", target="192.0.2.1", port=99),
        flow(4, source="10.1.0.7", target="10.1.0.11", port=90),
        flow(5, source="10.1.0.8", target="10.1.0.11", port=90),
        flow(6, source="10.1.0.9", target="10.1.0.11", port=80, zone=4),
        flow(7, source="10.1.0.11", target="169.254.169.254", port=80),
    )

    def state(rules: tuple[Rule, ...], members: tuple[str, ...]) -> Desired:
        groups = {"g1": Group(id="g1", rules=rules), "g2": Group(id="g2", members=members)}
        return Desired(networks={"n1": NETWORK}, ports={"p1": PORT}, groups=groups)

    flows = Flows()
    everyone = ("10.1.0.7", "10.1.0.8")
    assert flows.cut(table, state((out, tcp, friends), everyone), {"n1": 3}) == 0
    assert flows.cut(table, state((out, tcp, friends), (*everyone, "10.1.0.6")), {"n1": 3}) == 0
    assert flows.cut(table, state((out, tcp, friends), ("10.1.0.7",)), {"n1": 3}) == 1
    assert table.cut == [5]
    table.all = [one for one in table.all if one.source_port != 5]
    only = rule(protocol="tcp", port_min=81, port_max=81)
    flows.cut(table, state((out, only, friends), ("10.1.0.7",)), {"n1": 3})
    assert table.cut == [5, 1]
    flows.cut(table, state((only, friends), ("10.1.0.7",)), {"n1": 3})
    assert table.cut == [5, 1, 1, 3]


def test_what_was_loaded_before_a_reboot_counts_for_nothing(tmp_path: Path) -> None:
    path = tmp_path / "host.json"
    record = Record(path)
    record.value.loaded["host"], record.value.zones["net"] = ("a", "b", 7), 3
    record.save()
    assert Record(path).value.loaded == {"host": ("a", "b", 7)}
    record.value.boot = "another boot"
    record.save()
    after = Record(path).value
    assert (after.loaded, after.zones) == ({}, {"net": 3})


@pytest.mark.parametrize(
    ("ra", "address", "served"),
    [
        (None, None, True), ("slaac", "slaac", False), ("slaac", None, False), (None, "slaac", False),
        ("dhcpv6-stateful", "dhcpv6-stateful", True), (None, "dhcpv6-stateful", True), ("dhcpv6-stateful", None, False),
        ("dhcpv6-stateless", "dhcpv6-stateless", True), (None, "dhcpv6-stateless", True),
        ("dhcpv6-stateless", None, False),
    ],
)  # fmt: skip
def test_dhcpv6_answers_where_guests_ask_for_something(ra: str | None, address: str | None, served: bool) -> None:
    """As Neutron's agent decides by ipv6_ra_mode and ipv6_address_mode."""
    six = Subnet(id="s6", cidr="2001:db8::/64", version=6, dhcp_address="2001:db8::2", ra_mode=ra, address_mode=address)
    own = Address(address="2001:db8::11", prefix=64, subnet_id="s6")
    options = (("59", "tftp://[2001:db8::5]/x"), ("bad;name", "x"), ("domain-search", "a\nb"))
    one = msgspec.structs.replace(ONE, addresses=(*ONE.addresses, own), dhcp6_options=options)
    files = texts(msgspec.structs.replace(NETWORK, subnets=(SUBNET, six), endpoints=(one,)))
    assert ("dhcp-range=set:subnet-s6,2001:db8::,static,64,86400s" in files.conf) == served
    assert ("[2001:db8::11]" in files.hosts) == served
    assert files.options.splitlines()[-1] == "tag:port-p1,option6:59,tftp://[2001:db8::5]/x"


def test_a_routers_legs_advertise_what_the_subnets_say() -> None:
    modes = ("slaac", "dhcpv6-stateful", None)
    six = [
        Subnet(id=f"s{n}", cidr=f"2001:db8:{n}::/64", version=6, dhcp_address=f"2001:db8:{n}::2", ra_mode=mode)
        for n, mode in enumerate(modes)
    ]
    networks = {f"n{n}": Network(id=f"n{n}", kind="local", mtu=1400, subnets=(one,)) for n, one in enumerate(six)}
    legs = tuple(
        RouterInterface(
            port_id=f"p{n}", network_id=f"n{n}", mac=f"fa:16:3e:00:00:0{n}",
            addresses=(Address(address=f"2001:db8:{n}::1", prefix=64, subnet_id=f"s{n}"),),
        )
        for n in range(3)
    )  # fmt: skip
    text = advertise.configuration(Router(id="r1", interfaces=legs), networks)
    first, second = text.split("interface qr-p1")
    assert "AdvAutonomous on" in first and "AdvManagedFlag" not in first and "RDNSS 2001:db8:0::2" in first
    assert "AdvAutonomous off" in second and "AdvManagedFlag on" in second and "RDNSS" not in second
    assert text.count("AdvLinkMTU 1400") == 2 and "qr-p2" not in text
    assert advertise.configuration(Router(id="r1", interfaces=legs[2:]), networks) == ""
