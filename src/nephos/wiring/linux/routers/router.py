"""Routers: a namespace `qrouter-<router>` each, with a leg in every network, NAT and floating IPs.

A highly available router is made so on every host that it is on; only addresses and routes are the active host's, and
there keepalived brings and takes them (`vrrp`).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping

from nephos.errors import HostFault
from nephos.wiring.base import Desired, Network, Router, RouterGateway, RouterInterface
from nephos.wiring.linux.routers import advertise, edge, gateways, leaving, nat, vrrp
from nephos.wiring.linux.routers.addresslimits import AddressLimits
from nephos.wiring.linux.routers.advertise import Advertisers
from nephos.wiring.linux.routers.announce import announce, ask_for
from nephos.wiring.linux.routers.gateways import Way
from nephos.wiring.linux.routers.vrrp import Elections
from nephos.wiring.linux.system import names, netns, sysctl
from nephos.wiring.linux.system.host import Host, Room
from nephos.wiring.linux.system.netlink import NTF_STICKY, NUD_FAILED, NUD_INCOMPLETE, NUD_PERMANENT, Link
from nephos.wiring.linux.system.reactor import Reactor

Legs = dict[str, RouterInterface | RouterGateway]


class Routers:
    """Makes and removes routers. `became(router id, state)` hears of highly available ones, `answers(port id, next hop,
    whether)` of the gateways outside that do or do not answer when they are asked for."""

    def __init__(
        self,
        host: Host,
        reactor: Reactor,
        became: Callable[[str, str], None],
        answers: Callable[[str, str, bool], None],
    ) -> None:
        self._host = host
        self._answers = answers
        self._asked: set[tuple[str, str]] = set()
        self._known: dict[tuple[str, str], bool] = {}
        self._standing_by: set[str] = set()
        self._advertisers = Advertisers(host.folder)
        self._limits = AddressLimits(host)
        self.elections = Elections(host.folder, reactor, became)

    def ensure(self, router: Router, desired: Desired, bridges: Mapping[str, Link]) -> None:
        """The router as wanted; `bridges` are the networks' bridges that stand. HostFault names a missing one."""
        networks = desired.networks
        if not router.admin_up:
            self.remove(router.id)
            return
        room = self._room(router)
        legs = _legs(router)
        for device, link in list(room.stack.links.items()):
            if device not in legs and link.kind == "veth":
                room.stack.remove(device)
        for device, leg in legs.items():
            if leg.network_id not in bridges:
                raise HostFault(f"network {leg.network_id} of the router's port {leg.port_id} is not wired here")
            link = self._leg(room, router.id, device, leg, networks[leg.network_id], bridges[leg.network_id])
            if router.edge is not None and isinstance(leg, RouterInterface):
                self._pin(link, edge.door(leg))
        number = gateways.numbers(router, room.stack.links)
        room.stack.ensure_rules(gateways.rules(router, number))
        hosts = leaving.wire(
            self._host.settings.tunnel_address, (each for _, each in self._host.stack.netlink.addresses()), networks
        )
        room.ruleset.replace([*nat.tables(router, number, _homes(router)), leaving.table(router, hosts)])
        changes = self._addresses(room, router, legs, number)
        changes += edge.acquaint(room, router, desired.ports.values())
        changes += self._limits.ensure(room, router, _homes(router))
        changes += self._advertisers.ensure(
            router.id, str(room.stack.namespace), advertise.configuration(router, networks)
        )
        self._host.stack.changes += changes
        self._ask_gateways(room, router)

    def _ask_gateways(self, room: Room, router: Router) -> None:
        """Whether the next hops outside are there: the kernel asks for them, and the next pass looks what came of it. A
        host that stands by asks for none: it has no address to ask with."""
        present = {index for index, _ in room.stack.netlink.addresses()}
        neighbours = room.stack.netlink.neighbours()
        for gateway in router.gateways:
            index = room.stack.links[gateways.outside(gateway)].index
            for nexthop in gateway.nexthops if index in present else ():
                key, state = (gateway.port_id, nexthop), neighbours.get((index, nexthop))
                bad = state is None or bool(state & (NUD_INCOMPLETE | NUD_FAILED))
                if not bad or (key in self._asked and not (state or 0) & NUD_INCOMPLETE):
                    self._note(key, answers=not bad)
                if bad:
                    self._asked.add(key)
                    netns.inside(room.stack.namespace, lambda nexthop=nexthop: ask_for(nexthop))  # type: ignore[misc]

    def _note(self, key: tuple[str, str], *, answers: bool) -> None:
        if self._known.get(key) != answers:
            self._known[key] = answers
            self._answers(*key, answers)

    def again(self) -> None:
        """Say once more which gateways answer."""
        for key, answers in list(self._known.items()):
            self._answers(*key, answers)

    def _room(self, router: Router) -> Room:
        name, mark = names.router_namespace(router.id), self._host.mark("edge" if router.edge else "router", router.id)
        if self._host.record.value.namespaces.get(name, str(mark)) != str(mark):
            # A router that comes to where its edge was is announced, and nothing of the edge's stays.
            self.remove(router.id)
        room, made = self._host.room(name, mark)
        # Devices of a highly available router get no address of their own making: keepalived brings them all.
        mode = "1" if router.ha else "0"
        setting = "net.ipv6.conf.default.addr_gen_mode"
        if not made and netns.inside(name, lambda: sysctl.read(setting)) not in (None, mode):
            self.remove(router.id)
            room, made = self._host.room(name, mark)
        if made:
            for each in ("ip_forward=1", "conf.all.rp_filter=0", "conf.default.rp_filter=0"):
                room.stack.write(*f"net.ipv4.{each}".split("=", 1))
            room.stack.write("net.ipv4.conf.all.arp_ignore", "1")
            room.stack.write("net.ipv4.conf.all.arp_announce", "2")
            # several gateways share connections, and not only pairs of hosts
            room.stack.write("net.ipv4.fib_multipath_hash_policy", "1")
            room.stack.write("net.ipv6.fib_multipath_hash_policy", "1")
            # A connection that comes back to a host of a highly available router has gone on elsewhere meanwhile: it is
            # not the one that this host remembers the windows of.
            room.stack.write("net.netfilter.nf_conntrack_tcp_be_liberal", "1")
            room.stack.write("net.ipv6.conf.default.accept_ra", "0")
            room.stack.write("net.ipv6.conf.all.forwarding", "1")
            room.stack.write(setting, mode)
        return room

    def _leg(
        self,
        room: Room,
        router_id: str,
        device: str,
        leg: RouterInterface | RouterGateway,
        network: Network,
        bridge: Link,
    ) -> Link:
        root = self._host.stack
        mark = self._host.mark("leg", f"{router_id}/{leg.port_id}")
        link = root.ensure_pair(names.tap(leg.port_id), mark, room.stack, device, mtu=network.mtu, mac=leg.mac)
        return root.ensure(link, master=bridge.index)

    def _pin(self, link: Link, mac: str) -> None:
        """What is for this MAC goes to the leg, whoever sends from it."""
        netlink = self._host.stack.netlink
        if not any(one.index == link.index and one.mac == mac and one.flags & NTF_STICKY for one in netlink.forwards()):
            netlink.pin_mac(link.index, mac, add=True)
            self._host.stack.changes += 1

    def _addresses(self, room: Room, router: Router, legs: Legs, number: Mapping[str, int]) -> int:
        """Addresses, routes and proxied neighbours; answers how many things of a daemon were changed."""
        wanted = {device: {f"{one.address}/{one.prefix}" for one in leg.addresses} for device, leg in legs.items()}
        homes = _homes(router)
        for gateway in router.gateways:
            own = [ipaddress.ip_interface(each) for each, home in homes.items() if home == gateway.port_id]
            wanted[gateways.outside(gateway)] |= {str(each) for each in own}
        ways = [*edge.ways(router), *gateways.ways(router, wanted, number)]
        if router.ha is not None:
            return self._elected(room, router, legs, wanted, ways)
        self._put(room, legs, wanted, ways)
        self._proxy(room, router)
        return 0

    def _elected(
        self, room: Room, router: Router, legs: Legs, wanted: dict[str, set[str]], ways: list[Way]
    ) -> int:
        """keepalived has what the active host needs; here only what somebody else took away or left comes back."""
        assert router.ha is not None
        device = names.ha_device(router.ha.leg.port_id)
        own = wanted.pop(device)
        others: Legs = {name: leg for name, leg in legs.items() if name != device}
        virtual = f"{router.ha.virtual.address}/{router.ha.virtual.prefix}"
        index = room.stack.links[device].index
        room.stack.ensure_addresses({device: own}, but=virtual)
        namespace = str(room.stack.namespace)
        folder = self.elections.folder(names.checked(router.id))
        text = vrrp.configuration(router, router.ha, others, wanted, ways, folder, device)
        changed = self.elections.ensure(router.id, namespace, text)
        active = (index, virtual) in room.stack.netlink.addresses()
        if active and not changed:
            self._put(room, others, wanted, ways)
        elif not active:
            self._put(room, others, {device: set() for device in wanted}, [])
        if active:
            self._standing_by.discard(router.id)
        elif router.id not in self._standing_by:
            self._yield(others)
            self._standing_by.add(router.id)
        self._proxy(room, router)
        self.elections.tell(router.id, vrrp.ACTIVE if active else vrrp.STANDBY)
        return changed

    def _yield(self, legs: Legs) -> None:
        """Guests of this host reach the active one: the bridges forget that the router's MACs were here."""
        root = self._host.stack
        here = {(root.links[tap].index, leg.mac) for leg in legs.values() if (tap := names.tap(leg.port_id)) in root.links}
        for one in root.netlink.forwards():
            if (one.index, one.mac) in here and not one.state & NUD_PERMANENT:
                root.netlink.pin_mac(one.index, one.mac, add=False)

    @staticmethod
    def _put(room: Room, legs: Legs, wanted: dict[str, set[str]], ways: list[Way]) -> None:
        fresh = room.stack.ensure_addresses(wanted)
        room.stack.ensure_routes({way.route(room.stack.links) for way in ways})
        announced = [(device, legs[device].mac, cidr.split("/")[0]) for device, cidr in sorted(fresh)]
        if announced:
            netns.inside(room.stack.namespace, lambda: announce(announced))

    @staticmethod
    def _proxy(room: Room, router: Router) -> None:
        """Answer neighbour questions of the outside for guests' addresses (RFC 4389)."""
        wanted: set[tuple[int, str]] = set()
        if router.proxied is not None:
            for gateway in router.gateways:
                device = gateways.outside(gateway)
                room.stack.write(f"net.ipv6.conf.{device}.proxy_ndp", "1")
                wanted |= {(room.stack.links[device].index, address) for address in router.proxied}
        have = room.stack.netlink.proxies()
        for index, address in have - wanted:
            room.stack.netlink.change_proxy(index, address, add=False)
        for index, address in wanted - have:
            room.stack.netlink.change_proxy(index, address, add=True)
        room.stack.changes += len(have ^ wanted)

    def remove(self, router_id: str) -> None:
        self._advertisers.remove(names.checked(router_id))
        self._limits.forget(router_id)
        self.elections.remove(router_id)
        self._standing_by.discard(router_id)
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

    def folders(self) -> set[str]:
        """The routers that there are files of on this host."""
        return {*self._advertisers.folders(), *self.elections.folders()}

    def close(self) -> None:
        """Stop listening; daemons go on."""
        self.elections.close()


def _legs(router: Router) -> Legs:
    found: Legs = {names.leg_device(leg.port_id, gateway=False): leg for leg in router.interfaces}
    found |= {gateways.outside(leg): leg for leg in router.gateways}
    if router.ha is not None:
        found[names.ha_device(router.ha.leg.port_id)] = router.ha.leg
    return found


def _homes(router: Router) -> dict[str, str]:
    """The addresses of floating IPs and port forwarding with the gateway (port) that has them: the one of whose ranges they
    are, the main one for those of none."""
    ranges = {each.port_id: _ranges(each) for each in router.gateways}
    found = {}
    for text in {*(one.address for one in router.floating), *(one.address for one in router.forwardings)}:
        address = ipaddress.ip_address(text)
        home = next((port for port, those in ranges.items() if any(address in one for one in those)), None)
        home = home or (router.gateway.port_id if router.gateway else None)
        if home is not None:
            found[text] = home
    return found


def _ranges(leg: RouterInterface | RouterGateway) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    return [ipaddress.ip_interface(f"{one.address}/{one.prefix}").network for one in leg.addresses]
