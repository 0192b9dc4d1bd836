"""Traces between two real hosts, with either switch: what works is said to work, and each of twelve faults is named, with
what mends it.

The wiring is applied by hand, so a fault stays until it was traced; then one pass repairs what can be repaired.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from nephos.doctor.trace.verdict import Trace
from nephos.network.ways import METADATA, Stop, Way
from nephos.wiring.base import Address, Network, Physical, Port, Subnet, WiringSettings
from nephos.wiring.linux.system.names import link_local
from nephos.wiring.probe import At, Point
from tests.hosts.lab import UNDERLAY, Guest, Host, Lab, wait
from tests.hosts.wiring_lab import OPEN, PING, PING6, PUBLIC_HOST, Cloud, HostWiring, new_id
from tests.hosts.wiring_lab import trace as look

pytestmark = pytest.mark.host
SECONDS = 10


class House:
    """Two hosts, a network over both with a guest on each, and a router with a gateway on the first.

    The tunnels' address is on `home`; their packets are seen on `under`, the network leaves a host by `uplink`.
    """

    def __init__(self, lab: Lab, switch: str) -> None:
        self.lab, self.switch = lab, switch
        self.one, self.two = lab.hosts
        self.kernel = switch == "linux"
        self.home, self.under, self.underlay = ("eth0", "eth0", UNDERLAY) if self.kernel else ("br-phy", "eth1", "192.168.78")
        self.wirings = [HostWiring(host, settings=None if self.kernel else self.openvswitch(host)) for host in lab.hosts]
        self.cloud = Cloud(self.wirings)
        net = self.cloud.network()
        mode = "dhcpv6-stateful"
        self.six = Subnet(id=new_id(), cidr="fd00:6::/64", version=6, gateway="fd00:6::1", dhcp_address="fd00:6::2",
                          ra_mode=mode, address_mode=mode)  # fmt: skip
        self.cloud.change(net, subnets=(*net.subnets, self.six))
        self.public = self.cloud.public()
        self.group = self.cloud.group(PING, PING6)
        self.near: Port = self.port(net, 10, host=0)
        self.far: Port = self.port(net, 11, host=1)
        router = self.cloud.router(self.public, net)
        (leg,) = router.interfaces
        both = msgspec.structs.replace(leg, addresses=(*leg.addresses, Address("fd00:6::1", 64, self.six.id)))
        self.router = self.cloud.change(router, interfaces=(both,))
        self.network = self.cloud.networks[net.id]
        self.uplink = f"vxlan-{self.network.segment}" if self.kernel else f"qvb{self.network.id[:11]}"
        self.wire()
        self.near_guest: Guest = self.wirings[0].guest(self.near)
        self.far_guest: Guest = self.wirings[1].guest(self.far)
        for guest, port in ((self.near_guest, self.near), (self.far_guest, self.far)):
            guest.dhcp()
            for address in (link_local(port.mac), port.addresses[1].address):
                guest.run(f"ip address add {address}/64 dev eth0 nodad")

    def port(self, net: Network, number: int, *, host: int) -> Port:
        four, six = net.subnets[0], self.six
        addresses = (Address(f"10.1.0.{number}", 24, four.id), Address(f"fd00:6::{number}", 64, six.id))
        return self.cloud.port(net, number, self.group, host=host, addresses=addresses)

    def openvswitch(self, host: Host) -> WiringSettings:
        """Tunnels on a network of their own, as a switch in user space wants it."""
        host.cable("eth1", "tunnels")
        address = f"{self.underlay}.{host.number}"
        return WiringSettings(
            switch="openvswitch",
            tunnel_address=address,
            underlay=Physical(bridge="br-phy", interface="eth1", address=f"{address}/24"),
            physical={"public": Physical(bridge="br-ex", address=f"{PUBLIC_HOST}/24", masquerade=True)},
        )

    def ovs(self, *words: str) -> str:
        """One of Open vSwitch's tools on host 2."""
        return self.two.out("env", f"OVS_RUNDIR={self.wirings[1].state_dir}/openvswitch", *words)

    def wire(self) -> None:
        self.cloud.wire()

    def look(self, way: Way) -> Trace:
        return look(self.wirings, way)

    def way(self, target: str) -> Way:
        """From the far guest, as the ledger would tell it."""
        tap = Stop("1", Point(at=At.TAP, id=self.far.id))
        values: dict[str, Any] = {
            "port_id": self.far.id, "mac": self.far.mac, "address": "10.1.0.11", "mtu": self.network.mtu,
            "kind": target, "target": "", "nexthop": "", "nexthop_mac": self.network.dhcp_mac,
        }  # fmt: skip
        here = Stop("1", Point(at=At.DHCP, id=self.network.id))
        if target == "dhcp":
            return Way(**values, stops=(tap, here), who="DHCP")
        if target == "metadata":
            values |= {"target": METADATA[4], "nexthop": METADATA[4], "nexthop_mac": None}
            return Way(**values, stops=(tap, here), who="the metadata server")
        leg, gateway = self.router.interfaces[0], self.router.gateways[0]
        at_leg = Stop("0", Point(at=At.LEG, id=leg.port_id, router_id=self.router.id))
        one, two = (Point(at=At.UPLINK, id=self.network.id, peer=f"{self.underlay}.{number}") for number in (1, 2))
        tunnel = [Stop("1", one), Stop("1", Point(at=At.UNDERLAY)), Stop("0", Point(at=At.UNDERLAY)), Stop("0", two)]
        if target == "dhcp6":
            values |= {"kind": "autoconfiguration", "address": link_local(self.far.mac), "asks": ("router", "stateful")}
            return Way(**values, stops=(tap, *tunnel, at_leg, here), who="the router and DHCPv6", routers=(leg.mac,))
        if target == "metadata6":
            values |= {"kind": "metadata", "address": link_local(self.far.mac), "target": METADATA[6], "nexthop": METADATA[6]}
            return Way(**values | {"nexthop_mac": None}, stops=(tap, here), who="the metadata server")
        values["kind"] = "address"
        if target == "gateway6":
            values |= {"address": "fd00:6::11", "target": "fd00:6::1", "nexthop": "fd00:6::1", "nexthop_mac": leg.mac}
            return Way(**values, stops=(tap, *tunnel, at_leg), who="the gateway")
        if target == "port6":
            values |= {"address": "fd00:6::11", "target": "fd00:6::10", "nexthop": "fd00:6::10", "nexthop_mac": self.near.mac}
            return Way(**values, stops=(tap, *tunnel, Stop("0", Point(at=At.TAP, id=self.near.id))), who="port near")
        if target == "port":
            values |= {"target": "10.1.0.10", "nexthop": "10.1.0.10", "nexthop_mac": self.near.mac}
            return Way(**values, stops=(tap, *tunnel, Stop("0", Point(at=At.TAP, id=self.near.id))), who="port near")
        values |= {"target": PUBLIC_HOST, "nexthop": "10.1.0.1", "nexthop_mac": leg.mac}
        out = [at_leg, Stop("0", Point(at=At.LEG, id=gateway.port_id, router_id=self.router.id), gateway=True),
               Stop("0", Point(at=At.UPLINK, id=self.public.id)), Stop("0", Point(at=At.PHYSICAL, id="public"))]  # fmt: skip
        return Way(**values, stops=(tap, *tunnel, *out), who="the external gateway")

    def trace(self, target: str) -> Trace:
        return self.look(self.way(target))

    def named(self, target: str, *words: str) -> Trace:
        """Trace something broken: the verdict, or what is told beside it, says these words."""
        found = self.trace(target)
        said = " / ".join((found.verdict, *found.also))
        assert all(word in said for word in words), (words, found)
        return found

    def healed(self, target: str) -> None:
        """One pass of the wiring mends it. With Open vSwitch the last test looks, once for all."""
        self.wire()
        if self.kernel:
            found = self.trace(target)
            assert found.ok, found


