"""Routers: a namespace `qrouter-<router>` each, with a leg in every network, NAT and floating IPs."""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections.abc import Mapping

from nephos.errors import HostFault
from nephos.wiring.base import Network, Router, RouterGateway, RouterInterface
from nephos.wiring.linux import names, netns
from nephos.wiring.linux.host import Host, Room
from nephos.wiring.linux.netlink import Link, Route, mac_bytes
from nephos.wiring.linux.nft import Expression, Table, field, mangle, match, meta

_HAIRPIN = 1


class Routers:
    """Makes and removes routers."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def ensure(self, router: Router, networks: Mapping[str, Network], bridges: Mapping[str, Link]) -> None:
        """The router as wanted; `bridges` are the networks' bridges that stand. HostFault names a missing one."""
        name = names.router_namespace(router.id)
        if not router.admin_up:
            self.remove(router.id)
            return
        room, made = self._host.room(name, self._host.mark("router", router.id))
        if made:
            for setting in ("ip_forward=1", "conf.all.rp_filter=0", "conf.default.rp_filter=0"):
                room.stack.write(*f"net.ipv4.{setting}".split("=", 1))
            room.stack.write("net.ipv4.conf.all.arp_ignore", "1")
            room.stack.write("net.ipv4.conf.all.arp_announce", "2")
            room.stack.write("net.ipv6.conf.default.accept_ra", "0")
            room.stack.write("net.ipv6.conf.all.forwarding", "1")
        legs: dict[str, RouterInterface | RouterGateway] = {
            names.leg_device(leg.port_id, gateway=False): leg for leg in router.interfaces
        }
        if router.gateway is not None:
            legs[names.leg_device(router.gateway.port_id, gateway=True)] = router.gateway
        for device, link in list(room.stack.links.items()):
            if device not in legs and link.kind == "veth":
                room.stack.remove(device)
        for device, leg in legs.items():
            if leg.network_id not in bridges:
                raise HostFault(f"network {leg.network_id} of the router's port {leg.port_id} is not wired here")
            self._leg(room, router.id, device, leg, networks[leg.network_id], bridges[leg.network_id])
        self._addresses(room, router, legs)
        room.ruleset.replace([nat_table(router)])

    def _leg(
        self,
        room: Room,
        router_id: str,
        device: str,
        leg: RouterInterface | RouterGateway,
        network: Network,
        bridge: Link,
    ) -> None:
        root = self._host.stack
        mark = self._host.mark("leg", f"{router_id}/{leg.port_id}")
        link = root.ensure_pair(names.tap(leg.port_id), mark, room.stack, device, mtu=network.mtu, mac=leg.mac)
        root.ensure(link, master=bridge.index)

    def _addresses(self, room: Room, router: Router, legs: Mapping[str, RouterInterface | RouterGateway]) -> None:
        wanted = {device: {f"{one.address}/{one.prefix}" for one in leg.addresses} for device, leg in legs.items()}
        gateway = router.gateway
        routes = set()
        if gateway is not None:
            device = names.leg_device(gateway.port_id, gateway=True)
            wanted[device] |= {f"{floating.address}/32" for floating in router.floating}
            at = room.stack.links[device].index
            for nexthop in gateway.nexthops:
                routes.add(Route("::/0" if ":" in nexthop else "0.0.0.0/0", nexthop, at))
        fresh = room.stack.ensure_addresses(wanted)
        for extra in router.routes:
            at = self._device_towards(room, extra.nexthop, wanted)
            routes.add(Route(extra.destination, extra.nexthop, at))
        room.stack.ensure_routes(routes)
        announced = [(device, cidr.split("/")[0]) for device, cidr in sorted(fresh) if ":" not in cidr]
        if announced:
            macs = {device: leg.mac for device, leg in legs.items()}
            items = [(device, macs[device], address) for device, address in announced]
            netns.inside(room.stack.namespace, lambda: announce(items))

    @staticmethod
    def _device_towards(room: Room, nexthop: str, wanted: Mapping[str, set[str]]) -> int:
        address = ipaddress.ip_address(nexthop)
        for device, cidrs in wanted.items():
            if any(address in ipaddress.ip_interface(cidr).network for cidr in cidrs):
                return room.stack.links[device].index
        raise HostFault(f"next hop {nexthop} is on none of the router's networks")

    def remove(self, router_id: str) -> None:
        root, prefix = self._host.stack, f"{router_id}/"
        for device, link in list(root.links.items()):
            mark = names.Mark.parse(link.alias)
            if (
                mark is not None
                and mark.cloud == self._host.cloud
                and mark.kind == "leg"
                and mark.id.startswith(prefix)
            ):
                root.remove(device)
        name = names.router_namespace(router_id)
        if name in self._host.record.value.namespaces:
            self._host.delete_room(name)


def nat_table(router: Router) -> Table:
    """Floating IPs both ways, source NAT for all others, and both for guests that call a neighbour's floating IP."""
    table = Table("ip", "nephos")
    pairs = {one.address: one.fixed for one in router.floating if ":" not in one.address}
    back: dict[str, str] = {}
    for address, fixed in sorted(pairs.items()):
        back.setdefault(fixed, address)
    table.map("floating", "ipv4_addr", "ipv4_addr", sorted(pairs.items()))
    table.map("fixed", "ipv4_addr", "ipv4_addr", sorted(back.items()))
    source, target, mark = field("ip", "saddr"), field("ip", "daddr"), meta("mark")
    gateway = router.gateway
    if gateway is None:
        return table
    outside = names.leg_device(gateway.port_id, gateway=True)
    own = next((one.address for one in gateway.addresses if ":" not in one.address), None)
    to_fixed: Expression = {"dnat": {"addr": {"map": {"key": target, "data": "@floating"}}}}
    to_floating: Expression = {"snat": {"addr": {"map": {"key": source, "data": "@fixed"}}}}
    table.hook("hairpin", "prerouting", -150)
    known = {"set": sorted(pairs)}
    if pairs:
        table.rule("hairpin", match(meta("iifname"), outside, "!="), match(target, known), mangle(mark, _HAIRPIN))
    table.hook("prerouting", "prerouting", -100, kind="nat")
    table.rule("prerouting", to_fixed)
    table.hook("output", "output", -100, kind="nat")
    table.rule("output", to_fixed)
    table.hook("postrouting", "postrouting", 100, kind="nat")
    hairpin, leaving = match(mark, _HAIRPIN), match(meta("oifname"), outside)
    table.rule("postrouting", hairpin, to_floating)
    table.rule("postrouting", leaving, to_floating)
    if own is not None:
        table.rule("postrouting", hairpin, {"snat": {"addr": own}})
        if gateway.snat:
            table.rule("postrouting", leaving, match(source, own, "!="), {"snat": {"addr": own}})
    return table


def announce(items: list[tuple[str, str, str]]) -> None:
    """Gratuitous ARP (RFC 5227 announcements) for (device, MAC, address) in the namespace of the calling thread."""
    broadcast = b"\xff" * 6
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC) as raw:
        for device, mac, address in items:
            own, ip = mac_bytes(mac), socket.inet_aton(address)
            for operation in (1, 2):
                body = struct.pack("!HHBBH", 1, 0x0800, 6, 4, operation) + own + ip + broadcast + ip
                raw.sendto(broadcast + own + b"\x08\x06" + body, (device, 0x0806))
