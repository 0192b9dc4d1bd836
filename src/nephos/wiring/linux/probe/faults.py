"""What is wrong at a point of this host, by looking: a device that is missing or down, a daemon that is dead."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from nephos.errors import HostFault
from nephos.wiring.base import Network
from nephos.wiring.linux.probe.places import Place, Places
from nephos.wiring.linux.serving import dhcp
from nephos.wiring.linux.switch import detour
from nephos.wiring.linux.system import names, netns, nft
from nephos.wiring.linux.system.netlink import NTF_SELF
from nephos.wiring.probe import At, Fault

_TUNNEL_OVERHEAD = 50
_TUNNELS = ("vxlan", "gre", "geneve")
_ICMP6 = 58
FLOOD = "00:00:00:00:00:00"
"""What a tunnel's entries for every address are filed under."""
_AGENT = "the host's agent repairs it within 5 seconds; is it running?"


def at(number: int, place: Place, places: Places) -> Iterator[Fault]:
    """The faults at place `number` of the watch, the likeliest first."""
    for words, mend in _look(place, places):
        yield Fault(point=number, words=words, mend=mend)


def _look(place: Place, places: Places) -> Iterator[tuple[str, str]]:
    match place.point.at:
        case At.TAP:
            yield from _tap(place, places)
        case At.DHCP:
            yield from _dhcp(place, places)
        case At.UPLINK:
            yield from _uplink(place, places)
        case At.UNDERLAY:
            yield from _underlay(place, places)
        case At.LEG:
            yield from _leg(place, places)
        case At.PHYSICAL:
            if not place.device:
                yield f"physical network {place.point.id} is not mapped on this host, or its device is gone", (
                    "set [host.physical] in nephos.toml to a device of this host"
                )
            elif "UP" not in places.links[place.device]["flags"]:
                yield f"{place.device} is down", f"ip link set {place.device} up"


def _tap(place: Place, places: Places) -> Iterator[tuple[str, str]]:
    port = places.desired.ports.get(place.point.id)
    name = names.tap(place.point.id)
    if not place.device:
        yield f"{name} does not exist", _AGENT
        return
    link = places.links[name]
    if port is not None and not port.admin_up:
        yield f"{name} is down, because the port's admin_state_up is false", "openstack port set --enable PORT"
    elif "UP" not in link["flags"]:
        yield f"{name} is down", _AGENT
    elif "LOWER_UP" not in link["flags"]:
        yield f"{name} has no carrier: no running guest is connected to it", "openstack server start SERVER"
    if port is not None:
        bridge = names.bridge(port.network_id)
        if link.get("master") != bridge:
            yield f"{name} is not a port of {bridge}", _AGENT


def _dhcp(place: Place, places: Places) -> Iterator[tuple[str, str]]:
    network = places.network(place.point)
    if not place.device:
        yield f"{place.namespace} or its device is missing", _AGENT
        return
    assert place.namespace is not None
    listening = netns.inside(place.namespace, _listening)
    if network is not None and network.dhcp_mac is None:
        yield "DHCP is off in this network", "openstack subnet set --dhcp SUBNET"
    elif network is not None and not _served(network) <= listening:
        yield f"dnsmasq does not run in {place.namespace}", _AGENT
    if not {("tcp", 80), ("tcp6", 80)} <= listening:
        yield f"the metadata server does not listen in {place.namespace}", "restart the host's agent"
    if "UP" not in places.room(place.namespace)[place.device]["flags"]:
        yield f"{place.device} in {place.namespace} is down", _AGENT
    outside = names.tap(place.device.removeprefix("ns-"))
    known = [name for name in places.links if name.startswith(outside)]
    if network is not None and known:
        link = places.links[known[0]]
        if "UP" not in link["flags"] or link.get("master") != names.bridge(network.id):
            yield f"{known[0]} is down or not a port of {names.bridge(network.id)}", _AGENT


def _uplink(place: Place, places: Places) -> Iterator[tuple[str, str]]:
    network = places.network(place.point)
    if network is None:
        yield f"network {place.point.id} is not wired on this host", _AGENT
        return
    if network.kind in _TUNNELS:
        yield from _address(places)
    if not place.device:
        yield f"the {network.kind} device of network {network.id} is missing", _AGENT
        return
    link = places.links[place.device]
    if "UP" not in link["flags"]:
        yield f"{place.device} is down", _AGENT
    if link.get("master") != names.bridge(network.id):
        yield f"{place.device} is not a port of {names.bridge(network.id)}", _AGENT
    if link["mtu"] < network.mtu:
        yield f"the MTU of {place.device} is {link['mtu']}, the network's is {network.mtu}", _AGENT
    if place.device == names.tunnel(network.segment or 0):
        yield from _entries(place, places, network)
    inner, outer = names.switch_ends(network.id)
    if place.device == inner:
        if outer not in places.links or "UP" not in places.links[outer]["flags"]:
            yield f"{outer}, the other end of {inner}, is missing or down", _AGENT
        try:
            for words in places.switch(network):
                yield words, _AGENT
        except HostFault as problem:
            yield f"Open vSwitch does not say how it is: {problem.message}", _AGENT