@pytest.fixture(scope="module", params=["linux", "openvswitch"])
def house(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with Lab(tmp_path_factory.mktemp("trace"), hosts=2) as lab:
        yield House(lab, request.param)


@pytest.mark.parametrize("target", ["dhcp", "metadata", "port", "internet", "dhcp6", "metadata6", "port6", "gateway6"])
def test_what_works_is_said_to_work_and_nothing_is_left(house: House, target: str) -> None:
    found = house.trace(target)
    assert found.ok and found.also == (), found
    if target != "dhcp6":
        # There the router and the DHCP server are asked different things.
        assert all(all(hop.questions) for hop in found.hops[: 2 if target in ("dhcp", "metadata", "metadata6") else 4]), found
    assert all(hop.device for hop in found.hops)
    for host in house.lab.hosts:
        assert "nephos_trace" not in host.out("nft list tables")
        assert "trc" not in host.out("ip -br link")


def test_a_host_that_looked_too_late_is_asked_again(house: House) -> None:
    """The guest had its answers: nothing was lost between the hosts."""
    found = look(house.wirings, house.way("port"), late="0")
    assert found.ok, found
    assert all(all(hop.questions) for hop in found.hops if hop.host == house.wirings[0].host.name)


def test_1_a_wrong_tunnel_address(house: House) -> None:
    net, home = house.underlay, house.home
    house.two.run(f"ip address add {net}.77/24 dev {home}")
    house.two.run(f"ip address del {net}.2/24 dev {home}")
    try:
        house.named("port", f"the tunnel address {net}.2 is on no device")
    finally:
        house.two.run(f"ip address add {net}.2/24 dev {home}", check=False)
        house.two.run(f"ip address flush dev {home} to {net}.77")
        if house.kernel:
            house.two.run("ip route replace default via 192.168.77.254")
    house.healed("port")


def test_2_a_forward_rule_of_somebody_else(house: House) -> None:
    house.one.run("iptables -I FORWARD 1 -p icmp -j REJECT --reject-with icmp-host-prohibited")
    found = house.named("port", "rejected by host1's ip filter FORWARD rule 1", f"seen on {house.uplink}", "not on tap")
    assert "not ours" in found.mend
    house.healed("port")
    house.one.run("iptables -D FORWARD -p icmp -j REJECT --reject-with icmp-host-prohibited")


def test_3_the_tunnel_port_is_blocked(house: House) -> None:
    under = house.under
    if house.kernel:
        house.one.run("iptables -A INPUT -p udp --dport 4789 -j DROP")
        house.named("port", "seen on eth0 of host1", "dropped by host1's ip filter INPUT rule 1")
        house.one.run("iptables -D INPUT -p udp --dport 4789 -j DROP")
    else:
        house.ovs("ovs-vsctl", "set", "Interface", "vxlan", "options:dst_port=4790")
        house.named("port", "port vxlan of br-tun is not set as it should be: dst_port 4790")
        house.wire()
    house.lab.switch.run("nft add table bridge t; add chain bridge t f { type filter hook forward priority 0; }")
    house.lab.switch.run("nft add rule bridge t f udp dport 4789 drop")
    found = house.named("port", f"seen on {under} of host2, not on {under} of host1", "packets (VXLAN, UDP port 4789) are lost between the hosts")
    assert "let VXLAN, UDP port 4789 pass" in found.mend
    house.lab.switch.run("nft delete table bridge t")


def test_4_dnsmasq_does_not_answer_or_is_dead(house: House) -> None:
    folder = house.wirings[1].state_dir / "dhcp" / house.network.id
    (number,) = [line.split()[0] for line in house.two.out("ps -ww -eo pid,args").splitlines() if f"{folder}/" in line and "dnsmasq" in line]
    house.two.run("kill", "-STOP", number)
    house.named("dhcp", "DHCP DISCOVER reached ns-", "no OFFER from DHCP")
    house.two.run("kill", "-KILL", number)
    wait(lambda: house.trace("dhcp").ok, SECONDS, "a new dnsmasq")


def test_5_forwarding_entries_are_gone(house: House) -> None:
    if house.kernel:
        device = house.uplink
        house.two.run(f"bridge fdb del 00:00:00:00:00:00 dev {device} dst 192.168.77.1")
        house.two.run(f"bridge fdb del {house.near.mac} dev {device} dst 192.168.77.1")
        house.named("port", f"not on eth0 of host2: on host2, {device} has no forwarding entry")
    else:
        house.ovs("ovs-ofctl", "-OOpenFlow13", "del-flows", "br-tun", "in_port=patch-int")
        house.named("port", "not on eth1 of host2: on host2", "of the rules of br-tun are not as they should be: it lacks")
    house.healed("port")


def test_6_the_mtu_is_wrong(house: House) -> None:
    for host in house.lab.hosts:
        host.run(f"ip link set {house.under} mtu 1400")
    found = house.named("port", "1450 bytes", "too small for tunnelled frames")
    assert "mtu 1500" in found.mend
    for host in house.lab.hosts:
        host.run(f"ip link set {house.under} mtu 1500")
    house.healed("port")


def test_7_the_security_group_is_closed(house: House) -> None:
    house.cloud.change(house.cloud.groups[house.group.id], rules=OPEN)
    house.wire()
    found = house.named("port", "dropped on host1 by the port's security groups", f"seen on {house.uplink}")
    assert "security group rule create" in found.mend
    if house.kernel:
        house.named("port6", "ICMPv6 echo to fd00:6::10", "dropped on host1 by the port's security groups")
    house.cloud.change(house.cloud.groups[house.group.id], rules=(*OPEN, PING, PING6))
    house.healed("port")


def test_8_a_second_dhcp_server(house: House) -> None:
    rogue = house.cloud.port(house.network, 66, house.group, host=1, port_security=False)
    house.wire()
    guest = house.wirings[1].guest(rogue)
    guest.run("ip address add 10.1.0.66/24 dev eth0")
    serves = guest.popen("dnsmasq", "--conf-file=/dev/null", "--no-hosts", "--no-resolv", "--port=0", "--user=root",
                         "--interface=eth0", "--bind-interfaces", "--dhcp-range=10.1.0.200,10.1.0.210", "--keep-in-foreground",
                         "--dhcp-authoritative", f"--dhcp-leasefile={guest.folder}/leases", "--no-ping")  # fmt: skip
    try:
        wait(lambda: ":67 " in guest.out("ss -lnu"), 10, "a rogue DHCP server")
        house.named("dhcp", "a second DHCP server, 10.1.0.66", rogue.mac)
    finally:
        serves.kill()
        guest.kill()
        house.cloud.remove(rogue)
        house.wire()


def test_9_metadata_is_down(house: House) -> None:
    namespace = f"qdhcp-{house.network.id}"
    house.two.run("ip", "netns", "exec", namespace, "nft", "-f", "-",
                  text="table ip t {\nchain i {\ntype filter hook input priority 0\ntcp dport 80 drop\n}\n}\n")  # fmt: skip
    house.named("metadata", "TCP SYN to 169.254.169.254 port 80 reached ns-", "dropped by host2's ip t i rule 1")
    house.two.run("ip", "netns", "exec", namespace, "nft", "delete", "table", "ip", "t")


def test_10_the_nat_rules_are_gone(house: House) -> None:
    house.one.run(f"ip netns exec qrouter-{house.router.id} nft flush ruleset")
    house.named("internet", "as 10.1.0.11, without NAT", "the NAT rules of qrouter-")
    house.healed("internet")


def test_11_the_tap_is_down(house: House) -> None:
    tap = f"tap{house.far.id[:11]}"
    house.two.run(f"ip link set {tap} down")
    house.named("gateway", f"not seen on {tap} of host2", f"{tap} is down")
    house.healed("internet")


def test_12_the_guest_uses_another_address(house: House) -> None:
    house.far_guest.run("ip address add 10.1.0.99/24 dev eth0")
    asks = house.far_guest.popen("ping", "-I", "10.1.0.99", "-i", "0.2", "-w", "6", "10.1.0.10")
    try:
        found = house.named("port", "the guest sends from 10.1.0.99", "spoofed")
        assert found.ok
    finally:
        asks.kill()
        house.far_guest.run("ip address del 10.1.0.99/24 dev eth0")


KERNEL_ONLY = pytest.mark.parametrize("house", ["linux"], indirect=True)
"""For what has nothing to do with the switch."""


@KERNEL_ONLY
def test_what_a_guest_lacks_over_ipv6_is_named(house: House) -> None:
    """The router's advertisements, DHCPv6 and metadata."""
    radvd = house.one.out("pgrep", "-f", f"radvd.*{house.router.id}").split()
    house.one.run("kill", "-STOP", *radvd)
    namespace = f"qdhcp-{house.network.id}"
    block = "table ip6 t {\nchain i {\ntype filter hook input priority 0\nudp dport 547 drop\ntcp dport 80 drop\n}\n}\n"
    house.two.run("ip", "netns", "exec", namespace, "nft", "-f", "-", text=block)
    house.named("dhcp6", "router solicitation reached qr-", "no router advertisement")
    house.one.run("kill", "-KILL", *radvd)
    house.named("dhcp6", "router solicitation reached qr-", "radvd does not run in qrouter-")
    house.wire()
    house.named("dhcp6", "DHCPv6 SOLICIT reached ns-", "no ADVERTISE", "dropped by host2's ip6 t i rule 1")
    house.named("metadata6", "TCP SYN to fe80::a9fe:a9fe port 80 reached ns-", "dropped by host2's ip6 t i rule 2")
    house.two.run("ip", "netns", "exec", namespace, "nft", "delete", "table", "ip6", "t")
    house.healed("dhcp6")


@KERNEL_ONLY
def test_a_second_router_on_the_link_is_named(house: House) -> None:
    rogue = house.cloud.port(house.network, 67, house.group, host=1, port_security=False)
    house.wire()
    guest = house.wirings[1].guest(rogue)
    conf = guest.folder / "radvd.conf"
    conf.write_text("interface eth0 { AdvSendAdvert on; MinRtrAdvInterval 3; MaxRtrAdvInterval 4; prefix fd00:66::/64 {}; };\n")
    guest.run("sysctl -qw net.ipv6.conf.all.forwarding=1")
    serves = guest.popen("radvd", "-n", "-C", str(conf), "-p", f"{guest.folder}/radvd.pid", "-m", "stderr")
    try:
        wait(lambda: "fd00:66" in house.far_guest.out("ip -6 address"), 20, "advertisements of the other router")
        house.named("dhcp6", f"a second router, {link_local(rogue.mac)} with MAC {rogue.mac}")
    finally:
        serves.kill()
        guest.kill()
        house.cloud.remove(rogue)
        house.wire()


def test_after_all_faults_everything_works_again(house: House) -> None:
    found = house.trace("internet")
    assert found.ok and found.also == (), found