def _entries(place: Place, places: Places, network: Network) -> Iterator[tuple[str, str]]:
    elsewhere = {None, places.settings.tunnel_address, *detour.peers(places.settings, network)}
    index = places.indexes.get(place.device)
    have = {
        (one.mac, one.destination) for one in places.forwards if one.index == index and one.flags & NTF_SELF
    }
    wanted = {(FLOOD, peer) for peer in network.peers if peer not in elsewhere}
    wanted |= {(one.mac, str(one.tunnel)) for one in network.endpoints if one.tunnel not in elsewhere}
    for mac, target in sorted(wanted - have, key=str):
        if (mac, target) != (network.dhcp_mac, target):
            yield f"{place.device} has no forwarding entry for {mac} to {target}", _AGENT


def _address(places: Places) -> Iterator[tuple[str, str]]:
    local = places.settings.tunnel_address
    if local is not None and local not in places.addresses:
        yield (
            f"the tunnel address {local} is on no device of this host",
            "set tunnel_address in [host] of nephos.toml to an address of this host",
        )


def _underlay(place: Place, places: Places) -> Iterator[tuple[str, str]]:
    yield from _address(places)
    if not place.device:
        return
    link = places.links[place.device]
    if "UP" not in link["flags"]:
        yield f"{place.device}, over which the tunnels lead, is down", f"ip link set {place.device} up"
    largest = max((one.mtu for one in places.desired.networks.values() if one.kind == "vxlan"), default=0)
    if link["mtu"] < largest + _TUNNEL_OVERHEAD:
        yield (
            f"the MTU of {place.device} is {link['mtu']}, too small for tunnelled frames of {largest} bytes",
            f"ip link set {place.device} mtu {largest + _TUNNEL_OVERHEAD}, or a smaller [network] mtu in nephos.toml",
        )


def _leg(place: Place, places: Places) -> Iterator[tuple[str, str]]:
    router = places.desired.routers.get(place.point.router_id)
    if router is None:
        yield f"router {place.point.router_id} is not on this host", ""
        return
    if not router.admin_up:
        yield f"router {router.id} is down: its admin_state_up is false", "openstack router set --enable ROUTER"
        return
    if not place.device or place.namespace is None:
        yield f"{place.namespace} or its device for port {place.point.id} is missing", _AGENT
        return
    if "UP" not in places.room(place.namespace)[place.device]["flags"]:
        yield f"{place.device} in {place.namespace} is down", _AGENT
    outside = places.links.get(names.tap(place.point.id))
    if outside is None or "UP" not in outside["flags"] or not outside.get("master"):
        yield f"{names.tap(place.point.id)}, the router's side of the bridge, is missing, down or in no bridge", _AGENT
    advertised = {
        subnet.id
        for each in router.interfaces
        if each.port_id == place.point.id and each.network_id in places.desired.networks and router.ha is None
        for subnet in places.desired.networks[each.network_id].subnets
        if subnet.ra_mode
    }
    if advertised and ("raw6", _ICMP6) not in netns.inside(place.namespace, _listening):
        yield f"radvd does not run in {place.namespace}: nobody tells guests of the router", _AGENT
    gateway = router.gateway
    if gateway is not None and place.point.id == gateway.port_id and (gateway.snat or router.floating):
        listing = nft.run(place.namespace, "list", "ruleset")
        if "snat to" not in listing:
            yield f"the NAT rules of {place.namespace} are gone", _AGENT


def _served(network: Network) -> set[tuple[str, int]]:
    """Where a network's dnsmasq waits for guests."""
    served = {subnet.version for subnet in network.subnets if subnet.dhcp and subnet.dhcp_address and dhcp.leases(subnet)}
    return {("udp", 67) if version == 4 else ("udp6", 547) for version in served}


def _listening() -> set[tuple[str, int]]:
    """(protocol, port) of the sockets that wait in the calling thread's namespace; of raw sockets the protocol they take."""
    found = set()
    for protocol, state in (("udp", "07"), ("udp6", "07"), ("tcp", "0A"), ("tcp6", "0A"), ("raw6", "07")):
        for line in Path(f"/proc/thread-self/net/{protocol}").read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == state:
                found.add((protocol, int(words[1].split(":")[1], 16)))
    return found
